"""Weightings in a distiller: ways to run, states that are saved, restored and left alone."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import (
    AdaptiveWeighting,
    CAMKDWeighting,
    EnsembleDistiller,
    RandomWeighting,
    Smoothed,
    UniformWeighting,
)
from aekd_tf.training.best_epoch import BestEpoch
from aekd_tf.training.resume import Resumable
from tools.refused import CROSSENTROPY, X, Y, net, refused, two_teachers
from tools.weightings import CASES, TOGETHER, Together, signals

SAMPLE_WEIGHT = np.random.default_rng(2).uniform(0.5, 2, 24).astype(np.float32)
PLAIN = {"batch_size": 8, "shuffle": False, "verbose": 0}
pytestmark = pytest.mark.xdist_group("weightings")  # they share the traces of the program


@functools.cache
def three_teachers():
    """Of as many classes, so that the program has one optimum."""
    return [net(seed) for seed in (1, 2, 3)]


def distiller(weighting, teachers=None, run=None, **options):
    teachers = two_teachers() if teachers is None else teachers
    made = EnsembleDistiller(net(7), teachers, weighting=weighting, **options)
    run = {"run_eagerly": True} if run is None else run
    made.compile(keras.optimizers.SGD(0.5), CROSSENTROPY, metrics=["accuracy"], **run)
    return made


def state_of(made):
    """What weightings keep, by name."""
    return {
        variable.name: variable.numpy()
        for variable in made.variables
        if "weighting" in variable.name
    }


def smoothed_draws():
    return Smoothed(RandomWeighting(3), 0.8)


def test_eager_graph_and_xla_agree():
    """Several weightings at once: what each said in the third step, and the student's weights."""
    found, students = [], []
    for run in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        together = Together()
        made = distiller(together, three_teachers(), run)
        made.fit(X, Y, sample_weight=SAMPLE_WEIGHT, **PLAIN)
        found.append(state_of(made))
        students.append(made.student.get_weights())
    for other, student in zip(found[1:], students[1:], strict=True):
        assert set(other) == set(found[0])
        for name, value in found[0].items():
            np.testing.assert_allclose(other[name], value, atol=2e-5, err_msg=name)
        for one, two in zip(student, students[0], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
    said = {name: value for name, value in found[0].items() if name.endswith("said")}
    assert len(said) == len(TOGETHER)
    for value in said.values():
        assert value.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_step_has_what_a_weighting_asks_for(name):
    """The first update of one weighting, by the weights of signals made by hand."""
    made = distiller(CASES[name].make(), three_teachers())
    outputs = np.stack([np.asarray(teacher(X)) for teacher in made.teachers])
    student = np.asarray(made.student(X))
    logs = made.train_on_batch(X, Y[:, None], SAMPLE_WEIGHT, return_dict=True)
    found = np.array([float(logs[f"teacher_weight_{m}"]) for m in range(3)])
    gradients = tf.nn.softmax(student / 4.0) - tf.nn.softmax(outputs / 4.0)
    gradients = np.mean(4.0 * gradients * SAMPLE_WEIGHT[:, None], 1)
    known = signals(
        teachers=3,
        examples=24,
        gram=gradients @ gradients.T,
        teacher_outputs=outputs,
        student_outputs=student,
        labels=Y,
        sample_weight=SAMPLE_WEIGHT,
        temperature=4.0,
    )
    expected = CASES[name].make()(known)[0].numpy()
    if expected.ndim == 2:
        expected = np.average(expected, 1, SAMPLE_WEIGHT)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_saved_distiller_goes_on_where_it_was(tmp_path):
    made = distiller(smoothed_draws())
    made.fit(X, Y, **PLAIN)
    made.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    again.run_eagerly = True
    assert state_of(made)["weighting_inner_seed"].tolist() == [3, 3]
    assert again.weighting.decay == 0.8
    other = distiller(smoothed_draws())
    made.save_weights(tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    for each in (made, again, other):
        each.fit(X, Y, epochs=2, **PLAIN)
        for name, value in state_of(made).items():
            np.testing.assert_array_equal(state_of(each)[name], value)
        for one, two in zip(each.student.get_weights(), made.student.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path):
    results = []
    for epochs in (3, 1, 3):  # the third finds the second's checkpoint
        made = distiller(smoothed_draws())
        path = str(tmp_path / f"{len(results) > 0}.checkpoint")
        resumable = Resumable(path, {}, BestEpoch(made.student), 3, 3, (3, None))
        history = made.fit(
            *(X, Y),
            initial_epoch=resumable.epoch,
            epochs=epochs,
            validation_data=(X, Y),
            callbacks=[resumable.best, resumable],
            **PLAIN,
        )
        results.append([*made.get_weights(), *map(np.float32, history.history["loss"][-1:])])
        assert state_of(made)["weighting_inner_seed"].tolist() == [3, 3 * epochs]
    assert history.epoch == [1, 2]
    for one, two in zip(results[0], results[2], strict=True):
        np.testing.assert_array_equal(one, two)


def test_validation_leaves_states_alone():
    made = distiller(smoothed_draws(), student_loss_weight=0.0)
    made.fit(X, validation_data=(X,), epochs=2, **PLAIN)
    before = state_of(made)
    assert before["weighting_inner_seed"].tolist() == [3, 6]
    made.evaluate(X, verbose=0)
    for name, value in state_of(made).items():
        np.testing.assert_array_equal(value, before[name])


def test_each_term_has_a_state_of_its_own():
    def network(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4, 4, 1))
        maps = keras.layers.Conv2D(2, 3, padding="same", name="map")(inputs)
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(maps))
        return keras.Model(inputs, outputs)

    weighting = Smoothed(AdaptiveWeighting(1.0))
    made = EnsembleDistiller(
        network(0), [network(1), network(2)], weighting=weighting, hints="map", hint_weight=1.0
    )
    made.compile(keras.optimizers.SGD(0.1), CROSSENTROPY, run_eagerly=True)
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32)
    logs = made.train_on_batch(images, Y[:8], return_dict=True)
    state = state_of(made)
    assert set(state) == {"weighting_average", "hint_weighting_average"}
    for prefix in ("", "hint_"):
        expected = [float(logs[f"{prefix}teacher_weight_{m}"]) for m in range(2)]
        np.testing.assert_allclose(state[f"{prefix}weighting_average"], expected, rtol=1e-6)
    assert state["weighting_average"][0] != state["hint_weighting_average"][0]


