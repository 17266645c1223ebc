"""Distills an ensemble of Keras models into one small student: the program `aekd-tf`.

aekd-tf digits --ensemble_size=10
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import aekd_tf
from aekd_tf.experiments.command.main import main as run
from aekd_tf.experiments.command.main import show

# By name: the module, and the first line of its docstring, which `--help` shows without it.
COMMANDS = {
    "digits": (
        "aekd_tf.experiments.digits",
        "Distills on the 1,797 handwritten digits of scikit-learn, in minutes on two CPU cores.",
    ),
    "cifar": (
        "aekd_tf.experiments.cifar",
        "Distills on CIFAR-10 or CIFAR-100, by default with the recipe of the paper's section 4.1.",
    ),
    "imagenet": (
        "aekd_tf.experiments.imagenet",
        "Distills on ImageNet, or on any other image classification set of TensorFlow Datasets.",
    ),
    "teachers": (
        "aekd_tf.experiments.teachers",
        "Trains the teachers that are missing and reuses the others.",
    ),
    "distill": (
        "aekd_tf.experiments.distill",
        "Distills trained models into a small student, on data of your own.",
    ),
    "export": (
        "aekd_tf.experiments.export",
        "Writes a student for another runtime, runs the file on test images, and prints a table.",
    ),
    "compare": (
        "aekd_tf.experiments.compare.__main__",
        "Compares weightings on settings with good and spoilt teachers, over seeds.",
    ),
    "paper": (
        "aekd_tf.experiments.paper.__main__",
        "Computes the paper's tables and figures, with error bars, at the scale of a preset.",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names, and returns the exit code.

    `aekd-tf digits --ensemble_size=10` does what
    `python -m aekd_tf.experiments.digits --ensemble_size=10` does. Without a command, or with
    an unknown one, the code is 2 and the commands are listed on stderr.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in COMMANDS:
        if arguments is None:
            sys.argv = [sys.argv[0], *rest]
        command = importlib.import_module(COMMANDS[name][0]).COMMAND
        return run(command, None if arguments is None else rest)
    if name in ("--version", "-V"):
        return show(f"aekd-tf {aekd_tf.__version__}")
    if name in ("--help", "-h", "help"):
        return show(_usage())
    given = f"unknown command {name!r}" if name else "a command is missing"
    print(f"error: {given}: choose one of these\n\n{_usage()}", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = ["usage: aekd-tf <command> [--flag=value ...]", ""]
    lines += [f"  {name:10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "aekd-tf <command> --help lists its flags; --version the version."]
    )


if __name__ == "__main__":
    sys.exit(main())
