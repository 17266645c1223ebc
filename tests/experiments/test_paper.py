"""The paper's tables: their cells, the file of results, a sweep in small, the report."""

import dataclasses
import json

import numpy as np
import pytest

from aekd_tf.experiments import statistics
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.paper import (
    authors_solver,
    cells,
    comparisons,
    grids,
    published,
    spoilt_teachers,
    sweep,
)
from aekd_tf.experiments.paper import config as paper
from aekd_tf.experiments.paper.cells import Cell, Result
from aekd_tf.experiments.run import teachers
from tools.commands import main
from tools.small_runs import small_runs

RESULT = Result(0.5, 0.6, 0.7, 2.5, float("nan"), "0.5000 0.5000", "0.9000 0.8000", 1.5)
CELLS = [
    Cell("digits", "resnet8", "", 0, "alone"),
    Cell("digits", "resnet8", "resnet14+labels80x2", 10, "aekd", 0.6, normalize=True, seed=3),
    Cell("digits", "resnet8", "resnet14", 5, "fitnets", hint_weight=1.0),
]


def test_every_cell_of_the_paper_is_there():
    preset = grids.PRESETS["paper"]
    asked = {
        (c.dataset, c.student, c.size, c.method) for n in (1, 2, 3) for c in grids.table(n, preset)
    }
    for table in published.TABLES.values():
        for (dataset, student), rows in table.items():
            for size, values in rows.items():
                for method, _ in zip(published.METHODS, values, strict=False):
                    assert (dataset, student, size, method) in asked
    assert ("cifar100", "resnet20", 3, "aekd") in asked  # the heterogeneous ensemble
    tolerances = [c.tolerance for c in grids.figure(3, preset)]
    assert tolerances[0] is None
    assert max(t for t in tolerances if t) == 1.0
    assert {c.size for c in grids.figure(3, preset)} == {20}


def test_one_teacher_has_nothing_to_weight():
    """In the paper's tables, too: rows of one teacher are the same for both methods."""
    for table in published.TABLES.values():
        for rows in table.values():
            assert rows[1][1] == rows[1][2]
            assert rows[1][3:4] == rows[1][4:5]


def test_results_are_read_as_they_were_written(tmp_path):
    path = str(tmp_path / "results.csv")
    assert cells.read(path) == {}
    cells.write(dict.fromkeys(CELLS, RESULT), path)
    found = cells.read(path)
    assert list(found) == sorted(CELLS, key=cells.sort_key)
    for result in found.values():
        assert dataclasses.astuple(result)[:4] == dataclasses.astuple(RESULT)[:4]
        assert np.isnan(result.at_start)
        assert dataclasses.astuple(result)[5:] == dataclasses.astuple(RESULT)[5:]


