"""Outputs that are probabilities are refused before anything is updated."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import CachedTeachers, TeacherAdapter, TeacherEnsemble
from tools.refused import X, Y, distiller, net, passes, refused, two_teachers


class Squashed(keras.Model):
    """Hides a function behind a network in its `call`."""

    def __init__(self, function, dtype=None, classes=3):
        super().__init__(name="hidden")
        self.inner = net(3, classes=classes, dtype=dtype)
        self.function = function

    def call(self, inputs):
        return self.function(self.inner(inputs))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def after(*tail, dtype=None):
    """A functional model: a network, then functions or layers."""
    inputs = keras.Input((4,))
    tensor = net(3, dtype=dtype)(inputs)
    for function in tail:
        tensor = function(tensor)
    return keras.Model(inputs, tensor, name="visible")


def by_hand(logits):
    exponent = keras.ops.exp(logits)
    return exponent / keras.ops.sum(exponent, -1, keepdims=True)


def mean_of_two(logits):
    return (keras.ops.softmax(logits) + keras.ops.softmax(2 * logits)) / 2


LAYERS = keras.layers
VISIBLE = {
    "layer": lambda: after(LAYERS.Softmax()),
    "activation layer": lambda: after(LAYERS.Activation("softmax")),
    "name of an activation": lambda: net(3, "softmax"),
    "tf.nn": lambda: net(3, tf.nn.softmax),
    "keras.ops": lambda: after(keras.ops.softmax),
    "keras.activations": lambda: after(keras.activations.softmax),
    "before a cast": lambda: after(keras.ops.softmax, lambda x: keras.ops.cast(x, "float16")),
    "before a linear layer": lambda: after(LAYERS.Softmax(), LAYERS.Activation("linear")),
    "before a reshape": lambda: after(LAYERS.Softmax(), LAYERS.Reshape((3,))),
    "in a nested model": lambda: after(keras.Sequential([LAYERS.Dense(3), LAYERS.Softmax()])),
}
HIDDEN = {
    "in call": lambda: Squashed(keras.ops.softmax),
    "tf.nn in call": lambda: Squashed(tf.nn.softmax),
    "a layer in call": lambda: Squashed(LAYERS.Softmax()),
    "by hand": lambda: after(by_hand),
    "mean of two": lambda: after(mean_of_two),
    "permuted": lambda: after(keras.ops.softmax, lambda x: keras.ops.take(x, [2, 0, 1], -1)),
    "float16": lambda: Squashed(keras.ops.softmax, "mixed_float16"),
    "bfloat16": lambda: Squashed(keras.ops.softmax, "mixed_bfloat16"),
    "bfloat16, cast": lambda: Squashed(
        lambda x: keras.ops.cast(keras.ops.softmax(x), "float32"), "mixed_bfloat16"
    ),
    "float16, 1000 classes": lambda: Squashed(keras.ops.softmax, "mixed_float16", 1000),
}
SIGMOIDS = {
    "name of an activation": lambda: net(3, "sigmoid"),
    "activation layer": lambda: after(LAYERS.Activation("sigmoid")),
    "tf.nn": lambda: net(3, tf.nn.sigmoid),
    "keras.ops": lambda: after(keras.ops.sigmoid),
    "before a cast and a reshape": lambda: after(
        keras.ops.sigmoid, lambda x: keras.ops.cast(x, "float32"), LAYERS.Reshape((3,))
    ),
}


@pytest.mark.parametrize("how", [*VISIBLE, *HIDDEN])
def test_a_student_that_ends_in_a_softmax(how):
    student = {**VISIBLE, **HIDDEN}[how]()
    classes = 1000 if "1000" in how else 3
    given = distiller(student, two_teachers(classes))
    before = student.get_weights()
    with refused(f"student {student.name} ends in a softmax", "remove the softmax", "from_logits"):
        given.train_on_batch(X, Y)
    for now, then in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert int(given.optimizer.iterations) == 0


@pytest.mark.parametrize("how", VISIBLE)
def test_a_teacher_whose_graph_shows_a_softmax(how):
    teacher = VISIBLE[how]()
    named = f"teacher 1 ({teacher.name}) ends in a softmax or sigmoid"
    with refused(named, "outputs='probabilities'"):
        TeacherEnsemble([*two_teachers()[:1], teacher])
    with refused(f"teacher 0 ({teacher.name}_adapted)"):
        TeacherEnsemble([TeacherAdapter(teacher)])
    passes(None, [TeacherAdapter(teacher, outputs="probabilities")])


@pytest.mark.parametrize("how", HIDDEN)
def test_a_teacher_that_hides_its_softmax(how):
    teacher = HIDDEN[how]()
    classes = 1000 if "1000" in how else 3
    student, other = net(7, classes=classes), two_teachers(classes)[0]
    before = student.get_weights()
    with refused(f"teacher 1 ({teacher.name}) ends in a softmax", "outputs='probabilities'"):
        passes(student, [other, teacher])
    np.testing.assert_array_equal(student.get_weights()[0], before[0])
    passes(student, [TeacherAdapter(teacher, outputs="probabilities")])


@pytest.mark.parametrize("how", SIGMOIDS)
def test_a_sigmoid(how):
    model = SIGMOIDS[how]()
    with refused(f"student {model.name} ends in a sigmoid", "remove the sigmoid"):
        passes(model)
    for teacher in (model, TeacherAdapter(model), TeacherAdapter(model, outputs="probabilities")):
        with refused(f"teacher 1 ({teacher.name})", "independent labels"):
            TeacherEnsemble([*two_teachers()[:1], teacher])


def test_no_sigmoid_is_told_to_be_declared_as_probabilities():
    """A sigmoid's logarithms are no logits of classes."""
    hidden = TeacherAdapter(Squashed(keras.ops.sigmoid), outputs="probabilities")
    for make in (
        lambda: TeacherEnsemble([net(1, "sigmoid")]),
        lambda: TeacherEnsemble([TeacherAdapter(net(1, "sigmoid"), outputs="probabilities")]),
        lambda: passes(None, [hidden]),
    ):
        with pytest.raises(ValueError, match="independent labels") as raised:
            make()
        assert "outputs='probabilities'" not in str(raised.value)


