"""No false alarm: models and losses that are right raise nothing and warn of nothing."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import CachedTeachers, TeacherAdapter, TeacherEnsemble
from tools.refused import CROSSENTROPY, X, Y, distiller, net, passes, two_teachers

LAYERS, OPS = keras.layers, keras.ops
IMAGES = X.reshape(24, 2, 2, 1)
WORDS = np.random.default_rng(3).integers(0, 9, (24, 5))
TEXTS = np.array([["a b"], ["b c"], ["c a d"]] * 8)


def functional(*steps, inputs=4, dtype=None):
    """A functional model of layers or functions, one after the other."""
    shape = inputs if isinstance(inputs, tuple) else (inputs,)
    tensor = given = keras.Input(shape, dtype=dtype)
    for step in steps:
        tensor = step(tensor)
    return keras.Model(given, tensor)


class Calls(keras.Model):
    """A subclass that calls a function, which may use layers."""

    def __init__(self, function, *layers, **options):
        super().__init__(**options)
        self.kept = list(layers)
        self.function = function

    def call(self, inputs, training=None):
        return self.function(inputs)


def built(model, x=X):
    model(x)
    return model


def residual():
    inputs = keras.Input((4,))
    hidden = LAYERS.Add()([inputs, LAYERS.Dense(4, "relu")(inputs)])
    return keras.Model(inputs, LAYERS.Dense(3)(LAYERS.BatchNormalization()(hidden)))


def constant(row):
    """Says the same of each input, through weights that are zero."""
    model = net(1)
    model.set_weights([np.zeros((4, 3), np.float32), np.asarray(row, np.float32)])
    return model


def table(rows):
    """Says any outputs: row i for the i-th smallest input."""
    rows = np.asarray(rows, np.float32)
    order = OPS.convert_to_tensor(np.sort(X[:, 0]))
    return Calls(lambda x: OPS.take(rows, OPS.searchsorted(order, x[:, 0]), axis=0))


rescaling, add = LAYERS.Rescaling(2.0), LAYERS.Add()
ROWS = np.random.default_rng(4).uniform(size=(24, 3))
ONE_HOT = np.eye(3)[np.random.default_rng(5).integers(0, 3, 24)]


def quantized():
    model = keras.Sequential([keras.Input((4,)), LAYERS.Dense(16, "relu"), LAYERS.Dense(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns that the input is left as it is
        model.quantize("int8")
    return model


def normalized():
    norm = LAYERS.Normalization()
    norm.adapt(X)
    return Calls(lambda x: norm(x)[:, :3], norm)


def half(policy):
    layers = [LAYERS.Dense(8, "relu", dtype=policy), LAYERS.Dense(3, dtype=policy)]
    return keras.Sequential([keras.Input((4,)), *layers])


def tied():
    """Uses one layer twice."""
    shared = LAYERS.Dense(4, "tanh")
    return functional(shared, shared, LAYERS.Dense(3))


def gated():
    """Has a sigmoid and a softmax inside, not at the end."""
    inputs = keras.Input((4,))
    gate = LAYERS.Dense(4, "sigmoid")(inputs)
    attention = LAYERS.Softmax()(LAYERS.Dense(4)(inputs))
    return keras.Model(inputs, LAYERS.Dense(3)(inputs * gate * attention))


def bounded():
    """Ends in other activations, whose values are no distribution."""
    return functional(LAYERS.Dense(3, "tanh"))


def nested():
    return keras.Sequential([keras.Input((4,)), net(1, classes=5), net(2, inputs=5)])


class OwnDense(LAYERS.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, inputs):
        return OPS.matmul(inputs, self.kernel)


# Each is both a student, when it has something to train, and a teacher.
MODELS = {
    "sequential": lambda: net(1),
    "functional": residual,
    "nested": nested,
    "subclass": lambda: built(Calls(net(1))),
    "subclass of layers": lambda: built(Calls(dense := LAYERS.Dense(3), dense)),
    "own layer": lambda: functional(OwnDense()),
    "one layer twice": tied,
    "squashed inside": gated,
    "ends in tanh": bounded,
    "ends in relu": lambda: net(1, "relu"),
    "linear activation": lambda: functional(LAYERS.Dense(3), LAYERS.Activation("linear")),
    "dropout at the end": lambda: functional(LAYERS.Dense(3), LAYERS.Dropout(0.5)),
    "log-probabilities": lambda: functional(LAYERS.Dense(3), OPS.log_softmax),
    "log-softmax by name": lambda: net(1, "log_softmax"),
    "log-sigmoid": lambda: net(1, "log_sigmoid"),
    "scaled softmax": lambda: functional(LAYERS.Dense(3, "softmax"), LAYERS.Rescaling(10.0)),
    "float16": lambda: half("mixed_float16"),
    "bfloat16": lambda: half("mixed_bfloat16"),
    "float64": lambda: half("float64"),
    "unit vectors": lambda: functional(LAYERS.Dense(3), LAYERS.UnitNormalization()),
    "uncompiled and trained": lambda: built(net(2)),
}
TEACHERS = {
    "quantized": quantized,
    "zeros": lambda: constant([0, 0, 0]),
    "ones": lambda: constant([1, 1, 1]),
    "one class": lambda: constant([1, 0, 0]),
    "halves": lambda: constant([0.5, 0.5, 0.5]),
    "very sure": lambda: constant([1e4, 0, -1e4]),
    "between 0 and 1": lambda: table(ROWS),
    "one-hot": lambda: table(ONE_HOT),
    "nearly sums to 1": lambda: table(ROWS / ROWS.sum(1, keepdims=True) * 1.01),
    "sums to 1 with a negative": lambda: table(ONE_HOT * 1.2 - 0.2 / 3),
    "one row of probabilities": lambda: table(np.concatenate([[[0.2, 0.3, 0.5]], 3 * ROWS[1:]])),
    "without weights": lambda: Calls(lambda x: x[:, :3]),
    "rescaled inside": lambda: Calls(lambda x: rescaling(x[:, :3]), rescaling),
    "adapted normalization": normalized,
    "sum inside": lambda: Calls(lambda x: add([x[:, :3], x[:, 1:]]), add),
    "wrapper": lambda: Calls(net(1)),
    "wrapper of a wrapper": lambda: Calls(Calls(net(1))),
    "frozen": lambda: frozen(net(1)),
    "adapted": lambda: TeacherAdapter(net(1)),
    "adapted with everything": lambda: TeacherAdapter(
        net(1, "softmax", classes=5),
        preprocessing=LAYERS.Rescaling(2.0),
        outputs="probabilities",
        class_map=[4, 0, 2],
    ),
    "selected classes": lambda: TeacherAdapter(net(1, classes=5), class_map=[1, 2, 3]),
    "adapter of an adapter": lambda: TeacherAdapter(TeacherAdapter(net(1)), class_map=[2, 1, 0]),
    "some classes of a softmax": lambda: TeacherAdapter(
        TeacherAdapter(net(1, "softmax"), outputs="probabilities"), class_map=[2, 1, 0]
    ),
}


def frozen(model):
    model.trainable = False
    return model


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers(name):
    passes(None, TeacherEnsemble([two_teachers()[0], TEACHERS[name]()]))


def test_all_of_these_as_teachers():
    passes(None, [make() for make in MODELS.values()])


@pytest.mark.parametrize("name", MODELS)
def test_students(name):
    passes(MODELS[name]())


@pytest.mark.parametrize("values", [ROWS, ONE_HOT, 0 * ROWS, 0 * ROWS + 1, -ROWS], ids=range(5))
def test_cached_logits(values):
    logits = np.repeat(values[:, None], 2, 1).astype(np.float32)
    passes(None, CachedTeachers(2), x={"inputs": X, "teacher_logits": logits})


def of_images(size=2, layer=None):
    flat = [*([layer] if layer else []), LAYERS.Flatten(), LAYERS.Dense(3)]
    return functional(*flat, inputs=(size, size, 1))


def joined(structure):
    inputs = [keras.Input((2,), name="left"), keras.Input((2,), name="right")]
    outputs = LAYERS.Dense(3)(LAYERS.Concatenate()(inputs))
    given = {"list": inputs, "dict": {"left": inputs[0], "right": inputs[1]}}[structure]
    return keras.Model(given, outputs)


def of_words():
    layers = [LAYERS.Embedding(9, 4, mask_zero=True), LAYERS.GlobalAveragePooling1D()]
    return functional(*layers, LAYERS.Dense(3), inputs=5, dtype="int32")


def recurrent():
    return functional(LAYERS.Embedding(9, 4), LAYERS.GRU(3), inputs=5, dtype="int64")


def of_texts():
    vectorize = LAYERS.TextVectorization(8, output_sequence_length=3)
    vectorize.adapt(["a b c d"])
    return functional(
        vectorize,
        LAYERS.Embedding(8, 3),
        LAYERS.Flatten(),
        LAYERS.Dense(3),
        inputs=1,
        dtype="string",
    )


DATA = {
    "list": (lambda: joined("list"), [X[:, :2], X[:, 2:]]),
    "dict": (lambda: joined("dict"), {"left": X[:, :2], "right": X[:, 2:]}),
    "words": (of_words, WORDS),
    "recurrent": (recurrent, WORDS.astype("int64")),
    "texts": (of_texts, tf.constant(TEXTS)),
    "images": (of_images, IMAGES),
    "whole pixels": (of_images, (10 * np.abs(IMAGES)).astype("uint8")),
    "convolution": (lambda: of_images(layer=LAYERS.Conv2D(2, 2)), IMAGES),
    "resized inside": (lambda: of_images(layer=LAYERS.Resizing(3, 3)), IMAGES),
    "cropped": (lambda: of_images(layer=LAYERS.CenterCrop(1, 1)), IMAGES),
    "augmented": (lambda: of_images(layer=LAYERS.RandomFlip()), IMAGES),
    "float64 inputs": (lambda: net(1), X.astype("float64")),
    "one example": (lambda: net(1), X[:1]),
}


@pytest.mark.parametrize("kind", DATA)
def test_inputs_of_all_kinds(kind):
    make, x = DATA[kind]
    count = len(keras.tree.flatten(x)[0])
    passes(make(), [make(), make()], x=x, y=Y[:count])


def test_a_teacher_of_another_size():
    options = {"preprocessing": LAYERS.Rescaling(2.0), "input_size": (3, 3)}
    passes(of_images(), [TeacherAdapter(of_images(3), **options)], x=IMAGES)


def headed(backbone):
    return functional(backbone, LAYERS.Dense(3))


@pytest.mark.parametrize("shared", ["backbone", "batch norm", "embedding", "no weights"])
def test_what_student_and_teacher_may_share(shared):
    backbone = {
        "backbone": lambda: frozen(net(1, classes=5)),
        "batch norm": lambda: frozen(LAYERS.BatchNormalization()),
        "embedding": lambda: frozen(LAYERS.Dense(5)),
        "no weights": lambda: LAYERS.Rescaling(2.0),
    }[shared]()
    student, teacher = headed(backbone), headed(backbone)
    before = teacher.get_weights()
    made = distiller(student, [teacher])
    made.train_on_batch(X, Y)
    for now, then in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def own(y_true, y_pred):
    return OPS.mean(OPS.square(y_pred), -1)


class OwnLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return own(y_true, y_pred)


CLASSES = np.eye(3, dtype=np.float32)[Y]
LOSSES = {
    "categorical": (keras.losses.CategoricalCrossentropy(from_logits=True), CLASSES),
    "focal": (keras.losses.CategoricalFocalCrossentropy(from_logits=True), CLASSES),
    "smoothed": (
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        CLASSES,
    ),
    "in a list": ([CROSSENTROPY], Y),
    "function": (own, Y),
    "lambda": (lambda y_true, y_pred: OPS.mean(y_pred, -1), Y),
    "class": (OwnLoss(), Y),
    "partial": (
        functools.partial(keras.losses.categorical_crossentropy, from_logits=True),
        CLASSES,
    ),
    "hinge": (keras.losses.CategoricalHinge(), CLASSES),
    "TensorFlow's": (
        lambda y_true, y_pred: tf.nn.softmax_cross_entropy_with_logits(y_true, y_pred),
        CLASSES,
    ),
}


@pytest.fixture(scope="module")
def one_distiller():
    return distiller()


@pytest.mark.parametrize("name", LOSSES)
def test_losses(one_distiller, name):
    loss, labels = LOSSES[name]
    one_distiller.compile("sgd", loss, run_eagerly=True)
    assert np.isfinite(one_distiller.train_on_batch(X, labels, return_dict=True)["loss"])


def test_there_are_enough():
    assert len({**MODELS, **TEACHERS}) + len(DATA) >= 30
