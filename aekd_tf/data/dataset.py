"""Describes a data set in memory or on disk."""

from __future__ import annotations

import dataclasses

import numpy as np

from aekd_tf.data.streaming import StreamedSplit


class DataError(RuntimeError):
    """A data set that cannot be loaded; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A split in memory.

    Attributes:
        images: inputs `[N, ...]` of any shape, uint8 images or float arrays.
        labels: `[N]` int64.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set and how its inputs are normalized and augmented.

    Attributes:
        mean, std: statistics per channel, in units of the stored inputs; 0 and 1 keep them.
        crop_padding: largest shift of a random crop, in pixels of zero padding; 0 for no crop.
        flip: whether mirror images keep their label.
        head: what labels are: `"classes"`, `"logit"`, `"labels"` or `"regression"`. Other labels
            than classes are `[N, K]` float32, and `num_classes` is K.
        normalization: statistics per channel that networks of this package normalize with, in
            their first layer, as inputs are kept as they are; None if the pipelines do.
        content: SHA-256 of own data, which have no name of their own.

    Raises:
        ValueError: a crop or a flip of inputs that are not images `[N, H, W, C]`.
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
    head: str = "classes"
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    content: str = ""

    def __post_init__(self) -> None:
        if (self.crop_padding or self.flip) and len(self.image_shape) != 3:
            raise ValueError(
                f"{self.name} has inputs {self.image_shape}: only images (H, W, C) are cropped or "
                "flipped, so give crop_padding=0 and flip=False"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Returns the shape of one input from the pipelines: height, width, channels of images."""
        if isinstance(self.train, StreamedSplit):
            return self.train.size, self.train.size, 3
        return self.train.images.shape[1:]
