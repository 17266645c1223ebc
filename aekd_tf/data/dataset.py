"""Describes a data set in memory or on disk."""

from __future__ import annotations

import dataclasses

import numpy as np

from aekd_tf.data.streaming import StreamedSplit


class DataError(RuntimeError):
    """A data set that cannot be loaded; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A split in memory: `images [N, H, W, C]` uint8 and `labels [N]` int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set and how its images are normalized and augmented.

    Attributes:
        mean, std: statistics per channel, in units of the stored images.
        crop_padding: largest shift of a random crop, in pixels of zero padding; 0 for no crop.
        flip: whether mirror images keep their label.
    """

    name: str
    num_classes: int
    train: Split | StreamedSplit
    validation: Split | StreamedSplit
    test: Split | StreamedSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Returns height, width and channels of the images that the pipelines give."""
        if isinstance(self.train, StreamedSplit):
            return self.train.size, self.train.size, 3
        return self.train.images.shape[1:]
