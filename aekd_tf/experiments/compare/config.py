"""Parses and checks the flags of the comparison."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

from aekd_tf.checks import check_choice
from aekd_tf.experiments.command.config import TEACHER_SEEDS
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import Flags
from aekd_tf.experiments.compare import weightings
from aekd_tf.experiments.compare.cells import Cell
from aekd_tf.experiments.compare.recipes import PRESETS, RECIPES, Recipe
from aekd_tf.experiments.compare.settings import SETTINGS


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """All settings of the command; the flags of the same names explain them."""

    weightings: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: str
    dataset: str
    render: bool
    data_dir: str | None
    output_dir: str
    teachers_dir: str
    strategy: str = "none"

    def __post_init__(self) -> None:
        check_choice("dataset", self.dataset, RECIPES)
        for name, given, known in (
            ("weighting", self.weightings, weightings.NAMES),
            ("setting", self.settings, SETTINGS),
        ):
            for value in given:
                check_choice(name, value, known)
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name}s is empty or names one twice: name each once")
        if weightings.AVERAGE not in self.weightings:
            raise ValueError("weightings has no average, with which all are compared: add it")
        if not self.output_dir:
            raise ValueError("output_dir is empty: give a directory")

    @property
    def recipe(self) -> Recipe:
        """Returns the networks and trainings."""
        return RECIPES[self.dataset].shortened(PRESETS[self.preset].shorter)

    @property
    def command(self) -> str:
        """Returns the command that asks for the same."""
        names = ("preset", "dataset", "weightings", "settings", "seeds")
        values = {name: getattr(self, name) for name in names}
        values["seeds"] = spans(self.seeds)
        flags = [
            f"--{name}={','.join(value) if isinstance(value, tuple) else value}"
            for name, value in values.items()
        ]
        return " ".join(["python -m aekd_tf.experiments.compare", *flags])

    def cells(self) -> list[Cell]:
        """Returns all cells that are requested and make sense, each once."""
        size = self.recipe.size
        return list(
            dict.fromkeys(
                Cell(setting, weightings.resolved(name, SETTINGS[setting]), seed)
                for setting in self.settings
                for name in self.weightings
                if weightings.fits(name, SETTINGS[setting], size)
                for seed in self.seeds
            )
        )


def define() -> Flags:
    """Returns the command's flags."""
    flags = Flags("compare")

    def add(kind: str, name: str, default: Any, text: str) -> None:
        flags.add("", kind, name, default, text)

    add(
        "string",
        "preset",
        "mnist1d",
        f"What is compared: {', '.join(PRESETS)}. mnist1d takes about an hour and a half on two "
        "CPU cores, quick some minutes.",
    )
    add("list", "weightings", None, f"{', '.join(weightings.NAMES)}. Unset: the preset's.")
    add("list", "settings", None, f"{', '.join(SETTINGS)}. Unset: the preset's.")
    add("string", "seeds", None, "Seeds of the students, such as 0-15 or 0,2,5-7. Unset: preset's.")
    add("string", "dataset", None, f"{', '.join(RECIPES)}. Unset: the preset's.")
    add("boolean", "render", False, "Compute nothing, and write the report of the finished cells.")
    add("string", "data_dir", None, "Directory of TensorFlow Datasets. Unset: its default.")
    add("string", "output_dir", None, "Directory of the results. Unset: runs/compare_<preset>.")
    add("string", "teachers_dir", None, "Directory of teachers. Unset: <output_dir>/teachers.")
    return flags


def parse(arguments: Sequence[str]) -> CompareConfig | None:
    """Parses the command line; None for `--help`.

    Raises:
        UserError: an unknown flag, a value out of range.
    """
    given = define().parse(arguments)
    if given is None:
        return None
    try:
        check_choice("preset", given["preset"], PRESETS)
        preset = PRESETS[given["preset"]]
        output_dir = given["output_dir"]
        output_dir = f"runs/compare_{given['preset']}" if output_dir is None else output_dir
        output_dir = os.path.expanduser(output_dir)

        def names(flag: str) -> tuple[str, ...]:
            return tuple(getattr(preset, flag) if given[flag] is None else given[flag])

        return CompareConfig(
            names("weightings"),
            names("settings"),
            tuple(range(preset.seeds)) if given["seeds"] is None else seeds(given["seeds"]),
            given["preset"],
            preset.dataset if given["dataset"] is None else given["dataset"],
            given["render"],
            given["data_dir"] and os.path.expanduser(given["data_dir"]),
            output_dir,
            os.path.expanduser(given["teachers_dir"] or os.path.join(output_dir, "teachers")),
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def seeds(text: str) -> tuple[int, ...]:
    """Returns the numbers that `0-3,7` names, in order.

    Raises:
        ValueError: other text, or no number from 0 on below the teachers' seeds.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(n or match[1]) for n in match.groups()) if match else (1, 0)
        if not first <= last < TEACHER_SEEDS:
            raise ValueError(f"seeds is {text!r}: give numbers and spans such as 0-15 or 0,2,5-7")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def spans(numbers: Sequence[int]) -> str:
    """Returns the text that `seeds` takes."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
