"""The table against NumPy's inverses, outside XLA and inside."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from aekd_tf.qp import sweep as qp_sweep
from tools import qp_problems

SIZE = 7
BASE = 2


def differences(gram):
    own = gram[:, BASE, BASE, None, None]
    return gram - gram[:, :, BASE, None] - gram[:, None, BASE, :] + own


def swept_by_numpy(gram, members):
    """Computes the table's three kinds of entry from the definition; the base is no member."""
    matrix = differences(gram)
    inside = np.ix_(range(len(gram)), members, members)
    others = [m for m in range(SIZE) if m not in members and m != BASE]
    inverse = np.linalg.inv(matrix[inside])
    response = inverse @ matrix[np.ix_(range(len(gram)), members, others)]
    left = (
        matrix[np.ix_(range(len(gram)), others, others)]
        - matrix[np.ix_(range(len(gram)), others, members)] @ response
    )
    return others, -inverse, response, left


def problems(count=20):
    gram = qp_problems.full_rank(np.random.default_rng(0), count, SIZE)
    return gram / np.abs(gram).max((1, 2), keepdims=True)


@functools.cache
def program(frees, compiled, threshold):
    def to_all(gram):
        base = tf.fill([gram.shape[0]], BASE)
        norms = tf.linalg.diag_part(gram) + gram[:, BASE, BASE, None]
        table, swept = qp_sweep.new_table(gram, base)
        active = tf.ones_like(base, tf.bool)
        for free in frees:
            mask = tf.constant(np.isin(np.arange(SIZE), free)[None].repeat(gram.shape[0], 0))
            table, swept = qp_sweep.sweep(table, swept, mask, active, norms, threshold)
        return table, swept

    return tf.function(to_all, jit_compile=compiled, autograph=False)


def run(gram, frees, compiled=True, threshold=1e-12):
    """Returns the table after sweeps to each of `frees` in turn."""
    return [v.numpy() for v in program(tuple(map(tuple, frees)), compiled, threshold)(gram)]


@pytest.mark.parametrize("compiled", [False, True])
def test_entries(compiled):
    gram, members = problems(), [0, 3, 4]
    table, swept = run(gram, [[*members, BASE]], compiled)
    assert (swept == np.isin(np.arange(SIZE), [*members, BASE])).all()
    others, *blocks = swept_by_numpy(gram, members)
    pairs = (members, members), (members, others), (others, others)
    for (rows, columns), block in zip(pairs, blocks, strict=True):
        entries = table[np.ix_(range(len(gram)), rows, columns)]
        scale = np.abs(block).max((1, 2), keepdims=True)
        assert (np.abs(entries - block) / scale).max() < 1e-9
    np.testing.assert_allclose(table, table.transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


def test_the_base_gives_what_others_take():
    table, _ = run(problems(), [[0, 3, 4, BASE]])
    members, others = [0, 3, 4, BASE], [1, 5, 6]
    # Newton's direction and each answer keep the sum of the weights.
    inside = np.ix_(range(len(table)), members, members)
    assert np.abs(table[inside].sum(1)).max() < 1e-9 * np.abs(table).max()
    answers = table[np.ix_(range(len(table)), members, others)]
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-9)


def test_leaving_undoes_entering_and_the_base_can_leave():
    gram = problems()
    direct, _ = run(gram, [[0, 3, 4, BASE]])
    around, swept = run(gram, [[0, 1, 3, 4, 6, BASE], [0, 3, 4, BASE]])
    np.testing.assert_allclose(around, direct, rtol=1e-6, atol=1e-6 * np.abs(direct).max())
    # Without the base the rest are tied by the sum of the weights all the same.
    table, swept = run(gram, [[0, 3, 4, BASE], [0, 3, 4]])
    assert (swept == np.isin(np.arange(SIZE), [0, 3, 4])).all()
    inside = np.ix_(range(len(gram)), [0, 3, 4], [0, 3, 4])
    assert np.abs(table[inside].sum(1)).max() < 1e-6 * np.abs(table).max()
    bordered = np.ones((len(gram), 4, 4))
    bordered[:, :3, :3], bordered[:, 3, 3] = gram[inside], 0
    truth = -np.linalg.inv(bordered)[:, :3, :3]
    np.testing.assert_allclose(table[inside], truth, rtol=1e-5, atol=1e-6 * np.abs(truth).max())


def test_the_last_stays():
    _, swept = run(problems(), [[0, BASE], [0], []])
    assert (swept == (np.arange(SIZE) == 0)).all()


def test_dependent_teachers_are_left_out():
    vectors = np.random.default_rng(1).normal(size=(20, SIZE, 3))
    _, swept = run(vectors @ vectors.transpose(0, 2, 1), [range(SIZE)])
    assert (swept.sum(-1) == 4).all()  # the base and one for each dimension


def test_small_curvatures_are_kept():
    basis, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(20, SIZE, SIZE)))
    gram = (basis * np.geomspace(1, 1e-7, SIZE)) @ basis.transpose(0, 2, 1)
    gram = (gram + gram.transpose(0, 2, 1)) / 2
    members = [m for m in range(SIZE) if m != BASE]
    _, truth, *_ = swept_by_numpy(gram, members)
    inside = np.ix_(range(20), members, members)
    table, _ = run(gram, [[*members, BASE]])
    error = np.abs(table[inside] - truth).max((1, 2)) / np.abs(truth).max((1, 2))
    assert np.median(error) < 1e-4


def test_problems_that_are_not_active_are_not_touched():
    gram = tf.constant(problems(2))
    base = tf.fill([2], BASE)
    table, swept = qp_sweep.new_table(gram, base)
    free = tf.ones_like(swept)
    active = tf.constant([True, False])
    norms = tf.linalg.diag_part(gram) + gram[:, BASE, BASE, None]
    after, swept_after = qp_sweep.sweep(table, swept, free, active, norms, 1e-5)
    assert swept_after.numpy().sum(-1).tolist() == [SIZE, 1]
    np.testing.assert_array_equal(after[1], table[1])
