"""The int8 file of a quantization-aware student is the student, without calibration data."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import aekd_tf
from aekd_tf import export_student
from tools import students
from tools.refused import refused

pytestmark = pytest.mark.xdist_group("export_quantize_aware")  # one student serves them all


@pytest.fixture(scope="module")
def made():
    """A student with ranges of batches, but without a step of an optimizer, and its examples."""
    aware = aekd_tf.quantize_aware(students.images())
    rng = np.random.default_rng(0)
    y = np.arange(120) % students.CLASSES
    patterns = rng.normal(size=(students.CLASSES, 8, 8, 1))
    x = (3 * patterns[y] + rng.normal(size=(len(y), 8, 8, 1))).astype(np.float32)
    for _ in range(3):
        aware(x, training=True)
    return aware, x, y


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    """The student's file with float and with integer inputs and outputs, and their reports."""
    aware, x, y = made
    options = {"format": "litert", "quantize": "int8", "check_with": (x, y)}
    found = {}
    for integer_io in (False, True):
        path = tmp_path_factory.mktemp("files") / "student.tflite"
        found[integer_io] = path, export_student(aware, path, integer_io=integer_io, **options)
    return found


@pytest.mark.parametrize("integer_io", [False, True])
def test_nothing_is_left_in_float_and_the_answers_are_the_student_s(made, files, integer_io):
    (aware, x, y), (path, report) = made, files[integer_io]
    assert report["checked"] == "120 examples of check_with"
    assert report["agreement"] >= 0.99
    assert report["float_layers"] == []
    assert report["keras_accuracy"] == np.mean(aware(x).numpy().argmax(-1) == y)
    assert abs(report["accuracy"] - report["keras_accuracy"]) <= 0.01
    details = Interpreter(str(path)).get_tensor_details()
    ends = set() if integer_io else {"float32"}
    assert {np.dtype(each["dtype"]).name for each in details} == {"int8", "int32"} | ends


def test_no_ranges_for_what_preprocessing_takes(made, tmp_path):
    aware, x, _ = made
    options = {"format": "litert", "quantize": "int8", "preprocessing": keras.layers.Rescaling(2.0)}
    with refused("an input of the file stays float32"):
        export_student(aware, tmp_path / "s.tflite", integer_io=True, check_with=x, **options)
    assert not list(tmp_path.iterdir())


def test_a_loaded_student_gives_the_same_file(made, files, tmp_path):
    """Calibration data that are given all the same change nothing."""
    aware, x, y = made
    aware.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    path = tmp_path / "student.tflite"
    options = {"format": "litert", "quantize": "int8", "check_with": (x, y)}
    report = export_student(loaded, path, calibration=100 * x[:10], **options)
    assert report["accuracy"] == files[False][1]["accuracy"]
    outputs = []
    for file in (path, files[False][0]):
        interpreter = Interpreter(str(file))
        (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(given["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(got["index"]))
    np.testing.assert_array_equal(*outputs)


def test_it_learns_with_teachers_and_the_distiller_is_exported(made, tmp_path):
    aware, x, y = made
    student = keras.models.clone_model(aware)
    student.set_weights(aware.get_weights())
    distiller = aekd_tf.EnsembleDistiller(student, [students.images()], weighting="average")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
    distiller.fit(x, y, batch_size=40, verbose=0)
    options = {"format": "litert", "quantize": "int8", "check_with": (x, y)}
    report = export_student(distiller, tmp_path / "student.tflite", **options)
    assert report["agreement"] >= 0.99
    assert report["float_layers"] == []


def test_another_runtime_that_rounds_otherwise_is_found_out(made, tmp_path):
    """ONNX Runtime 1.20 computes the student exactly, 1.32 something else."""
    aware, x, _ = made
    path = tmp_path / "student.onnx"
    message = ""
    try:
        report = export_student(aware, path, format="onnx", check_with=x)
    except ValueError as error:
        message = str(error)
    if message:
        assert "the ONNX file of student" in message
        assert "the file was removed" in message
        assert list(tmp_path.iterdir()) == []
    else:
        assert report["largest_difference"] <= 1e-6
