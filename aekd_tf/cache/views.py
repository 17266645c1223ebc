"""Declares which augmented views of the examples a cache holds."""

from __future__ import annotations

import dataclasses

from aekd_tf.checks import check_choice, check_number
from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.names import CACHE_DTYPES


@dataclasses.dataclass(frozen=True, repr=False)
class Views:
    """Declares the augmented views of the examples to cache, and their format.

    Attributes:
        count: R, views per example; epoch e trains on view e mod R.
        seed: seed of the augmentation, the same for all students that share the cache.
        dtype: `"float16"` or `"float32"`, dtype of the files.
        top_k: number of logits per example to store, the largest, for many classes. The others
            are read back as one number, which gives them together the probability they had at
            `temperature`. None stores all logits.
        temperature: T at which the others keep their probability; use the student's T.

    Raises:
        ValueError: `count` or `top_k` below 1, an unknown dtype, or T not above 0.

    Example::

        import keras
        import numpy as np
        import tensorflow as tf
        from aekd_tf import TeacherCache, Views

        def flipped(image, seed):  # one example, and a seed of its own
            return tf.image.stateless_random_flip_left_right(image, seed)

        images = np.random.rand(6, 8, 8, 1).astype("float32")
        teacher = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        cache = TeacherCache("cache", (images,), Views(3), augmentation=flipped)
        print(cache.fill([teacher], progress=False))  # 3
    """

    count: int
    seed: int = 0
    dtype: str = "float16"
    top_k: int | None = None
    temperature: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", int(self.seed))
        if self.count < 1:
            raise ValueError(f"views are {self.count}: give at least 1")
        check_choice("dtype", self.dtype, CACHE_DTYPES)
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}: give at least 1, or None for all logits")
        check_number("temperature", self.temperature, above_zero=True)

    __repr__ = repr_of
