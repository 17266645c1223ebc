"""Every format and quantization of several kinds of students, run by the file's own runtime."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from aekd_tf import export_student, models
from tools import students

ENDINGS = {"keras": ".keras", "saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
# Format, quantization, integer inputs and outputs.
CELLS = [
    ("keras", None, False),
    ("saved_model", None, False),
    ("onnx", None, False),
    ("litert", None, False),
    ("litert", "dynamic", False),
    ("litert", "float16", False),
    ("litert", "int8", False),
    ("litert", "int8", True),
]
NETWORKS = ("resnet8", "mobilenetv2", "wrn_16_1", "vgg8")


def network(name):
    """A package network, trained, so that its classes are no accident of rounding."""
    keras.utils.set_random_seed(0)
    student = models.create(name, students.CLASSES, (8, 8, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.003), loss, jit_compile=False)
    student.fit(*students.data(student), epochs=30, verbose=0)
    return student


MAKERS = {
    "two_inputs": students.two_inputs,
    "text": students.text,
    **{name: lambda name=name: network(name) for name in NETWORKS},
}
# Each cell runs always with one of the small students.
TEXT = ("onnx", None, False), ("litert", "dynamic", False), ("litert", "int8", True)
ALWAYS = [("text" if cell in TEXT else "two_inputs", cell) for cell in CELLS]
ALL = [
    pytest.param(
        name,
        cell,
        marks=() if (name, cell) in ALWAYS else pytest.mark.slow,
        id="-".join(map(str, (name, *cell))),
    )
    for name in MAKERS
    for cell in CELLS
]


@pytest.fixture(scope="module")
def made():
    cache = {}

    def student(name):
        if name not in cache:
            cache[name] = MAKERS[name]()
        return cache[name]

    return student


@pytest.mark.parametrize(("name", "cell"), ALL)
def test_every_cell(made, tmp_path, name, cell):
    student, (form, quantize, integer_io) = made(name), cell
    x, y = students.data(student)
    path = tmp_path / "new" / f"student{ENDINGS[form]}"
    names = ["a", "b", "c"]
    report = export_student(
        student,
        path,
        format=form,
        quantize=quantize,
        integer_io=integer_io,
        calibration=x if quantize == "int8" else None,
        check_with=(x, y),
        labels=names,
    )
    logits = student(x, training=False).numpy()
    scale = max(1, np.abs(logits).max())
    limit = {None: 1e-5, "float16": 5e-3, "dynamic": 0.05, "int8": 0.2}[quantize]
    assert report["largest_difference"] <= limit * scale
    assert report["agreement"] >= (1 if quantize in (None, "float16") else 0.8)
    assert report["keras_accuracy"] == np.mean(logits.argmax(-1) == y)
    assert (report["format"], report["quantize"]) == cell[:2]
    assert report["checked"] == "20 examples of check_with"
    assert report["labels"] == names
    assert report["latency_ms"] > 0
    assert report["threads"] >= 1
    assert (report["float_layers"] is None) == (quantize is None)
    assert json.loads((tmp_path / "new" / f"{path.name}.json").read_text()) == report
    size = sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file())
    assert report["bytes"] == size
    assert sorted(part.name for part in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
    if quantize == "int8":
        _check_integers(path, student, integer_io)


def _check_integers(path, student, integer_io):
    signature = Interpreter(str(path)).get_signature_runner()
    for tensor in student.inputs:
        detail = signature.get_input_details()[tensor.name]
        integers = "int32" if tensor.dtype == "int32" else "int8" if integer_io else "float32"
        assert np.dtype(detail["dtype"]).name == integers
    (output,) = signature.get_output_details().values()
    assert np.dtype(output["dtype"]).name == ("int8" if integer_io else "float32")


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "student.tflite"
    student = students.images()
    x, _ = students.data(student)
    report = export_student(student, path, format="litert", quantize="int8", calibration=x)
    return path, report


def test_int8_is_per_channel_and_leaves_nothing_in_float(int8_file):
    path, report = int8_file
    assert report["float_layers"] == []
    assert report["checked"] == "20 examples of calibration"
    interpreter = Interpreter(str(path))
    details = interpreter.get_tensor_details()
    kernels = [d for d in details if tuple(d["shape"]) == (8, 3, 3, 1)]
    assert [d["dtype"] for d in kernels] == [np.int8]
    assert len(kernels[0]["quantization_parameters"]["scales"]) == 8


def test_weights_that_stay_in_float_are_listed(tmp_path):
    """The converter leaves small weights, here those of the last layer."""
    student = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, name="large"), keras.layers.Dense(3)]
    )
    report = export_student(
        student, tmp_path / "student.tflite", format="litert", quantize="dynamic"
    )
    (left,) = report["float_layers"]
    assert left.startswith("FULLY_CONNECTED")
    assert "large" not in left


def test_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student = students.images()
    finally:
        keras.config.set_dtype_policy("float32")
    x, _ = students.data(student)
    for form in ("keras", "onnx", "litert"):
        path = tmp_path / f"student{ENDINGS[form]}"
        report = export_student(student, path, format=form, check_with=x)
        assert report["largest_difference"] < 1e-5
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    assert student.layers[0].compute_dtype == "bfloat16"
    assert student(x).dtype == tf.bfloat16
    np.testing.assert_allclose(loaded(x), tf.cast(student(x), tf.float32), atol=0.05)


def test_a_subclassed_student(tmp_path):
    student = students.Subclassed()
    tokens = np.random.default_rng(0).integers(0, 50, (6, 5))
    student(tokens)
    for form in ("keras", "onnx", "litert", "saved_model"):
        path = tmp_path / f"student{ENDINGS[form]}"
        report = export_student(student, path, format=form, check_with=tokens)
        assert report["largest_difference"] < 1e-5
    signature = Interpreter(str(tmp_path / "student.tflite")).get_signature_runner()
    assert signature.get_input_details()["inputs"]["dtype"] is np.int64


def test_a_subclassed_student_of_two_inputs(tmp_path):
    student = students.SubclassedOfTwo()
    generator = np.random.default_rng(0)
    x = {"tokens": generator.integers(0, 50, (6, 5)), "facts": generator.normal(size=(6, 4))}
    student(x)
    report = export_student(student, tmp_path / "student.onnx", format="onnx", check_with=x)
    assert report["largest_difference"] < 1e-5


def test_recurrent_students_take_one_example_at_a_time(tmp_path):
    layers = [keras.layers.Embedding(50, 4), keras.layers.GRU(3), keras.layers.Dense(3)]
    student = keras.Sequential([keras.Input((None,), dtype="int32", name="tokens"), *layers])
    x, y = students.data(student)
    path = tmp_path / "student.tflite"
    report = export_student(student, path, format="litert", check_with=(x, y))
    assert report["largest_difference"] < 1e-5
    assert report["accuracy"] == report["keras_accuracy"]
    details = Interpreter(str(path)).get_signature_runner().get_input_details()
    assert details["tokens"]["shape_signature"].tolist() == [1, -1]


def test_images_of_any_size_as_bytes_and_probabilities(tmp_path):
    student = students.images()
    front = keras.Sequential(
        [
            keras.Input((None, None, 1), dtype="uint8", name="photo"),
            *(keras.layers.Resizing(8, 8), keras.layers.Rescaling(1 / 255)),
        ]
    )
    photos = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 1)).astype(np.uint8)
    options = {"preprocessing": front, "probabilities": True, "check_with": photos}
    report = export_student(student, tmp_path / "student.onnx", format="onnx", **options)
    assert report["largest_difference"] < 1e-5
    export_student(student, tmp_path / "student.keras", **options)
    loaded = keras.models.load_model(tmp_path / "student.keras")
    expected = tf.nn.softmax(student(front(photos), training=False))
    np.testing.assert_allclose(loaded(photos), expected, atol=1e-6)


def test_a_student_made_under_a_strategy(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        student = students.images()
    x, _ = students.data(student)
    for form in ("keras", "litert"):
        path = tmp_path / f"student{ENDINGS[form]}"
        assert export_student(student, path, format=form, check_with=x)["agreement"] == 1
