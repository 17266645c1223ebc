"""Pairs of float32 against float64, outside XLA and inside."""

import numpy as np
import pytest
import tensorflow as tf

from aekd_tf.qp import pairs as qp_pairs


def split(values):
    """float64 values as pairs of float32, and what those hold."""
    high = values.astype(np.float32)
    low = (values - high).astype(np.float32)
    return (tf.constant(high), tf.constant(low)), high.astype(np.float64) + low


def joined(result):
    return result[0].numpy().astype(np.float64) + result[1].numpy()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["plus", "minus", "times", "over"])
def test_arithmetic(name, compiled):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000)) * 10 ** rng.uniform(-4, 4, (2, 4000))
    # Some that nearly cancel: what is left of them is the low parts.
    b[::3] = a[::3] * (1 + 1e-7 * rng.normal(size=len(a[::3])))
    (first, a), (second, b) = split(a), split(b)
    function = tf.function(getattr(qp_pairs, name), jit_compile=compiled, autograph=False)
    found = joined(function(first, second))
    exact = {"plus": a + b, "minus": a - b, "times": a * b, "over": a / b}[name]
    scale = np.maximum(np.abs(a), np.abs(b)) if name in ("plus", "minus") else np.abs(exact)
    assert (np.abs(found - exact) / scale).max() < 2.0**-33


def test_over_zero_is_zero():
    one, zero = (qp_pairs.pair(tf.fill([2], value)) for value in (1.0, 0.0))
    np.testing.assert_array_equal(joined(qp_pairs.over(one, zero)), 0)


@pytest.mark.parametrize("size", [1, 2, 5, 13])
def test_sums(size):
    rng = np.random.default_rng(1)
    number, exact = split(rng.normal(size=(40, size, 3)) * 10 ** rng.uniform(-4, 4, (40, size, 3)))
    number, exact = (
        tuple(tf.concat([part, -part[:, ::-1]], 1) for part in number),
        np.concatenate([exact, -exact[:, ::-1]], 1),
    )
    found = joined(qp_pairs.sum_of(number))
    assert (np.abs(found - exact.sum(1)) / np.abs(exact).max(1)).max() < 2.0**-43
    single = qp_pairs.sum_of(number[:1])
    np.testing.assert_allclose(single[0], number[0].numpy().sum(1), atol=1e-3)
