"""Several replicas against one device: the same weights, metrics and teacher weights."""

import re
import shutil
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf.training.global_batch import SupervisedModel
from tools import replica_runs
from tools.forked import Forked
from tools.replica_runs import CASES, OF_WORKERS, network
from tools.scripts import script

pytestmark = pytest.mark.xdist_group("replicas")


def cluster(count):
    """The TF_CONFIG of each of so many local workers."""
    return script("tools/local_workers.py").cluster(count)


def start(kind, function, *arguments):
    """Starts it on two replicas: in one process, or in one for each worker."""
    if kind == "multi_worker":
        return [Forked(function, *arguments, TF_CONFIG=config) for config in cluster(2)]
    return [Forked(function, *arguments)]


def finish(processes):
    """Waits for them; what each wrote to stdout."""
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-3000:]
        outputs.append(output)
    return outputs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each strategy found, by its name and then by case and quantity."""
    directory = tmp_path_factory.mktemp("runs")
    found = {"none": replica_runs.trained(tf.distribute.get_strategy(), CASES)}
    for kind in ("mirrored", "multi_worker"):
        started = start(kind, replica_runs.main, kind, directory)
        finish(started)
        for process in started:
            with np.load(directory / f"{process.pid}.npz") as content:
                first = found.setdefault(kind, dict(content))
                assert all(np.array_equal(first[key], content[key]) for key in content)
    return found


@pytest.mark.parametrize(
    ("kind", "case"),
    [("mirrored", case) for case in CASES] + [("multi_worker", case) for case in OF_WORKERS],
)
def test_replicas_are_one_device(runs, kind, case):
    expected = {key: value for key, value in runs["none"].items() if key.startswith(f"{case}/")}
    assert any(re.search("teacher_weight_1", key) for key in expected)
    found = {key: value for key, value in runs[kind].items() if key.startswith(f"{case}/")}
    assert set(found) == set(expected)
    for key, value in expected.items():
        if case.startswith("overflow") and key.startswith(f"{case}/history/"):
            continue  # sums of numbers near 1e37
        np.testing.assert_allclose(found[key], value, rtol=1e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *(("none", "overflow"), ("none", "overflow_clipped")),
        *(("mirrored", "overflow"), ("mirrored", "overflow_clipped")),
        ("multi_worker", "overflow_clipped"),
    ],
)
def test_overflow_on_one_replica_skips_the_update_everywhere(runs, kind, case):
    """One batch of each epoch overflows, and halves the scale."""
    steps, initial_scale = 8, 2**15
    assert runs[kind][f"{case}/iterations"] == steps - 2
    assert runs[kind][f"{case}/scale"] == initial_scale / 4
    weights = [value for key, value in runs[kind].items() if key.startswith(f"{case}/weight/")]
    assert all(np.isfinite(value).all() for value in weights)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("jit_compile", "use jit_compile=False"),
        ("steps_per_execution", "use a larger batch"),
        ("gradient_accumulation_steps", "more replicas or a larger batch do the same"),
        ("ema_overwrite_frequency", "use use_ema alone"),
        ("mean_with_sample_weight", "use 'sum_over_batch_size'"),
    ],
)
def test_what_replicas_cannot_do_is_refused(runs, name, advice):
    message = str(runs["mirrored"][f"refused/{name}"])
    assert message.startswith("2 replicas: ")
    assert name in message
    assert advice in message


def test_cases_differ(runs, monkeypatch):
    """What the replicas agree on is a training that its settings tell from another."""
    settings, *others = CASES["full_hints"]
    monkeypatch.setitem(CASES, "mean_hints", ({**settings, "weighting": "mean"}, *others))
    monkeypatch.setattr(replica_runs, "ON_MAPS", ["mean_hints"])
    found = replica_runs.train(tf.distribute.get_strategy(), "mean_hints")
    expected = runs["none"]["full_hints/history/teacher_weight_0"]
    assert np.abs(found["history/teacher_weight_0"] - expected).max() > 1e-4


ARGUMENTS = [
    *("--ensemble_size=2", "--teacher_epochs=1", "--epochs=3", "--train_examples=200"),
    *("--batch_size=30", "--cache_views=1", "--methods=aekd", "--checkpoint_every=2"),
]


def run_command(kind, output_dir):
    """Starts the digits experiment on two replicas."""
    arguments = [*ARGUMENTS, f"--output_dir={output_dir}", f"--strategy={kind}"]
    return start(kind, replica_runs.command, arguments)


def wait_for_checkpoint(directory, processes):
    while not (directory / "students/aekd.checkpoint").exists():
        time.sleep(0.05)
        assert all(process.poll() is None for process in processes)


def finish_command(processes):
    """Waits for them; the chief alone reports."""
    outputs = finish(processes)
    assert ["written to" in output for output in outputs] == [True, False][: len(outputs)]


def writers(directory):
    """The processes that wrote event files of the student's training, by the files' names."""
    files = (directory / "logs/student_aekd/train").iterdir()
    return {int(file.name.split(".")[-3]) for file in files}


def delivered(directory):
    return keras.models.load_model(directory / "student.keras").get_weights()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run on two devices, and what a kill in the midst of it would have left."""
    directory = tmp_path_factory.mktemp("command")
    whole, broken = directory / "whole", directory / "broken"
    processes = run_command("mirrored", whole)
    wait_for_checkpoint(whole, processes)
    processes[0].send_signal(signal.SIGSTOP)
    shutil.copytree(whole, broken)
    processes[0].send_signal(signal.SIGCONT)
    finish_command(processes)
    assert writers(whole) == {processes[0].pid}
    assert not (broken / "student.keras").exists()
    return whole, broken


