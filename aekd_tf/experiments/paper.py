"""The paper's tables and figures, with error bars, at a scale to be chosen.

python -m aekd_tf.experiments.paper --preset=digits --table=1 --figure=2,3 --seeds=10
"""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from aekd_tf.checks import check_choice
from aekd_tf.experiments import cells, grids, output
from aekd_tf.experiments.config import UserError
from aekd_tf.experiments.main import main


@dataclasses.dataclass(frozen=True)
class PaperConfig:
    """What is asked for; the flags of the same names say what each means."""

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
                    raise ValueError(f"{name} is {number}: choose of {choices}")
        if not any(given.values()):
            raise ValueError("nothing is asked for: give --table, --figure or --question")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: give a whole number, at least 1")
        if not self.output_dir:
            raise ValueError("output_dir is empty: give a directory")


def _define() -> flags.FlagValues:
    values = flags.FlagValues()

    def add(kind: str, name: str, default: Any, text: str) -> None:
        shown = "none" if default is None else default
        define = getattr(flags, f"DEFINE_{kind}")
        define(name, default, f"{text} (default {shown})", flag_values=values)

    add("list", "table", None, "Tables to compute, of 1, 2, 3.")
    add("list", "figure", None, "Figures to compute, of 2, 3.")
    add("list", "question", None, "Questions to answer, of 1, 2, 3.")
    add(
        "string",
        "preset",
        "digits",
        "paper: section 4.1's recipe on CIFAR and ImageNet, GPUs for weeks; quick: CIFAR-10 cut to "
        "10,000 images and small networks; digits: minutes to hours on two CPU cores.",
    )
    add("integer", "seeds", None, "Students a cell; unset: 10 with digits, else 3.")
    add("boolean", "render", False, "Compute nothing, write the report of what is finished.")
    add("string", "data_dir", None, "Where TensorFlow Datasets keeps its data.")
    add("string", "output_dir", None, "Results and report; unset: runs/paper_<preset>.")
    add("string", "teachers_dir", None, "Teachers' files; unset: <output_dir>/teachers.")
    return values


def help_text() -> str:
    """What `--help` prints."""
    values = _define()
    lines = ["usage: python -m aekd_tf.experiments.paper [--flag=value ...]", ""]
    places = ("data_dir", "output_dir", "teachers_dir")
    for name in ("table", "figure", "question", "preset", "seeds", "render", *places):
        lines.append(f"  --{name}")
        indent = " " * 6
        text = values[name].help
        lines += textwrap.wrap(text, 84, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> PaperConfig | None:
    """What the command line asks for; None for `--help`.

    Raises:
        UserError: an unknown flag, a value out of range.
    """
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in arguments):
        return None
    values = _define()
    try:
        rest = values(["paper", *arguments])
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())} (--help lists the flags)") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
    given = values.flag_values_dict()
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


def wanted(config: PaperConfig) -> list[cells.Cell]:
    """All cells that are asked for, once a seed."""
    preset = grids.PRESETS[config.preset]
    found = [cell for number in config.tables for cell in grids.table(number, preset)]
    found += [cell for number in config.figures for cell in grids.figure(number, preset)]
    found += [cell for number in config.questions for cell in grids.question(number, preset)]
    return grids.over_seeds(found, config.seeds)


def run(config: PaperConfig) -> None:
    """Computes what is missing and writes the report."""
    from aekd_tf.experiments.sweep import Sweep

    asked = wanted(config)
    output.make_directory(config.output_dir, "--output_dir")
    preset = grids.PRESETS[config.preset]
    with output.locked(config.output_dir, "--output_dir"):
        sweep = Sweep(preset, config.output_dir, config.teachers_dir, config.data_dir)
        if not config.render:
            sweep.run(asked)
        write_report(config, sweep.results, sweep.trajectories)
    there = sum(cell in sweep.results for cell in asked)
    print(f"{there} of {len(asked)} cells; report: {config.output_dir}/report.html, report.md")


def write_report(config: PaperConfig, results: Any, trajectories: Any) -> None:
    """`report.md`, `report.html` and their pictures, in the output directory."""
    from aekd_tf.experiments import report

    parts = report_parts(config, results, trajectories, config.output_dir)
    title = f"AE-KD, preset {config.preset}"
    for name, text in {
        "report.md": report.markdown(parts),
        "report.html": report.page(parts, config.output_dir, title),
    }.items():
        with open(os.path.join(config.output_dir, name), "w", encoding="utf-8") as file:
            file.write(text)


def report_parts(config: PaperConfig, results: Any, trajectories: Any, directory: str) -> list[Any]:
    """Everything that is asked for; pictures are written to `directory`."""
    from aekd_tf.experiments import paper_report
    from aekd_tf.experiments.report import Code, Heading, Text

    preset = grids.PRESETS[config.preset]
    asked = {"table": config.tables, "figure": config.figures, "question": config.questions}
    options = [f"--{k}={','.join(map(str, v))}" for k, v in asked.items() if v]
    command = ["python -m aekd_tf.experiments.paper", f"--preset={config.preset}", *options]
    parts: list[Any] = [
        Heading(f"AE-KD, preset {config.preset}", 1),
        Code(" ".join([*command, f"--seeds={config.seeds}"])),
        Text(
            "Test accuracy in %, mean and 95% interval (Student's t) over n student seeds; the "
            "teachers are the same for all. `minus average` is the difference, in points, to AVER "
            "(for AE-KD* to FitNets) on the same seeds and teachers. Every training has the flags "
            f"`{' '.join(preset.flags)}`; C is {grids.TOLERANCE} where it is not named. `mean "
            "teacher` is the teachers' own mean test accuracy, beside the vote of the ensemble."
        ),
    ]
    for number in config.tables:
        parts += paper_report.table_parts(number, preset, results, directory)
    for number in config.figures:
        parts += paper_report.figure_parts(number, preset, results, directory)
    for number in config.questions:
        parts += paper_report.question_parts(number, preset, results, trajectories, directory)
    return parts


if __name__ == "__main__":
    sys.exit(main("paper"))
