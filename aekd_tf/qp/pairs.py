"""Numbers that are floats, or pairs of floats for where float32 is not enough.

A linear system in float32 loses curvatures below 1e-7 of the largest. Pairs, `high + low`
unevaluated, keep them down to about 1e-11 without a 64-bit float, which a TPU does not have.
Products are made of leading bits, whose product is exact, so that fusing a multiplication with an
addition changes nothing. No sum is only the term of another: outside XLA, TensorFlow's optimizer
would gather both in one node, which in a loop may fail with AlreadyExistsError (of a temporary
variable).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.qp.algebra import leading_bits

# `(value,)`, or the pair `(high, low)`: two tensors of one shape.
Number = tuple[tf.Tensor, ...]


def pair(value: tf.Tensor) -> Number:
    return value, tf.zeros_like(value)


def number(value: tf.Tensor, exact: bool) -> Number:
    return pair(value) if exact else (value,)


def plus(a: Number, b: Number) -> Number:
    high = a[0] + b[0]
    if len(a) == 1:
        return (high,)
    # What the addition rounded away (Knuth's two-sum).
    of_b = high - a[0]
    lost = (a[0] - (high - of_b)) + (b[0] - of_b)
    return normal((high, lost - (-a[1] - b[1])))


def minus(a: Number, b: Number) -> Number:
    if len(a) == 1:
        return (a[0] - b[0],)
    return plus(a, tuple(-part for part in b))


def times(a: Number, b: Number) -> Number:
    """Not yet `normal`: its `high` has half the bits. Sums and products take it as it is."""
    if len(a) == 1:
        return (a[0] * b[0],)
    a_high, b_high = leading_bits(a[0]), leading_bits(b[0])
    a_low, b_low = (a[0] - a_high) + a[1], (b[0] - b_high) + b[1]
    return a_high * b_high, a_high * b_low - a_low * -(b_high + b_low)


def over(a: Number, b: Number) -> Number:
    """Where b is 0, 0."""
    first = tf.math.divide_no_nan(a[0], b[0])
    if len(a) == 1:
        return (first,)
    rest = minus(a, times(pair(first), b))
    return normal((first, tf.math.divide_no_nan(rest[0], b[0])))


def normal(a: Number) -> Number:
    """The same number, its `high` the nearest float."""
    if len(a) == 1:
        return a
    high = a[0] + a[1]
    return high, a[1] - (high - a[0])


def noise(dtype: tf.DType, exact: bool) -> float:
    """What arithmetic loses of the largest entries of a Gram matrix, itself rounded if float64."""
    kept = 2.0**-11 if exact and dtype == tf.float32 else 1.0
    return kept * float(np.finfo(dtype.as_numpy_dtype).eps)


def sum_of(a: Number) -> Number:
    """Over the last but one axis; pairs by halves."""
    if len(a) == 1:
        return (tf.reduce_sum(a[0], -2),)
    while a[0].shape[-2] > 1:
        half, odd = divmod(a[0].shape[-2], 2)
        first, second = (tuple(part[..., at : at + half, :] for part in a) for at in (0, half))
        rest = tuple(part[..., 2 * half :, :] for part in a)
        a = plus(first, second)
        if odd:
            a = tuple(tf.concat(parts, -2) for parts in zip(a, rest, strict=True))
    return tuple(part[..., 0, :] for part in a)
