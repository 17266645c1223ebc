"""Pairs of floats, `high + low` unevaluated: half as many bits again, for nearly dependent rows.

Gauss-Jordan in float32 loses curvatures below 1e-7 of the largest. In pairs it keeps them down to
about 1e-11 without a 64-bit float, which a TPU does not have. Products are made of leading
bits, whose product is exact, so that fusing a multiplication with an addition changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aekd_tf.qp_algebra import anywhere, leading_bits


class Pair(NamedTuple):
    """`high + low`, two tensors of one shape."""

    high: tf.Tensor
    low: tf.Tensor


def pair(value: tf.Tensor) -> Pair:
    return Pair(value, tf.zeros_like(value))


def plus(a: Pair, b: Pair) -> Pair:
    high = a.high + b.high
    # What the addition rounded away (Knuth's two-sum).
    of_b = high - a.high
    lost = (a.high - (high - of_b)) + (b.high - of_b)
    return _normal(high, lost + (a.low + b.low))


def minus(a: Pair, b: Pair) -> Pair:
    return plus(a, Pair(-b.high, -b.low))


def times(a: Pair, b: Pair) -> Pair:
    """Its `high` has half the bits only; sums take it as it is."""
    a_high, b_high = leading_bits(a.high), leading_bits(b.high)
    a_low, b_low = (a.high - a_high) + a.low, (b.high - b_high) + b.low
    return Pair(a_high * b_high, a_high * b_low + a_low * b_high + a_low * b_low)


def over(a: Pair, b: Pair) -> Pair:
    """Where b is 0, 0."""
    first = tf.math.divide_no_nan(a.high, b.high)
    rest = minus(a, times(pair(first), b))
    return _normal(first, tf.math.divide_no_nan(rest.high, b.high))


def _normal(high: tf.Tensor, low: tf.Tensor) -> Pair:
    both = high + low
    return Pair(both, low - (both - high))


def _gather(value: Pair, position: tf.Tensor, axis: int = 1) -> Pair:
    high, low = (tf.gather(part, position, axis=axis, batch_dims=1) for part in value)
    return Pair(high, low)


def precision(dtype: tf.DType) -> float:
    """What is lost of a Gram matrix' largest entries: float64's sums came rounded to begin with."""
    return (2.0**-11 if dtype == tf.float32 else 1.0) * float(np.finfo(dtype.as_numpy_dtype).eps)


def newton_direction(hessian: Pair, descent: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Solves `hessian x = descent` with pivots made positive, `least` at least: it descends.

    Gauss-Jordan with diagonal pivots, largest first, on `[N, M, M]` and `[N, M]`. Flat directions
    and those of negative curvature, both the work of rounding, get long steps downhill. Rows
    with `least` zero are left out. Written out because XLA's factorisations are custom calls.
    """
    dtype, size = descent.dtype, descent.shape[-1]
    index = tf.range(size)
    zero = tf.zeros([], dtype)
    columns = zip(hessian, pair(descent), strict=True)
    table = Pair(*(tf.concat([matrix, right[..., None]], -1) for matrix, right in columns))
    original = tf.maximum(tf.linalg.diag_part(hessian.high), least)

    def eliminate(high, low, waiting, count):
        # Relative to its own start, so that one long gradient does not hide the others.
        remaining = tf.math.divide_no_nan(tf.linalg.diag_part(high[..., :size]), original)
        chosen = tf.argmax(tf.where(waiting, remaining, dtype.min), -1, output_type=tf.int32)
        going = anywhere(waiting, -1, keepdims=True)
        is_chosen = (index == chosen[:, None]) & going
        row = _gather(Pair(high, low), chosen)
        pivot = _gather(row, chosen[:, None])
        floor = tf.gather(least, chosen[:, None], batch_dims=1)
        sign = tf.where(pivot.high < 0, -tf.ones([], dtype), tf.ones([], dtype))
        enough = tf.abs(pivot.high) >= floor
        pivot = Pair(
            tf.where(enough, sign * pivot.high, floor), tf.where(enough, sign * pivot.low, zero)
        )
        row = Pair(*(part[:, None, :] for part in over(row, pivot)))
        column = _gather(Pair(high, low), chosen[:, None], axis=2)
        column = Pair(*(tf.where(going[..., None], part, zero) for part in column))
        reduced = minus(Pair(high, low), times(column, row))
        high, low = (
            tf.where(is_chosen[..., None], new, old) for new, old in zip(row, reduced, strict=True)
        )
        return high, low, waiting & ~is_chosen, count + 1

    def unfinished(high, low, waiting, count):
        return anywhere(anywhere(waiting)) & (count < size)

    state = (*table, least > 0, tf.constant(0))
    high, *_ = tf.while_loop(unfinished, eliminate, state)
    return tf.where(least > 0, high[..., size], zero)
