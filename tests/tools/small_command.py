"""Runs a command in a process of its own, made small by `small_runs.py`.

python tests/tools/small_command.py digits --output_dir=...
"""

import dataclasses
import os
import subprocess
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from aekd_tf.experiments.command.main import main
from tools.commands import command


def start(name, *arguments):
    """Starts it."""
    return subprocess.Popen(
        [sys.executable, __file__, name, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(name, arguments):
    """Runs it; its exit code."""
    return main(dataclasses.replace(command(name), module="tools.small_runs"), arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
