import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import AdaptiveWeighting, EnsembleDistiller, UniformWeighting
from aekd_tf.signals import Signals
from aekd_tf.teachers.finite import zero_unless_finite

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def gram_of(size, seed=0):
    gradients = np.random.default_rng(seed).normal(size=(size, 20)).astype(np.float32)
    return tf.constant(gradients @ gradients.T)


@pytest.mark.parametrize("solver", ["smo", "projected", "cvxopt", "libsvm"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("tolerance", [0.2, 0.3, 1.0])
def test_the_others_are_weighted_as_if_alone(solver, normalize, tolerance):
    gram = gram_of(5)
    live = tf.constant([True, False, True, True, False])
    weighting = AdaptiveWeighting(tolerance, normalize=normalize, solver=solver)
    weights, found = weighting(Signals(gram=gram, live=live))
    gap = found["qp_gap"]
    kept = np.flatnonzero(live)
    alone = AdaptiveWeighting(max(tolerance, 1 / 3), normalize=normalize, solver=solver)
    fewer = tf.constant(gram.numpy()[np.ix_(kept, kept)])
    expected, _ = alone(Signals(gram=fewer, live=tf.constant([True] * 3)))
    np.testing.assert_allclose(weights.numpy()[kept], expected, atol=2e-4)
    assert weights.numpy()[[1, 4]].tolist() == [0, 0]
    assert abs(float(tf.reduce_sum(weights)) - 1) < 1e-6
    assert float(gap) < 1e-4


@pytest.mark.parametrize("weighting", [AdaptiveWeighting(0.6), UniformWeighting()])
def test_all_and_none(weighting):
    gram = gram_of(4)
    weights, _ = weighting(Signals(gram=gram, live=tf.constant([True] * 4)))
    found = weighting.weights(Signals(gram=gram, live=tf.constant([True] * 4)))
    expected = found[0] if isinstance(found, tuple) else found
    np.testing.assert_array_equal(weights, expected)
    weights, found = weighting(Signals(gram=gram, live=tf.constant([False] * 4)))
    assert weights.numpy().tolist() == [0, 0, 0, 0]
    assert np.isfinite(found["qp_gap"])


def test_an_output_with_one_bad_number_is_absent():
    outputs = [tf.ones([2, 3]), tf.constant([[1.0, np.nan, 0], [1, 2, 3]]), tf.fill([2, 3], np.inf)]
    kept, live = zero_unless_finite(outputs)
    assert live.numpy().tolist() == [True, False, False]
    assert np.isfinite(np.stack(kept)).all()


class Teacher(keras.Model):
    """Fixed logits, with `bad` where an input's first number is above a limit."""

    def __init__(self, seed, bad=0.0, limit=np.inf):
        super().__init__()
        self.matrix = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        self.bad, self.limit = bad, limit

    def call(self, inputs):
        logits = keras.ops.matmul(inputs, self.matrix)
        return keras.ops.where(inputs[:, :1] > self.limit, self.bad, logits)


def fit(teachers, inputs, labels, weighting="aekd", batch_size=8, **options):
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    distiller = EnsembleDistiller(student, teachers, weighting=weighting, **options)
    distiller.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"], jit_compile=False)
    history = distiller.fit(
        inputs, labels, batch_size=batch_size, epochs=2, shuffle=False, verbose=0
    )
    return student.get_weights(), history.history


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(1)
    inputs = rng.uniform(-1, 1, size=(32, 4)).astype(np.float32)
    inputs[:8, 0] = 2.0  # the first batch of an epoch
    return inputs, rng.integers(0, 3, 32)


@pytest.fixture(scope="module")
def fitted_to_good(toy):
    """By weighting: what two good teachers make of a student."""
    return functools.cache(lambda weighting: fit([Teacher(0), Teacher(1)], *toy, weighting))


@pytest.mark.parametrize("weighting", ["aekd", "average", "average_outputs"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["always", "in one batch"])
def test_a_bad_teacher_is_left_out_counted_and_named(
    toy, fitted_to_good, capsys, weighting, bad, where
):
    good = [Teacher(0), Teacher(1)]
    limit = -3.0 if where == "always" else 1.5
    weights, history = fit([*good, Teacher(2, bad, limit)], *toy, weighting=weighting)
    assert all(np.isfinite(weight).all() for weight in weights)
    assert history["teacher_left_out_2"] == ([4.0, 4.0] if where == "always" else [1.0, 1.0])
    assert history["teacher_left_out_0"] == [0.0, 0.0]
    lines = [line for line in capsys.readouterr().err.splitlines() if "teacher 2" in line]
    assert len(lines) == 1
    assert "teacher 2 gave logits that are not finite on" in lines[0]
    if where == "always":
        expected, without = fitted_to_good(weighting)
        for found, other in zip(weights, expected, strict=True):
            np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(history["kd_loss"], without["kd_loss"], rtol=1e-5)
        assert history["teacher_weight_2"] == [0.0, 0.0]


@pytest.mark.parametrize("weighting", ["aekd", "average", "average_outputs"])
def test_without_any_teacher_the_labels_teach(toy, weighting):
    bad = [Teacher(0, np.nan, -3.0), Teacher(1, np.nan, -3.0)]
    weights, history = fit(bad, *toy, weighting=weighting)
    expected, _ = fit([Teacher(0), Teacher(1)], *toy, weighting=weighting, kd_weight=0.0)
    for found, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-6)
    assert history["kd_loss"] == [0.0, 0.0]
    assert history["effective_teachers"] == [0.0, 0.0]
