"""A batch of capped-simplex problems, stated in float64."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# The objective's scale is at least this share of the plain average's objective.
# The optimum is 0 if teachers can cancel exactly, and a relative error of 0 means nothing.
UNIFORM_SHARE = 0.1

# Exceeds every number of a scaled problem, and fits float32's range, which TPUs keep for float64.
HUGE = 1e30

# The violation, relative to the objective's scale, that counts as solved.
ACCURACY = {tf.float32: 1e-6, tf.float64: 1e-10}


class Problem:
    """Holds problems of `gram [N, M, M]` and `caps [N, M]`, and says which are solved.

    Attributes:
        dtype: the caller's; everything else is float64.
        gram: scaled to entries of at most 1; zero if it was not finite.
        finite, fixed: `[N, 1]`, whether the given matrix was finite, and whether the caps leave
            nothing to choose.
        accuracy: the relative violation that counts as solved.
        start, start_gradient: `[N, M]`, feasible weights and their gradient.
        floor: `[N]`, the least scale of the objective.
    """

    def __init__(self, gram: tf.Tensor, caps: tf.Tensor):
        self.dtype, self.size = gram.dtype, gram.shape[-1]
        self.accuracy = ACCURACY[gram.dtype]
        self.gram, self.finite = scaled(gram)
        self.diagonal = diagonal(self.gram)
        caps = tf.cast(caps, tf.float64)
        total = tf.reduce_sum(caps, -1, keepdims=True)
        # Caps that sum to 1 except for their own rounding fix the weights.
        self.fixed = total <= 1 + float(np.finfo(gram.dtype.as_numpy_dtype).eps)
        self.caps = caps = reachable(caps)
        # Uniform weights; proportional to the caps if a cap forbids that.
        uniform = tf.fill(tf.shape(caps), tf.constant(1 / self.size, tf.float64))
        allowed = tf.reduce_all(uniform <= caps, -1, keepdims=True)
        self.start = tf.where(allowed, uniform, caps / tf.maximum(total, 1.0))
        self.start_gradient = matvec(self.gram, self.start)
        self.floor = UNIFORM_SHARE * self.objective(self.start, self.start_gradient)

    def objective(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(weights * gradient, -1) / 2

    def level(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the violation `[N]` that counts as solved."""
        return self.accuracy * tf.maximum(self.objective(weights, gradient), self.floor)

    def unsolved(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Returns whether a bound of the duality gap, cheaper than the gap, is above the level."""
        low = tf.reduce_min(tf.where(weights < self.caps, gradient, HUGE), -1)
        high = tf.reduce_max(tf.where(weights > 0, gradient, -HUGE), -1)
        return high - low > self.level(weights, gradient)


def reachable(caps: tf.Tensor) -> tf.Tensor:
    """Returns the caps; those that miss a sum of 1 by rounding are stretched to it."""
    total = tf.reduce_sum(caps, -1, keepdims=True)
    return tf.where(total < 1, caps / total, caps)


def scaled(gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(gram over a power of two, in float64, and whether it was finite [N, 1])`.

    The largest entry is then 0.5 to 1. Division by the entry itself would round the others, which
    makes another problem if the optimum is smaller than that rounding.
    """
    finite = tf.reduce_all(tf.math.is_finite(gram), [-2, -1])
    gram = tf.where(finite[:, None, None], gram, tf.zeros([], gram.dtype))
    largest = tf.reduce_max(tf.abs(gram), [-2, -1], keepdims=True)
    # The caller's precision scales, because a TPU has no bits of a float64 to look at.
    gram = tf.math.divide_no_nan(gram, power_of_two(largest)) / 2
    gram = tf.cast(gram, tf.float64)
    return (gram + tf.linalg.matrix_transpose(gram)) / 2, finite[:, None]


def power_of_two(value: tf.Tensor) -> tf.Tensor:
    """Returns the largest power of two that is not above `value`; 0 for 0."""
    integer, kept = (tf.int32, 0xFF << 23) if value.dtype == tf.float32 else (tf.int64, 0x7FF << 52)
    bits = tf.bitwise.bitwise_and(tf.bitcast(value, integer), tf.constant(kept, integer))
    return tf.bitcast(bits, value.dtype)


def diagonal(matrix: tf.Tensor) -> tf.Tensor:
    """Returns the diagonal `[N, M]`: a slice, where `tf.linalg.diag_part` gathers."""
    return tf.reshape(matrix, [-1, matrix.shape[-1] ** 2])[:, :: matrix.shape[-1] + 1]


def matvec(gram: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns `G w [N, M]`."""
    # A product and a sum, because XLA's matrix units would round to 1e-3.
    # Rows come first (G is symmetric): a sum over the last axis does not vectorize.
    return tf.reduce_sum(gram * weights[:, :, None], -2)
