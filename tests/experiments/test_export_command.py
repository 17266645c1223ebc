"""The command that exports the student of a run."""

import json
import os

import keras
import numpy as np
import pytest

from aekd_tf import data
from tools import students
from tools.commands import call, launch, parse


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """The folder of a run on digits, with a small student."""
    directory = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential([keras.Input((8, 8, 1)), *layers]).save(directory / "student.keras")
    students.vectors(10).save(directory / "vectors.keras")
    config = parse("digits", ["--train_examples=100", f"--output_dir={directory}"])
    content = {"config": config.recorded(), "places": config.places()}
    (directory / "config.json").write_text(json.dumps(content))
    return directory


def test_a_run_is_calibrated_and_checked_on_its_own_data(finished_run):
    done = call("export", f"--run={finished_run}", "--quantize=int8")
    assert (done.returncode, done.stderr) == (0, "")
    path = finished_run / "export" / "student_int8.tflite"
    report = json.loads((finished_run / "export" / "student_int8.tflite.json").read_text())
    digits = data.load("digits")
    student = keras.models.load_model(finished_run / "student.keras")
    logits = student.predict(data.evaluation_pipeline(digits, digits.test), verbose=0)
    assert report["keras_accuracy"] == np.mean(logits.argmax(-1) == digits.test.labels)
    assert report["checked"] == "360 examples of check_with"
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert rows["file"].strip() == str(path)
    assert rows["accuracy, %"].strip() == f"{100 * report['accuracy']:.2f}"
    assert "ms per image, 1 thread" in rows["latency"]
    assert rows["checked"].strip() == "360 examples of the test set"
    assert "inputs are normalized: (x - 4.88" in done.stdout


def test_a_file_without_data(finished_run, tmp_path):
    """In a process of its own, whose stdout and stderr must hold the table alone."""
    output = tmp_path / "student"
    done = launch(
        *("export", f"--student={finished_run / 'student.keras'}", "--format=saved_model"),
        *(f"--output={output}", "--probabilities"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 examples of noise" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("report")
    assert (output / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "neither of run and student is given: give --run=DIRECTORY"),
        (["--run=a", "--student=b"], "both of run and student is given"),
        (["--run=a", "--dataset=digits"], "dataset is for --student"),
        (["--run=a", "--format=tflite"], "unknown format 'tflite': choose one of keras"),
        (["--run=a", "--quantize=int4"], "unknown quantize 'int4'"),
        (["--run=a", "--quantize=int8", "--format=onnx"], "give --format=litert"),
        (["--run=a", "--integer_io"], "integer_io is for --quantize=int8"),
        (["--run=a", "--threads=0"], "threads is 0: give at least 1"),
        (["--run=a", "--calibration_examples=0"], "calibration_examples is 0"),
        (["--run=a", "--seed=-1"], "seed is -1"),
        (["--run=/nowhere"], "/nowhere/student.keras does not exist: give the output_dir"),
        (["--student={run}/config.json"], "config.json cannot be read ("),
        (["--student={run}/student.keras", "--quantize=int8"], "give --dataset, the student's"),
        (["--run={run}", "--output={run}/student.onnx"], "but format='litert' writes .tflite"),
        (
            ["--student={run}/vectors.keras", "--dataset=digits"],
            "the test set has inputs (256, 8, 8, 1), but the exported file takes x (None, 4)",
        ),
    ],
)
def test_misuse_is_one_line(finished_run, flags, message):
    done = call("export", *(flag.format(run=finished_run) for flag in flags))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_runs_that_say_too_little(finished_run, tmp_path):
    (tmp_path / "student.keras").write_bytes((finished_run / "student.keras").read_bytes())
    done = call("export", f"--run={tmp_path}")
    assert "config.json cannot be read (" in done.stderr
    (tmp_path / "config.json").write_text("{}")
    done = call("export", f"--run={tmp_path}")
    assert "config.json names no data set: give --student and --dataset" in done.stderr


def test_the_folders_of_a_run_are_stored(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", "sets")
    places = parse("digits", ["--output_dir=out", "--cache_dir=/cache"]).places()
    assert places == {
        "data_dir": os.path.join(tmp_path, "sets"),
        "teachers_dir": os.path.join(tmp_path, "out", "teachers"),
        "cache_dir": "/cache",
    }
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert parse("digits", []).places()["data_dir"] is None


def test_default_paths():
    paths = {
        "--format=keras": "runs/a/export/student.keras",
        "--format=onnx": "runs/a/export/student.onnx",
        "--format=saved_model": "runs/a/export/student",
        "--quantize=float16": "runs/a/export/student_float16.tflite",
    }
    for flag, path in paths.items():
        assert parse("export", ["--run=runs/a", flag]).path == path
