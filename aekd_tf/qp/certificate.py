"""The certificate: feasible weights in the caller's precision, and a bound of their excess."""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.qp.problem import Problem, matvec


def certify(problem: Problem, candidate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(weights [N, M], gap [N])` in the caller's precision.

    The weights are the candidate, made feasible; the start, if the Gram matrix was not finite or
    the caps leave nothing to choose. The gap is that of the weights as returned, relative to the
    objective's scale; infinite if the Gram matrix was not finite.
    """
    caps = problem.caps
    weights = tf.clip_by_value(candidate, tf.zeros([], tf.float64), caps)
    # Teachers at no bound make up a sum of 1, because their gradients agree.
    inner = tf.where(weights < caps, weights, 0.0)
    missing = 1 - tf.reduce_sum(weights, -1, keepdims=True)
    weights += missing * tf.math.divide_no_nan(inner, tf.reduce_sum(inner, -1, keepdims=True))
    weights = tf.clip_by_value(weights, tf.zeros([], tf.float64), caps)
    weights = tf.where(problem.finite & ~problem.fixed, weights, problem.start)

    rounded = tf.cast(weights, problem.dtype)
    weights = tf.cast(rounded, tf.float64)
    gradient = matvec(problem.gram, weights)
    gap = duality_gap(caps, weights, gradient)
    gap = tf.where(problem.fixed[:, 0], tf.zeros_like(gap), gap)
    scale = tf.maximum(problem.objective(weights, gradient) - gap, problem.floor)
    # A zero scale with a positive gap certifies nothing.
    relative = tf.where(gap > 0, gap / scale, tf.zeros_like(gap))
    infinity = tf.constant(float("inf"), tf.float64)
    return rounded, tf.cast(tf.where(problem.finite[:, 0], relative, infinity), problem.dtype)


def duality_gap(caps: tf.Tensor, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Returns `w' g - min s' g` over the capped simplex; at least 0."""
    # The linear minimum over the capped simplex fills the caps in ascending order.
    index = tf.range(caps.shape[-1])
    theirs, ours = gradient[:, :, None], gradient[:, None, :]
    earlier = (theirs < ours) | ((theirs == ours) & (index[:, None] < index[None, :]))
    before = tf.reduce_sum(tf.where(earlier, caps[:, :, None], 0.0), -2)
    vertex = tf.clip_by_value(1 - before, tf.zeros([], caps.dtype), caps)
    centered = gradient - tf.reduce_min(gradient, -1, keepdims=True)
    return tf.maximum(tf.reduce_sum((weights - vertex) * centered, -1), 0)
