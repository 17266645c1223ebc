import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import aekd_tf
from aekd_tf.monitoring import tensorboard as callbacks
from aekd_tf.monitoring.progress import ProgressBar
from aekd_tf.training.best_epoch import BestEpoch
from tools.networks import classifier


def fitted(teachers, toy_data, **options):
    distiller = aekd_tf.EnsembleDistiller(classifier(7), teachers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss=loss, metrics=["accuracy"], jit_compile=False)
    history = distiller.fit(
        *toy_data, epochs=3, batch_size=16, validation_data=toy_data, verbose=0, **options
    )
    return distiller, history.history


def read(directory):
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return events


def values(events, tag):
    return [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_tensorboard_holds_what_was_logged(teachers, toy_data, tmp_path):
    callback = aekd_tf.DistillationTensorBoard(tmp_path, update_freq=2)
    _, history = fitted(teachers, toy_data, callbacks=[callback])
    train, validation = read(tmp_path / "train"), read(tmp_path / "validation")
    expected = {
        "teacher_weights/teacher_1": "teacher_weight_1",
        "teachers/effective_teachers": "effective_teachers",
        "teachers/qp_gap": "qp_gap",
        "teachers/gradient_conflict": "gradient_conflict",
        "loss/total": "loss",
        "loss/kd_loss": "kd_loss",
        "loss/student_loss": "student_loss",
        "accuracy/accuracy": "accuracy",
    }
    for tag, name in expected.items():
        found = values(train, tag)
        np.testing.assert_allclose(found, history[name], rtol=1e-6)
    found = values(validation, "accuracy/accuracy")
    np.testing.assert_allclose(found, history["val_accuracy"], rtol=1e-6)
    assert len(train.Tensors("loss/total_per_step")) == 4
    assert "custom_scalars__config__" in train.Tags()["tensors"]


def test_progress_bar_counts_every_step(teachers, toy_data, capsys):
    fitted(teachers, toy_data, callbacks=[ProgressBar("student", 9)])
    shown = capsys.readouterr().err
    assert "student: 100%" in shown
    assert "9/9" in shown
    assert "val_accuracy=" in shown


def test_best_epoch_is_restored(teachers, toy_data):
    student = classifier(7)
    student.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    best = BestEpoch(student)
    best.set_model(student)
    best.on_epoch_end(0, {"val_accuracy": 0.7})
    expected = student.get_weights()
    student.fit(*toy_data, verbose=0)
    best.on_epoch_end(1, {"val_accuracy": 0.7})
    assert (best.epoch, best.score) == (1, 0.7)
    for found, weight in zip(best.restored().get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, weight)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("teacher_weight_12", "teacher_weights/teacher_12"),
        ("hint_teacher_weight_0_per_step", "hint_teacher_weights/teacher_0_per_step"),
        ("qp_gap", "teachers/qp_gap"),
        ("hint_effective_teachers", "hint_teachers/effective_teachers"),
        ("hint_loss", "loss/hint_loss"),
        ("loss", "loss/total"),
        ("accuracy", "accuracy/accuracy"),
    ],
)
def test_tags_group_what_belongs_together(name, tag):
    assert callbacks._tag(name) == tag


@pytest.mark.parametrize(("count", "shown"), [(5, True), (6, False)])
def test_kerass_bar_shows_the_weights_of_few_teachers(toy_data, capsys, count, shown):
    distiller = aekd_tf.EnsembleDistiller(
        classifier(7), [classifier(seed) for seed in range(count)], weighting="average"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss=loss, jit_compile=False)
    history = distiller.fit(*toy_data, batch_size=16, validation_data=toy_data).history
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in ("kd_loss", "effective_teachers", "val_loss"))
    assert ("teacher_weight_4: " in printed) is shown
    assert printed.count(" - val_loss: ") == 1, "one bar"
    assert "teacher_weight_4" in history


def test_a_bar_of_ones_own_and_silence_stay(teachers, toy_data, capsys):
    class Bar(keras.callbacks.ProgbarLogger):
        pass

    distiller = aekd_tf.EnsembleDistiller(classifier(7), teachers)
    distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(*toy_data, batch_size=16, callbacks=[Bar()], validation_data=toy_data)
    assert capsys.readouterr().out.count(" - val_loss: ") == 1
    distiller.fit(*toy_data, batch_size=16, verbose=0)
    assert not capsys.readouterr().out
