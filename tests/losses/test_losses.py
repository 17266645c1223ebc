"""Distillation losses by name, of Keras and of one's own: what is taken, kept and refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import DistillationLoss, EnsembleDistiller, TeacherEnsemble, UniformWeighting, losses
from aekd_tf.names import DISTILLATION_LOSSES
from tools.networks import classifier
from tools.refused import refused

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype(np.float32), RNG.integers(0, 3, 24)
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def distiller(loss, teachers=None, compiled=CE, **options):
    teachers = teachers or [classifier(2), classifier(3)]
    made = EnsembleDistiller(classifier(1), teachers, distillation_loss=loss, **options)
    made.compile(keras.optimizers.SGD(0.1), compiled, run_eagerly=True)
    return made


@keras.saving.register_keras_serializable("tests")
def absolute(teacher, student):
    return tf.abs(teacher - student)


@keras.saving.register_keras_serializable("tests")
class Scaled(DistillationLoss):
    def __init__(self, scale):
        self.scale = scale

    def call(self, teacher_outputs, student_outputs, temperature):
        return (
            self.scale * temperature * tf.reduce_mean(tf.abs(teacher_outputs - student_outputs), -1)
        )

    def get_config(self):
        return {"scale": self.scale}


OWN = {
    "function": absolute,
    "subclass": Scaled(2.0),
    "Keras": keras.losses.LogCosh(),
    "weights": losses.DKD(2.0, 3.0),
}


@pytest.mark.parametrize("loss", ["binary_kl", "cosine", "dkd", *OWN])
def test_trains_on_after_saving(loss, tmp_path):
    given = OWN.get(loss, loss)
    labels = RNG.integers(0, 2, (24, 3)).astype(np.float32) if loss == "binary_kl" else Y
    compiled = keras.losses.BinaryCrossentropy(from_logits=True) if loss == "binary_kl" else CE
    made = distiller(given, compiled=compiled)
    before = made.train_on_batch(X, labels, return_dict=True)
    assert np.isfinite(before["kd_loss"])
    made.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.distillation_loss.get_config() == made.distillation_loss.get_config()
    assert type(loaded.distillation_loss) is type(made.distillation_loss)
    assert loaded.teachers.head == made.teachers.head
    found, expected = (m.train_on_batch(X, labels, return_dict=True) for m in (loaded, made))
    assert float(found["kd_loss"]) == pytest.approx(float(expected["kd_loss"]), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.KLDivergence(),
        keras.losses.Poisson(),
        keras.losses.CategoricalCrossentropy(),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        keras.losses.BinaryCrossentropy(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ],
)
def test_losses_of_probabilities_are_refused(loss):
    with refused(f"distillation_loss {type(loss).__name__} compares", "'kl'"):
        distiller(loss)


def test_what_is_no_loss_is_refused():
    with refused("unknown distillation_loss 'kll'", "binary_kl"):
        distiller("kll")
    with refused("is the class Scaled: give an instance"):
        distiller(Scaled)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda t, s: tf.reduce_mean((t - s) ** 2), "()"),
        (lambda t, s: tf.reduce_mean((t - s) ** 2, 0), "(3,)"),
        (keras.losses.MeanSquaredError().__call__, "()"),
    ],
)
def test_a_loss_without_the_batch_axis_is_refused(loss, shape):
    with refused(f"returned shape {shape}", "one loss per example"):
        distiller(loss).train_on_batch(X, Y)


def test_a_loss_without_a_gradient_is_refused():
    with refused("has no gradient w.r.t. the student's outputs"):
        distiller(
            lambda t, s: tf.reduce_mean(tf.round(t) - tf.stop_gradient(s), -1)
        ).train_on_batch(X, Y)


def test_one_logit_and_missing_labels():
    one = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]) for _ in range(2)]
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made = EnsembleDistiller(student, one, student_loss_weight=0.0)
    made.compile("sgd")
    with refused("softmax over one output", "binary_kl"):
        made.train_on_batch(X)
    without = distiller("dkd", student_loss_weight=0.0)
    with refused("dkd requires labels", "'kl'"):
        without.train_on_batch(X)


@pytest.mark.parametrize(
    ("loss", "head"), [("kl", "labels"), ("binary_kl", "classes"), ("mse", "labels")]
)
def test_an_ensemble_of_another_head_is_refused(loss, head):
    with refused(f"the TeacherEnsemble has head='{head}'"):
        distiller(loss, TeacherEnsemble([classifier(2), classifier(3)], head=head))


def test_the_head_that_labels_show():
    values = RNG.normal(size=(24, 3)).astype(np.float32)
    made = distiller("mse", compiled=keras.losses.MeanSquaredError())
    made.train_on_batch(X, values)
    assert made.teachers.head == "regression"
    made = distiller("mse")
    made.train_on_batch(X, Y)
    assert made.teachers.head == "classes"
    wrong = TeacherEnsemble([classifier(2), classifier(3)])
    made = distiller("mse", wrong, compiled=keras.losses.MeanSquaredError())
    with refused("is for regression, but the TeacherEnsemble has head='classes'"):
        made.train_on_batch(X, values)


def test_average_outputs_is_short_for_a_loss():
    """The same step by both names, and the gradient of the average of losses (Proposition 1)."""
    found = []
    for options in (
        {"weighting": "average_outputs"},
        {"weighting": UniformWeighting("outputs")},
        {"weighting": "average", "distillation_loss": "averaged_outputs"},
        {"weighting": "average"},
    ):
        made = distiller(options.pop("distillation_loss", "kl"), **options)
        made.train_on_batch(X, Y)
        found.append(made.student.get_weights())
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    with refused("UniformWeighting('outputs') is short for"):
        distiller("mse", weighting="average_outputs")


def test_averaged_outputs_by_an_adaptive_weighting():
    """The weights are those of `kl`, and so is the update."""
    found = []
    for loss in ("kl", "averaged_outputs"):
        made = distiller(loss, [classifier(seed) for seed in (2, 3, 4)])
        logs = made.train_on_batch(X, Y, return_dict=True)
        found.append([*made.student.get_weights(), float(logs["teacher_weight_0"])])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_public_names():
    assert [aekd_tf.losses.get(name).name for name in DISTILLATION_LOSSES] == [*DISTILLATION_LOSSES]
    assert aekd_tf.losses.get("kl").name == "kl"
    classes = [losses.KL, losses.BinaryKL, losses.MSE, losses.Cosine, losses.DKD]
    for kind in (*classes, losses.AveragedOutputs):
        loss = kind()
        assert losses.get(loss) is loss
        assert type(losses.get(kind.name)) is kind
    assert aekd_tf.weightings.get("aekd").tolerance == pytest.approx(0.6)
    assert {"losses", "weightings", "Signals", "DistillationLoss"} <= set(aekd_tf.__all__)


@pytest.mark.parametrize("loss", ["binary_kl", "dkd", "averaged_outputs"])
def test_compiled_by_xla(loss):
    labels = RNG.integers(0, 2, (24, 3)).astype(np.float32) if loss == "binary_kl" else Y
    compiled = keras.losses.BinaryCrossentropy(from_logits=True) if loss == "binary_kl" else CE
    found = []
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        made = distiller(loss, compiled=compiled)
        made.compile(keras.optimizers.SGD(0.1), compiled, **options)
        made.fit(X, labels, batch_size=12, shuffle=False, verbose=0)
        found.append(made.student.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_a_function_that_keras_would_not_find_is_not_saved(tmp_path):
    path = tmp_path / "d.keras"
    path.write_text("what was there")
    made = distiller(lambda teacher, student: tf.abs(teacher - student))
    with refused("cannot be saved", "register_keras_serializable"):
        made.save(path)
    assert path.read_text() == "what was there"
