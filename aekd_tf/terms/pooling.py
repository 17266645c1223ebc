"""Averages feature maps over squares of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def pooled(features: tf.Tensor, pooling: int) -> tf.Tensor:
    """Averages `features [B, h, w, c]` over squares of pixels, `[B, t, c]` over steps in time."""
    if pooling == 1:
        return features
    average = tf.nn.avg_pool2d if len(features.shape) == 4 else tf.nn.avg_pool1d
    return average(features, pooling, pooling, "VALID")


def pooled_shape(shape: Sequence[Any], pooling: int) -> tuple[Any, ...]:
    """Returns the shape that `pooled` gives; ValueError if the map is smaller than a square."""
    shape = tuple(shape)
    if pooling == 1:
        return shape
    sides = shape[1:-1]
    if len(shape) not in (3, 4) or None in shape[1:] or min(sides) < pooling:
        raise ValueError(f"feature map {shape[1:]} cannot be pooled by {pooling}: pool by less")
    return (shape[0], *(side // pooling for side in sides), shape[-1])
