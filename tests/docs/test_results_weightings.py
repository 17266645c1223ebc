"""docs/weightings_results.md and README say what the committed comparison says."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from aekd_tf.experiments.compare import cells, pictures
from aekd_tf.experiments.compare.config import parse
from aekd_tf.experiments.compare.story import Story
from tools.commands import main
from tools.scripts import script

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = DOCS / "results" / "weightings" / "mnist1d"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def write():
    return script("tools/write_weightings.py")


@pytest.fixture(scope="module")
def committed(write):
    return write.values(write.stories())


@pytest.fixture
def values(write, tmp_path):
    """The numbers of a first comparison; the others have no results."""

    def numbers(story):
        names = (*write.OTHERS, write.TRIED)
        others = {name: Story(name, str(tmp_path / name)) for name in names}
        return write.values({write.PRESET: story, **others})

    return numbers


def made(directory, better):
    """A complete comparison, with each weighting's gain in points by setting."""
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=1e-4, size=(16, 20))
    names = {}
    results = {}
    for cell in parse(["--preset=mnist1d"]).cells():
        column = names.setdefault(cell.weighting, len(names))
        gain = better(cell.setting, cell.weighting)
        accuracy = 0.7 + 0.01 * gain + noise[cell.seed, column]
        results[cell] = cells.Result(accuracy, (0.1,) * 10, 3600.0)
    cells.write(results, str(directory / "results.csv"))
    lines = [
        {"setting": setting, "weighting": weighting, "weights": [[0.1] * 10, [0.2] * 4 + [0.0] * 6]}
        for setting, weighting in {(cell.setting, cell.weighting) for cell in results}
    ]
    (directory / "trajectories.json").write_text(json.dumps({"trajectories": lines}))
    return Story("mnist1d", str(directory))


def test_numbers_are_those_of_the_results(write, committed):
    page = (DOCS / "weightings_results.md").read_text(encoding="utf-8")
    assert write.build(committed) == page
    assert write.readme(committed, README) == README


def test_what_is_not_safe_comes_first(committed):
    part = README.split("## What to expect")[1].strip()
    assert part.startswith(f"<!-- weightings -->\n\n**{committed['unsafe'][:40]}")


@pytest.mark.parametrize("name", ["weightings", "readme"])
def test_a_number_cannot_be_typed(name):
    """What is not computed holds no digit but in names."""
    text = (DOCS / "results" / f"{name}.template.md").read_text(encoding="utf-8")
    text = re.sub(r"\{\w+\}|\]\([^)]*\)|`[^`]*`", "", text)
    for known in ("MNIST-1D", "CIFAR-10", "accuracy^4", "95%"):
        text = text.replace(known, "")
    assert re.findall(r"\d", text) == []


def test_the_report_is_as_rendered(tmp_path, monkeypatch):
    drawn = []
    draw = pictures.weights
    monkeypatch.setattr(pictures, "weights", lambda *given: drawn.append(given) or draw(*given))
    for file in ("results.csv", "trajectories.json", "config.json"):
        shutil.copy(RUN / file, tmp_path)
    assert main("compare", ["--preset=mnist1d", "--render", f"--output_dir={tmp_path}"]) == 0
    for file in ("report.md", "table.csv", "config.json"):
        assert (tmp_path / file).read_text() == (RUN / file).read_text()
    for picture in re.findall(r"\]\((\w+\.png)\)", (RUN / "report.md").read_text()):
        assert (RUN / picture).exists()
    lines, _ = drawn[0]  # of the default too, whatever it stands for
    assert "auto" in next(iter(lines.values()))


def test_every_weighting_has_a_line_in_the_picture(write):
    story = Story(write.PRESET, str(RUN))
    assert write.lines(story) is not None
    figure = write.picture(story)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels[:3] == ["AE-KD", "CA-MKD", "the default"]
    assert labels[3].startswith("their share in the average")


def test_a_safe_default_is_called_safe(write, values, committed, tmp_path):
    gains = {"agreed": 4.0, "oracle": 4.0, "stacked": 2.0, "aekd": -5.0}
    story = made(tmp_path, lambda setting, name: gains.get(name, 0.0))
    numbers = values(story)
    assert numbers["safety_auto"] == "The default is safe in all settings (6 of 6)."
    assert numbers["safety_stacked"].startswith("`stacked` is not safe in 4 of 6 settings")
    assert "of the oracle's gain" in numbers["safety_stacked"]
    assert "not safe in 6 of 6 settings: 10 good (its interval" in numbers["safety_aekd"]
    assert "has the best mean rank on seeds 0-7" in numbers["choice"]
    assert "the default" in numbers["choice"]
    assert "(above)" in numbers["choice"]
    assert "(above)" in numbers["adds"]
    assert numbers["noisy_title"] == "4 of 10 on 80% random labels"
    assert "| AE-KD | 0.40 | 0.80 | 0.40 |" in numbers["noisy_table"]
    assert numbers["seeds"] == "16"
    assert numbers["hours"] == "736.0"
    assert numbers["finished"] == "736 of 736 students are finished."
    row = next(line for line in numbers["readme_table"].splitlines() if "80% random" in line)
    assert "| *-5.0 +- 0.0* (-1.25) | **+4.0 +- 0.0** (1.00) | **+4.0 +- 0.0** |" in row
    others = (*write.OTHERS, write.TRIED)
    numbers |= {key: text for key, text in committed.items() if key.startswith(others)}
    text = write.readme(numbers, README)
    for each in (write.build(numbers).split("## Tried")[0], text):
        assert write.UNKNOWN not in each
    assert len(text.splitlines()) <= 130


def test_a_setting_that_is_not_safe_is_named(write, tmp_path):
    story = made(tmp_path, lambda setting, name: -2.0 * (setting == "copies" and name == "agreed"))
    text = write.safety([story], "auto")
    assert text.startswith("The default is not safe in 1 of 6 settings: one small teacher 4 times")
    assert "begins at -2.0" in text


def test_other_data_count_too(write, tmp_path):
    story = made(tmp_path, lambda setting, name: 0.0)
    made_of = {
        cells.Cell("specialists", name, seed): cells.Result(
            0.6 - 0.1 * (name == "agreed") + seed / 1e4, (0.2,) * 5, 1.0
        )
        for name in ("average", "agreed")
        for seed in range(5)
    }
    (tmp_path / "cifar10").mkdir()
    cells.write(made_of, str(tmp_path / "cifar10" / "results.csv"))
    other = Story("cifar10", str(tmp_path / "cifar10"))
    text = write.safety([story, other], "auto", reasons=False)
    assert text == (
        "The default is not safe in 1 of 7 settings (minus AVER, points): 5 specialists of half "
        "the classes (CIFAR-10), -10.0 +- 0.0."
    )


def test_missing_students_are_no_obstacle(write, values, tmp_path):
    made(tmp_path, lambda setting, name: 0.0)
    some = {
        cell: result
        for cell, result in cells.read(str(tmp_path / "results.csv")).items()
        if cell.setting == "good" and (cell.weighting != "average" or cell.seed < 5)
    }
    cells.write(some, str(tmp_path / "results.csv"))
    (tmp_path / "trajectories.json").unlink()
    story = Story("mnist1d", str(tmp_path))
    assert story.complete == []
    numbers = values(story)
    assert "the tables have gaps" in numbers["finished"]
    assert numbers["seeds"] == "5 to 16"
    assert write.picture(story) is None
    assert write.UNKNOWN in write.build(numbers)
