"""The paper's protocol in small: beta is chosen on held-out images, the best trained on all."""

import contextlib
import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from aekd_tf import data, models
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.paper import cells, choice, comparisons, grids, tables
from aekd_tf.experiments.paper.cells import Cell, Result
from aekd_tf.experiments.paper.sweep import Sweep
from aekd_tf.experiments.run import students
from aekd_tf.monitoring.tensorboard import DistillationTensorBoard
from aekd_tf.training import fit
from tools import tiny_imagenet
from tools.commands import call
from tools.stop_at import StopAt

BETAS = (0.1, 10.0)
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_fun")


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Makes resnet8 one layer, takes its few steps without traces, and draws no pictures."""
    monkeypatch.setattr(DistillationTensorBoard, "_draw", lambda self: None)

    def build(name, num_classes, input_shape, depth):
        inputs = keras.Input(input_shape)
        maps = keras.layers.AveragePooling2D(4)(inputs)
        maps = keras.layers.Conv2D(4, 1, activation="relu", name="stage2")(maps)
        features = keras.layers.GlobalAveragePooling2D()(maps)
        return keras.Model(inputs, keras.layers.Dense(num_classes)(features), name=name)

    monkeypatch.setattr("aekd_tf.models.resnet.build", build)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def two_betas(monkeypatch):
    for module in (students, choice):
        monkeypatch.setattr(module, "HINT_WEIGHTS", BETAS)


def test_preset_paper_of_cifar(tmp_path, monkeypatch, two_betas):
    with contextlib.redirect_stderr(io.StringIO()):
        tiny_imagenet.prepare_cifar10(tmp_path / "data")
    keras.utils.set_random_seed(0)
    models.create("resnet8", 10, (32, 32, 3)).save(tmp_path / "own.keras")
    arguments = ["--student=resnet8", f"--teachers={tmp_path}/own.keras", "--methods=fitnets"]
    arguments += ["--epochs=2", "--hint_first_epoch=1", "--train_examples=40", "--batch_size=20"]
    arguments += ["--cache_views=2", "--cache_hints", f"--cache_dir={tmp_path}/cache"]
    arguments += [f"--data_dir={tmp_path}/data", "--steps_per_execution=1"]  # stops at a step
    run = [*arguments, f"--output_dir={tmp_path}/run"]
    with monkeypatch.context() as context:
        stop = StopAt(4 + 4 + 3)  # in the student that is trained anew
        context.setattr(fit, "ProgressBar", lambda *given: stop)
        killed = call("cifar", *run)
    assert killed.returncode == 143
    lines = killed.stdout.splitlines()
    assert lines[0] == "cifar10: 40 training, 0 validation, 40 test images"
    assert "choosing beta on 36 training and 4 validation images" in lines
    assert "training 2 students resnet8, 4 steps each: fitnets_beta0.1, fitnets_beta10" in lines
    assert "training 1 students resnet8, 4 steps each: fitnets" in lines
    finished = call("cifar", *run)
    assert finished.returncode == 0, finished.stderr
    assert "reusing 2 students found on disk" in finished.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())["students"]["fitnets"]
    assert [results[name] for name in students.held_out_figures("accuracy")] == [None, None, None]
    scores = results["cross_validation"]
    assert list(scores) == ["0.1", "10"]
    beta = f"{results['hint_weight']:g}"
    assert scores[beta] == max(scores.values())
    candidate = json.loads((tmp_path / "run/students" / f"fitnets_beta{beta}.json").read_text())
    assert candidate["validation_accuracy"] == scores[beta]
    row = next(line for line in finished.stdout.splitlines() if "student, FitNets beta" in line)
    assert len(row.split()) == 4  # name, beta and the last epoch's accuracy
    # The candidates read the outputs that the final student reads.
    stored = sorted(path.name for path in (tmp_path / "cache").glob("*.npy"))
    assert stored == ["cifar10_own.npy", "cifar10_own.stage2.npy", "cifar10_own.test.npy"]
    # The delivered student is the one of that beta on all images, as if nothing had been chosen.
    plain = call("cifar", *arguments, f"--hint_weight={beta}", f"--output_dir={tmp_path}/plain")
    assert plain.returncode == 0, plain.stderr
    for found, expected in zip(
        *(
            keras.models.load_model(tmp_path / name / "student.keras").get_weights()
            for name in ("run", "plain")
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_auto_without_validation_images_is_anchored_to_the_vote(tmp_path):
    models.create("resnet8", 10, (8, 8, 1)).save(tmp_path / "own.keras")
    arguments = [f"--teachers={tmp_path}/own.keras", "--methods=auto", "--epochs=1"]
    arguments += ["--train_examples=20", "--validation_examples=0", "--cache_views=1"]
    process = call("digits", *arguments, f"--output_dir={tmp_path}/run")
    assert process.returncode == 0, process.stderr
    assert "auto is anchored to the vote: fit has no validation_data" in process.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["students"]["auto"]["validation_accuracy"] is None


def test_an_empty_split_is_not_cached():
    from aekd_tf import TeacherCache
    from aekd_tf.cache.views import Views

    digits = data.load("digits", validation_examples=0)
    with pytest.raises(ValueError, match="digits has no validation examples: there is nothing to"):
        TeacherCache("nowhere", digits, Views(1), split="validation")


CHOSEN = Cell("digits", "resnet8", "resnet8", 2, "aekd_hints", 0.6, hint_weight="cv")


def row(validation):
    return Result(0.5, float("nan"), validation, 1.0, float("nan"), "", "", 1.0)


def test_cells_of_the_papers_preset():
    requested = grids.over_seeds(grids.table(1, grids.PRESETS["paper"]), 3)
    hinted = [cell for cell in requested if cell.hint_weight]
    assert {cell.hint_weight for cell in hinted if not choice.is_candidate(cell)} == {"cv"}
    assert sum(map(choice.is_candidate, requested)) == 5 * 4 * 6 * 2
    for cell in hinted:
        before = requested[: requested.index(cell)]
        assert all(candidate in before for candidate in choice.candidates(cell))
    for name in ("digits", "quick"):
        cells_ = grids.over_seeds(grids.table(1, grids.PRESETS[name]), 2)
        assert {cell.hint_weight for cell in cells_} == {None, 1.0}


def test_the_best_candidate_gives_beta(tmp_path):
    results = dict(zip(choice.candidates(CHOSEN), map(row, (0.1, 0.3, 0.2, 0.2, 0.1)), strict=True))
    later = dataclasses.replace(CHOSEN, seed=2)
    assert choice.beta_of(later, results) == 1.0
    path = str(tmp_path / "results.csv")
    cells.write({**results, CHOSEN: row(float("nan"))}, path)
    assert set(cells.read(path)) == {*results, CHOSEN}
    results.popitem()
    assert choice.chosen_beta(later, results) is None
    with pytest.raises(UserError, match="are not finished: compute them first"):
        choice.beta_of(later, results)
    assert comparisons.average(later).hint_weight == "cv"


def test_a_sweep_chooses_and_trains_anew(tmp_path, monkeypatch, two_betas, capsys):
    preset = dataclasses.replace(
        grids.PRESETS["digits"],
        teacher="resnet8",
        mixed=(),
        sizes=(1,),
        hint_weight="cv",
        settings={
            "preset": "paper",
            "validation_examples": 0,
            "train_examples": 40,
            "epochs": 2,
            "teacher_epochs": 1,
            "batch_size": 20,
            "cache_views": 2,
        },
    )
    requested = [
        cell
        for cell in grids.over_seeds(grids.table(1, preset), 1)
        if cell.method in ("aekd_hints", "ensemble")
    ]
    assert len(requested) == 1 + 2 + 1
    sweep = Sweep(preset, str(tmp_path), str(tmp_path / "teachers"), None)
    sweep.run(requested)
    final = next(cell for cell in requested if cell.hint_weight == "cv")
    assert np.isnan(sweep.results[final].validation_accuracy)
    assert np.isnan(sweep.results[final].best_validation_test_accuracy)
    for candidate in choice.candidates(final):
        assert 0 <= sweep.results[candidate].validation_accuracy <= 1
    assert list(sweep.trajectories) == [final]
    beta = choice.chosen_beta(final, sweep.results)
    parts = tables.table_parts(1, preset, sweep.results, str(tmp_path))
    assert any(f"AE-KD*, beta {beta:g}" in line for line in parts[1].rows[-1])
    # The results are those of another process, too, and one deleted line is computed anew.
    again = Sweep(preset, str(tmp_path), str(tmp_path / "teachers"), None)
    expected = again.results.pop(final).test_accuracy
    again.run(requested)
    assert again.results[final].test_accuracy == expected
    assert "4 of 4" not in capsys.readouterr().out
