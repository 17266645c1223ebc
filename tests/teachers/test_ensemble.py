import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf.teachers.ensemble import TeacherEnsemble
from tools.networks import classifier


class Fixed:
    """Builds teachers that answer given logits whatever the image."""

    @staticmethod
    def teacher(logits):
        inputs = keras.Input((1,))
        dense = keras.layers.Dense(len(logits), kernel_initializer="zeros")
        model = keras.Model(inputs, dense(inputs))
        dense.bias.assign(logits)
        return model


def test_majority_and_mean_vote():
    # Two teachers narrowly say class 1, one firmly says class 0.
    teachers = [Fixed.teacher(bias) for bias in ([9.0, 0, 0], [0, 0.1, 0], [0, 0.1, 0])]
    x = np.zeros((4, 1), np.float32)
    assert (TeacherEnsemble(teachers).predict(x).argmax(-1) == 1).all()
    assert (TeacherEnsemble(teachers, vote="mean").predict(x).argmax(-1) == 0).all()


def test_ties_are_broken_by_probability():
    teachers = [Fixed.teacher(bias) for bias in ([1.0, 0, 0], [0, 3.0, 0])]
    assert TeacherEnsemble(teachers)(tf.zeros([1, 1])).numpy().argmax() == 1


def test_evaluate_agrees_with_numpy(teachers, toy_data):
    x, y = toy_data
    ensemble = TeacherEnsemble(teachers)
    found = ensemble.evaluate(x, y, batch_size=7)
    answers = np.stack([t.predict(x, verbose=0).argmax(-1) for t in teachers])
    np.testing.assert_allclose(found["teachers"], (answers == y).mean(1))
    counts = np.stack([(answers == k).sum(0) for k in range(3)])
    sure = (counts == counts.max(0)).sum(0) == 1
    assert (ensemble.predict(x).argmax(-1) == counts.argmax(0))[sure].all()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    assert ensemble.evaluate(dataset) == found


def test_evaluate_needs_labels(teachers, toy_data):
    x, y = toy_data
    ensemble = TeacherEnsemble(teachers)
    with pytest.raises(ValueError, match="requires labels"):
        ensemble.evaluate(x)
    with pytest.raises(ValueError, match="requires labels"):
        ensemble.evaluate(tf.data.Dataset.from_tensor_slices(x).batch(8))
    with pytest.raises(ValueError, match="one integer per example"):
        ensemble.evaluate(x, np.eye(3)[y] / 2)
    assert ensemble.evaluate(x, np.eye(3)[y]) == ensemble.evaluate(x, y)
    assert ensemble.evaluate(x, y[:, None]) == ensemble.evaluate(x, y)


def test_is_a_sequence(teachers):
    ensemble = TeacherEnsemble(teachers)
    assert len(ensemble) == 3
    assert list(ensemble) == teachers
    assert ensemble[1] is teachers[1]
    assert ensemble.logits(np.zeros((5, 4), np.float32)).shape == (3, 5, 3)


def test_bad_ensembles(teachers):
    with pytest.raises(ValueError, match="at least one teacher"):
        TeacherEnsemble([])
    with pytest.raises(ValueError, match="teacher 1 is a str"):
        TeacherEnsemble([teachers[0], "resnet"])
    with pytest.raises(ValueError, match=r"unknown vote 'loudest'.*majority, mean"):
        TeacherEnsemble(teachers, vote="loudest")
    refused = {
        "softmax": r"teacher 1 .*softmax or sigmoid.*logits",
        "sigmoid": r"teacher 1 .*ends in a sigmoid.*does not fit independent labels",
    }
    for activation, message in refused.items():
        squashed = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation)])
        with pytest.raises(ValueError, match=message):
            TeacherEnsemble([teachers[0], squashed])
    odd = aekd_tf.TeacherEnsemble([teachers[0], classifier(9, classes=4)])
    with pytest.raises(ValueError, match=r"classifier_9 \(2, 4\)"):
        odd.logits(np.zeros((2, 4), np.float32))
