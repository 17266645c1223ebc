"""What users override in Keras is called, and what they name is theirs."""

import inspect
import warnings

import keras
import numpy as np
import pytest

from aekd_tf import EnsembleDistiller
from aekd_tf.step import DistillationStep
from tools.refused import CROSSENTROPY, X, Y, distiller, net, refused

L2 = 0.01


class Penalized(EnsembleDistiller):
    """Adds the mean square of the student's outputs to its loss."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.mean(keras.ops.square(y_pred))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weighting", "average"),
        ("hints", "a"),
        ("hint_weighting", None),
        ("gradient_space", "parameters"),
    ],
)
def test_what_the_losses_are_made_of_cannot_change(name, value):
    given = distiller(net(1))
    before = getattr(given, name)
    with refused(f"distiller.{name} is set when the distiller is made"):
        setattr(given, name, value)
    assert getattr(given, name) is before


def regularized():
    keras.utils.set_random_seed(7)
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(L2))
    return keras.Sequential([keras.Input((4,)), dense])


def test_compute_loss_is_called_in_fit_and_in_evaluate():
    """The student's loss is what it returns, less the regularization."""
    given = distiller(regularized(), kind=Penalized, student_loss_weight=0.5)
    outputs = np.asarray(given.student(X))
    regularization = L2 * np.square(given.student.get_weights()[0]).sum()
    own = float(CROSSENTROPY(Y, outputs)) + np.square(outputs).mean()
    found = given.evaluate(X, Y, batch_size=24, verbose=0)
    assert np.ravel(found)[0] == pytest.approx(own + regularization, rel=1e-5)
    given.optimizer.learning_rate = 0.0
    history = given.fit(
        *(X, Y, 24), validation_data=(X, Y), validation_batch_size=24, verbose=0
    ).history
    np.testing.assert_allclose(history["student_loss"], [own], rtol=1e-5)
    total = 0.5 * own + 0.9 * history["kd_loss"][0] + regularization
    np.testing.assert_allclose(history["loss"], [total], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [own + regularization], rtol=1e-5)


def test_its_gradient_reaches_the_student():
    class Constant(EnsembleDistiller):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.sum(y_pred[:, 0])

    given = distiller(net(7), kind=Constant, kd_weight=0.0)
    kernel, bias = given.student.get_weights()
    given.train_on_batch(X, Y)
    expected = kernel - 0.1 * np.stack([X.sum(0), 0 * X[0], 0 * X[0]], 1)
    np.testing.assert_allclose(given.student.get_weights()[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(given.student.get_weights()[1], bias - [2.4, 0, 0], atol=1e-5)


class Halting(keras.optimizers.SGD):
    """Applies gradients to nothing but biases."""

    def apply_gradients(self, grads_and_vars, **options):
        pairs = [(g, v) for g, v in grads_and_vars if v.name == "bias"]
        return super().apply_gradients(pairs, **options)


def test_an_optimizers_apply_gradients_is_called():
    given = distiller(net(7))
    kernel, bias = given.student.get_weights()
    given.compile(Halting(0.1), CROSSENTROPY, run_eagerly=True)
    given.train_on_batch(X, Y)
    np.testing.assert_array_equal(given.student.get_weights()[0], kernel)
    assert np.abs(given.student.get_weights()[1] - bias).min() > 0


class OwnStep(keras.Model):
    def __init__(self):
        super().__init__(name="odd")
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


class WithTrainStep(OwnStep):
    def train_step(self, data):
        raise AssertionError("never called")


class WithComputeLoss(OwnStep):
    def compute_loss(self, *args, **kwargs):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("kind", "name"), [(WithTrainStep, "train_step"), (WithComputeLoss, "compute_loss")]
)
def test_a_students_own_step_is_spoken_of_once(kind, name):
    given = distiller(kind())
    with pytest.warns(UserWarning, match=f"student odd has a {name} of its own") as said:
        given.fit(X, Y, 12, epochs=2, verbose=0)
    given.fit(X, Y, 24, verbose=0)  # a warning would be an error here
    assert len([w for w in said if "of its own" in str(w.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller(OwnStep()).train_on_batch(X, Y)


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate"])
def test_signatures_are_those_of_keras(method):
    ours = inspect.signature(getattr(EnsembleDistiller, method))
    theirs = inspect.signature(getattr(keras.Model, method))
    assert list(ours.parameters) == list(theirs.parameters)
    assert getattr(EnsembleDistiller, method).__doc__ != getattr(keras.Model, method).__doc__


NAMES = (
    *("track", "compiled_share", "other_variables", "regularization_share", "apply_summed"),
    *("reduced_logs", "unused_in_evaluation", "teacher_models", "check_scope", "ensemble"),
    *("settings", "peek", "student_loss", "distillation_loss", "as_share", "reductions"),
    *("teacher_outputs", "student_outputs", "checked_outputs", "validating", "hint_layers"),
)


def test_names_that_a_subclass_may_use():
    """Attributes and methods of such names change nothing."""

    def theirs(self, *args, **kwargs):
        raise AssertionError("a method of the user's was called")

    methods = type("Methods", (EnsembleDistiller,), dict.fromkeys(NAMES, theirs))
    weights = []
    for kind in (EnsembleDistiller, methods):
        given = distiller(net(7), kind=kind)
        if kind is EnsembleDistiller:
            for name in NAMES:
                setattr(given, name, "the user's")
        given.fit(X, Y, 24, validation_data=(X, Y), verbose=0)
        weights.append(given.student.get_weights())
    plain = distiller(net(7))
    plain.fit(X, Y, 24, verbose=0)
    for found in weights:
        for a, b in zip(found, plain.student.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_public_helper_beside_those_of_keras():
    ours = {name for name in dir(DistillationStep) if not name.startswith("_")}
    assert ours - set(dir(keras.Model)) == set()
    documented = {"student", "teachers", "weighting", "hints", "hint_weighting", "regressors"}
    documented |= {"temperature", "student_loss_weight", "kd_weight", "hint_weight"}
    documented |= {"distilled_output"}
    documented |= {
        "distillation_loss",
        "gradient_space",
        "gradient_cosines",
        "save_assets",
        "load_assets",
    }
    own = {name for name in dir(EnsembleDistiller) if not name.startswith("_")}
    assert own - set(dir(keras.Model)) <= documented
