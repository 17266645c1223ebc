"""Shared arithmetic of the capped-simplex QP: products, projection, certificate.

Batched: `gram [..., M, M]`, `caps [..., M]`, `weights [..., M]`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# The objective's scale is never taken below this share of the plain average's objective:
# where teachers can cancel exactly the optimum is 0 and relative error has no meaning.
UNIFORM_SHARE = 0.1


def normalized(gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`(gram over a power of two, its largest entry then 0.5 to 1; finite)`.

    A power of two, because dividing by the entry itself would round the others: another problem,
    where the optimum is smaller than that rounding. What is not finite becomes zero.
    """
    finite = tf.reduce_all(tf.math.is_finite(gram), [-2, -1])
    gram = tf.where(finite[..., None, None], gram, tf.zeros([], gram.dtype))
    largest = tf.reduce_max(tf.abs(gram), [-2, -1], keepdims=True)
    # A finite matrix may still overflow under symmetrization: scale first, then symmetrize.
    gram = tf.math.divide_no_nan(gram, _power_of_two(largest)) / 2
    return (gram + tf.linalg.matrix_transpose(gram)) / 2, finite


def _power_of_two(value: tf.Tensor) -> tf.Tensor:
    """The largest that is not above `value`; 0 of 0."""
    integer, kept = (tf.int32, 0xFF << 23) if value.dtype == tf.float32 else (tf.int64, 0x7FF << 52)
    bits = tf.bitwise.bitwise_and(tf.bitcast(value, integer), tf.constant(kept, integer))
    return tf.bitcast(bits, value.dtype)


def start(caps: tf.Tensor) -> tf.Tensor:
    """Uniform weights; proportional to the caps where a cap forbids that."""
    uniform = tf.fill(tf.shape(caps), tf.constant(1 / caps.shape[-1], caps.dtype))
    allowed = tf.reduce_all(uniform <= caps, -1, keepdims=True)
    return tf.where(allowed, uniform, caps / tf.reduce_sum(caps, -1, keepdims=True))


