"""A batch of normalized capped-simplex problems, and when one counts as solved."""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.qp.algebra import UNIFORM_SHARE, accurate_matvec, duality_gap, start


class Problem:
    """`gram [N, M, M]`, entries at most 1, and `caps [N, M]`."""

    def __init__(self, gram: tf.Tensor, caps: tf.Tensor):
        self.gram, self.caps = gram, caps
        self.dtype, self.size = gram.dtype, caps.shape[-1]
        self.tolerance = 1e-10 if gram.dtype == tf.float64 else 1e-6
        self.diagonal = tf.linalg.diag_part(gram)
        self.start = start(caps)
        self.start_gradient = accurate_matvec(gram, self.start)
        self.floor = UNIFORM_SHARE / 2 * tf.reduce_sum(self.start * self.start_gradient, -1)

    def scale(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.reduce_sum(weights * gradient, -1) / 2, self.floor)

    def violation(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """An upper bound of the duality gap that costs less than it."""
        low = tf.reduce_min(tf.where(weights < self.caps, gradient, self.dtype.max), -1)
        high = tf.reduce_max(tf.where(weights > 0, gradient, self.dtype.min), -1)
        return high - low

    def unsolved(self, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        level = self.tolerance * self.scale(weights, gradient)
        return self.violation(weights, gradient) > level

    def far(self, weights: tf.Tensor, gradient: tf.Tensor, times: float) -> tf.Tensor:
        """Whether the duality gap itself is above `times` the tolerance."""
        gap = duality_gap(self.caps, weights, gradient)
        return gap > times * self.tolerance * self.scale(weights, gradient)
