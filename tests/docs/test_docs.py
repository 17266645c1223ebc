"""Every command in docs/experiments.md is one that the programs take."""

import re
from pathlib import Path

import pytest
from tools.commands import parse

TEXT = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"`python -m aekd_tf\.experiments\.(\w+) ([^`]+)`", TEXT)


def test_every_cell_has_its_command():
    assert len(COMMANDS) == 2 * 2 * 6 + 2 * 6 + 1 + 3
    directories = [parse(name, text.split()).output_dir for name, text in COMMANDS]
    assert len(set(directories)) == len(directories)


def test_small_form_of_a_row():
    """Flags at the end replace those of the row."""
    small = ["--preset=quick", "--student=resnet8", "--teachers=resnet8"]
    for name, text in COMMANDS:
        config = parse(name, [*text.split(), *small])
        assert (config.student, config.teachers) == ("resnet8", ("resnet8",))


@pytest.mark.parametrize("preset", ["paper", "quick"])
def test_commands_parse(preset):
    for name, text in COMMANDS:
        config = parse(name, [*text.split(), f"--preset={preset}"])
        if name == "cifar" and len(config.teachers) == 1:
            assert config.teachers == ("resnet56",)
            assert config.hint_weight == "cv"
            assert {"average", "aekd", "fitnets", "aekd_hints"} <= set(config.methods)
        if preset == "paper" and config.student == "mobilenetv2":
            assert (config.epochs, config.learning_rate) == (240, 0.01)