def assert_same_student(directory, expected):
    for found, value in zip(delivered(directory), delivered(expected), strict=True):
        np.testing.assert_array_equal(found, value)


def test_killed_run_on_devices_resumes_to_the_same_student(killed):
    whole, broken = killed
    finish_command(run_command("mirrored", broken))
    assert_same_student(broken, whole)


def test_killed_workers_resume_to_the_same_student(killed, tmp_path):
    """Two workers, one of whom is killed, train what two devices train, bit for bit."""
    chief, other = run_command("multi_worker", tmp_path)
    wait_for_checkpoint(tmp_path, [chief, other])
    other.send_signal(signal.SIGKILL)
    other.communicate()
    _, errors = chief.communicate(timeout=120)
    assert chief.returncode == 2
    assert "Traceback" not in errors
    assert "error: this worker lost the others" in errors
    assert "start all of them again" in errors
    assert not (tmp_path / "student.keras").exists()
    again = run_command("multi_worker", tmp_path)
    finish_command(again)
    assert writers(tmp_path) == {chief.pid, again[0].pid}
    assert_same_student(tmp_path, killed[0])


@pytest.fixture(scope="module")
def strategy():
    """Of one device: its scope is as much a scope as any."""
    return tf.distribute.MirroredStrategy(["CPU:0"])


def compiled(model, optimizer=None):
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


@pytest.mark.parametrize("outside", ["student", "teacher 1", "optimizer"])
def test_what_is_made_outside_the_scope_is_named(strategy, outside):
    parts = {
        "student": lambda: network(0, 4),
        "teacher 1": lambda: network(1, 4),
        "optimizer": lambda: keras.optimizers.SGD(0.1),
    }
    made = {outside: parts.pop(outside)()}
    with strategy.scope():
        made.update({name: make() for name, make in parts.items()})
        teachers = [network(2, 4), made["teacher 1"]]
        distiller = aekd_tf.EnsembleDistiller(made["student"], teachers)
        compiled(distiller, made["optimizer"])
    with pytest.raises(ValueError, match=rf"^the {outside} was made in another strategy's scope"):
        distiller.fit(np.zeros([8, 8, 8, 1]), np.zeros(8), verbose=0)


def test_distiller_made_outside_the_scope_it_is_fitted_in(strategy):
    distiller = compiled(aekd_tf.EnsembleDistiller(network(0, 4), [network(1, 4)]))
    with strategy.scope(), pytest.raises(ValueError, match="another strategy's scope"):
        distiller.fit(np.zeros([8, 8, 8, 1]), np.zeros(8), verbose=0)


def test_what_is_compiled_outside_the_scope_is_named(strategy):
    with strategy.scope():
        distiller = aekd_tf.EnsembleDistiller(network(0, 4), [network(1, 4)])
        optimizer = keras.optimizers.SGD(0.1)
    compiled(distiller, optimizer)
    with pytest.raises(ValueError, match=r"^the metrics was made in another strategy's scope"):
        distiller.fit(np.zeros([8, 8, 8, 1]), np.zeros(8), verbose=0)


def test_fit_before_compile_is_keras_own_refusal():
    distiller = aekd_tf.EnsembleDistiller(network(0, 4), [network(1, 4)])
    with pytest.raises(ValueError, match=r"must call `compile\(\)`"):
        distiller.fit(np.zeros([8, 8, 8, 1]), np.zeros(8), verbose=0)


def test_supervised_model_is_keras_own_training():
    images = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype(np.float32)
    labels = np.arange(40) % 5
    students = network(0, 4), network(0, 4)
    histories = [
        compiled(model, keras.optimizers.SGD(0.1, momentum=0.9)).fit(
            images, labels, epochs=2, batch_size=16, shuffle=False, verbose=0
        )
        for model in (students[0], SupervisedModel(students[1]))
    ]
    for found, expected in zip(students[1].get_weights(), students[0].get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for name, values in histories[0].history.items():
        np.testing.assert_allclose(histories[1].history[name], values, atol=1e-6)
