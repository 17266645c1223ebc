"""docs/edge_results.md and its picture say what the committed rows say."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from aekd_tf.monitoring import figures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = DOCS / "results" / "edge"


@pytest.fixture(scope="module")
def report():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("edge_report")


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("edge_report_rows")


@pytest.fixture(scope="module")
def committed(report, rows):
    return [rows.Results(plan, rows.read(RUN / f"{name}.csv")) for name, plan in rows.PLANS.items()]


def made(rows, gains, plan="digits", seeds=None):
    """Results with the differences to float32 in points, by variant, and a spread of 0.1."""
    plan = rows.PLANS[plan]
    rng = np.random.default_rng(0)
    found = {}
    for key in plan.all_keys():
        if key.seed is None or key.seed < (plan.seeds if seeds is None else seeds):
            accuracy = 0.9 + gains.get(key.variant, 0.0) / 100 + rng.normal(scale=0.001)
            sized = (None, None) if "4" in key.variant else (50_000, 0.05)
            found[key] = rows.Row(accuracy, *sized, 360.0)
    return rows.Results(plan, found)


def test_numbers_are_those_of_the_rows(report, committed):
    page = (DOCS / "edge_results.md").read_text(encoding="utf-8")
    assert report.build(committed) == page


def test_the_picture_shows_the_rows(report, committed, tmp_path):
    """Apart from what fonts do."""
    figures.save(report.picture(committed), str(tmp_path / "edge.png"))
    drawn, known = imread(tmp_path / "edge.png"), imread(DOCS / "edge.png")
    assert drawn.shape[0] == known.shape[0]
    assert abs(drawn.shape[1] - known.shape[1]) <= 4
    width = min(drawn.shape[1], known.shape[1])
    assert np.abs(drawn[:, :width] - known[:, :width]).mean() < 0.02


def test_a_number_cannot_be_typed():
    """What is not computed holds no digit but in names."""
    text = (DOCS / "results" / "edge.template.md").read_text(encoding="utf-8")
    text = re.sub(r"\{\w+\}|\]\([^)]*\)|`[^`]*`", "", text)
    for name in ("float32", "float16", "int8", "95%", "4-bit weights", "writes 8 bits"):
        text = text.replace(name, "")
    assert re.findall(r"\d", text) == []


def test_rows_are_read_as_they_were_written(rows, tmp_path):
    path = tmp_path / "digits.csv"
    known = {
        rows.Key("vote"): rows.Row(0.5, None, None, 1.0),
        rows.Key("float", 1): rows.Row(0.25, 1000, 0.125, 2.5),
        rows.Key("float", 0): rows.Row(0.75, 1000, 0.25, 2.5),
    }
    rows.write(known, path)
    found = rows.read(path)
    assert found == known
    assert [key.seed for key in found] == [None, 0, 1]
    assert rows.read(tmp_path / "none.csv") == {}


def test_a_small_loss_is_within_the_limit(report, rows):
    results = made(rows, {"int8": -0.5, "weights4": -9.0, "weights4_aware": -2.0, "longer": 0.2})
    power, aware, after, both, control, four = report.sentences(results)
    assert power.startswith("This design sees 0.")
    assert "(no difference seen). The loss has its upper end at 0." in aware
    assert "which is at most 1 point." in aware
    assert "float32: -0." in after
    assert "(below)" in after
    assert after.endswith("So quantization after training loses accuracy.")
    assert "(above)" in both
    assert control.startswith("Training on in float32, minus float32: +0.")
    assert re.search(r"float32: -[89].*\(below\). With the second training: -[12].*\(below\)", four)
    assert four.endswith("points (above).")
    assert report.short([results]).startswith("**A quantization-aware student loses at most 1 ")
    assert results.of("vote")[0].bytes == 150_000


def test_nothing_lost_after_training_is_said(report, rows):
    after = report.eight_bits(made(rows, {}), "int8")
    assert after.endswith("sees no loss by quantization after training either.")


def test_a_large_loss_is_said_first(report, rows):
    results = made(rows, {"int8_aware": -1.0})
    assert "perhaps more than 1 point" in report.sentences(results)[1]
    assert "loses perhaps more than 1 point" in report.short([results, made(rows, {}, "cifar10")])


def test_one_seed_has_no_interval(report, rows):
    results = made(rows, {}, "mobilenetv2")
    power, aware, *_ = report.sentences(results)
    assert power.startswith("One seed has no interval")
    assert aware.endswith("points (one seed, no interval).")
    assert report.short([results]) == "The cost of 8 bits is not known yet."


def test_missing_rows_are_counted(report, rows):
    some, none = made(rows, {}, seeds=2), rows.Results(rows.PLANS["cifar10"], {})
    page = " ".join(report.build([some, none]).split())
    assert "20 of 84 rows are finished, after 2.0 hours" in page
    assert "0 of 44 rows are finished." in page
    assert len(report.picture([some, none]).axes) == 2
    assert len(report.picture([none]).axes) == 2
