"""The exact Euclidean projection onto the capped simplex."""

from __future__ import annotations

import tensorflow as tf


def project(point: tf.Tensor, caps: tf.Tensor) -> tf.Tensor:
    """Returns `clip(point - shift, 0, caps)`, all `[..., M]`, for the shift that sums it to 1.

    The sum is piecewise linear in the shift. Its breakpoints are `point` and `point - caps`.
    """
    zero, one = tf.zeros([], point.dtype), tf.ones([], point.dtype)
    lowest, highest = point.dtype.min, point.dtype.max
    # A common shift changes nothing, and small numbers round less.
    point = point - tf.reduce_max(point, -1, keepdims=True)
    breaks = tf.concat([point, point - caps], -1)
    shifted = point[..., None, :] - breaks[..., :, None]
    sums = tf.reduce_sum(tf.clip_by_value(shifted, zero, caps[..., None, :]), -1)
    # The segment between two breakpoints that contains a sum of 1.
    left = tf.reduce_max(tf.where(sums >= 1, breaks, lowest), -1, keepdims=True)
    right = tf.reduce_min(tf.where(sums < 1, breaks, highest), -1, keepdims=True)
    left = tf.maximum(left, tf.reduce_min(breaks, -1, keepdims=True))
    right = tf.minimum(right, tf.reduce_max(breaks, -1, keepdims=True))
    free = tf.cast((point > left) & (point - caps < right), point.dtype)
    full = tf.cast(point - caps >= right, point.dtype)
    count = tf.reduce_sum(free, -1, keepdims=True)
    target = one - tf.reduce_sum(full * caps, -1, keepdims=True)
    shift = (tf.reduce_sum(free * point, -1, keepdims=True) - target) / tf.maximum(count, one)
    shift = tf.where(count > 0, tf.clip_by_value(shift, left, right), left)
    projected = tf.clip_by_value(point - shift, zero, caps)
    # The shift of a large point rounds; the free coordinates get back what that took.
    missing = one - tf.reduce_sum(projected, -1, keepdims=True)
    projected += free * missing / tf.maximum(count, one)
    return tf.clip_by_value(projected, zero, caps)