@pytest.mark.parametrize(
    ("old", "new"), [("0.5,0.6", "half,0.6"), ("test_accuracy", "accuracy"), (",10,", ",ten,")]
)
def test_damaged_results_are_named(tmp_path, old, new):
    path = tmp_path / "results.csv"
    cells.write(dict.fromkeys(CELLS, RESULT), str(path))
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"results\.csv cannot be read"):
        cells.read(str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing is requested: give --table, --figure or --question"),
        (["--table=4"], "table is 4: choose from 1, 2, 3"),
        (["--figure=1"], "figure is 1: choose from 2, 3"),
        (["--table=one"], "table is one: give numbers"),
        (["--table=3"], "table 3 is ImageNet's: give --preset=paper"),
        (["--table=1", "--preset=large"], "unknown preset 'large': choose one of digits, quick"),
        (["--table=1", "--seeds=0"], "seeds is 0"),
        (["--table=1", "--output_dir="], "output_dir is empty"),
        (["--tables=1"], "tables"),
        (["1"], "unexpected argument '1'"),
    ],
)
def test_bad_flags(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main("paper", arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help(capsys):
    assert main("paper", ["--help"]) == 0
    assert "--question" in capsys.readouterr().out


@pytest.fixture
def tiny(monkeypatch):
    """Digits with few images, teachers and epochs, made small."""
    preset = dataclasses.replace(
        grids.PRESETS["digits"],
        teacher="resnet8",
        mixed=("resnet8", "wrn_16_1"),
        sizes=(2,),
        tolerances=(0.8,),
        tolerance_size=2,
        settings={
            "train_examples": 64,
            "validation_examples": 64,
            "epochs": 2,
            "batch_size": 32,
            "teacher_epochs": 1,
            "cache_views": 2,
            "preset": "paper",
        },
    )
    monkeypatch.setitem(grids.PRESETS, "digits", preset)
    with small_runs():
        yield preset


def test_a_sweep_computes_what_is_missing_alone(tmp_path, tiny, capsys, monkeypatch):
    arguments = ["--figure=2,3", "--seeds=2", f"--output_dir={tmp_path}"]
    assert main("paper", arguments) == 0
    path = str(tmp_path / "results.csv")
    found = cells.read(path)
    assert len(found) == 2 * 3  # AVER, AE-KD, and one more C
    for cell, result in found.items():
        assert 0 <= result.test_accuracy <= 1
        assert len(result.weights.split()) == cell.size
    kept = json.loads((tmp_path / "trajectories.json").read_text())
    assert np.shape(kept[0]["weights"]) == (2, kept[0]["cell"]["size"])
    np.testing.assert_allclose(np.diagonal(kept[-1]["cosines"]), 1, atol=1e-3)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "6 of 6 cells" in capsys.readouterr().out

    # A cell that is deleted is computed anew, to the same result, and no other.
    dropped = sorted(found, key=cells.sort_key)[-1]
    cells.write({cell: result for cell, result in found.items() if cell != dropped}, path)
    computed = []
    compute = sweep.Sweep.compute

    def counted(self, cell):
        computed.append(cell)
        return compute(self, cell)

    monkeypatch.setattr(sweep.Sweep, "compute", counted)
    assert main("paper", arguments) == 0
    assert computed == [dropped]
    again = cells.read(path)
    assert again[dropped].test_accuracy == found[dropped].test_accuracy
    assert again[dropped].weights == found[dropped].weights
    assert main("paper", [*arguments, "--table=1", "--render"]) == 0
    assert computed == [dropped]
    assert "| digits | resnet8 | resnet8 | 2 | AE-KD |" in (tmp_path / "report.md").read_text()


def test_spoilt_teachers_and_the_authors_solver(tmp_path, tiny):
    made = sweep.Sweep(tiny, str(tmp_path), str(tmp_path / "teachers"), None)
    plain = Cell("digits", "resnet8", "resnet8+confidentx1", 2, "aekd", 0.6)
    ensemble = dataclasses.replace(plain, method="ensemble", tolerance=None)
    groups = ("", "+labels80x1", "+undertrainedx1", "+uniformx1", "+confidentx1")
    authors = dataclasses.replace(plain, teachers="resnet8", solver="libsvm_unscaled")
    uniform = dataclasses.replace(plain, teachers="resnet8+uniformx1")
    ensembles = [dataclasses.replace(ensemble, teachers=f"resnet8{group}") for group in groups]
    made.run([*ensembles, plain, uniform, authors])
    assert len(made.results) == 8
    assert 0 <= made.results[authors].at_start <= 1
    assert np.isnan(made.results[plain].at_start)
    config = made.config(plain)
    dataset = made._dataset(config)
    images = dataset.test.images[:8].astype(np.float32)
    found = spoilt_teachers.plan(config, dataset, "resnet8+confidentx1")
    wrong, usual = (
        teachers.load(teacher, dataset, config)(images).numpy()
        for teacher in (found[0], spoilt_teachers.plan(config, dataset, "resnet8")[0])
    )
    np.testing.assert_allclose(wrong, np.roll(5 * usual, 1, axis=1), rtol=1e-4, atol=1e-4)
    uniform = spoilt_teachers.plan(config, dataset, "resnet8+uniformx1")[0]
    assert not np.any(teachers.load(uniform, dataset, config)(images))


def test_the_authors_solver_stays_at_its_start_where_the_matrix_is_small():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 30))
    large, small = (scale * gradients @ gradients.T for scale in (1.0, 1e-9))
    solver = authors_solver.UnscaledLibsvm(0.6)
    np.testing.assert_allclose(solver.solve(small), [0.6, 0.4, 0, 0, 0], atol=1e-6)
    assert (solver.steps, solver.at_start) == (1, 1)
    solved = solver.solve(large)
    assert (solver.steps, solver.at_start) == (2, 1)
    assert solved @ large @ solved < 0.9 * np.array([0.6, 0.4]) @ large[:2, :2] @ [0.6, 0.4]


def test_intervals_and_verdict():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    mean, half = statistics.interval(values)
    assert mean == 2.5
    assert half == pytest.approx(3.182446 * np.std(values, ddof=1) / 2, rel=1e-5)
    said = comparisons.verdict([values, -values, np.array([-1.0, 1.0, 0.5])])
    assert "There are 3 comparisons" in said
    assert "above zero in 1, below zero in 1, and contains zero in 1" in said


def test_differences_are_paired_by_seed():
    cell = Cell("digits", "resnet8", "resnet14", 5, "aekd", 0.6)
    row = dataclasses.replace(RESULT, test_accuracy=0.0)
    results = {}
    for seed, (ours, theirs) in enumerate([(0.9, 0.8), (0.5, 0.6)]):
        ours_cell = dataclasses.replace(cell, seed=seed)
        results[ours_cell] = dataclasses.replace(row, test_accuracy=ours)
        other = dataclasses.replace(comparisons.average(cell), seed=seed)
        results[other] = dataclasses.replace(row, test_accuracy=theirs)
    results[dataclasses.replace(cell, seed=7)] = row  # without a partner
    found = comparisons.paired(results, cell, comparisons.average(cell))
    np.testing.assert_allclose(found, [10, -10])


def test_commands_name_all_that_a_report_needs():
    config = paper.parse(["--table=1", "--figure=2,3", "--preset=quick"])
    assert (config.seeds, config.output_dir) == (3, "runs/paper_quick")
    requested = paper.requested_cells(config)
    assert len(requested) == len(set(requested))
