"""Compares weightings on settings with good and spoilt teachers, over seeds.

python -m aekd_tf.experiments.compare --preset=mnist1d
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.main import Command, main
from aekd_tf.experiments.compare.config import define, parse

COMMAND = Command(parse, lambda: define().help_text(), "aekd_tf.experiments.compare.run")

if __name__ == "__main__":
    sys.exit(main(COMMAND))
