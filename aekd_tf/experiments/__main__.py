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

COMMANDS = {
    "digits": "aekd_tf.experiments.digits",
    "cifar": "aekd_tf.experiments.cifar",
    "imagenet": "aekd_tf.experiments.imagenet",
    "teachers": "aekd_tf.experiments.teachers",
    "distill": "aekd_tf.experiments.distill",
    "export": "aekd_tf.experiments.export",
    "compare": "aekd_tf.experiments.compare.__main__",
    "paper": "aekd_tf.experiments.paper.__main__",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names, and returns the exit code.

    `aekd-tf digits --ensemble_size=10` does what
    `python -m aekd_tf.experiments.digits --ensemble_size=10` does. Without a command, or with
    an unknown one, the code is 2 and the commands are listed on stderr.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in COMMANDS:
        return run(importlib.import_module(COMMANDS[name]).COMMAND, rest)
    if name in ("--version", "-V"):
        return show(f"aekd-tf {aekd_tf.__version__}")
    if name in ("--help", "-h", "help"):
        return show(_usage())
    given = f"unknown command {name!r}" if name else "a command is missing"
    print(f"error: {given}: choose one of these\n\n{_usage()}", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = ["usage: aekd-tf <command> [--flag=value ...]", ""]
    for name, module in COMMANDS.items():
        summary = (importlib.import_module(module).__doc__ or "").splitlines()[0]
        lines.append(f"  {name:10} {summary}")
    return "\n".join(
        [*lines, "", "aekd-tf <command> --help lists its flags; --version the version."]
    )


if __name__ == "__main__":
    sys.exit(main())