def test_draws_depend_on_the_seed_alone():
    def draws(weighting):
        made = distiller(weighting, [net(seed) for seed in range(1, 5)])
        state, found = made._outputs_term.state, []
        for _ in range(12):
            state = {name: tf.convert_to_tensor(value) for name, value in state.items()}
            weights, diagnostics = weighting(signals(state=state))
            state = diagnostics["state"]
            found.append(int(np.argmax(weights)))
        return found

    assert draws(RandomWeighting(1)) == draws(RandomWeighting(1)) != draws(RandomWeighting(2))
    unnamed = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        unnamed += [RandomWeighting(), RandomWeighting()]
    assert unnamed[0]._start == unnamed[2]._start != unnamed[1]._start


@pytest.mark.parametrize("run", [{"run_eagerly": True}, {"jit_compile": False}])
@pytest.mark.parametrize("name", ["cross_entropy", "ca_mkd", "mtkd"])
def test_missing_labels_are_one_line(name, run):
    made = distiller(name, run=run, student_loss_weight=0.0)
    before = made.student.get_weights()
    with refused(f"weighting {name} requires labels: give y", "'ebkd'"):
        made.fit(X, **PLAIN)
    np.testing.assert_array_equal(made.student.get_weights()[0], before[0])


@pytest.mark.parametrize("name", ["ebkd", "random", "mgda"])
def test_without_labels(name):
    made = distiller(name, student_loss_weight=0.0)
    assert np.isfinite(made.fit(X, **PLAIN).history["kd_loss"]).all()


@pytest.mark.parametrize(
    ("name", "loss", "allowed"),
    [
        ("ca_mkd", "binary_kl", "classes"),
        ("ebkd", "binary_kl", "classes"),
        ("mtkd", "mse", "classes"),
        ("cross_entropy", "mse", "classes or independent labels"),
    ],
)
def test_outputs_that_a_weighting_is_not_for(name, loss, allowed):
    made = EnsembleDistiller(net(7), two_teachers(), weighting=name, distillation_loss=loss)
    labels = np.random.default_rng(0).integers(0, 2, (24, 3)).astype(np.float32)
    compiled = {"binary_kl": keras.losses.BinaryCrossentropy(from_logits=True)}.get(loss, "mse")
    made.compile("sgd", compiled, run_eagerly=True)
    with refused(f"weighting {name} is for {allowed}, but the outputs are"):
        made.train_on_batch(X, labels)


def test_cross_entropy_takes_independent_labels():
    made = EnsembleDistiller(
        net(7), two_teachers(), weighting="cross_entropy", distillation_loss="binary_kl"
    )
    made.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True)
    labels = np.random.default_rng(0).integers(0, 2, (24, 3)).astype(np.float32)
    logs = made.train_on_batch(X, labels, return_dict=True)
    outputs = np.stack([np.asarray(teacher(X)) for teacher in made.teachers])
    known = signals(teachers=2, examples=24, teacher_outputs=outputs, labels=labels, head="labels")
    expected, _ = CASES["cross_entropy"].make()(known)
    assert float(logs["teacher_weight_0"]) == pytest.approx(float(expected[0]), rel=1e-5)


@pytest.mark.parametrize("run", [{"run_eagerly": True}, {"jit_compile": False}])
def test_an_example_has_no_history(run):
    with refused("Smoothed takes weights [M], but CAMKDWeighting returns one per teacher and"):
        distiller(Smoothed(CAMKDWeighting()), run=run).fit(X, Y, **PLAIN)


def test_bad_arguments():
    with refused("Smoothed takes a Weighting, not a str", error=TypeError):
        Smoothed("aekd")
    for decay in (1.0, -0.1, float("nan"), "much"):
        with refused("decay is"):
            Smoothed(UniformWeighting(), decay)
    for seed in (-1, 1.5, "1", True, 2**63):
        with refused("seed is"):
            RandomWeighting(seed)
    with refused("smallest usable cap"):
        distiller(Smoothed(AdaptiveWeighting(0.3)))


class OffTheSimplex(UniformWeighting):
    def weights(self, signals):
        return 2 * super().weights(signals)


def test_what_is_smoothed_is_checked_as_well():
    with refused("OffTheSimplex returned weights that are not on the simplex"):
        distiller(Smoothed(OffTheSimplex())).fit(X, Y, **PLAIN)
