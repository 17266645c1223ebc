"""What is compared, what is reported, and that a wrong file is never delivered."""

import contextlib
import importlib.util
import json
import logging
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import EnsembleDistiller, export_student
from aekd_tf.export import report as reports
from aekd_tf.export import runtimes
from aekd_tf.export.quiet import quiet
from tools import students
from tools.refused import refused

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)


def export(student, path, **options):
    return export_student(student, path / "student.onnx", format="onnx", **options)


@pytest.fixture
def wrong_by(monkeypatch):
    """Lets the runtime give other values than the file."""
    load = runtimes.load

    def spoil(offset):
        def spoilt(*arguments):
            run = load(*arguments)
            return lambda arrays: [part + offset for part in run(arrays)]

        monkeypatch.setattr(reports.runtimes, "load", spoilt)

    return spoil


def test_a_wrong_file_is_not_delivered(tmp_path, wrong_by):
    student = students.vectors()
    before = export(student, tmp_path)
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 2
    for offset, shown in ((2e-3, "0.002"), (np.nan, "inf"), (np.inf, "inf")):
        wrong_by(offset)
        with refused(
            f"the ONNX file of student vectors differs from it by {shown} on check_with, more than",
            "the file was removed",
        ):
            export(student, tmp_path, check_with=X)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents
    assert before["largest_difference"] < 1e-5


def test_the_limit_grows_with_the_largest_logit(tmp_path, wrong_by):
    student = students.vectors()
    student.set_weights([100 * weight for weight in student.get_weights()])
    wrong_by(2e-3)
    report = export(student, tmp_path, check_with=X)
    assert 1.5e-3 < report["largest_difference"] < 2.5e-3


def test_a_file_that_does_not_run_is_not_delivered(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(reports.runtimes, "load", broken)
    with refused("its runtime cannot run it (no kernel): use another format"):
        export(students.vectors(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_runtime_one_line_says_so(tmp_path, monkeypatch, capfd):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        runtimes.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxruntime" else find(name, *rest),
    )
    report = export(students.vectors(), tmp_path, check_with=(X, Y))
    reason = "not checked: onnxruntime is not installed (pip install 'aekd_tf[export]')"
    line = f"the ONNX file of student vectors was {reason}\n"
    assert capfd.readouterr() == ("", line)
    assert report["checked"] == reason
    unknown = ("largest_difference", "agreement", "accuracy", "keras_accuracy", "latency_ms")
    assert [report[name] for name in unknown] == [None] * 5
    assert report["bytes"] == (tmp_path / "student.onnx").stat().st_size


def test_without_a_converter(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "tf2onnx" else find(name, *rest),
    )
    with refused("is written by tf2onnx and onnx", "aekd_tf[export]", error=ImportError):
        export(students.vectors(), tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda: (X, Y), id="arrays"),
        pytest.param(lambda: (X.astype(np.float64), Y.reshape(-1, 1)), id="column"),
        pytest.param(lambda: (X, np.eye(3)[Y]), id="one-hot"),
        pytest.param(lambda: ({"x": X}, Y.tolist()), id="by name"),
        pytest.param(lambda: (tf.constant(X), Y.astype(np.float32)), id="tensor"),
        pytest.param(lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(7), id="dataset"),
        pytest.param(
            lambda: tf.data.Dataset.from_tensor_slices(
                ({"inputs": X, "teacher_logits": np.zeros((40, 1, 3))}, Y)
            ).batch(7),
            id="cached",
        ),
    ],
)
def test_data_in_any_form(tmp_path, given):
    student = students.vectors()
    report = export_student(student, tmp_path / "student.keras", check_with=given())
    right = student(X).numpy().argmax(-1) == Y
    assert report["accuracy"] == report["keras_accuracy"] == right.mean()
    assert report["agreement"] == 1
    assert report["head"] == "classes"
    assert report["checked"] == "40 examples of check_with"


