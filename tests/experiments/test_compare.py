"""The comparison of weightings: its tables, statistics, a run in small, mistakes of the user."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from aekd_tf import data
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.compare import cells, comparisons, kinds, recipes, sweep, weightings
from aekd_tf.experiments.compare import config as compare
from aekd_tf.experiments.compare.cells import Cell, Result
from aekd_tf.experiments.compare.run import shrunk
from aekd_tf.experiments.compare.settings import SETTINGS
from tools.commands import main

pytestmark = pytest.mark.xdist_group("mnist1d")  # generated once

ACCURACIES = {  # by setting, weighting and seed
    "labels80x4": {
        "average": [0.70, 0.72, 0.74, 0.72],
        "aekd": [0.50, 0.53, 0.54, 0.55],
        "agreed": [0.78, 0.79, 0.83, 0.80],
        "oracle": [0.79, 0.80, 0.84, 0.81],
    },
    "good": {
        "average": [0.80, 0.82, 0.81, 0.83],
        "aekd": [0.81, 0.80, 0.82, 0.83],
        "agreed": [0.79, 0.82, 0.81, 0.83],
    },
}


@pytest.fixture
def results():
    weights = (0.2,) * 2 + (0.075,) * 8
    return {
        Cell(setting, weighting, seed): Result(accuracy, weights, 1.5)
        for setting, rows in ACCURACIES.items()
        for weighting, values in rows.items()
        for seed, accuracy in enumerate(values)
    }


@pytest.fixture
def config(tmp_path):
    names = "--weightings=average,aekd,auto,oracle"
    settings = "--settings=labels80x4,good"
    return compare.parse([names, settings, "--seeds=0-3", f"--output_dir={tmp_path}"])


def test_differences_are_paired_and_tested(config, results):
    rows = comparisons.compare(config, results, "labels80x4")
    assert [row.weighting for row in rows] == ["oracle", "auto", "average", "aekd"]
    agreed, average = (np.array(ACCURACIES["labels80x4"][n]) for n in ("agreed", "average"))
    np.testing.assert_allclose(rows[1].differences, 100 * (agreed - average))
    for row in rows:
        if row.weighting == "average":
            continue
        low, high = stats.ttest_1samp(row.differences, 0).confidence_interval(0.95)
        assert row.verdict == int(low > 0) - int(high < 0)
        assert row.spoilt_weight == pytest.approx(2 * 0.2 + 2 * 0.075)
    first, second = rows[1].halves
    np.testing.assert_allclose([first.mean(), second.mean()], [7.5, 8.5])


def test_ranks_wins_and_losses(config, results):
    compared = {name: comparisons.compare(config, results, name) for name in config.settings}
    found = {row.weighting: row for row in comparisons.overall(compared)}
    assert list(found)[-1] == "oracle"
    assert np.isnan(found["oracle"].rank)
    # Of auto, average and aekd: places 1, 2, 3, then 3, 1.5, 1.5.
    assert [found[name].rank for name in ("auto", "average", "aekd")] == [2, 1.75, 2.25]
    assert (found["auto"].wins, found["auto"].losses) == (1, 0)
    assert (found["aekd"].wins, found["aekd"].losses) == (0, 1)
    assert found["auto"].share == pytest.approx(8 / 9)
    assert found["auto"].settings == 2
    low = stats.ttest_1samp([-1, 0, 0, 0], 0).confidence_interval(0.95).low
    assert found["auto"].lowest == pytest.approx(low)


def test_the_power_of_the_design(config, results):
    # Tables of the paired t-test, and the formula for many pairs.
    assert comparisons.standardized_difference(16) == pytest.approx(0.7496, abs=1e-3)
    assert comparisons.standardized_difference(5) == pytest.approx(1.682, abs=1e-3)
    normal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / np.sqrt(1000)
    assert comparisons.standardized_difference(1000) == pytest.approx(normal, rel=2e-3)
    rows = comparisons.compare(config, results, "good")
    expected = {
        row.weighting: np.std(row.differences, ddof=1) * comparisons.standardized_difference(4)
        for row in rows
    }
    found = comparisons.smallest_differences(rows)
    assert sorted(found) == pytest.approx(sorted(expected[name] for name in ("auto", "aekd")))
    assert not len(comparisons.smallest_differences([]))


def test_settings_name_their_teachers():
    assert SETTINGS["mixed"].members(10) == [
        *(("specialist", index) for index in range(5)),
        ("labels80", 0),
        ("labels80", 1),
        *(("good", index) for index in (7, 8, 9)),
    ]
    assert SETTINGS["copies"].members(10)[:5] == [("small", 0)] * 4 + [("good", 4)]
    assert SETTINGS["labels80x4"].spoilt_count(5) == 2
    assert SETTINGS["memorized6"].shown(10) == "6 of 10 memorized the student's noisy labels"
    derived = {"uniform", "confident", "overconfident"}
    for setting in SETTINGS.values():
        assert {kind for kind, _ in setting.members(10)} <= {*kinds.KINDS, *derived}


def test_teachers_of_each_kind_learn_what_they_should():
    dataset = data.load("mnist1d", train_examples=1000)
    labels = dataset.train.labels

    def train(kind, index=0):
        return kinds.training_data(dataset, kinds.KINDS[kind], index, index, 100).train

    assert 0.3 < np.mean(train("labels40").labels != labels) < 0.42
    assert (train("labels80").labels != train("labels80", 1).labels).any()
    memorized = train("memorized", 1).labels
    np.testing.assert_array_equal(memorized, kinds.noisy_split(dataset, "train").labels)
    assert 0.2 < np.mean(memorized != labels) < 0.34
    assert len(train("quarter")) == 200  # whole batches
    known = [set(train("specialist", index).labels) for index in range(10)]
    assert {len(classes) for classes in known} == {5}
    assert set.union(*known) == set(range(10))
    outputs = np.array([[0.0, 1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(kinds.derived("confident", outputs), [[10, 0, 5]])
    np.testing.assert_array_equal(kinds.derived("overconfident", outputs), [[0, 5, 10]])
    assert not kinds.derived("uniform", outputs).any()


def test_images_are_shrunk_to_means_of_squares():
    dataset = data.load("digits")
    small = shrunk(dataset, 4)
    assert small.image_shape == (4, 4, 1)
    assert len(small.test) == len(dataset.test)
    assert small.train.images.dtype == dataset.train.images.dtype
    square = dataset.train.images[3, 2:4, 6:8, 0].mean()
    assert small.train.images[3, 1, 3, 0] == np.rint(square)
    np.testing.assert_array_equal(small.train.labels, dataset.train.labels)
    assert small.crop_padding == dataset.crop_padding // 2


def test_weightings_are_left_out_where_they_make_no_sense():
    assert not weightings.fits("oracle", SETTINGS["good"], 10)
    assert not weightings.fits("ca_mkd", SETTINGS["no_labels"], 10)
    assert weightings.fits("auto", SETTINGS["no_labels"], 10)
    requested = compare.parse(["--preset=mnist1d_full"]).cells()
    assert len(requested) == len(set(requested))
    assert "auto" not in {cell.weighting for cell in requested}
    assert Cell("no_labels", "stacked_vote", 0) in requested
    assert len(compare.parse([]).cells()) == (8 * 6 - 2) * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weightings=average,best"], "unknown weighting 'best': choose one of average, aekd"),
        (["--weightings=aekd"], "weightings has no average"),
        (["--weightings=average,average"], "weightings is empty or names one twice"),
        (["--settings=bad"], "unknown setting 'bad': choose one of good"),
        (["--settings="], "settings is empty or names one twice"),
        (["--seeds=5-2"], "seeds is '5-2': give numbers and spans such as 0-15"),
        (["--seeds=one"], "seeds is 'one'"),
        (["--preset=large"], "unknown preset 'large': choose one of mnist1d"),
        (["--dataset=svhn"], "unknown dataset 'svhn': choose one of mnist1d, digits, cifar10"),
        (["--output_dir="], "output_dir is empty"),
        (["--seed=1"], "seed"),
    ],
)
def test_bad_flags(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main("compare", arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help_and_seeds(capsys):
    assert main("compare", ["--help"]) == 0
    assert "--settings" in capsys.readouterr().out
    assert compare.seeds("0-3,7, 5") == (0, 1, 2, 3, 5, 7)
    assert compare.spans((0, 1, 2, 3, 5, 7)) == "0-3,5,7"


@pytest.mark.parametrize(("old", "new"), [("0.7,", "half,"), ("seed", "number"), (",0,", ",,")])
def test_damaged_results_are_named(tmp_path, results, old, new):
    path = tmp_path / "results.csv"
    cells.write(results, str(path))
    assert cells.read(str(path)) == results
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"results\.csv cannot be read"):
        cells.read(str(path))


@pytest.fixture
def tiny(monkeypatch):
    recipe = dataclasses.replace(
        recipes.RECIPES["mnist1d"],
        size=3,
        epochs=2,
        teacher_epochs=2,
        train_examples=200,
        validation_examples=100,
        jit_compile=False,
    )
    monkeypatch.setitem(recipes.RECIPES, "mnist1d", recipe)


def test_a_run_computes_what_is_missing_alone(tmp_path, tiny, capsys, monkeypatch):
    arguments = ["--weightings=average,aekd", "--settings=labels80x4", f"--output_dir={tmp_path}"]
    assert main("compare", [*arguments, "--seeds=0-1"]) == 0
    assert "4 of 4 cells" in capsys.readouterr().out
    path = str(tmp_path / "results.csv")
    first = cells.read(path)
    assert sorted(first) == [
        Cell("labels80x4", weighting, seed) for weighting in ("aekd", "average") for seed in (0, 1)
    ]
    for result in first.values():
        assert sum(result.weights) == pytest.approx(1, abs=1e-3)
    report = (tmp_path / "report.md").read_text()
    assert report.index("smallest difference") < report.index("| weighting |")
    assert "## 1 of 3 on 80% random labels" in report
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 2
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    kept = json.loads((tmp_path / "trajectories.json").read_text())["trajectories"]
    assert np.shape(kept[0]["weights"]) == (2, 3)

    # A deleted line is computed anew, to the same result, and no other.
    dropped = Cell("labels80x4", "aekd", 1)
    cells.write({cell: result for cell, result in first.items() if cell != dropped}, path)
    computed = []
    compute = sweep.Sweep.compute

    def counted(self, cell):
        computed.append(cell)
        return compute(self, cell)

    monkeypatch.setattr(sweep.Sweep, "compute", counted)
    assert main("compare", [*arguments, "--seeds=0-1"]) == 0
    assert computed == [dropped]
    again = cells.read(path)[dropped]
    assert again.test_accuracy == first[dropped].test_accuracy
    assert again.weights == first[dropped].weights

    # Another recipe does not mix with these cells.
    assert main("compare", [*arguments, "--preset=quick"]) == 2
    assert "holds a comparison with epochs=2" in capsys.readouterr().err


def test_a_student_without_labels_compiled_by_xla(tmp_path, tiny, monkeypatch):
    recipe = dataclasses.replace(recipes.RECIPES["mnist1d"], jit_compile=True)
    monkeypatch.setitem(recipes.RECIPES, "mnist1d", recipe)
    arguments = ["--weightings=average", "--settings=no_labels", "--seeds=3"]
    assert main("compare", [*arguments, f"--output_dir={tmp_path}"]) == 0
    assert [cell.seed for cell in cells.read(str(tmp_path / "results.csv"))] == [3]
