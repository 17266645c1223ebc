"""Newton's direction, in floats or in pairs of floats for where float32 is not enough.

Gauss-Jordan in float32 loses curvatures below 1e-7 of the largest. Pairs, `high + low` unevaluated,
keep them down to about 1e-11 without a 64-bit float, which a TPU does not have. Products are
made of leading bits, whose product is exact, so that fusing a multiplication with an addition
changes nothing.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.qp_algebra import anywhere, largest_of, leading_bits

# `(value,)`, or the pair `(high, low)`: two tensors of one shape.
Number = tuple[tf.Tensor, ...]


def pair(value: tf.Tensor) -> Number:
    return value, tf.zeros_like(value)


def plus(a: Number, b: Number) -> Number:
    high = a[0] + b[0]
    if len(a) == 1:
        return (high,)
    # What the addition rounded away (Knuth's two-sum).
    of_b = high - a[0]
    lost = (a[0] - (high - of_b)) + (b[0] - of_b)
    return _normal(high, lost + (a[1] + b[1]))


def minus(a: Number, b: Number) -> Number:
    return plus(a, tuple(-part for part in b))


def times(a: Number, b: Number) -> Number:
    """The `high` of a pair has half the bits only; sums take it as it is."""
    if len(a) == 1:
        return (a[0] * b[0],)
    a_high, b_high = leading_bits(a[0]), leading_bits(b[0])
    a_low, b_low = (a[0] - a_high) + a[1], (b[0] - b_high) + b[1]
    return a_high * b_high, a_high * b_low + a_low * b_high + a_low * b_low


def over(a: Number, b: Number) -> Number:
    """Where b is 0, 0."""
    first = tf.math.divide_no_nan(a[0], b[0])
    if len(a) == 1:
        return (first,)
    rest = minus(a, times(pair(first), b))
    return _normal(first, tf.math.divide_no_nan(rest[0], b[0]))


def _normal(high: tf.Tensor, low: tf.Tensor) -> Number:
    both = high + low
    return both, low - (both - high)


def noise(dtype: tf.DType, exact: bool) -> float:
    """What arithmetic loses of the largest entries of a Gram matrix, itself rounded if float64."""
    kept = 2.0**-11 if exact and dtype == tf.float32 else 1.0
    return kept * float(np.finfo(dtype.as_numpy_dtype).eps)


def newton_direction(hessian: Number, descent: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Solves `hessian x = descent` by Gauss-Jordan with diagonal pivots, largest first.

    In pairs, flat directions and those of negative curvature, both the work of rounding, get long
    steps downhill: of `L D L' = hessian` it is `L^-T |D|^-1 L^-1 descent`, no pivot smaller than
    `least`. In plain floats such rows stay at 0. Written out because XLA's factorisations are
    custom calls.

    Args:
        hessian: `[N, M, M]`, symmetric.
        descent: `[N, M]`, the negative slope.
        least: `[N, M]`, the smallest curvature that is not rounding; rows with 0 are left out.

    Returns:
        `[N, M]`, a direction of descent.
    """
    dtype, size, exact = descent.dtype, descent.shape[-1], len(hessian) == 2
    index = tf.range(size)
    is_right = tf.range(size + 1) == size
    zero = tf.zeros([], dtype)
    original = tf.maximum(tf.linalg.diag_part(hessian[0]), least)
    matrix = (tf.linalg.set_diag(hessian[0], original), *hessian[1:])
    rights = pair(descent)[: len(matrix)]
    table = tuple(tf.concat([m, r[..., None]], -1) for m, r in zip(matrix, rights, strict=True))
    threshold = dtype.min if exact else size * noise(dtype, exact)

    def eliminate(table, waiting, going, count):
        # Relative to its own start, so that one long gradient does not hide the others.
        remaining = tf.math.divide_no_nan(tf.linalg.diag_part(table[0][..., :size]), original)
        remaining = tf.abs(remaining) if exact else remaining
        remaining = tf.where(waiting, remaining, dtype.min)
        chosen = tf.argmax(remaining, -1, output_type=tf.int32)
        going = largest_of(remaining, -1) > threshold
        is_chosen = (index == chosen[:, None]) & going[:, None]
        row = tuple(tf.gather(part, chosen, batch_dims=1) for part in table)
        pivot = tuple(tf.gather(part, chosen[:, None], batch_dims=1) for part in row)
        if exact:
            floor = tf.gather(least, chosen[:, None], batch_dims=1)
            small = tf.abs(pivot[0]) < floor
            floor = tf.where(pivot[0] < 0, -floor, floor)
            pivot = tf.where(small, floor, pivot[0]), tf.where(small, zero, pivot[1])
        row = tuple(part[:, None, :] for part in over(row, pivot))
        column = tuple(tf.gather(part, chosen[:, None], axis=2, batch_dims=1) for part in table)
        column = tuple(tf.where(going[:, None, None], part, zero) for part in column)
        product = times(column, row)
        if exact:
            # |D|: what is done takes its right side with the pivot made positive.
            turned = is_right & (pivot[0] < 0)[:, None]
            product = tuple(tf.where(turned & ~waiting[..., None], -part, part) for part in product)
            row = tuple(tf.where(turned, -part, part) for part in row)
        reduced = minus(table, product)
        table = tuple(
            tf.where(is_chosen[..., None], new, old) for new, old in zip(row, reduced, strict=True)
        )
        waiting &= ~is_chosen
        return table, waiting, going & anywhere(waiting, -1), count + 1

    def unfinished(table, waiting, going, count):
        return anywhere(going) & (count < size)

    state = (table, least > 0, anywhere(least > 0, -1), tf.constant(0))
    table, waiting, *_ = tf.while_loop(unfinished, eliminate, state)
    return tf.where((least > 0) & ~waiting, table[0][..., size], zero)
