"""Flags of the experiments, checked and frozen into a Config before TensorFlow loads."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from aekd_tf import models
from aekd_tf.checks import (
    BATCH_GRADIENTS,
    SOLVERS,
    WEIGHTINGS,
    check_choice,
    check_number,
    check_tolerance,
)


class UserError(Exception):
    """A mistake in what the user asked for; its message is one line and says the mend."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything an experiment depends on; the flags of the same names say what each means."""

    dataset: str
    student: str
    teachers: tuple[str, ...]
    ensemble_size: int
    weighting: str
    tolerance: float
    batch_gradient: str
    normalize: bool
    solver: str
    temperature: float
    kd_weight: float
    student_loss_weight: float
    preset: str
    epochs: int
    teacher_epochs: int
    batch_size: int
    learning_rate: float
    train_examples: int | None
    validation_examples: int | None
    seed: int
    jit_compile: bool
    data_dir: str | None
    output_dir: str
    teachers_dir: str

    # Where things lie does not change what they are.
    PLACES = ("data_dir", "output_dir", "teachers_dir")

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        check_choice("network", self.student, models.names())
        for teacher in self.teachers:
            if not teacher.endswith(".keras"):
                check_choice("network", teacher, models.names())
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_choice("batch_gradient", self.batch_gradient, BATCH_GRADIENTS)
        check_choice("solver", self.solver, SOLVERS)
        for name in ("ensemble_size", "epochs", "teacher_epochs", "batch_size"):
            _check_count(name, getattr(self, name))
        for name in ("train_examples", "validation_examples"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if len(self.teachers) not in (1, self.ensemble_size):
            raise ValueError(
                f"ensemble_size is {self.ensemble_size} but teachers names {len(self.teachers)}: "
                "name one network for all, or as many as the ensemble has"
            )
        check_tolerance(self.tolerance, self.ensemble_size if self.ensemble_size > 1 else None)
        check_number("temperature", self.temperature, above_zero=True)
        check_number("learning_rate", self.learning_rate, above_zero=True)
        check_number("kd_weight", self.kd_weight)
        check_number("student_loss_weight", self.student_loss_weight)
        if not 0 <= self.seed < TEACHER_SEEDS:
            raise ValueError(f"seed is {self.seed}: give a number from 0 to {TEACHER_SEEDS - 1}")
        for name in ("output_dir", "teachers_dir"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give a directory")
        own = [os.path.realpath(os.path.expanduser(t)) for t in self.networks() if _is_file(t)]
        if len(set(own)) < len(own):
            raise ValueError(
                "teachers names the same .keras file twice: a teacher that is there twice only "
                "counts double, leave it out"
            )
        if self.jit_compile and self.weighting == "aekd" and self.solver in ("cvxopt", "libsvm"):
            raise ValueError(
                f"jit_compile cannot compile solver={self.solver}, which leaves the graph for "
                "Python: use solver=smo or drop jit_compile"
            )

    def recorded(self) -> dict[str, Any]:
        """What identifies the run: all but where its files lie."""
        content = dataclasses.asdict(self)
        return {name: value for name, value in content.items() if name not in self.PLACES}

    def networks(self) -> list[str]:
        """The network or file of each teacher."""
        repeats = self.ensemble_size if len(self.teachers) == 1 else 1
        return list(self.teachers) * repeats


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}: give a whole number, at least 1")


PRESETS = ("quick", "paper")
# Teacher number m is trained with this seed plus m: never with a student's, which would make
# the student its twin.
TEACHER_SEEDS = 1_000_000
_PAPER = {"student": "resnet20", "teachers": "resnet56", "epochs": 350, "teacher_epochs": 240}
# What a flag that is not given means, by experiment and preset.
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "quick": {"student": "resnet8", "teachers": "resnet8", "epochs": 12, "teacher_epochs": 8},
        "paper": _PAPER,
    },
    "cifar": {
        "quick": {
            "student": "resnet8",
            "teachers": "resnet8",
            "epochs": 8,
            "teacher_epochs": 8,
            "train_examples": 4000,
        },
        "paper": _PAPER,
    },
}
_DATASETS = {
    "digits": ("digits",),
    "cifar": ("cifar10", "cifar100"),
    "teachers": ("digits", "cifar10", "cifar100"),
}
_FIRST_PRESET = {"digits": "quick", "cifar": "paper", "teachers": "paper"}


