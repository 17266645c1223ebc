"""The table against NumPy's inverses, in floats and in pairs, outside XLA and inside."""

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
    """The table's three kinds of entry, from the definition; the base is no member."""
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
    gram = qp_problems.full_rank(np.random.default_rng(0), count, SIZE).astype(np.float32)
    return gram / np.abs(gram).max((1, 2), keepdims=True)


def run(gram, frees, exact, compiled, threshold=1e-5):
    """The table after sweeping to each of `frees` in turn."""

    def to_all(gram):
        base = tf.fill([gram.shape[0]], BASE)
        norms = tf.linalg.diag_part(gram) + gram[:, BASE, BASE, None]
        table, swept = qp_sweep.new_table(gram, base, exact)
        active = tf.ones_like(base, tf.bool)
        for free in frees:
            mask = tf.constant(np.isin(np.arange(SIZE), free)[None].repeat(gram.shape[0], 0))
            table, swept = qp_sweep.sweep(table, swept, mask, active, norms, threshold)
        return table, swept

    table, swept = tf.function(to_all, jit_compile=compiled, autograph=False)(tf.constant(gram))
    return np.sum([part.numpy().astype(np.float64) for part in table], 0), swept.numpy()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_entries(exact, compiled):
    gram, members = problems(), [0, 3, 4]
    table, swept = run(gram, [[*members, BASE]], exact, compiled)
    assert (swept == np.isin(np.arange(SIZE), [*members, BASE])).all()
    others, *blocks = swept_by_numpy(gram.astype(np.float64), members)
    pairs = (members, members), (members, others), (others, others)
    for (rows, columns), block in zip(pairs, blocks, strict=True):
        found = table[np.ix_(range(len(gram)), rows, columns)]
        scale = np.abs(block).max((1, 2), keepdims=True)
        assert (np.abs(found - block) / scale).max() < (1e-9 if exact else 1e-4)
    np.testing.assert_allclose(table, table.transpose(0, 2, 1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_the_base_gives_what_others_take(exact):
    table, _ = run(problems(), [[0, 3, 4, BASE]], exact, True)
    members, others = [0, 3, 4, BASE], [1, 5, 6]
    # Newton's direction and each answer keep the sum of the weights.
    inside = np.ix_(range(len(table)), members, members)
    assert np.abs(table[inside].sum(1)).max() < 1e-4 * np.abs(table).max()
    answers = table[np.ix_(range(len(table)), members, others)]
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-4)


def test_leaving_undoes_entering_and_the_base_can_leave():
    gram = problems()
    direct, _ = run(gram, [[0, 3, 4, BASE]], True, True)
    around, swept = run(gram, [[0, 1, 3, 4, 6, BASE], [0, 3, 4, BASE]], True, True)
    np.testing.assert_allclose(around, direct, rtol=1e-6, atol=1e-6 * np.abs(direct).max())
    # Without the base the rest are tied by the sum of the weights all the same.
    table, swept = run(gram, [[0, 3, 4, BASE], [0, 3, 4]], True, True)
    assert (swept == np.isin(np.arange(SIZE), [0, 3, 4])).all()
    inside = np.ix_(range(len(gram)), [0, 3, 4], [0, 3, 4])
    assert np.abs(table[inside].sum(1)).max() < 1e-6 * np.abs(table).max()
    bordered = np.ones((len(gram), 4, 4))
    bordered[:, :3, :3], bordered[:, 3, 3] = gram[inside], 0
    truth = -np.linalg.inv(bordered)[:, :3, :3]
    np.testing.assert_allclose(table[inside], truth, rtol=1e-5, atol=1e-6 * np.abs(truth).max())


def test_the_last_stays():
    _, swept = run(problems(), [[0, BASE], [0], []], False, True)
    assert (swept == (np.arange(SIZE) == 0)).all()


def test_dependent_teachers_are_left_out():
    vectors = np.random.default_rng(1).normal(size=(20, SIZE, 3)).astype(np.float32)
    gram = vectors @ vectors.transpose(0, 2, 1)
    _, swept = run(gram, [range(SIZE)], False, True)
    assert (swept.sum(-1) == 4).all()  # the base and one for each dimension


def test_pairs_keep_what_float32_loses():
    basis, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(20, SIZE, SIZE)))
    gram = (basis * np.geomspace(1, 1e-7, SIZE)) @ basis.transpose(0, 2, 1)
    gram = ((gram + gram.transpose(0, 2, 1)) / 2).astype(np.float32)
    members = [m for m in range(SIZE) if m != BASE]
    _, truth, *_ = swept_by_numpy(gram.astype(np.float64), members)
    inside = np.ix_(range(20), members, members)

    def error(exact):
        table, _ = run(gram, [[*members, BASE]], exact, True, 1e-11)
        off = np.abs(table[inside] - truth).max((1, 2)) / np.abs(truth).max((1, 2))
        return np.median(off)

    assert error(True) < 1e-4
    assert error(False) > 1e-3


def test_problems_that_are_not_active_are_not_touched():
    gram = tf.constant(problems(2))
    base = tf.fill([2], BASE)
    table, swept = qp_sweep.new_table(gram, base, False)
    free = tf.ones_like(swept)
    active = tf.constant([True, False])
    norms = tf.linalg.diag_part(gram) + gram[:, BASE, BASE, None]
    after, swept_after = qp_sweep.sweep(table, swept, free, active, norms, 1e-5)
    assert swept_after.numpy().sum(-1).tolist() == [SIZE, 1]
    np.testing.assert_array_equal(after[0][1], table[0][1])
