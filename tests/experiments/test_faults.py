"""What can go wrong around a run: kills, locks, full disks, files with code in them."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import pytest

from aekd_tf.experiments.command import output
from tools import kill_runs
from tools.commands import SMALL, call, main

pytestmark = pytest.mark.xdist_group("faults")


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


def test_a_full_disk_is_one_line(finished, tmp_path):
    # A file system that is as good as full: no file may grow beyond 100 KB.
    limited = ["bash", "-c", 'ulimit -f 100; trap "" XFSZ; exec "$@"', "bash", sys.executable]
    process = subprocess.run(
        [
            *limited,
            "-m",
            "aekd_tf.experiments.digits",
            "--ensemble_size=2",
            *SMALL,
            f"--output_dir={tmp_path}",
            f"--teachers_dir={finished}/teachers",
            f"--cache_dir={tmp_path}/cache",
            "--checkpoint_every=1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = process.stderr.replace("\r", "\n").strip().splitlines()
    assert process.returncode == 2, process.stderr
    assert lines[-1].startswith("error: ")
    assert "File too large" in lines[-1]
    assert "Traceback" not in process.stderr


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


def test_killed_runs_end_as_if_never_killed(tmp_path):
    chance = random.Random(1)
    started = time.monotonic()
    expected = kill_runs.finish(str(tmp_path / "whole"))
    lasts = time.monotonic() - started
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        run = str(tmp_path / number.name)
        # After the start, and well before the end; a run that was faster does not count.
        moment, found = chance.uniform(0.4, 0.7) * lasts, 0
        while found == 0:
            shutil.rmtree(run, ignore_errors=True)
            found = kill_runs.killed(run, number, moment)
            moment *= 0.7
        assert found == code
        assert kill_runs.same(kill_runs.finish(run), expected)