def define_flags(experiment: str) -> tuple[flags.FlagValues, dict[str, list[str]]]:
    """The flags of one experiment, in a set of their own, and their groups for `--help`."""
    values = flags.FlagValues()
    groups: dict[str, list[str]] = {}

    def add(group: str, kind: str, name: str, default: Any, text: str, **options: Any) -> None:
        presets = DEFAULTS["cifar" if experiment == "teachers" else experiment]
        if any(name in preset for preset in presets.values()):
            shown = ", ".join(
                f"{preset}: {given.get(name, 'all')}" for preset, given in presets.items()
            )
        else:
            shown = "none" if default is None else str(default)
        define = getattr(flags, f"DEFINE_{kind}")
        help_text = f"{text} (default {shown})"
        define(name, default, help_text, flag_values=values, **options)
        groups.setdefault(group, []).append(name)

    datasets = _DATASETS[experiment]
    subject = "What is distilled"
    add(subject, "string", "dataset", datasets[0], f"One of {', '.join(datasets)}.")
    add(subject, "string", "student", None, f"Network: {', '.join(models.names())}.")
    add(
        subject,
        "list",
        "teachers",
        None,
        "Network of all teachers, or a comma-separated list with one entry a teacher; an entry "
        "that ends in .keras is a trained model's file.",
    )
    add(subject, "integer", "ensemble_size", None, "Number of teachers M; else as listed, or 5.")
    weighting = "How teachers are weighted"
    add(weighting, "string", "weighting", "aekd", "aekd (adaptive) or average (AVER).")
    add(
        weighting,
        "float",
        "tolerance",
        0.6,
        "The cap C on one teacher's weight, from 1/M (the average) to 1.",
        short_name="C",
    )
    add(
        weighting,
        "string",
        "batch_gradient",
        "mean",
        "mean: gradients averaged over the batch (the authors' code); full: Eq. 15 as written.",
    )
    add(weighting, "boolean", "normalize", False, "Scale the teachers' gradients to unit length.")
    add(
        weighting,
        "string",
        "solver",
        "smo",
        "smo or projected (in the graph), cvxopt or libsvm (outside it).",
    )
    loss = "Loss"
    add(loss, "float", "temperature", 4.0, "T of the softened outputs.")
    add(loss, "float", "kd_weight", 0.9, "Weight of the distillation loss, lambda of Eq. 7.")
    add(loss, "float", "student_loss_weight", 1.0, "Weight of the cross-entropy with the labels.")
    training = "Training"
    add(
        training,
        "string",
        "preset",
        _FIRST_PRESET[experiment],
        "paper: section 4.1's recipe; quick: small networks, minutes on two CPU cores.",
    )
    add(training, "integer", "epochs", None, "Epochs of each student.")
    add(training, "integer", "teacher_epochs", None, "Epochs of each teacher.")
    add(training, "integer", "batch_size", 64, "Images a step.")
    add(
        training,
        "float",
        "learning_rate",
        0.05,
        "Of SGD at the start; x0.1 at the recipe's milestones, in proportion to the epochs.",
    )
    add(training, "integer", "train_examples", None, "Use only the first so many training images.")
    add(
        training,
        "integer",
        "validation_examples",
        None,
        "Held out of the training set; unset: 237 of digits, 5000 of CIFAR.",
    )
    add(
        training,
        "integer",
        "seed",
        0,
        "Of the students. The teachers' seeds do not depend on it, so runs can share teachers.",
    )
    add(
        training,
        "boolean",
        "jit_compile",
        False,
        "Compile whole training steps with XLA; results then repeat only on the same device.",
    )
    files = "Files"
    add(
        files,
        "string",
        "data_dir",
        None,
        "Where TensorFlow Datasets keeps its data; unset: TFDS_DATA_DIR or its own folder.",
    )
    add(
        files,
        "string",
        "output_dir",
        f"runs/{experiment}",
        "Results, logs, models. A run repeated here goes on with what is finished.",
    )
    add(
        files,
        "string",
        "teachers_dir",
        None,
        "Teachers' files, made where missing; delete one to retrain it. Unset: "
        "<output_dir>/teachers.",
    )
    return values, groups


def help_text(experiment: str) -> str:
    """What `--help` prints: our flags alone, by group, each with its default and meaning."""
    values, groups = define_flags(experiment)
    lines = [f"usage: python -m aekd_tf.experiments.{experiment} [--flag=value ...]", ""]
    for group, names in groups.items():
        lines += [group]
        for name in names:
            flag = values[name]
            title = f"  --{name}" + (f", -{flag.short_name}" if flag.short_name else "")
            lines += [
                title,
                *textwrap.wrap(flag.help, 84, initial_indent=" " * 6, subsequent_indent=" " * 6),
            ]
        lines += [""]
    logs = f"{values['output_dir'].default}/logs"
    lines += [f"TensorBoard: tensorboard --host=localhost --logdir={logs}"]
    return "\n".join(lines)


def parse(experiment: str, arguments: Sequence[str]) -> Config | None:
    """The Config that the command line asks for; None for `--help`.

    Raises:
        UserError: an unknown flag, a value of the wrong kind or out of range.
    """
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in arguments):
        return None
    values, _ = define_flags(experiment)
    try:
        rest = values([experiment, *arguments])
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())} (--help lists the flags)") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
    given = values.flag_values_dict()
    try:
        return _resolve(experiment, {name: given[name] for name in _flag_names(experiment)})
    except ValueError as error:
        raise UserError(str(error)) from error


def _flag_names(experiment: str) -> list[str]:
    return [name for names in define_flags(experiment)[1].values() for name in names]


def _resolve(experiment: str, given: dict[str, Any]) -> Config:
    check_choice("preset", given["preset"], PRESETS)
    check_choice("dataset", given["dataset"], _DATASETS[experiment])
    family = "digits" if given["dataset"] == "digits" else "cifar"
    defaults = DEFAULTS[family][given["preset"]]
    content: dict[str, Any] = {
        name: defaults.get(name) if value is None else value for name, value in given.items()
    }
    teachers = content["teachers"]
    content["teachers"] = tuple([teachers] if isinstance(teachers, str) else teachers)
    if not all(content["teachers"]) or not content["teachers"]:
        raise ValueError("teachers has an empty entry: name networks, separated by commas")
    if content["ensemble_size"] is None:
        count = len(content["teachers"])
        content["ensemble_size"] = count if count > 1 or _is_file(content["teachers"][0]) else 5
    if content["teachers_dir"] is None:
        content["teachers_dir"] = os.path.join(content["output_dir"], "teachers")
    for name in Config.PLACES:
        content[name] = content[name] and os.path.expanduser(content[name])
    return Config(**content)


def _is_file(teacher: str) -> bool:
    return teacher.endswith(".keras")
