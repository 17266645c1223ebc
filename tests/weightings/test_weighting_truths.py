"""Each weighting against its formula in NumPy and float64."""

import dataclasses

import numpy as np
import pytest

from aekd_tf import (
    AdaptiveWeighting,
    CAMKDWeighting,
    CrossEntropyWeighting,
    EBKDWeighting,
    MTKDWeighting,
    RandomWeighting,
    Smoothed,
    UniformWeighting,
    solve_capped_simplex_qp,
)
from tools import reference
from tools import weightings as truth

TRUTHS = {
    "ca_mkd": (CAMKDWeighting(), [truth.cross_entropy], truth.ca_mkd),
    "ebkd": (EBKDWeighting(), [truth.entropy], truth.ebkd),
    "mtkd": (MTKDWeighting(), [truth.cross_entropy, truth.divergence], truth.mtkd),
    "cross_entropy": (CrossEntropyWeighting(), [truth.cross_entropy], truth.softmax_of_minus),
    "per example": (
        CrossEntropyWeighting(per_example=True),
        [truth.cross_entropy],
        truth.softmax_of_minus,
    ),
}
SAMPLE_WEIGHT = np.array([0.5, 2, 0, 1, 3, 1])
MASK = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("dead", [[], [1], [0, 3]])
@pytest.mark.parametrize("kind", ["plain", "sample weights", "one-hot", "dense", "masked"])
def test_formulas(name, dead, kind):
    weighting, parts, formula = TRUTHS[name]
    positions = (3,) if kind in ("dense", "masked") else ()
    weight = {"sample weights": SAMPLE_WEIGHT, "masked": MASK}.get(kind)
    live = ~np.isin(np.arange(4), dead)
    known = truth.signals(1, positions=positions, sample_weight=weight, live=live)
    y = known.labels.numpy()
    z = known.teacher_outputs.numpy().astype(np.float64)
    s = known.student_outputs.numpy().astype(np.float64)
    known = dataclasses.replace(
        known,
        teacher_outputs=truth.tensor(z * live.reshape(-1, *[1] * (z.ndim - 1))),
        labels=truth.tensor(np.eye(5)[y]) if kind == "one-hot" else known.labels,
    )
    mask = MASK if kind == "masked" else np.ones((6, *positions))
    each = [part(z[live], y, s, 3.0) for part in parts]
    if positions:
        each = [(part * mask).sum(-1) / np.maximum(mask.sum(-1), 1) for part in each]
    if name == "cross_entropy":
        weight = SAMPLE_WEIGHT if kind == "sample weights" else None
        each = [np.average(part, -1, weight)[:, None] for part in each]
    if kind == "masked" and name != "cross_entropy":
        each = [part[:, :-1] for part in each]  # the last example has no position
    expected = formula(*each)
    found = weighting(known)[0].numpy()
    if name == "cross_entropy":
        assert found.shape == (4,)
        found = found[:, None]
    elif kind == "masked":
        np.testing.assert_allclose(found[live, -1], formula(*(0 * p + 1 for p in each))[:, 0])
        found = found[:, :-1]
    np.testing.assert_allclose(found[live], expected, rtol=2e-5, atol=1e-6)
    assert not found[~live].any()


@pytest.mark.parametrize("outputs", [5, 1])
@pytest.mark.parametrize("weighting", ["cross_entropy", "per example"])
def test_cross_entropy_of_independent_labels(outputs, weighting):
    y = np.random.default_rng(2).integers(0, 2, (6, outputs))
    known = truth.signals(1, classes=outputs, labels=y, head="labels", sample_weight=SAMPLE_WEIGHT)
    z = known.teacher_outputs.numpy().astype(np.float64)
    each = (np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - y * z).mean(-1)
    if weighting == "cross_entropy":
        each = np.average(each, -1, SAMPLE_WEIGHT)
    expected = truth.softmax_of_minus(each)
    found, _ = TRUTHS[weighting][0](known)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_column_of_labels_of_one_logit():
    """A step gives integers `[B, 1]` as `[B]`."""
    y = np.random.default_rng(2).integers(0, 2, (6, 1))
    each = [
        CrossEntropyWeighting()(truth.signals(classes=1, labels=labels, head="labels"))[0]
        for labels in (y, y[:, 0])
    ]
    np.testing.assert_array_equal(*each)


@pytest.mark.parametrize("tolerance", [0.4, 1.0])
def test_programs_against_the_reference(tolerance):
    known = truth.signals(4)
    gram = known.gram.numpy().astype(np.float64)
    best = solve_capped_simplex_qp(gram, tolerance, solver="cvxopt").weights.numpy()
    found, diagnostics = AdaptiveWeighting(tolerance)(known)
    optimum = reference.objective(gram, best)
    assert reference.objective(gram, found.numpy()) <= optimum * (1 + 1e-5)
    assert float(diagnostics["qp_gap"]) < 1e-5


def test_random_draws_the_live_teachers_equally_often():
    weighting = RandomWeighting(1)
    live = np.array([True, False, True, True])
    state, counts = None, np.zeros(4)
    for _ in range(150):
        known = truth.signals(live=live, state=state)
        weights, found = weighting(known)
        state = found["state"]
        assert sorted(weights.numpy()) == [0, 0, 0, 1]
        counts += weights.numpy()
    assert counts[1] == 0
    expected = 50 + 4 * np.sqrt(150 * 1 / 3 * 2 / 3) * np.array([-1, 1])
    assert expected[0] < counts[live].min() <= counts[live].max() < expected[1]
    assert state["seed"].numpy().tolist() == [1, 150]


class Given(UniformWeighting):
    """Weights given one step after the other, by their place in `losses`."""

    needs = ("losses",)

    def weights(self, signals):
        return signals.losses[:, 0]


def test_smoothed_is_the_moving_average():
    rng = np.random.default_rng(3)
    given = rng.dirichlet(np.ones(4), 6)
    left_out = {2: 1, 3: 1, 5: 0}  # by step
    weighting, state, average = Smoothed(Given(), 0.7), None, None
    for step, weights in enumerate(given):
        live = np.arange(4) != left_out.get(step, -1)
        weights = weights * live / (weights * live).sum()
        known = truth.signals(losses=np.tile(weights[:, None], 6), live=live, state=state)
        found, diagnostics = weighting(known)
        state = diagnostics["state"]
        if average is None:
            average = expected = weights
        else:
            before = average * live / (average * live).sum()
            expected = 0.7 * before + 0.3 * weights
            average = np.where(live, (average * live).sum() * expected, average)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(state["average"], average, rtol=1e-5, atol=1e-7)


def test_smoothed_waits_for_a_live_teacher():
    weighting = Smoothed(UniformWeighting())
    weights, found = weighting(truth.signals(live=np.zeros(4, bool)))
    assert not weights.numpy().any()
    known = truth.signals(live=[True, False, True, False], state=found["state"])
    weights, found = weighting(known)
    assert weights.numpy().tolist() == [0.5, 0, 0.5, 0]
    weights, again = weighting(truth.signals(live=np.zeros(4, bool), state=found["state"]))
    assert not weights.numpy().any()
    np.testing.assert_array_equal(again["state"]["average"], found["state"]["average"])