@pytest.mark.parametrize(
    "model",
    [net(4), Squashed(lambda x: 3 * x), after(keras.ops.log_softmax)],
    ids=["sequential", "subclass", "log-probabilities"],
)
def test_an_adapter_that_declares_logits_to_be_probabilities(model):
    adapter = TeacherAdapter(model, outputs="probabilities")
    with refused(f"teacher 1 ({adapter.name})", "gives logits", "leave outputs out"):
        passes(None, [*two_teachers()[:1], adapter])
    passes(None, [net(1), TeacherAdapter(model)])


def test_cached_probabilities():
    logits = np.stack([teacher(X) for teacher in two_teachers()], 1)
    soft = np.array(keras.ops.softmax(logits))
    wrong = {
        0: soft,
        1: np.stack([logits[:, 0], soft[:, 1]], 1),
    }
    for index, outputs in wrong.items():
        for dtype in (np.float32, np.float16):
            with refused(f"teacher_logits of teacher {index}", "give logits"):
                cached = {"inputs": X, "teacher_logits": outputs.astype(dtype)}
                passes(None, CachedTeachers(2), x=cached)
    for outputs in (logits, np.log(soft)):
        passes(None, CachedTeachers(2), x={"inputs": X, "teacher_logits": outputs})
    # Also when the same distiller went without them before.
    given = distiller()
    given.train_on_batch(X, Y)
    with refused("teacher_logits of teacher 0"):
        given.fit({"inputs": X, "teacher_logits": soft}, Y, verbose=0)


def generator():
    while True:
        yield X[:8], Y[:8]
        yield X[8:16], Y[8:16]
        yield X[16:], Y[16:]


