"""Votes and evaluations of every head against NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from aekd_tf import TeacherAdapter, TeacherEnsemble
from aekd_tf.outputs import UNKNOWN
from aekd_tf.teachers.votes import vote_scores
from tools.refused import refused

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype(np.float32)


def linear(seed, outputs, positions=(), activation=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*positions, 4))
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation)(inputs))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_votes_of_labels():
    z = np.array([[3.0, -1, 2], [-1, -1, 0.1], [-0.5, 4, -9], [0.2, -3, -9]], np.float32)
    votes = vote_scores(tf.constant(z[:, None]), "labels")
    mean = sigmoid(z).mean(0)
    np.testing.assert_allclose(votes["mean"][0], mean, rtol=1e-5)
    expected = (z > 0).mean(0) + (mean - 0.5) / 9
    np.testing.assert_allclose(votes["majority"][0], expected, rtol=1e-5)
    # Two against two: the mean probability decides, here for the first and against the last.
    assert (votes["majority"][0].numpy() > 0.5).tolist() == [True, False, False]


def test_a_label_that_teachers_do_not_know_has_the_others_vote():
    z = np.array([[2.0, UNKNOWN], [UNKNOWN, -3.0], [UNKNOWN, -1.0]], np.float32)
    votes = vote_scores(tf.constant(z[:, None]), "labels")
    assert (votes["majority"][0].numpy() > 0.5).tolist() == [True, False]
    np.testing.assert_allclose(votes["mean"][0, 0], sigmoid(2.0), rtol=1e-5)


def test_a_class_that_a_specialist_does_not_know_gets_no_vote_of_it():
    z = np.array([[1.0, 2, UNKNOWN], [0, 0, 5], [0, 1, 0]], np.float32)
    ballots = vote_scores(tf.constant(z[:, None]))["majority"][0].numpy()
    assert ballots.argmax() == 1
    assert ballots[2] < 0.5


def test_regression():
    models = [linear(seed, 2) for seed in (1, 2, 3)]
    y = RNG.normal(size=(40, 2))
    found = TeacherEnsemble(models, head="regression").evaluate(X, y, batch_size=16)
    outputs = np.stack([model(X).numpy() for model in models])
    expected = np.sqrt(((outputs - y) ** 2).mean((1, 2)))
    np.testing.assert_allclose(found["teachers"], expected, rtol=1e-5)
    assert found["mean"] == pytest.approx(np.sqrt(((outputs.mean(0) - y) ** 2).mean()), rel=1e-5)
    np.testing.assert_allclose(
        TeacherEnsemble(models, head="regression").predict(X), outputs.mean(0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("outputs", [1, 3])
def test_labels(outputs):
    models = [linear(seed, outputs) for seed in (1, 2, 3)]
    y = RNG.integers(0, 2, (40, outputs))
    y[:, -1] = 1 if outputs > 1 else y[:, -1]  # a label without an AUC
    found = TeacherEnsemble(models, head="labels").evaluate(X, y, batch_size=16)
    z = np.stack([model(X).numpy() for model in models])
    right = ((z > 0) == y).mean(1)
    np.testing.assert_allclose(found["per_label"]["teachers"], right, rtol=1e-6)
    np.testing.assert_allclose(found["teachers"], right.mean(1), rtol=1e-6)
    known = range(outputs - (outputs > 1))
    areas = [np.mean([roc_auc_score(y[:, k], each[:, k]) for k in known]) for each in z]
    np.testing.assert_allclose(found["teachers_auc"], areas, rtol=1e-6)
    mean = sigmoid(z).mean(0)
    assert found["mean_probability"] == pytest.approx(((mean > 0.5) == y).mean())
    majority = (z > 0).sum(0) > 1.5
    assert found["majority_vote"] == pytest.approx((majority == y).mean())
    if outputs == 1:
        again = TeacherEnsemble(models, head="labels").evaluate(X, y[:, 0])
        assert again["teachers"] == found["teachers"]


def test_dense_classes_count_positions_with_a_weight():
    models = [linear(seed, 3, (5,)) for seed in (1, 2)]
    x, y = RNG.normal(size=(12, 5, 4)).astype(np.float32), RNG.integers(0, 3, (12, 5))
    mask = RNG.integers(0, 2, (12, 5))
    data = tf.data.Dataset.from_tensor_slices((x, y, mask)).batch(4)
    found = TeacherEnsemble(models).evaluate(data)
    answers = np.stack([model(x).numpy().argmax(-1) for model in models])
    expected = [np.mean((answer == y)[mask > 0]) for answer in answers]
    np.testing.assert_allclose(found["teachers"], expected, rtol=1e-6)


def test_a_head_that_was_not_given_shows_in_the_labels():
    from aekd_tf.losses import get
    from aekd_tf.terms.heads import ensemble_of

    models = [linear(seed, 3) for seed in (1, 2)]
    y = RNG.normal(size=(40, 3))
    assert set(ensemble_of(models, get("mse")).evaluate(X, y)) == {"teachers", "mean"}
    classes = RNG.integers(0, 3, 40)
    assert "majority_vote" in ensemble_of(models, get("mse")).evaluate(X, classes)


def test_a_sigmoid_serves_as_log_odds():
    model = linear(1, 3, activation="sigmoid")
    adapter = TeacherAdapter(model, outputs="probabilities")
    np.testing.assert_allclose(sigmoid(adapter(X).numpy()), model(X), rtol=1e-5)
    TeacherEnsemble([adapter], head="labels")
    with refused("ends in a softmax or sigmoid"):
        TeacherEnsemble([model], head="labels")
    with refused("ends in a softmax, whose outputs are classes"):
        TeacherEnsemble([linear(1, 3, activation="softmax")], head="labels")


def test_labels_that_do_not_fit():
    ensemble = TeacherEnsemble([linear(1, 3)], head="labels")
    with refused("are not all 0 or 1"):
        ensemble.evaluate(X, RNG.normal(size=(40, 3)))
    with refused("labels have shape (40,)"):
        ensemble.evaluate(X, RNG.integers(0, 2, 40))
    with refused("unknown head 'class'"):
        TeacherEnsemble([linear(1, 3)], head="class")
