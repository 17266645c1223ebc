"""Parses and checks the flags that choose among the paper's tables and figures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from aekd_tf.checks import check_choice
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import Flags
from aekd_tf.experiments.paper import cells, grids


@dataclasses.dataclass(frozen=True)
class PaperConfig:
    """All settings of the command; the flags of the same names explain them."""

    tables: tuple[int, ...]
    figures: tuple[int, ...]
    questions: tuple[int, ...]
    preset: str
    seeds: int
    render: bool
    data_dir: str | None
    output_dir: str
    teachers_dir: str
    strategy: str = "none"

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, tuple(grids.PRESETS))
        known = {"table": (1, 2, 3), "figure": (2, 3), "question": (1, 2, 3)}
        given = {"table": self.tables, "figure": self.figures, "question": self.questions}
        for name, numbers in given.items():
            for number in numbers:
                if number not in known[name]:
                    choices = ", ".join(str(choice) for choice in known[name])
                    raise ValueError(f"{name} is {number}: choose from {choices}")
        if not any(given.values()):
            raise ValueError("nothing is requested: give --table, --figure or --question")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: give a whole number, at least 1")
        if not self.output_dir:
            raise ValueError("output_dir is empty: give a directory")


def define() -> Flags:
    """Returns the command's flags."""
    flags = Flags("paper")

    def add(kind: str, name: str, default: Any, text: str) -> None:
        flags.add("", kind, name, default, text)

    add("list", "table", None, "Tables to compute: 1, 2, 3.")
    add("list", "figure", None, "Figures to compute: 2, 3.")
    add("list", "question", None, "Questions to answer: 1, 2, 3.")
    add(
        "string",
        "preset",
        "digits",
        "paper: section 4.1's recipe on CIFAR and ImageNet, GPUs for weeks; quick: CIFAR-10 cut to "
        "10,000 images and small networks; digits: minutes to hours on two CPU cores.",
    )
    add("integer", "seeds", None, "Students per cell. Unset: 10 with digits, else 3.")
    add("boolean", "render", False, "Compute nothing, and write the report of the finished cells.")
    add("string", "data_dir", None, "Directory of TensorFlow Datasets. Unset: its default.")
    add(
        "string", "output_dir", None, "Directory of results and report. Unset: runs/paper_<preset>."
    )
    add(
        "string",
        "teachers_dir",
        None,
        "Directory of the teachers' files. Unset: <output_dir>/teachers.",
    )
    return flags


def parse(arguments: Sequence[str]) -> PaperConfig | None:
    """Parses the command line; None for `--help`.

    Raises:
        UserError: an unknown flag, a value out of range.
    """
    given = define().parse(arguments)
    if given is None:
        return None
    try:
        preset = grids.PRESETS.get(given["preset"])
        output_dir = given["output_dir"]
        output_dir = f"runs/paper_{given['preset']}" if output_dir is None else output_dir
        output_dir = os.path.expanduser(output_dir)
        seeds = given["seeds"]
        return PaperConfig(
            _numbers("table", given["table"]),
            _numbers("figure", given["figure"]),
            _numbers("question", given["question"]),
            given["preset"],
            preset.seeds if seeds is None and preset else seeds,
            given["render"],
            given["data_dir"] and os.path.expanduser(given["data_dir"]),
            output_dir,
            os.path.expanduser(given["teachers_dir"] or os.path.join(output_dir, "teachers")),
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def _numbers(name: str, given: list[str] | None) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in given or ())
    except ValueError as error:
        raise ValueError(f"{name} is {','.join(given or ())}: give numbers") from error


def requested_cells(config: PaperConfig) -> list[cells.Cell]:
    """Returns all cells that are requested, once per seed."""
    preset = grids.PRESETS[config.preset]
    requested = [cell for number in config.tables for cell in grids.table(number, preset)]
    requested += [cell for number in config.figures for cell in grids.figure(number, preset)]
    requested += [cell for number in config.questions for cell in grids.question(number, preset)]
    return grids.over_seeds(requested, config.seeds)
