"""Teachers of one architecture share a traced graph, and nobody can tell by the results."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import TeacherAdapter, TeacherEnsemble, models
from aekd_tf.teachers.architecture import architecture
from aekd_tf.teachers.forwards import Forwards, own

L = keras.layers
SHAPE = (8, 8, 3)


def images(count=6, shape=SHAPE):
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


def convolutional(seed, activation="relu", **named):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input(SHAPE)
    x = L.BatchNormalization(**named)(L.Conv2D(4, 3, use_bias=False)(x))
    x = L.Activation(activation, name=activation)(x)
    model = keras.Model(inputs, L.Dense(5)(L.Flatten()(x)))
    norm = next(layer for layer in model.layers if isinstance(layer, L.BatchNormalization))
    norm.moving_mean.assign(np.random.default_rng(seed).normal(size=4))
    return model


def block(inputs):
    """One layer twice, a nested model, constants in the graph."""
    twice = L.Dense(4, activation="tanh")
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4), L.BatchNormalization()])
    x = twice(twice(inputs)) * np.float32(0.5) + 1.0
    return keras.Model(inputs, L.Dense(5)(L.concatenate([inner(x), x])))


def shared_layers(seed):
    keras.utils.set_random_seed(seed)
    return block(keras.Input((4,)))


def two_inputs(seed):
    keras.utils.set_random_seed(seed)
    left, right = keras.Input(SHAPE, name="left"), keras.Input((4,), name="right")
    x = L.concatenate([L.GlobalAveragePooling2D()(left), right])
    return keras.Model({"left": left, "right": right}, L.Dense(5)(x))


def text(seed):
    keras.utils.set_random_seed(seed)
    embedded = L.Embedding(20, 8, mask_zero=True)
    return keras.Sequential([keras.Input((7,), dtype="int32"), embedded, L.LSTM(6), L.Dense(5)])


def halved(seed):
    return TeacherAdapter(
        convolutional(seed), input_size=SHAPE[:2], preprocessing=L.Rescaling(0.5), class_map=[4, 0]
    )


def half(seed):
    keras.utils.set_random_seed(seed)
    with_policy = L.Dense(5, dtype="mixed_float16")
    return keras.Sequential([keras.Input((4,)), L.Dense(4), with_policy])


IMAGES, NUMBERS = images(), images(6, (4,))
CASES = {
    "convolutional": (convolutional, IMAGES),
    "shared_layers": (shared_layers, NUMBERS),
    "two_inputs": (two_inputs, {"left": IMAGES, "right": NUMBERS}),
    "text": (text, np.arange(42, dtype=np.int32).reshape(6, 7) % 9),
    "adapter": (halved, images(6, (5, 9, 3))),
    "half": (half, NUMBERS),
    "resnet8": (lambda seed: models.create("resnet8", 5, SHAPE), IMAGES),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_from_one_trace(monkeypatch, case, jit_compile):
    make, x = CASES[case]
    teachers = [make(seed) for seed in range(3)]
    x = keras.tree.map_structure(tf.constant, x)
    ensemble = TeacherEnsemble(teachers)
    shared = tf.function(ensemble.logits, autograph=False, jit_compile=jit_compile)
    monkeypatch.setattr(TeacherEnsemble, "_alike", lambda self, teacher: False)
    apart = tf.function(ensemble.logits, autograph=False, jit_compile=jit_compile)
    expected = apart(x).numpy()
    monkeypatch.undo()
    assert len({ensemble._forwards.kind(teacher) for teacher in teachers}) == 1
    np.testing.assert_array_equal(shared(x), expected)
    assert len({each.tobytes() for each in expected}) == 3


def test_one_trace_for_all(monkeypatch):
    teachers = [convolutional(seed) for seed in range(4)]
    ensemble = TeacherEnsemble(teachers)
    calls = []
    monkeypatch.setattr(
        "aekd_tf.teachers.forwards.own",
        lambda teacher, *args: calls.append(teacher) or own(teacher, *args),
    )
    for count in (6, 3, 6):
        assert ensemble.traced_logits(images(count)).shape == (4, count, 5)
    assert calls == teachers[:1]


def test_weights_of_later_count(tmp_path):
    """However they come: the graph reads the teachers' own variables."""
    teachers = [convolutional(seed) for seed in range(3)]
    ensemble = TeacherEnsemble(teachers)
    before = ensemble.traced_logits(IMAGES).numpy()
    other = convolutional(9)
    teachers[1].set_weights(other.get_weights())
    other.save_weights(tmp_path / "other.weights.h5")
    teachers[0].load_weights(tmp_path / "other.weights.h5")
    after = ensemble.traced_logits(IMAGES).numpy()
    for index in (0, 1):
        assert np.abs(after[index] - before[index]).max() > 0.01
        np.testing.assert_array_equal(after[0], after[index])
    np.testing.assert_array_equal(after[2], before[2])
    checkpoint = tf.train.Checkpoint(other)
    tf.train.Checkpoint(teachers[2]).restore(checkpoint.save(tmp_path / "other")).expect_partial()
    np.testing.assert_array_equal(ensemble.traced_logits(IMAGES)[2], after[0])


