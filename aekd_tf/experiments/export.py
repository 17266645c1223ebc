"""Writes a student for another runtime, runs the file on test images, and prints a table.

python -m aekd_tf.experiments.export --run=runs/digits --format=litert --quantize=int8
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.export_flags import define, parse
from aekd_tf.experiments.command.main import Command, main

COMMAND = Command(parse, lambda: define().help_text(), "aekd_tf.experiments.run.export")

if __name__ == "__main__":
    sys.exit(main(COMMAND))
