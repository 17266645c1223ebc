"""Runs the package's commands as a user types them, in this process or in one of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from typing import NamedTuple

from aekd_tf.experiments.command.main import main as run

# Flags that make a run on digits small.
SMALL = ("--epochs=2", "--teacher_epochs=2", "--train_examples=200", "--batch_size=50")


def command(name):
    """The `Command` of `python -m aekd_tf.experiments.<name>`."""
    module = f"aekd_tf.experiments.{name}" + (".__main__" if name in ("paper", "compare") else "")
    return importlib.import_module(module).COMMAND


def main(name, arguments):
    """Runs a command in this process; its exit code."""
    return run(command(name), list(arguments))


class Done(NamedTuple):
    """What a command did, as `subprocess` reports it."""

    returncode: int
    stdout: str
    stderr: str


def call(name, *arguments):
    """Runs a command in this process, which has paid for TensorFlow's start already."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(name, arguments)
    return Done(code, out.getvalue(), err.getvalue())


def parse(name, arguments):
    """The configuration that a command line asks for."""
    return command(name).parse(arguments)


def launch(name, *arguments, **environment):
    """Runs a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"aekd_tf.experiments.{name}", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
