import dataclasses
import os
import signal
import types

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aekd_tf import CachedTeachers, EnsembleDistiller, data, models, quantize_aware
from aekd_tf.checks import parse_interval
from aekd_tf.experiments.command.presets import recipe
from aekd_tf.training import checkpoint, fit
from aekd_tf.training.best_epoch import BestEpoch
from aekd_tf.training.checkpoint import CheckpointError
from aekd_tf.training.global_batch import SupervisedModel
from aekd_tf.training.resume import DivergedError, Resumable
from aekd_tf.training.stop import SIGNALS, Stopped
from tools.small_runs import small_runs
from tools.stop_at import StopAt

ARRAYS = [np.arange(5000, dtype=np.float32), np.array(3, np.int64), np.zeros((2, 0, 3))]
OLDER, NEWER = {"step": 1}, {"step": 2}


@pytest.fixture
def saved(tmp_path):
    path = str(tmp_path / "a.checkpoint")
    checkpoint.save(path, OLDER, ARRAYS[:1])
    checkpoint.save(path, NEWER, ARRAYS)
    return path


def test_what_is_saved_is_read(saved):
    content, arrays, warnings = checkpoint.load(saved)
    assert content == NEWER
    assert warnings == []
    for found, expected in zip(arrays, ARRAYS, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    checkpoint.remove(saved)
    assert checkpoint.load(saved) is None


def check_fallback(saved, content):
    """A damaged file gives the previous one, by name."""
    with open(saved, "wb") as file:
        file.write(content)
    found, arrays, warnings = checkpoint.load(saved)
    assert found == OLDER
    assert len(arrays) == 1
    assert len(warnings) == 1
    assert saved in warnings[0]


def test_a_truncated_file_gives_the_previous(saved):
    with open(saved, "rb") as file:
        whole = file.read()
    for length in range(0, len(whole), 1024):
        check_fallback(saved, whole[:length])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_gives_the_previous(saved, position, flip):
    checkpoint.save(saved, OLDER, ARRAYS[:1])
    checkpoint.save(saved, NEWER, ARRAYS)
    with open(saved, "rb") as file:
        content = bytearray(file.read())
    content[int(position * len(content))] ^= flip
    check_fallback(saved, bytes(content))


@given(junk=st.binary(max_size=300))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_alone_is_refused(tmp_path, junk):
    path = str(tmp_path / "junk.checkpoint")
    with open(path, "wb") as file:
        file.write(junk)
    with pytest.raises(CheckpointError, match=r"junk\.checkpoint is damaged") as error:
        checkpoint.load(path)
    assert "delete it" in str(error.value)


def test_a_write_that_fails_leaves_what_was_there(saved, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(saved, {"step": 3}, ARRAYS)
    assert checkpoint.load(saved)[0] == NEWER
    assert sorted(os.listdir(os.path.dirname(saved))) == ["a.checkpoint", "a.checkpoint.previous"]


@pytest.fixture(scope="module")
def dataset():
    return data.load("digits", train_examples=70)


@pytest.fixture(autouse=True)
def small_networks():
    with small_runs():
        yield


def trained(
    dataset, directory, monkeypatch, stop=0, hints=False, identity=None, execution=1, **options
):
    """Weights and history of a student after three epochs of three steps."""
    keras.utils.set_random_seed(1)
    teachers = [models.create("resnet8", 10, (8, 8, 1)) for _ in range(2)]
    student = models.create("resnet8", 10, (8, 8, 1))
    hinted = {"hints": "stage2", "hint_weight": 1.0} if hints else {}
    model = EnsembleDistiller(student, teachers, **hinted)
    with monkeypatch.context() as context:
        # A callback before the one that saves.
        context.setattr(fit, "ProgressBar", lambda *args: StopAt(stop))
        usual = recipe("digits", "resnet8", teacher=False)
        training = fit.Training(
            label="student",
            epochs=3,
            batch_size=32,
            seed=5,
            learning_rate=0.05,
            milestones=usual["milestones"],
            l2=usual["l2"],
            checkpoint=str(directory / "student.checkpoint"),
            identity=identity or {"seed": 5},
            checkpoint_every="60min",
            log_dir=str(directory / "logs"),
            steps_per_execution=execution,
            **options,
        )
        history, best = fit.train(model, student, dataset, training)
    return [*model.get_weights(), *best.restored().get_weights()], history


def test_a_stopped_training_goes_on_bit_for_bit(dataset, tmp_path, monkeypatch):
    """With hints, whose regressors go on, too."""
    expected, history = trained(dataset, tmp_path, monkeypatch, hints=True)
    # In the middle of an epoch, twice, and at the end of one.
    with SIGNALS.caught():
        for stop, position in ((1, "step 1 of 9"), (2, "step 3 of 9"), (2, "step 5 of 9")):
            with pytest.raises(Stopped) as stopped:
                trained(dataset, tmp_path, monkeypatch, stop, hints=True)
            assert stopped.value.signal == signal.SIGTERM
            assert position in str(stopped.value)
            SIGNALS.received = None
    # The last step of the second epoch, then whole epochs: as executions of several steps, too.
    found, resumed = trained(dataset, tmp_path, monkeypatch, hints=True, execution=None)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert resumed == history


@pytest.mark.parametrize(
    ("shape", "every", "replicas", "aware", "width", "teachers", "expected"),
    [
        ((8, 8, 1), "10min", 1, False, 100, None, 19),
        ((8, 8, 1), "10", 1, False, 100, None, 1),  # 19 is prime, and more than 10 steps
        ((8, 8, 1), "10min", 2, False, 100, None, 1),
        ((8, 8, 1), "10min", 1, True, 100, None, 1),
        ((40, 40, 1), "10min", 1, False, 100, None, 1),
        ((8, 8, 1), "10min", 1, False, 9000, None, 1),
        ((8, 8, 1), "10min", 1, False, 100, CachedTeachers(10), 19),
        ((8, 8, 1), "10min", 1, False, 100, 200, 19),
        ((8, 8, 1), "10min", 1, False, 100, 9000, 1),
    ],
)
def test_executions_are_long_where_steps_are_short(
    monkeypatch, shape, every, replicas, aware, width, teachers, expected
):
    split = data.Split(np.zeros((19 * 64, *shape), np.uint8), np.zeros(19 * 64, np.int64))
    numbers = {"num_classes": 10, "mean": (0.0,), "std": (1.0,), "crop_padding": 0, "flip": False}
    tiny = data.Dataset("tiny", train=split, validation=split, test=split, **numbers)
    training = fit.Training("", 1, 64, 0, 0.1, (), 0.0, "", {}, every)

    def network(width):
        dense = [keras.layers.Dense(width), keras.layers.Dense(10)]
        return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), *dense])

    student = quantize_aware(network(width)) if aware else network(width)
    model = SupervisedModel(student)
    if teachers is not None:
        online = isinstance(teachers, int)
        model = EnsembleDistiller(student, [network(teachers)] if online else teachers)
    several = types.SimpleNamespace(num_replicas_in_sync=replicas)
    monkeypatch.setattr(type(model), "distribute_strategy", several)
    assert fit._execution(model, student, tiny, training) == expected
    asked = dataclasses.replace(training, steps_per_execution=7)
    assert fit._execution(model, student, tiny, asked) == 7