def matvec(gram: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    # Multiply and reduce, not matmul: TF32 and bfloat16 matrix units would cost 1e-3.
    # Rows first (G is symmetric): a sum over the last axis does not vectorize.
    return tf.reduce_sum(gram * weights[..., :, None], -2)


def accurate_matvec(gram: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`G w` to nearly twice float32's precision, for where opposed gradients cancel.

    For `|gram| <= 1` and `sum |weights| <= 1`, as both are here.
    """
    if gram.dtype == tf.float64:
        return matvec(gram, weights)
    # Twelve leading bits each make the large products exact. Rounded to multiples of 2^-23
    # their sum, at most 1, is exact too; what is left is too small for its rounding to show.
    gram_high, weights_high = leading_bits(gram), leading_bits(weights)
    large = gram_high * weights_high[..., :, None]
    coarse = tf.round(large * 2.0**23)
    # Differences of differences: see `qp_pairs` on sums in a loop outside XLA.
    small = (large - coarse * 2.0**-23) - gram_high * (weights_high - weights)[..., :, None]
    small -= (gram_high - gram) * weights[..., :, None]
    return tf.reduce_sum(coarse, -2) * 2.0**-23 + tf.reduce_sum(small, -2)


def leading_bits(value: tf.Tensor) -> tf.Tensor:
    """The leading half of the bits, so that a product of two is exact."""
    integer, kept = (tf.int32, -(2**12)) if value.dtype == tf.float32 else (tf.int64, -(2**27))
    bits = tf.bitwise.bitwise_and(tf.bitcast(value, integer), tf.constant(kept, integer))
    return tf.bitcast(bits, value.dtype)


def certify(gram: tf.Tensor, caps: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Feasible weights and their relative duality gap; uniform and inf where not finite."""
    gram, finite = normalized(gram)
    plain = start(caps)
    # Caps that sum to 1 but for rounding leave nothing to choose.
    epsilon = float(np.finfo(weights.dtype.as_numpy_dtype).eps)
    fixed = tf.reduce_sum(caps, -1, keepdims=True) <= 1 + caps.shape[-1] * epsilon
    weights = tf.where(finite[..., None] & ~fixed, weights, plain)
    weights = tf.clip_by_value(weights, tf.zeros([], weights.dtype), caps)
    # What is missing from a sum of 1, from multiples of epsilon, whose sum does not round, and
    # the rest; it goes to teachers at no bound, whose gradients agree, if there are any.
    coarse = tf.round(weights / epsilon) * epsilon
    missing = 1 - tf.reduce_sum(coarse, -1, True) - tf.reduce_sum(weights - coarse, -1, True)
    # Uniform weights, whose sum rounds, are left alone.
    missing = tf.where(tf.reduce_all(weights == plain, -1, True), tf.zeros_like(missing), missing)
    room = tf.where(missing > 0, caps - weights, weights)
    inner = tf.where((weights > 0) & (weights < caps), room, tf.zeros([], room.dtype))
    enough = tf.reduce_sum(inner, -1, True) > tf.abs(missing)
    room = tf.where(enough, inner, room)
    weights += missing * tf.math.divide_no_nan(room, tf.reduce_sum(room, -1, True))
    weights = tf.clip_by_value(weights, tf.zeros([], weights.dtype), caps)

    gradient = accurate_matvec(gram, weights)
    gap = duality_gap(caps, weights, gradient)
    gap = tf.where(fixed[..., 0], tf.zeros_like(gap), gap)
    objective = tf.reduce_sum(weights * gradient, -1) / 2
    floor = UNIFORM_SHARE * tf.reduce_sum(plain * accurate_matvec(gram, plain), -1) / 2
    scale = tf.maximum(objective - gap, floor)
    # A zero scale with a positive gap certifies nothing.
    relative = tf.where(gap > 0, gap / tf.maximum(scale, 0), tf.zeros_like(gap))
    infinity = tf.constant(np.inf, gap.dtype)
    return weights, tf.where(finite, relative, infinity)


def duality_gap(caps: tf.Tensor, weights: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """`w' g - min s' g` over the capped simplex; at least 0."""
    # The linear minimum over the capped simplex fills the caps in ascending order.
    index = tf.range(caps.shape[-1])
    theirs, ours = gradient[..., :, None], gradient[..., None, :]
    earlier = (theirs < ours) | ((theirs == ours) & (index[:, None] < index[None, :]))
    before = tf.reduce_sum(tf.where(earlier, caps[..., :, None], tf.zeros([], caps.dtype)), -2)
    vertex = tf.clip_by_value(1 - before, tf.zeros([], caps.dtype), caps)
    centered = gradient - tf.reduce_min(gradient, -1, keepdims=True)
    return tf.maximum(tf.reduce_sum((weights - vertex) * centered, -1), 0)


def project(point: tf.Tensor, caps: tf.Tensor) -> tf.Tensor:
    point = point - tf.reduce_max(point, -1, keepdims=True)  # a shift changes nothing; accuracy
    caps = tf.broadcast_to(caps, tf.shape(point))
    breaks = tf.concat([point, point - caps], -1)
    sums = tf.reduce_sum(
        tf.clip_by_value(
            point[..., None, :] - breaks[..., :, None],
            tf.zeros([], point.dtype),
            caps[..., None, :],
        ),
        -1,
    )
    lowest, highest = point.dtype.min, point.dtype.max
    left = tf.reduce_max(tf.where(sums >= 1, breaks, lowest), -1, keepdims=True)
    right = tf.reduce_min(tf.where(sums < 1, breaks, highest), -1, keepdims=True)
    left = tf.maximum(left, tf.reduce_min(breaks, -1, keepdims=True))
    right = tf.minimum(right, tf.reduce_max(breaks, -1, keepdims=True))
    one = tf.ones([], point.dtype)
    free = tf.cast((point > left) & (point - caps < right), point.dtype)
    full = tf.cast(point - caps >= right, point.dtype)
    count = tf.reduce_sum(free, -1, keepdims=True)
    target = one - tf.reduce_sum(full * caps, -1, keepdims=True)
    shift = (tf.reduce_sum(free * point, -1, keepdims=True) - target) / tf.maximum(count, one)
    shift = tf.where(count > 0, tf.clip_by_value(shift, left, right), left)
    zero = tf.zeros([], point.dtype)
    projected = tf.clip_by_value(point - shift, zero, caps)
    # Large points round as they are shifted; what that took from the sum goes to the free ones.
    missing = one - tf.reduce_sum(projected, -1, keepdims=True)
    projected += free * missing / tf.maximum(count, one)
    return tf.clip_by_value(projected, zero, caps)
