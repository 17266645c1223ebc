"""What can go wrong around a run: kills, locks, full disks, files with code in them."""

import os
import resource
import signal
import time

import keras
import numpy as np
import pytest

from aekd_tf.experiments.command import output
from aekd_tf.training import fit
from tools import small_command
from tools.commands import SMALL, call, main
from tools.forked import Forked
from tools.small_runs import small_runs
from tools.stop_at import StopAt

pytestmark = pytest.mark.xdist_group("faults")


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with small_runs():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, for its teachers."""
    directory = tmp_path_factory.mktemp("faults")
    arguments = ["--ensemble_size=2", "--methods=alone", *SMALL, f"--output_dir={directory}"]
    assert call("digits", *arguments).returncode == 0
    return directory


def test_a_second_run_in_the_same_directory_is_refused(finished, tmp_path):
    arguments = ["--ensemble_size=2", *SMALL, f"--output_dir={tmp_path}"]
    arguments += [f"--teachers_dir={finished}/teachers", "--methods=alone"]
    assert call("digits", *arguments).returncode == 0
    with output.locked(str(tmp_path), "--output_dir"):
        started = time.monotonic()
        process = call("digits", *arguments)
        assert process.returncode == 2
        place = f"{tmp_path} is being written by process {os.getpid()} on "
        assert process.stderr.startswith(f"error: {place}")
        assert "choose another --output_dir" in process.stderr
        assert time.monotonic() - started < 60
    # The file is still there, as after a crash; its lock is not.
    assert (tmp_path / ".lock").exists()
    assert call("digits", *arguments).returncode == 0


def test_a_teacher_with_code_in_its_file(tmp_path):
    own = tmp_path / "own.keras"
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Lambda(lambda x: x * 2)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, keras.layers.Dense(10)(hidden)).save(own)
    arguments = [f"--teachers={own}", f"--output_dir={tmp_path}/run", *SMALL, "--methods=aekd"]
    process = call("digits", *arguments)
    assert process.returncode == 2
    assert "contains Python code (a Lambda layer)" in process.stderr
    assert "give --trust_teachers" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert call("digits", *arguments, "--trust_teachers").returncode == 0


def run_on_a_full_disk(arguments):
    """A file system that is as good as full: no file may grow beyond 100 KB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    return main("digits", arguments)


def test_a_full_disk_is_one_line(finished, tmp_path):
    arguments = ["--ensemble_size=2", *SMALL, f"--output_dir={tmp_path}", "--checkpoint_every=1"]
    arguments += [f"--teachers_dir={finished}/teachers", f"--cache_dir={tmp_path}/cache"]
    # Compiled programs would be larger files.
    process = Forked(run_on_a_full_disk, arguments, TF_XLA_FLAGS="")
    _, errors = process.communicate()
    lines = errors.replace("\r", "\n").strip().splitlines()
    assert process.returncode == 2, errors
    assert lines[-1].startswith("error: ")
    assert "File too large" in lines[-1]
    assert "Traceback" not in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_within_a_librarys_code(capsys, monkeypatch, tmp_path, number, code):
    """Code in C may turn the exception that a signal raises into one of its own."""

    def run(config):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except BaseException:
            raise SystemError("bad argument to internal function") from None

    monkeypatch.setattr("aekd_tf.experiments.run.distillation.run", run)
    assert main("digits", [f"--output_dir={tmp_path}/run"]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["stopped: run the same command again to go on"]


def delivered(directory):
    return keras.models.load_model(directory / "student.keras").get_weights()


def test_a_run_killed_three_times_ends_as_if_never_killed(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["--ensemble_size=2", "--teacher_epochs=2", "--epochs=6", "--train_examples=300"]
    arguments += ["--batch_size=30", "--cache_views=2", "--methods=aekd", "--checkpoint_every=2"]
    assert call("digits", *arguments, f"--output_dir={whole}").returncode == 0
    arguments.append(f"--output_dir={broken}")
    # In the second teacher, 25 = 20 + 5, and in the student, whose 60 steps follow the 16 left.
    for number, code, steps in ((signal.SIGTERM, 143, 25), (signal.SIGINT, 130, 16 + 7)):
        with monkeypatch.context() as context:
            stop = StopAt(steps, number)
            context.setattr(fit, "ProgressBar", lambda *given, stop=stop: stop)
            assert call("digits", *arguments).returncode == code
    # The checkpoint of the interrupted student becomes the previous one when the next is written.
    previous = broken / "students" / "aekd.checkpoint.previous"
    written = previous.stat().st_mtime_ns
    process = Forked(small_command.run, "digits", arguments)
    while previous.stat().st_mtime_ns == written:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (broken / "student.keras").exists()
    assert call("digits", *arguments).returncode == 0
    for found, expected in zip(delivered(broken), delivered(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
