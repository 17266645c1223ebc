"""Normalizes inputs, and augments images as the paper does."""

from __future__ import annotations

from typing import Any

from aekd_tf.data.dataset import Dataset


def normalize(images: Any, dataset: Dataset) -> Any:
    """Converts inputs to float32 with zero mean and unit variance per channel.

    Args:
        images: `[B, ...]`, in units of the stored inputs.
        dataset: `Dataset` whose statistics are used.

    Returns:
        `[B, ...]` float32.

    Example::

        from aekd_tf import data

        digits = data.load("digits")
        images = data.normalize(digits.train.images, digits)
        print(abs(float(images.numpy().mean())) < 0.05)  # True
    """
    import tensorflow as tf

    return (tf.cast(images, tf.float32) - dataset.mean) / dataset.std


def augment(images: Any, draws: Any, crop_padding: int, flip: bool) -> Any:
    """Augments as the paper does: a random crop of the zero-padded image, then a random flip.

    Args:
        images: `[B, H, W, C]`, any dtype; any shape without crop and flip.
        draws: `[B, 3]` in [0, 1): vertical shift, horizontal shift, flip.
        crop_padding: p; shifts are uniform over -p to p.
        flip: whether to mirror images left to right if their third draw is below 1/2.

    Returns:
        One view of each image, of the same shape.

    Example::

        import numpy as np
        from aekd_tf import data

        image = np.array([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
        draws = np.array([[0.0, 0.5, 0.1]])  # up by one pixel, not sideways, mirrored
        view = data.augment(image, draws, crop_padding=1, flip=True)
        print(view[0, :, :, 0].numpy().tolist())  # [[0, 0], [2, 1]]
    """
    import tensorflow as tf

    if not crop_padding and not flip:
        return images
    height, width = images.shape[1:3]
    padding = [[0, 0], [crop_padding, crop_padding], [crop_padding, crop_padding], [0, 0]]
    padded = tf.pad(images, padding)
    shifts = tf.cast(draws[:, :2] * (2 * crop_padding + 1), tf.int32)
    rows = shifts[:, :1] + tf.range(height)
    columns = shifts[:, 1:] + tf.range(width)
    if flip:
        columns = tf.where(draws[:, 2:] < 0.5, tf.reverse(columns, [1]), columns)
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)
