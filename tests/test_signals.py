"""Signals and the door of weightings: shapes, teachers that are left out, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import EnsembleDistiller, Signals, Weighting
from tools.networks import classifier
from tools.refused import refused

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype(np.float32), RNG.integers(0, 3, 24)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weighting_of(function, **attributes):
    """A weighting whose weights `function(signals)` gives."""
    body = {"weights": lambda self, signals: function(signals), "needs": ("losses",)}
    return type("Own", (Weighting,), {**body, **attributes})()


def distiller(weighting, **options):
    made = EnsembleDistiller(classifier(1), [classifier(2), classifier(3)], weighting=weighting)
    made.compile(keras.optimizers.SGD(0.1), LOSS, **options)
    return made


def test_a_state_of_arrays_serves_as_one_of_tensors():
    weighting = aekd_tf.Smoothed(aekd_tf.CrossEntropyWeighting())
    known = {"live": np.array([True, True]), "teacher_outputs": RNG.normal(size=(2, 5, 3))}
    known["labels"] = np.arange(5) % 3
    start = weighting.initial_state(2)
    given = {name: tf.constant(value) for name, value in start.items()}
    weights = [weighting(Signals(**known, state=state))[0] for state in (start, given, None)]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])


@pytest.mark.parametrize("shape", [(4,), (4, 5)])
@pytest.mark.parametrize("live", [[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_teachers_that_are_not_live_are_left_out_once(shape, live):
    given = RNG.dirichlet(np.ones(4), 5).T.astype(np.float32)
    given = given if len(shape) == 2 else given[:, 0]
    live = np.array(live, bool)
    signals = Signals(live=tf.constant(live), losses=tf.zeros([4, 5]))
    weights, found = weighting_of(lambda signals: given)(signals)
    expected = np.where(live.reshape(-1, *[1] * (len(shape) - 1)), given, 0)
    expected = expected / np.maximum(expected.sum(0), 1e-30)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert float(found["qp_gap"]) == 0


def test_weight_on_teachers_that_are_not_live_alone_is_shared_equally():
    signals = Signals(live=tf.constant([True, True, False]))
    weights, _ = weighting_of(lambda signals: [0.0, 0.0, 1.0])(signals)
    assert weights.numpy().tolist() == [0.5, 0.5, 0]


def test_only_what_is_asked_for():
    seen = []

    def weights(signals):
        seen.append(signals)
        return tf.fill([2], 0.5)

    needs = ("losses", "labels", "step")
    distiller(weighting_of(weights, needs=needs)).fit(X, Y[:, None], batch_size=8, verbose=0)
    for signals in seen:
        assert signals.losses.shape[0] == 2
        assert signals.labels.shape.rank == 1  # a column of integers is squeezed
        assert signals.live.shape == (2,)
        for name in ("gram", "teacher_outputs", "student_outputs", "temperature"):
            assert getattr(signals, name) is None


def test_values_are_raw_outputs_and_losses_without_sample_weights():
    seen = {}

    def weights(signals):
        seen.update(vars(signals))
        seen["mean"] = signals.batch_mean(signals.losses)
        return tf.fill([2], 0.5)

    names = ("losses", "teacher_outputs", "student_outputs", "sample_weight", "temperature", "gram")
    made = distiller(weighting_of(weights, needs=names), run_eagerly=True)
    student = made.student(X, training=True).numpy()
    sample_weight = RNG.uniform(0.5, 2, 24).astype(np.float32)
    made.train_on_batch(X, Y, sample_weight)
    outputs = np.stack([teacher(X).numpy() for teacher in made.teachers])
    np.testing.assert_allclose(seen["teacher_outputs"], outputs, rtol=1e-5)
    np.testing.assert_allclose(seen["student_outputs"], student, rtol=1e-4, atol=1e-5)
    losses = aekd_tf.distillation_loss(outputs, student, 4.0).numpy()
    np.testing.assert_allclose(seen["losses"], losses, rtol=1e-4, atol=1e-6)
    mean = np.average(losses, axis=1, weights=sample_weight)
    np.testing.assert_allclose(seen["mean"], mean, rtol=1e-4)
    assert float(seen["temperature"]) == 4
    assert seen["gram"].shape == (2, 2)


def test_batch_mean_of_signals_made_by_hand():
    values = RNG.normal(size=(2, 3, 6)).astype(np.float32)
    weight = RNG.uniform(size=6).astype(np.float32)
    live = tf.constant([True])
    plain = Signals(live=live).batch_mean(values)
    np.testing.assert_allclose(plain, values.mean(-1), rtol=1e-5)
    found = Signals(live=live, sample_weight=weight).batch_mean(values)
    np.testing.assert_allclose(found, np.average(values, -1, weight), rtol=1e-5)
    nothing = Signals(live=live, sample_weight=np.zeros(6, np.float32)).batch_mean(values)
    assert np.abs(nothing).max() == 0


@pytest.mark.parametrize(
    "weights",
    [tf.fill([3], 1 / 3), tf.fill([2, 1], 0.5), tf.fill([2, 24, 3], 0.5), tf.constant(0.5)],
)
def test_a_wrong_shape_names_the_class(weights):
    with refused("Own returned weights of shape", "for 2 teachers: return [M]"):
        distiller(weighting_of(lambda signals: weights)).train_on_batch(X, Y)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
@pytest.mark.parametrize("each", [False, True])
def test_weights_off_the_simplex_are_refused_on_the_first_batch(weights, each):
    def found(signals):
        given = tf.constant(weights)
        return tf.tile(given[:, None], [1, tf.shape(signals.losses)[1]]) if each else given

    made = distiller(weighting_of(found))
    before = made.student.get_weights()
    with refused("Own returned weights that are not on the simplex", "sum to 1"):
        made.fit(X, Y, batch_size=8, verbose=0)
    for one, other in zip(made.student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", ["__call__", "among"])
def test_the_first_stages_interface_says_what_to_write(method):
    old = type("Old", (Weighting,), {method: lambda self, *args: args})()
    with refused(f"Old overrides {method}", "weights(self, signals)"):
        distiller(old)


@pytest.mark.parametrize("needs", ["gram", ("gram", "loss"), ("teachers",)])
def test_needs_that_no_step_has(needs):
    with refused("Own.needs names", "gram, losses"):
        distiller(weighting_of(lambda signals: None, needs=needs))


def test_a_weighting_without_weights_and_a_gram_without_signals():
    with refused("has no weights of its own"):
        distiller(type("Empty", (Weighting,), {})())
    with refused("Signals(gram=..., live=...)", error=TypeError):
        aekd_tf.AdaptiveWeighting()(tf.eye(3))


def test_a_weighting_per_example_in_every_way_to_run():
    def weights(signals):
        return tf.nn.softmax(-signals.losses, 0)

    found = []
    for options in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        keras.utils.set_random_seed(0)
        made = distiller(weighting_of(weights), **options)
        history = made.fit(X, Y, batch_size=7, shuffle=False, epochs=2, verbose=0).history
        found.append([*made.student.get_weights(), history["teacher_weight_0"]])
        assert 1 < history["effective_teachers"][0] <= 2
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
