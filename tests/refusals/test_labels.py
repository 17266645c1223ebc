"""Forgotten labels and losses are refused; labels left out on purpose are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import CachedTeachers
from tools import reference
from tools.refused import CROSSENTROPY, X, Y, distiller, net, refused, two_teachers

TEMPERATURE, KD_WEIGHT, L2 = 3.0, 0.7, 0.01
OTHER_X = np.random.default_rng(5).normal(size=(20, 4)).astype(np.float32)
OTHER_Y = np.random.default_rng(6).integers(0, 3, 20)
ALONE = {"student_loss_weight": 0.0}


def regularized():
    keras.utils.set_random_seed(7)
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(L2))
    return keras.Sequential([keras.Input((4,)), dense])


def kl_by_numpy(student, x):
    """The average of the teachers' losses, each the mean over the examples."""
    outputs = np.stack([np.asarray(teacher(x)) for teacher in two_teachers()])
    losses = reference.distillation_losses(outputs, np.asarray(student(x)), TEMPERATURE)
    return losses.mean()


def regularization(student):
    return L2 * np.square(student.layers[0].kernel.numpy()).sum()


def test_a_forgotten_loss():
    for loss in (None, [None]):
        with refused("student_loss_weight is 1 but no loss was compiled", "compile(optimizer,"):
            distiller(loss=loss).fit(X, Y, verbose=0)
    distiller(loss=None, **ALONE).train_on_batch(X, Y)


WITHOUT_LABELS = {
    "array": lambda d: d.fit(X, verbose=0),
    "dataset": lambda d: d.fit(tf.data.Dataset.from_tensor_slices(X).batch(8), verbose=0),
    "generator": lambda d: d.fit(((X,) for _ in range(2)), verbose=0),
    "batch": lambda d: d.train_on_batch(X),
}


@pytest.mark.parametrize("how", WITHOUT_LABELS)
def test_forgotten_labels(how):
    given = distiller(student_loss_weight=0.25)
    before = given.student.get_weights()[0]
    with refused("student_loss_weight is 0.25 but the data have no labels", "give y"):
        WITHOUT_LABELS[how](given)
    np.testing.assert_array_equal(given.student.get_weights()[0], before)


def test_a_weight_that_becomes_zero_and_back():
    given = distiller()
    given.student_loss_weight = 0.0
    given.train_on_batch(X)
    given.student_loss_weight = 1.0
    with refused("the data have no labels"):
        given.train_on_batch(X)


@pytest.fixture(scope="module")
def validated():
    """A distiller that trained with labels, and what it said of validation data."""
    given = distiller(
        regularized(),
        temperature=TEMPERATURE,
        kd_weight=KD_WEIGHT,
        compiled={"metrics": ["accuracy"]},
    )
    with_labels = (OTHER_X, OTHER_Y)
    options = {"batch_size": 8, "validation_batch_size": 8, "verbose": 0}
    return given, given.fit(X, Y, validation_data=with_labels, **options).history


def test_validation_with_labels(validated):
    given, history = validated
    student = given.student
    np.testing.assert_allclose(
        history["val_kd_loss"], [kl_by_numpy(student, OTHER_X)], rtol=1e-5, atol=1e-6
    )
    probabilities = reference.softmax(np.asarray(student(OTHER_X), np.float64))
    crossentropy = -np.log(probabilities[np.arange(20), OTHER_Y]).mean()
    expected = crossentropy + regularization(student)
    np.testing.assert_allclose(history["val_loss"], [expected], rtol=1e-5)
    right = (probabilities.argmax(-1) == OTHER_Y).mean()
    np.testing.assert_allclose(history["val_accuracy"], [right], rtol=1e-6)
    assert {name for name in history if name.startswith("val_")} == {
        *("val_loss", "val_kd_loss", "val_accuracy"),
    }


def test_evaluate_stays_the_students_own(validated):
    given, history = validated
    found = given.evaluate(OTHER_X, OTHER_Y, batch_size=8, verbose=0, return_dict=True)
    assert set(found) == {"loss", "accuracy"}
    assert found["loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)


def test_validation_without_labels():
    """Eq. 7 without the student's term; compiled metrics are left out instead of a crash."""
    given = distiller(
        regularized(),
        temperature=TEMPERATURE,
        kd_weight=KD_WEIGHT,
        compiled={"metrics": ["accuracy"]},
        **ALONE,
    )
    student = given.student
    seen = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            KD_WEIGHT * kl_by_numpy(student, OTHER_X) + regularization(student)
        )
    )
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1)
    history = given.fit(
        *(X, None, 8, 5, 0),
        callbacks=[record, stop],
        validation_data=(OTHER_X,),
        validation_batch_size=8,
    ).history
    np.testing.assert_allclose(history["val_loss"], seen, rtol=1e-5)
    assert len(seen) == 2
    assert seen[1] < seen[0]
    assert not {"accuracy", "val_accuracy", "val_student_loss"} & set(history)
    found = given.evaluate(OTHER_X, batch_size=8, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(seen[-1], rel=1e-5)
    # Labels that come later are compared.
    logs = given.train_on_batch(X, Y, return_dict=True)
    assert "accuracy" in logs


def test_cached_teachers_say_nothing_of_other_data():
    given = distiller(net(7), CachedTeachers(2))
    cached = np.stack([np.asarray(teacher(X)) for teacher in two_teachers()], 1)
    history = given.fit(
        {"inputs": X, "teacher_logits": cached},
        Y,
        batch_size=24,
        validation_data=(OTHER_X, OTHER_Y),
        verbose=0,
    ).history
    assert "kd_loss" in history
    assert {name for name in history if name.startswith("val_")} == {"val_loss"}
    expected = CROSSENTROPY(OTHER_Y, given.student(OTHER_X))
    np.testing.assert_allclose(history["val_loss"], [expected], rtol=1e-5)
