"""Inputs in any form mean the same as in their plain form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import EnsembleDistiller, TeacherAdapter, TeacherEnsemble
from tools.refused import CROSSENTROPY, X, Y, distiller, net, refused, two_teachers

LAYERS = keras.layers
FAMILIES = ["resnet50", "vgg16", "mobilenet_v2", "densenet", "efficientnet", "inception_v3"]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3))


@pytest.fixture(scope="module")
def of_pixels():
    keras.utils.set_random_seed(0)
    pooling = LAYERS.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((4, 4, 3)), pooling, LAYERS.Dense(3)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_whole_pixels_are_preprocessed_as_floats(of_pixels, family, dtype):
    preprocess = getattr(keras.applications, family).preprocess_input
    ensemble = TeacherEnsemble(TeacherAdapter(of_pixels, preprocessing=preprocess))
    given = PIXELS.astype(dtype)
    kept = given.copy()
    inputs = preprocess(PIXELS.astype(np.float32))
    # The network by NumPy: a mean over the pixels, then a matrix.
    kernel, bias = of_pixels.get_weights()
    expected = np.asarray(inputs, np.float64).mean((1, 2)) @ kernel + bias
    for found in (ensemble.logits(given)[0], ensemble.logits(tf.constant(given))[0]):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_of_an_embedding_are_not_cast(dtype):
    seen = []

    def shifted(indices):
        seen.append(indices.dtype)
        return indices + 1

    keras.utils.set_random_seed(0)
    layers = [LAYERS.Embedding(2**24 + 4, 1), LAYERS.Flatten(), LAYERS.Dense(3)]
    words = keras.Sequential([keras.Input((2,), dtype=dtype), *layers])
    x = np.array([[1, 2], [2**24, 2**24 + 1]], dtype)  # float32 has no 2 ** 24 + 1
    found = TeacherAdapter(words, preprocessing=shifted)(x)
    np.testing.assert_array_equal(found, words(x + 1))
    assert np.abs(np.diff(np.asarray(words.layers[0](x))[1, :, 0])).max() > 0
    assert {tf.as_dtype(kind).name for kind in seen} == {dtype}


def joined(kind):
    """Two networks of one function, `[B, 2]` and `[B, 2]` to logits, in a form of inputs."""
    models = []
    for seed in (1, 2):
        inputs = [keras.Input((2,), name="left"), keras.Input((2,), name="right")]
        dense = LAYERS.Dense(3)
        outputs = dense(LAYERS.Concatenate()(inputs))
        structure = {"list": inputs, "tuple": tuple(inputs), "dict": None}[kind]
        structure = structure or {"left": inputs[0], "right": inputs[1]}
        models.append(keras.Model(structure, outputs))
        models[-1].set_weights(two_teachers()[seed - 1].get_weights())
    return TeacherEnsemble(models)


PARTS = {
    "list": lambda x: [x[:, :2], x[:, 2:]],
    "tuple": lambda x: (x[:, :2], x[:, 2:]),
    "dict": lambda x: {"left": x[:, :2], "right": x[:, 2:]},
}


@pytest.fixture(scope="module")
def plain():
    """What the ensemble says of the plain form, and its accuracies by NumPy."""
    ensemble = TeacherEnsemble(two_teachers())
    answers = np.stack([np.asarray(teacher(X)).argmax(-1) for teacher in two_teachers()])
    return ensemble, ensemble.predict(X), (answers == Y).mean(1)


@pytest.mark.parametrize("kind", PARTS)
def test_several_inputs(plain, kind):
    _, scores, accuracies = plain
    ensemble, parts = joined(kind), PARTS[kind](X)
    np.testing.assert_allclose(ensemble.predict(parts, batch_size=7), scores, rtol=1e-5)
    found = ensemble.evaluate(parts, Y, batch_size=7)["teachers"]
    np.testing.assert_allclose(found, accuracies, rtol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, size=7):
        super().__init__()
        self.size = size

    def __len__(self):
        return -(-len(X) // self.size)

    def __getitem__(self, index):
        rows = slice(self.size * index, self.size * (index + 1))
        return X[rows], Y[rows]


SOURCES = {
    "PyDataset": lambda: (Batches(),),
    "generator": lambda: ((Batches()[index] for index in range(4)),),
    "dataset": lambda: (tf.data.Dataset.from_tensor_slices((X, Y)).batch(7),),
    "tensors": lambda: (tf.constant(X), tf.constant(Y)),
    "one-hot labels": lambda: (X, np.eye(3)[Y]),
    "whole one-hot labels": lambda: (X, np.eye(3, dtype=int)[Y]),
    "one-hot tensors": lambda: (X, tf.one_hot(Y, 3)),
    "labels in a column": lambda: (X, Y[:, None]),
    "small labels": lambda: (X, Y.astype("uint8")),
}


@pytest.mark.parametrize("source", SOURCES)
def test_data_in_another_form(plain, source):
    ensemble, scores, accuracies = plain
    results = ensemble.evaluate(*SOURCES[source](), batch_size=7)
    np.testing.assert_allclose(results["teachers"], accuracies, rtol=1e-6)
    assert results == ensemble.evaluate(X, Y)
    if source in ("PyDataset", "generator", "dataset"):
        np.testing.assert_allclose(ensemble.predict(*SOURCES[source]()), scores, rtol=1e-5)


WRONG_LABELS = {
    "other classes": np.eye(4)[Y],
    "soft": np.full((24, 3), 1 / 3),
    "two at once": np.ones((24, 3)),
    "none at all": np.zeros((24, 3)),
    "floats": Y + 0.5,
    "text": np.array(["cat"] * 24),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_labels_that_are_no_classes(plain, kind):
    labels = WRONG_LABELS[kind]
    with refused(f"labels are {labels.dtype}", "one integer per example", "over 3 classes"):
        plain[0].evaluate(X, labels)


class Stop(keras.callbacks.Callback):
    """Stops a training as a crash would, after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            raise KeyboardInterrupt


def momentum():
    made = EnsembleDistiller(net(7), two_teachers(), weighting="average")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    made.compile(optimizer, CROSSENTROPY, run_eagerly=True)
    return made


def test_backup_and_restore_goes_on_bit_for_bit(tmp_path):
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(12)
    options = {"epochs": 3, "shuffle": False, "verbose": 0}
    whole = momentum()
    expected = whole.fit(batches, **options).history

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)

    with pytest.raises(KeyboardInterrupt):
        momentum().fit(batches, callbacks=[backup(), Stop()], **options)
    resumed = momentum()
    history = resumed.fit(batches, callbacks=[backup()], **options)
    assert history.epoch == [1, 2]
    assert history.history["loss"] == expected["loss"][1:]
    pairs = zip(resumed.get_weights(), whole.get_weights(), strict=True)
    variables = zip(resumed.optimizer.variables, whole.optimizer.variables, strict=True)
    for a, b in [*pairs, *variables]:
        np.testing.assert_array_equal(a, b)


def test_weights_load_into_a_new_distiller(tmp_path):
    given = distiller(net(7))
    given.train_on_batch(X, Y)
    given.save_weights(tmp_path / "a.weights.h5")
    new = distiller(net(8))
    new.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(new(X), given(X))
