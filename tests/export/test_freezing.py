"""Ranges stand still for the last tenth of a training, wherever it was interrupted."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import data
from aekd_tf.export.fake_quantization import FakeQuantization
from aekd_tf.export.freezing import FreezeRanges
from aekd_tf.training import fit
from aekd_tf.training.stop import SIGNALS, Stopped

L = keras.layers
CLASSES = 10


def network(seed):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 1))
    x = L.BatchNormalization(momentum=0.9)(L.Conv2D(4, 3, 2, use_bias=False)(x))
    x = L.ReLU(name="stage2")(x)
    return keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def teachers():
    return [network(1), network(2)]


@pytest.fixture(scope="module")
def dataset():
    return data.load("digits", train_examples=100, validation_examples=20)


def distiller(teachers, **options):
    hinted = {"weighting": "average", "hints": "stage2", "hint_weight": 1.0}
    student = aekd_tf.quantize_aware(network(0))
    return aekd_tf.EnsembleDistiller(student, teachers, **{**hinted, **options})


class Watch(keras.callbacks.Callback):
    """Records after each step how many layers are frozen, and all moving statistics."""

    def __init__(self):
        super().__init__()
        self.frozen, self.statistics = [], []

    def on_train_batch_end(self, batch, logs=None):
        layers = self.model.student.layers
        layers = [layer for layer in layers if isinstance(layer, FakeQuantization)]
        switches = {id(layer.frozen) for layer in layers}
        self.frozen.append(sum(float(layer.frozen.numpy()) for layer in layers) / len(layers))
        moving = self.model.student.non_trainable_variables
        self.statistics.append([v.numpy() for v in moving if id(v) not in switches])

    def moved(self):
        """Which steps changed a statistic, from the second on."""
        pairs = zip(self.statistics, self.statistics[1:], strict=False)
        return [any(np.any(a != b) for a, b in zip(*pair, strict=True)) for pair in pairs]


class Switches(keras.callbacks.Callback):
    """Records the switch of a layer after each execution."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.frozen = layer, []

    def on_train_batch_end(self, batch, logs=None):
        self.frozen.append(float(self.layer.frozen.numpy()))


@pytest.mark.parametrize(
    ("steps_per_execution", "epochs", "frozen"),
    [(7, 2, [0, 0, 0, 1]), (10, 2, [0, 1]), (10, 1, [0]), (9, 1, [0, 1])],
)
def test_an_execution_is_frozen_whole(capsys, steps_per_execution, epochs, frozen):
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    model = aekd_tf.quantize_aware(student)
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution, jit_compile=False)
    layer = next(each for each in model.layers if isinstance(each, FakeQuantization))
    switches = Switches(layer)
    x, y = np.ones((40, 3), np.float32), np.ones((40, 2), np.float32)
    callbacks = [FreezeRanges(), switches]
    model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks)
    assert switches.frozen == frozen
    said = "warning: all steps are one execution, so no step trains with frozen ranges"
    assert (said in capsys.readouterr().err) == (1 not in frozen)


def test_statistics_stand_still_for_the_last_tenth(teachers, dataset, tmp_path):
    """Also with steps per execution, and a distiller with hints is saved as it is."""
    steps_per_execution = 2
    model = distiller(teachers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, steps_per_execution=steps_per_execution, jit_compile=False)
    watch = Watch()
    images, labels = dataset.train.images[:40], dataset.train.labels[:40]
    model.fit(images, labels, batch_size=4, epochs=2, verbose=0, callbacks=[watch])
    calls = 20 // steps_per_execution
    last = 2 // steps_per_execution
    assert watch.frozen == [0.0] * (calls - last) + [1.0] * last
    assert watch.moved() == [True] * (calls - last - 1) + [False] * last
    # Later trainings may move them again.
    assert all(
        float(layer.frozen.numpy()) == 0
        for layer in model.student.layers
        if isinstance(layer, FakeQuantization)
    )
    model.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.student.quantize_aware_bits == 8
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # which Keras says once
def test_unknown_steps_are_counted_or_named(teachers, dataset, capsys):
    model = distiller(teachers, hints=None, hint_weight=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batch = dataset.train.images[:4], dataset.train.labels[:4]

    def batches():
        yield from [batch] * 5

    signature = tuple(tf.TensorSpec((4, *part.shape[1:]), part.dtype) for part in batch)
    unknown = tf.data.Dataset.from_generator(batches, output_signature=signature)
    for epochs, last in ((1, 0), (2, 1)):
        watch = Watch()
        model.fit(unknown, epochs=epochs, shuffle=False, verbose=0, callbacks=[watch])
        assert watch.frozen == [0.0] * (5 * epochs - last) + [1.0] * last
        assert capsys.readouterr().err.count("give steps_per_epoch") == (epochs == 1)


class StopAt(keras.callbacks.Callback):
    """Sends SIGTERM at a step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def trained(teachers, dataset, directory, stop=0):
    """All weights after 4 epochs of 5 steps, of which the last two are frozen."""
    model, watch = distiller(teachers, hints=None, hint_weight=0), Watch()
    training = fit.Training(
        label="student",
        epochs=4,
        batch_size=20,
        seed=5,
        learning_rate=0.05,
        milestones=(0.5,),
        l2=1e-4,
        checkpoint=str(directory / "student.checkpoint"),
        identity={},
        checkpoint_every="60min",
        progress=False,
    )
    callbacks = [watch, StopAt(stop)]
    _, best = fit.train(model, model.student, dataset, training, callbacks=callbacks)
    return [*model.get_weights(), *best.restored().get_weights()], watch


@pytest.mark.slow
def test_a_stopped_training_goes_on_bit_for_bit(teachers, dataset, tmp_path):
    expected, watch = trained(teachers, dataset, tmp_path)
    assert watch.frozen == [0.0] * 18 + [1.0] * 2
    assert watch.moved() == [True] * 17 + [False] * 2
    with SIGNALS.caught(), pytest.raises(Stopped):
        trained(teachers, dataset, tmp_path, stop=19)
    SIGNALS.received = None
    found, watch = trained(teachers, dataset, tmp_path)
    assert watch.frozen == [1.0]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_its_own_callback_takes_precedence(teachers, dataset):
    model, watch = distiller(teachers, hints=None, hint_weight=0), Watch()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = dataset.train.images[:20], dataset.train.labels[:20]
    freezing = FreezeRanges(epochs=1, steps_per_epoch=40, skipped=35)
    model.fit(images, labels, batch_size=4, verbose=0, callbacks=[freezing, watch])
    assert watch.frozen == [0.0, 1.0, 1.0, 1.0, 1.0]