@pytest.mark.parametrize("hints", [None, "relu"])
def test_a_distiller_learns_the_same(monkeypatch, hints):
    def trained():
        student = convolutional(7)
        weight = 0.0 if hints is None else 0.5
        model = aekd_tf.EnsembleDistiller(
            student,
            [convolutional(s) for s in range(3)],
            weighting="aekd",
            hints=hints,
            hint_weight=weight,
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, jit_compile=False)
        model.fit(images(12), np.arange(12) % 5, batch_size=5, epochs=2, shuffle=False, verbose=0)
        return student.get_weights()

    shared = trained()
    monkeypatch.setattr(TeacherEnsemble, "_alike", lambda self, teacher: False)
    for ours, theirs in zip(shared, trained(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Scaled(L.Layer):
    """Not Keras's own: its configuration does not tell its factor."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


def dense(*before, **options):
    return keras.Sequential([keras.Input((4,)), *before, L.Dense(5, **options)])


def normalized(mean):
    return dense(L.Normalization(mean=mean, variance=1.0))


def adapted(values):
    layer = L.Normalization()
    layer.adapt(values)
    return dense(layer)


def of_variable(value):
    inputs = keras.Input((4,))
    factor = keras.Variable(value)
    return keras.Model(inputs, L.Dense(5)(inputs * factor.value))


def preprocessed(function):
    return TeacherAdapter(dense(), preprocessing=function)


def doubled(x):
    return 2 * x


DIFFERENT = {
    "activation with a layer's name": (convolutional(0, "relu"), convolutional(0, "tanh")),
    "epsilon": (convolutional(0), convolutional(0, epsilon=0.1)),
    "units": (dense(), keras.Sequential([keras.Input((4,)), L.Dense(4)])),
    "constants": (normalized(0.0), normalized(1.0)),
    "constants from data": (adapted(NUMBERS), adapted(NUMBERS + 1)),
    "functions": (preprocessed(doubled), preprocessed(lambda x: 3 * x)),
    "settings": (TeacherAdapter(dense()), TeacherAdapter(dense(), class_map=[1, 0])),
    "precision": (dense(L.Dense(4)), dense(L.Dense(4, dtype="mixed_bfloat16"))),
    "order": (dense(L.ReLU(), L.Softmax()), dense(L.Softmax(), L.ReLU())),
}
UNKNOWN = {
    "own layer": lambda: dense(Scaled(2.0)),
    "own activation": lambda: dense(activation=doubled),
    "code": lambda: dense(L.Lambda(doubled)),
    "replaced call": lambda: replaced(dense()),
    "state": lambda: keras.Sequential(
        [keras.Input(batch_shape=(6, 4, 1)), L.LSTM(3, stateful=True), L.Dense(5)]
    ),
}


def replaced(model):
    object.__setattr__(model.layers[-1], "call", lambda inputs: inputs)
    return model


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_is_told_apart(case):
    one, other = map(architecture, DIFFERENT[case])
    assert None not in (one, other)
    assert one != other


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_does_not_show_is_not_shared(case):
    assert architecture(UNKNOWN[case]()) is None


def test_what_does_not_differ():
    """Names, seeds and initializers have no part in what a trained model computes."""
    one = dense(L.Dense(4, name="a", kernel_initializer=keras.initializers.HeNormal(1)))
    other = dense(L.Dense(4, name="b", kernel_initializer=keras.initializers.HeNormal(2)))
    other.layers[0].trainable = False
    assert architecture(one) == architecture(other) is not None
    assert architecture(preprocessed(doubled)) == architecture(preprocessed(doubled)) is not None


def test_a_graph_that_needs_more_than_its_variables_is_not_shared(monkeypatch):
    """Even if the configurations did not tell such models apart."""
    monkeypatch.setattr("aekd_tf.teachers.forwards.architecture", lambda model: ("the same",))
    teachers = [of_variable(np.full(4, value, np.float32)) for value in (1.0, 5.0)]
    ensemble = TeacherEnsemble(teachers)
    expected = [teacher(NUMBERS, training=False) for teacher in teachers]
    np.testing.assert_allclose(ensemble.traced_logits(NUMBERS), expected, rtol=1e-5)
    assert list(ensemble._forwards._traced.values()) == [None]


def test_devices():
    """Under a strategy each replica reads its own copies."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        teachers = [convolutional(seed) for seed in range(3)]
    ensemble = TeacherEnsemble(teachers)
    found = strategy.run(tf.function(ensemble.logits, autograph=False), (tf.constant(IMAGES),))
    np.testing.assert_array_equal(found, ensemble.traced_logits(IMAGES))
    with strategy.scope():  # outside the replicas
        np.testing.assert_allclose(ensemble.raw_outputs(1, IMAGES), teachers[1](IMAGES), rtol=1e-5)


def test_models_are_not_kept():
    forwards, first = Forwards(), convolutional(0)
    forwards.shared(first, tf.constant(IMAGES))
    second = convolutional(1)
    forwards.shared(second, tf.constant(IMAGES))
    del second
    gc.collect()
    assert len(forwards._kinds) == 1
