"""docs/results.md says what the committed results say."""

import re
from pathlib import Path

import pytest

from aekd_tf.experiments.paper import cells, grids
from aekd_tf.experiments.paper import config as paper
from aekd_tf.experiments.paper.questions import pictured
from aekd_tf.experiments.paper.trajectories import read_trajectories
from tools.commands import main
from tools.scripts import script

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def write():
    return script("tools/write_results.py")


def test_numbers_are_those_of_the_results(write):
    assert write.build() == (DOCS / "results.md").read_text(encoding="utf-8")


def test_a_number_cannot_be_typed():
    """What is not computed holds no digit but in names."""
    text = (DOCS / "results" / "template.md").read_text(encoding="utf-8")
    text = re.sub(r"\{\w+\}|\]\([^)]*\)|`[^`]*`", "", text)
    for name in ("CIFAR-10", "resnet56", "resnet20", "95%"):
        text = text.replace(name, "")
    assert re.findall(r"\d", text) == []


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_reports_are_complete_and_as_rendered(write, name, tmp_path):
    run = DOCS / "results" / name
    asked = paper.parse([*write.ASKED[name].split(), f"--output_dir={tmp_path}"])
    results = cells.read(str(run / "results.csv"))
    assert [cell for cell in paper.requested_cells(asked) if cell not in results] == []
    for file in ("results.csv", "trajectories.json"):
        (tmp_path / file).write_bytes((run / file).read_bytes())
    main("paper", [*write.ASKED[name].split(), f"--output_dir={tmp_path}", "--render"])
    assert (tmp_path / "report.md").read_text() == (run / "report.md").read_text()
    for picture in re.findall(r"\]\((\w+\.png)\)", (run / "report.md").read_text()):
        assert (run / picture).exists()
    # Without one of these a picture would show another cell than its caption says.
    trajectories = read_trajectories(str(run / "trajectories.json"))
    for number in asked.questions:
        cells_ = grids.question(number, grids.PRESETS[asked.preset])
        drawn = pictured(number, cells_)
        assert [cell for cell in drawn if cell not in trajectories] == []


def test_enough_seeds(write):
    for name, preset, least in (("digits", "digits", 10), ("cifar10", "quick", 3)):
        run = write.Run(name, preset)
        for cell in {key.traced for key in run.results if key.method != "ensemble"}:
            assert len(write.comparisons.accuracies(run.results, cell)) >= least


def test_links_exist():
    for link in re.findall(r"\]\(([^)]+)\)", (DOCS / "results.md").read_text(encoding="utf-8")):
        assert (DOCS / link).exists(), link


def test_words_follow_the_intervals(write):
    clear = [1.0, 1.1, 0.9]
    assert "(above)" in write.verdict(clear)
    assert "(below)" in write.verdict([-value for value in clear])
    assert "(no difference seen)" in write.verdict([1.0, -1.0, 0.1])
    assert write.answer(clear, "A", "B", "here").startswith("A is above B here")
    assert write.answer([-v for v in clear], "A", "B", "here").startswith("A is below B here")
    assert write.answer([1.0, -1.0, 0.1], "A", "B", "here").startswith("No difference")
