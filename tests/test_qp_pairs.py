"""Pairs of float32 against float64, outside XLA and inside."""

import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import qp_pairs


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


def problem(rng, size, smallest):
    basis, _ = np.linalg.qr(rng.normal(size=(30, size, size)))
    values = np.geomspace(1, smallest, size)
    matrix = (basis * values) @ np.swapaxes(basis, -1, -2)
    high, exact = split((matrix + np.swapaxes(matrix, -1, -2)) / 2)
    return high, exact, rng.normal(size=(30, size)).astype(np.float32)


def direction(matrix, right, least):
    solve = tf.function(qp_pairs.newton_direction, jit_compile=True, autograph=False)
    found = solve(matrix, tf.constant(right), tf.constant(np.full_like(right, least)))
    return found.numpy().astype(np.float64)


def test_solves_what_float32_cannot():
    matrix, exact, right = problem(np.random.default_rng(1), 8, 1e-7)
    found = direction(matrix, right, 1e-11)
    truth = np.linalg.solve(exact, right[..., None])[..., 0]
    error = np.abs(found - truth).max(-1) / np.abs(truth).max(-1)
    assert error.max() < 2e-3
    lost = np.linalg.solve(exact.astype(np.float32), right[..., None])[..., 0]
    assert np.median(np.abs(lost - truth).max(-1) / np.abs(truth).max(-1)) > 0.01


def test_plain_floats_leave_dependent_rows_at_zero():
    vectors = np.random.default_rng(4).normal(size=(30, 6, 3)).astype(np.float32)
    gram = vectors @ np.swapaxes(vectors, -1, -2)
    weights = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)
    right = np.einsum("nij,nj->ni", gram, weights)
    found = direction((tf.constant(gram),), right, 1e-7)
    assert ((found != 0).sum(-1) == 3).all()
    np.testing.assert_allclose(np.einsum("nij,nj->ni", gram, found), right, atol=1e-3)


def test_descends_where_the_matrix_is_indefinite():
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.normal(size=(30, 6, 6)))
    values = np.array([1, 0.1, 1e-3, 1e-9, -1e-9, -1e-7])
    matrix, _ = split((basis * values) @ np.swapaxes(basis, -1, -2))
    right = rng.normal(size=(30, 6)).astype(np.float32)
    found = direction(matrix, right, 1e-10)
    assert np.isfinite(found).all()
    assert ((found * right).sum(-1) > 0).all()


def test_rows_left_out_stay_zero():
    matrix, exact, right = problem(np.random.default_rng(3), 5, 0.1)
    least = np.full((30, 5), 1e-11, np.float32)
    least[:, 2] = 0
    kept = least > 0
    both = kept[:, :, None] & kept[:, None, :]
    masked = tuple(tf.where(both, part, 0.0) for part in matrix)
    right[:, 2] = 0
    found = qp_pairs.newton_direction(masked, tf.constant(right), tf.constant(least)).numpy()
    inner = np.ix_(range(30), [0, 1, 3, 4], [0, 1, 3, 4])
    truth = np.linalg.solve(exact[inner], right[:, [0, 1, 3, 4], None])[..., 0]
    np.testing.assert_allclose(found[:, [0, 1, 3, 4]], truth, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0)