def test_another_training_is_refused_by_the_difference(dataset, tmp_path, monkeypatch):
    with SIGNALS.caught(), pytest.raises(Stopped):
        trained(dataset, tmp_path, monkeypatch, stop=1)
    SIGNALS.received = None
    with pytest.raises(CheckpointError, match=r"student: .*with seed=5 \(now 6\): delete it"):
        trained(dataset, tmp_path, monkeypatch, identity={"seed": 6})


def test_a_loss_that_is_not_finite_stops_the_training(dataset, tmp_path, monkeypatch):
    create = models.create

    def broken(*args):
        network = create(*args)
        # Not the inputs: some processors' fused layers make zeros of what is not a number.
        network.layers[-1].bias.assign(np.full(10, np.nan))
        return network

    monkeypatch.setattr(models, "create", broken)
    with pytest.raises(
        DivergedError, match=r"student: not finite at step 1 \(epoch 1\): student_loss"
    ) as error:
        trained(dataset, tmp_path, monkeypatch)
    assert "no checkpoint was made" in str(error.value)


@pytest.mark.parametrize("always", [False, True])
def test_an_overflow_of_half_precision_does_not_stop_the_training(tmp_path, always):
    """Its update is left out, unless no scale of the loss is small enough."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    network.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = np.ones([32, 4], np.float32), np.zeros(32)
    images[8 : 32 if always else 9] = np.inf
    best = BestEpoch(network)
    resumable = Resumable(str(tmp_path / "c"), {}, best, 4, 1, (100, None))
    before = network.get_weights()

    def fit():
        network.fit(
            *(images, labels),
            batch_size=8,
            shuffle=False,
            validation_data=(np.ones([8, 4]), np.zeros(8)),
            callbacks=[best, resumable],
            verbose=0,
        )

    if always:
        with pytest.raises(DivergedError, match=r"not finite at step 3"):
            fit()
    else:
        fit()
        assert keras.ops.convert_to_numpy(network.optimizer.dynamic_scale) == 1.0
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    assert any(np.any(a != b) for a, b in zip(network.get_weights(), before, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"), [("500", (500, None)), ("10min", (None, 600.0)), ("30s", (None, 30.0))]
)
def test_intervals(text, expected):
    assert parse_interval(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-3", "10 min", "1h", "0min", "1.5"])
def test_bad_intervals(text):
    with pytest.raises(ValueError, match="give a number of steps, or a time such as 10min"):
        parse_interval(text)