def test_heads_other_than_classes(tmp_path):
    path = tmp_path / "student.keras"
    logits = students.vectors(1)
    on = np.random.default_rng(2).integers(0, 2, 40)
    one = export_student(logits, path, check_with=(X, on))
    right = (logits(X).numpy()[:, 0] > 0) == on
    assert (one["head"], one["agreement"], one["accuracy"]) == ("labels", 1, right.mean())
    values = export_student(logits, path, check_with=(X, on + 0.5))
    assert (values["head"], values["agreement"], values["accuracy"]) == ("regression", None, None)
    several = np.random.default_rng(3).integers(0, 2, (40, 3))
    sigmoid = students.vectors(activation="sigmoid")
    labels = export_student(sigmoid, path, check_with=(X, several))
    right = (sigmoid(X).numpy() > 0.5) == several
    assert (labels["head"], labels["accuracy"]) == ("labels", right.mean())


def test_dense_outputs(tmp_path):
    """Positions whose sample weight is zero do not count."""
    student = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(3)])
    x, y = X.reshape(10, 4, 4), Y.reshape(10, 4)
    weight = np.ones((10, 4))
    weight[:, 2:] = 0
    report = export_student(student, tmp_path / "student.keras", check_with=(x, y, weight))
    right = student(x).numpy().argmax(-1) == y
    assert report["accuracy"] == right[:, :2].mean()


def test_what_is_checked_without_data(tmp_path):
    path = tmp_path / "student.keras"
    assert export_student(students.vectors(), path)["checked"] == "16 examples of noise"
    assert export_student(students.text(), path)["checked"] == "16 examples of zeros"


def test_the_distiller_gives_its_student(tmp_path):
    teachers = [students.vectors(2, name="teacher")]
    student = students.two_outputs()
    distiller = EnsembleDistiller(student, teachers, output="aside", weighting="average")
    on = np.random.default_rng(2).integers(0, 2, 40)
    path = tmp_path / "student.keras"
    report = export_student(distiller, path, check_with=(X, {"aside": on, "main": Y}))
    outputs = student(X)
    assert report["accuracy"] == np.mean(outputs["aside"].numpy().argmax(-1) == on)
    loaded = keras.models.load_model(path)
    assert set(loaded(X)) == {"main", "aside"}
    assert len(loaded.weights) == len(student.weights)
    report = export(distiller, tmp_path, probabilities=True, check_with=X, labels=["a", "b"])
    assert report["largest_difference"] < 1e-5
    assert report["labels"] == ["a", "b"]
    first = export_student(student, path, check_with=(X, {"aside": on, "main": Y}))
    assert first["accuracy"] == np.mean(outputs["main"].numpy().argmax(-1) == Y)


def test_an_earlier_folder_is_replaced(tmp_path):
    path = tmp_path / "student"
    for scale in (1, 2):
        student = students.vectors()
        student.set_weights([scale * weight for weight in student.get_weights()])
        export_student(student, f"{path}/", format="saved_model", check_with=X)
        loaded = tf.saved_model.load(path)
        np.testing.assert_allclose(loaded.serve(X), student(X), atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student", "student.json"]
    assert json.loads((tmp_path / "student.json").read_text())["format"] == "saved_model"


def test_nothing_is_printed(tmp_path, capfd):
    student, options = students.vectors(), {"check_with": X}
    export(student, tmp_path, **options)
    options |= {"format": "litert", "quantize": "int8", "calibration": X}
    export_student(student, tmp_path / "student.tflite", **options)
    assert capfd.readouterr() == ("", "")


def test_what_was_hidden_is_shown_before_a_fault(capfd):
    logger = logging.getLogger("tensorflow")
    before = logger.level
    with quiet():
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.level == before
    with contextlib.suppress(ZeroDivisionError), quiet(ValueError):
        os.write(1, b"a message of a library\n")
        raise ZeroDivisionError
    assert capfd.readouterr() == ("", "a message of a library\n")
    with contextlib.suppress(ValueError), quiet(ValueError):
        os.write(1, b"a message of a library\n")
        raise ValueError
    assert capfd.readouterr() == ("", "")