PLAIN = {"shuffle": False, "verbose": 0, "steps_per_epoch": 3}
DOORS = {
    "arrays": lambda d: d.fit(X, Y, **PLAIN, batch_size=8),
    "dataset": lambda d: d.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), **PLAIN),
    "PyDataset": lambda d: d.fit(Batches(), **PLAIN),
    "generator": lambda d: d.fit(generator(), **PLAIN),
    "train_on_batch": lambda d: d.train_on_batch(X, Y),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_twice_and_updates_nothing(door):
    teacher = Squashed(keras.ops.softmax)
    student = net(7)
    given = distiller(student, [teacher])
    before = student.get_weights()
    for _ in range(2):
        with refused("teacher 0 (hidden) ends in a softmax"):
            DOORS[door](given)
    for now, then in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert int(given.optimizer.iterations) == 0


def test_looking_at_the_first_batch_does_not_use_it_up():
    trained = {}
    for door in ("arrays", "dataset", "PyDataset", "generator"):
        given = distiller(net(7))
        DOORS[door](given)
        assert int(given.optimizer.iterations) == 3
        trained[door] = given.student.get_weights()
    for found in trained.values():
        for a, b in zip(found, trained["dataset"], strict=True):
            np.testing.assert_array_equal(a, b)


K = keras.losses
ONE_HOT = np.eye(3, dtype=np.float32)[Y]
PROBABILITIES = {
    "string": "sparse_categorical_crossentropy",
    "another string": "categorical_crossentropy",
    "string of a class": "SparseCategoricalCrossentropy",
    "function": K.sparse_categorical_crossentropy,
    "class": K.SparseCategoricalCrossentropy(),
    "categorical": K.CategoricalCrossentropy(label_smoothing=0.1),
    "focal": K.CategoricalFocalCrossentropy(),
    "partial": functools.partial(K.categorical_crossentropy, label_smoothing=0.1),
    "in a list": [K.SparseCategoricalCrossentropy()],
    "divergence": K.KLDivergence(),
    "string of a divergence": "kl_divergence",
}
LABELS = {
    "class": K.BinaryCrossentropy(from_logits=True),
    "focal": K.BinaryFocalCrossentropy(from_logits=True),
    "string": "binary_crossentropy",
    "function": K.binary_crossentropy,
}
REGRESSION = {
    "class": K.MeanSquaredError(),
    "huber": K.Huber(),
    "string": "mse",
    "absolute": "mae",
    "function": K.mean_squared_error,
}
KINDS = {
    "takes probabilities": (PROBABILITIES, "from_logits=True"),
    "does not fit independent labels": (LABELS, "independent labels"),
    "does not fit regression": (REGRESSION, "regression"),
}


@pytest.fixture(scope="module")
def one_distiller():
    return distiller(net(7))


@pytest.mark.parametrize(
    ("kind", "how"), [(kind, how) for kind, (losses, _) in KINDS.items() for how in losses]
)
def test_losses_that_do_not_fit(one_distiller, kind, how):
    losses, advice = KINDS[kind]
    before = one_distiller.student.get_weights()[0]
    one_distiller.compile("sgd", losses[how], run_eagerly=True)
    with refused("the compiled loss", kind, advice):
        one_distiller.train_on_batch(X, ONE_HOT)
    np.testing.assert_array_equal(one_distiller.student.get_weights()[0], before)


class Mine(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.sum(y_pred, -1)


class SmoothedCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Takes logits whatever its parent's option says."""

    def call(self, y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def own(y_true, y_pred):
    return keras.ops.sum(keras.ops.square(y_pred), -1)


@pytest.mark.parametrize(
    "loss",
    [
        Mine(),
        SmoothedCrossentropy(),
        own,
        functools.partial(K.sparse_categorical_crossentropy, from_logits=True),
        K.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2),
    ],
    ids=["class", "subclass", "function", "partial", "ignores a class"],
)
def test_losses_that_pass(one_distiller, loss):
    one_distiller.compile("sgd", loss, run_eagerly=True)
    assert np.isfinite(one_distiller.train_on_batch(X, Y, return_dict=True)["loss"])


def test_another_loss_is_looked_at_too():
    given = distiller()
    given.train_on_batch(X, Y)
    given.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    with refused("the compiled loss 'sparse_categorical_crossentropy' takes probabilities"):
        given.train_on_batch(X, Y)
