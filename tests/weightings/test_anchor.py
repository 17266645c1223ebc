"""The program's reference, compared with NumPy and CVXOPT."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import AdaptiveWeighting, Signals, solve_capped_simplex_qp
from aekd_tf.gradients import teacher_gradients
from aekd_tf.losses import get as get_loss
from aekd_tf.outputs import UNKNOWN
from tools import reference
from tools.refused import refused

M, B, K = 4, 12, 3
random = np.random.default_rng(3)
OUTPUTS = random.normal(size=(M, B, K)).astype(np.float32) * 2
STUDENT = random.normal(size=(B, K)).astype(np.float32)
LABELS = random.integers(0, K, B)
WEIGHT = random.uniform(0.2, 2, B).astype(np.float32)


def signals(**changes):
    given = Signals(
        live=tf.ones(M, bool), teacher_outputs=OUTPUTS, student_outputs=STUDENT, labels=LABELS
    )
    return dataclasses.replace(given, **{"head": None, **changes})


def softmax(values):
    values = np.exp(np.float64(values) - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.float64(values)))


def best(gram, tolerance=0.6):
    """The program's optimum, 1/2 w'Gw, by CVXOPT."""
    weights = solve_capped_simplex_qp(tf.constant(gram), tolerance, solver="cvxopt").weights
    return reference.objective(gram, weights.numpy())


def check(weights, residual):
    gram = residual.reshape(M, -1) @ residual.reshape(M, -1).T
    weights = np.float64(weights)
    assert abs(weights.sum() - 1) < 1e-5
    assert reference.objective(gram, weights) <= best(gram) * (1 + 1e-5)


@pytest.mark.parametrize("anchor", [0.4, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_classes(anchor, temperature):
    truth = np.eye(K)[LABELS]
    reference_point = (1 - anchor) * softmax(STUDENT / temperature) + anchor * truth
    weighting = AdaptiveWeighting(anchor=anchor, anchor_temperature=temperature)
    for labels in (LABELS, truth.astype(np.float32)):
        weights, diagnostics = weighting(signals(labels=labels))
        check(weights, reference_point - softmax(OUTPUTS / temperature))
        assert diagnostics["qp_gap"] < 1e-4


def test_labels_one_logit_and_regression():
    truth = (random.random((B, K)) > 0.5).astype(np.float32)
    given = signals(labels=truth, head="labels")
    check(
        AdaptiveWeighting(anchor=0.5)(given)[0], (sigmoid(STUDENT) + truth) / 2 - sigmoid(OUTPUTS)
    )
    one = signals(
        teacher_outputs=OUTPUTS[..., :1], student_outputs=STUDENT[:, :1], labels=truth[:, 0]
    )
    check(AdaptiveWeighting(anchor=1.0)(one)[0], truth[:, :1] - sigmoid(OUTPUTS[..., :1]))
    values = random.normal(size=(B, K)).astype(np.float32)
    given = signals(labels=values, head="regression")
    check(AdaptiveWeighting(anchor=1.0)(given)[0], values - np.float64(OUTPUTS))


def test_mean_sees_class_totals_alone():
    residual = np.eye(K)[LABELS] - softmax(OUTPUTS)
    weighting = AdaptiveWeighting(anchor=1.0, batch_gradient="mean")
    check(weighting(signals())[0], residual.mean(1))
    assert AdaptiveWeighting().batch_gradient == "mean"
    assert AdaptiveWeighting(anchor=1.0).batch_gradient == "full"


def test_residuals_are_the_shifted_gradients_of_the_kl_loss():
    temperature, loss = 4.0, get_loss("kl")
    ones = tf.ones(B)
    _, gradients = teacher_gradients(
        lambda s: loss.per_teacher(OUTPUTS, s, temperature), tf.constant(STUDENT), M, ones
    )
    of_labels = softmax(STUDENT / temperature) - np.eye(K)[LABELS]
    shifted = gradients.numpy() / temperature - 0.3 * of_labels
    weights, _ = AdaptiveWeighting(anchor=0.3, anchor_temperature=temperature)(signals())
    check(weights, -shifted)


def test_sample_weights_scale_an_example_s_part():
    residual = (np.eye(K)[LABELS] - softmax(OUTPUTS)) * WEIGHT[:, None]
    check(AdaptiveWeighting(anchor=1.0)(signals(sample_weight=WEIGHT))[0], residual)


def test_the_vote_breaks_ties_by_mean_probability_and_needs_no_labels():
    sure = np.array([[9, 0, 0]], np.float32)
    unsure = np.array([[0, 1.1, 1]], np.float32)
    outputs = np.stack([sure, sure, unsure, unsure])
    vote = np.array([[1.0, 0, 0]])
    given = signals(teacher_outputs=outputs, student_outputs=STUDENT[:1], labels=np.array([1]))
    for labels in (None, np.array([1])):
        weighting = AdaptiveWeighting(anchor=1.0, anchor_temperature=4.0, anchor_to="vote")
        check(weighting(dataclasses.replace(given, labels=labels))[0], vote - softmax(outputs / 4))


def test_only_live_teachers_vote():
    live = tf.constant([True, True, True, False])
    outputs = np.where(np.arange(M)[:, None, None] < 3, OUTPUTS, 0)
    weighting = AdaptiveWeighting(anchor=1.0, anchor_to="vote")
    found, _ = weighting(signals(live=live, teacher_outputs=outputs))
    without, _ = weighting(signals(live=tf.ones(3, bool), teacher_outputs=OUTPUTS[:3]))
    np.testing.assert_allclose(found, [*without, 0], atol=2e-4)


def test_one_program_per_example():
    residual = np.eye(K)[LABELS] - softmax(OUTPUTS)
    weights, diagnostics = AdaptiveWeighting(anchor=1.0, per_example=True)(
        signals(sample_weight=WEIGHT)
    )
    assert weights.shape == (M, B)
    assert diagnostics["qp_gap"].shape == ()
    for each in range(B):
        check(weights[:, each], residual[:, each])


def test_positions_of_dense_outputs_that_do_not_count():
    outputs = random.normal(size=(M, B, 2, K)).astype(np.float32)
    labels = random.integers(0, K, (B, 2))
    mask = np.ones((B, 2), np.float32)
    mask[:6, 1] = 0
    residual = (np.eye(K)[labels] - softmax(outputs)) * (mask / mask.sum(1, keepdims=True))[
        ..., None
    ]
    given = signals(
        teacher_outputs=outputs, student_outputs=outputs[0], labels=labels, sample_weight=mask
    )
    check(AdaptiveWeighting(anchor=1.0)(given)[0], residual)


def test_a_specialist_says_nothing_of_a_class_that_it_does_not_know():
    outputs = OUTPUTS.copy()
    outputs[0, :, 2] = UNKNOWN
    weights, _ = AdaptiveWeighting(anchor=0.5)(signals(teacher_outputs=outputs))
    known = np.where(outputs > UNKNOWN / 2, STUDENT, UNKNOWN)
    check(weights, (softmax(known) + np.eye(K)[LABELS]) / 2 - softmax(outputs))


def test_normalized_programs_per_example():
    alone = AdaptiveWeighting(anchor=1.0, normalize=True)
    each = AdaptiveWeighting(anchor=1.0, normalize=True, per_example=True)
    weights, _ = each(signals())
    for index in range(3):
        part = signals(
            teacher_outputs=OUTPUTS[:, index : index + 1],
            student_outputs=STUDENT[index : index + 1],
            labels=LABELS[index : index + 1],
        )
        np.testing.assert_allclose(weights[:, index], alone(part)[0], atol=2e-3)


def test_settings_are_checked_and_kept():
    for bad in ({"anchor": 1.1}, {"anchor": -0.1}, {"anchor": float("nan")}):
        with pytest.raises(ValueError, match="anchor is"):
            AdaptiveWeighting(**bad)
    with pytest.raises(ValueError, match="anchor_temperature"):
        AdaptiveWeighting(anchor_temperature=0)
    with pytest.raises(ValueError, match="anchor_to 'student'"):
        AdaptiveWeighting(anchor_to="student")
    given = AdaptiveWeighting(
        anchor=0.5, anchor_temperature=2.0, anchor_to="vote", per_example=True
    )
    again = AdaptiveWeighting.from_config(given.get_config())
    assert again.get_config() == given.get_config()
    given.anchor = 1.0
    assert given.anchor == 1.0
    with refused("anchor is set to 0", "AdaptiveWeighting(anchor=0)"):
        given.anchor = 0
    with refused("anchor is set to 0.5, from 0"):
        AdaptiveWeighting().anchor = 0.5
    assert AdaptiveWeighting(anchor=keras.Variable(0.0)).needs != ("gram",)


def test_labels_that_are_missing_or_do_not_fit():
    with refused("anchored to labels", "anchor_to='vote'"):
        AdaptiveWeighting(anchor=1.0)(signals(labels=None))
    with refused("labels have shape (12, 2)"):
        AdaptiveWeighting(anchor=1.0)(signals(labels=np.ones((B, 2)), head="labels"))
