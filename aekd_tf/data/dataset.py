"""Describes a data set in memory or on disk."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from aekd_tf.data.streaming import StreamedSplit
from aekd_tf.monitoring.reprs import repr_of, shape_of


class DataError(RuntimeError):
    """Says that a data set cannot be loaded; the message names the remedy.

    Example::

        from aekd_tf import data

        try:
            data.load("no_such_set")
        except data.DataError as error:
            print("no_such_set" in str(error))  # True
    """


@dataclasses.dataclass(frozen=True, repr=False)
class Split:
    """Holds a split of a data set in memory.

    Attributes:
        images: inputs `[N, ...]` of any shape, uint8 images or float arrays.
        labels: `[N]` int64.

    Example::

        import numpy as np
        from aekd_tf import data

        split = data.Split(np.zeros((5, 4), np.float32), np.zeros(5, np.int64))
        print(len(split), split)  # 5 Split(images=<float32 [5, 4]>, labels=<int64 [5]>)
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def _shown(self) -> dict[str, Any]:
        return {"images": shape_of(self.images), "labels": shape_of(self.labels)}

    __repr__ = repr_of


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Describes a data set, and how its inputs are normalized and augmented.

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

    Example::

        import numpy as np
        from aekd_tf import data

        x, y = np.random.rand(9, 4).astype("float32"), np.random.randint(0, 3, 9)
        train, rest = data.Split(x[:5], y[:5]), data.Split(x[5:], y[5:])
        statistics = {"mean": (0.5,), "std": (0.3,)}
        own = data.Dataset("own", 3, train, rest, rest, **statistics, crop_padding=0, flip=False)
        batches = data.training_pipeline(own, batch_size=5, epochs=1, seed=0)
        print(next(iter(batches))[0].shape)  # (5, 4)
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

    __repr__ = repr_of

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Returns the shape of one input from the pipelines: height, width, channels of images."""
        if isinstance(self.train, StreamedSplit):
            return self.train.size, self.train.size, 3
        return self.train.images.shape[1:]
