"""Each misuse of export_student ends with one line, and writes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import EnsembleDistiller, TeacherAdapter, TeacherEnsemble, export_student
from tools import students
from tools.refused import refused

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 6)
VECTORS = students.vectors()


@pytest.fixture
def refuse(tmp_path):
    """Expects a refusal of an export, after which the folder is empty."""

    def check(*parts, model=VECTORS, path="student.keras", error=ValueError, **options):
        with refused(*parts, error=error):
            export_student(model, tmp_path / path, **options)
        assert list(tmp_path.iterdir()) == []

    return check


def test_teachers_are_no_students(refuse):
    for model in (
        *(TeacherEnsemble([VECTORS]), [VECTORS], TeacherAdapter(VECTORS), "student.keras", None),
    ):
        name = type(model).__name__
        refuse(f"was given a {name}: give the student", model=model, error=TypeError)


def test_unbuilt_student(refuse):
    unbuilt = keras.Sequential([keras.layers.Dense(3)], name="new")
    refuse("student new was never built: make it with a keras.Input", model=unbuilt)


def test_unknown_names(refuse):
    refuse("unknown format 'tflite': choose one of keras, saved_model", format="tflite")
    refuse(
        "unknown quantize 'int4': choose one of dynamic, float16, int8",
        path="student.tflite",
        format="litert",
        quantize="int4",
    )


@pytest.mark.parametrize(
    ("path", "form", "example"),
    [
        ("student.h5", "keras", "student.keras"),
        ("student", "litert", "student.tflite"),
        ("student.keras", "litert", "student.tflite"),
        ("student.tflite", "onnx", "student.onnx"),
        ("student.keras", "saved_model", "student"),
    ],
)
def test_path_of_another_format(refuse, path, form, example):
    parts = (f"{path}, but format={form!r} writes", ": give a path such as")
    refuse(*parts, path=path, format=form)
    with refused(f"such as {example}"):
        export_student(VECTORS, path, format=form)


def test_only_exports_are_replaced(tmp_path):
    (tmp_path / "a.keras").mkdir()
    with refused("is a folder, which the export would replace: give another path"):
        export_student(VECTORS, tmp_path / "a.keras")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with refused("is a folder of other files"):
        export_student(VECTORS, tmp_path / "mine", format="saved_model")
    (tmp_path / "notes").write_text("")
    with refused("is a file, which"):
        export_student(VECTORS, tmp_path / "notes", format="saved_model")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_quantization_that_does_not_fit(refuse):
    onnx = {"path": "student.onnx", "format": "onnx"}
    litert = {"path": "student.tflite", "format": "litert"}
    refuse("quantize='int8' is for LiteRT, but the format is 'onnx'", quantize="int8", **onnx)
    refuse("but the format is 'keras': set format='litert'", quantize="float16")
    refuse("requires calibration: give calibration=x", quantize="int8", **litert)
    refuse("integer_io=True is for quantize='int8'", quantize="dynamic", integer_io=True, **litert)
    refuse("but quantize is None", integer_io=True, **litert)


def test_quantization_aware_students(refuse):
    student = students.vectors(name="aware")
    litert = {"model": student, "path": "student.tflite", "format": "litert"}
    student.quantize_aware_bits = 8
    refuse("was trained for int8, but quantize is 'dynamic'", quantize="dynamic", **litert)


def test_recurrent_students_cannot_be_calibrated(refuse):
    layers = [keras.Input((5, 2)), keras.layers.LSTM(3), keras.layers.Dense(3)]
    refuse(
        "cannot calibrate the loops of student loops: use quantize='dynamic'",
        model=keras.Sequential(layers, name="loops"),
        path="student.tflite",
        format="litert",
        quantize="int8",
        calibration=np.zeros((4, 5, 2)),
    )


def test_preprocessing(refuse):
    refuse(
        "preprocessing is a function: give a layer",
        preprocessing=lambda x: x / 255,
        error=TypeError,
    )
    refuse(
        "preprocessing flat does not fit student vectors (",
        "give a keras.Sequential that starts with keras.Input",
        preprocessing=keras.layers.Reshape((2, 2), name="flat"),
    )


def test_softmax_of_no_logits(refuse):
    soft = students.vectors(activation="softmax", name="soft")
    refuse("student soft, whose outputs are those of a softmax already", model=soft,
           probabilities=True)  # fmt: skip
    refuse("outputs are (None, 1): leave", model=students.vectors(1), probabilities=True)
    teacher = students.vectors()
    labels = EnsembleDistiller(
        students.vectors(), [teacher], distillation_loss="binary_kl", weighting="average"
    )
    refuse("whose outputs are labels", model=labels, probabilities=True)


def test_class_names_and_threads(refuse):
    refuse("labels has 2 entries, but student vectors has 3 outputs", labels=["a", "b"])
    refuse("labels has 1 entries", labels="abc")
    for threads in (0, -1, 1.5, "2", True):
        refuse(f"threads is {threads!r}: give a whole number", threads=threads)


@pytest.mark.parametrize("what", ["check_with", "calibration"])
def test_data_that_are_no_data(refuse, what):
    options = {"path": "student.tflite", "format": "litert", "quantize": "int8", "calibration": X}

    def bad(*parts, given, error=ValueError):
        refuse(*parts, error=error, **{**options, what: given})

    bad(f"{what} is a str: give arrays", given="test", error=TypeError)
    bad(f"{what} is a generator", given=(x for x in [X]), error=TypeError)
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(3)
    bad(f"{what} is a tuple with a", given=(dataset, Y), error=TypeError)
    bad(f"repeats forever: give {what}.take(n)", given=dataset.repeat())
    bad(f"{what} has no examples", given=X[:0])
    bad(f"{what} has inputs (6, 5), but the exported file takes x (None, 4)", given=X[:, [0] * 5])
    bad(f"{what} has inputs (4,)", given=dataset.unbatch())
    bad(f"{what} has inputs (6, 4), (6, 4)", given=[X, X])
    bad(f"{what} has inputs , but", given={"y": X})


def test_values_that_the_inputs_cannot_hold(refuse):
    text = students.text()
    for tokens in (np.full((2, 5), 0.5), np.full((2, 5), 2**40)):
        refuse("that int32 cannot hold: give tokens as int32", model=text, check_with=tokens)
    refuse("has <U1 values that float32", check_with=np.full((2, 4), "a"))
    assert_fits = np.full((2, 5), 3.0)
    refuse("labels has", model=text, check_with=assert_fits, labels=["one"])


def test_labels_that_do_not_fit(refuse):
    refuse("check_with has 5 labels for 6 examples", check_with=(X, Y[:5]))
    refuse(
        "labels from 1 to 3, but student vectors has 3 classes", check_with=(X, Y * 0 + [1, 3] * 3)
    )
    refuse("labels are float64 (6,)", check_with=(X, Y + 0.5))
    refuse("labels are int64 (6, 2)", check_with=(X, np.zeros((6, 2), int)))


def test_outputs_that_are_not_finite(refuse):
    student = students.vectors(name="diverged")
    student.set_weights([w * np.nan for w in student.get_weights()])
    refuse("student diverged gives values that are not finite on noise", model=student)


def test_weights_in_half_precision(refuse):
    student = students.vectors(name="half", dtype="float16")
    refuse(
        "student half has weights in float16: give one with a mixed policy or float32",
        model=student,
    )


def test_a_subclassed_student_without_data(refuse):
    class Strict(keras.Model):
        def call(self, tokens):
            return tf.one_hot(tokens, 3)

    student = Strict(name="strict")
    student(np.zeros((2, 5), np.int32))
    refuse("student strict cannot be called on float32 (None, 5)", ": give check_with",
           model=student)  # fmt: skip


def test_a_subclassed_student_of_several_arguments(refuse):
    class Several(keras.Model):
        def call(self, a, b):
            return a + b

    student = Several(name="several")
    student(np.zeros((2, 4)), np.zeros((2, 4)))
    refuse("student several", model=student, path="student.onnx", format="onnx")


def test_a_class_that_keras_would_not_find(refuse):
    class Local(keras.layers.Layer):
        def call(self, x):
            return x

    student = keras.Sequential([keras.Input((4,)), Local()], name="local")
    refuse("but Keras cannot load it (Could not locate class 'Local'): register", model=student)


def special(function):
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Lambda(function)(x), name="special")


def test_operations_that_runtimes_lack(refuse):
    """Bessel functions have no counterpart; LiteRT knows Cholesky's only beside TensorFlow."""
    litert = {"path": "student.tflite", "format": "litert"}
    bessel = special(lambda x: tf.math.bessel_i0(x))
    line = "student special requires operations that LiteRT's runtime lacks ({}): use format='onnx'"
    refuse(line.format("BesselI0"), model=bessel, **litert)
    factor = special(lambda x: tf.linalg.cholesky(tf.linalg.diag(x**2 + 1)))
    refuse(line.format("Cholesky"), model=factor, **litert)
    refuse("ONNX", "use another", model=bessel, path="student.onnx", format="onnx")
