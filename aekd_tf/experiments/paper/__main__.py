"""Computes the paper's tables and figures, with error bars, at the scale of a preset.

python -m aekd_tf.experiments.paper --preset=digits --table=1 --figure=2,3 --seeds=10
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.main import Command, main
from aekd_tf.experiments.paper.config import define, parse

COMMAND = Command(parse, lambda: define().help_text(), "aekd_tf.experiments.paper.run")

if __name__ == "__main__":
    sys.exit(main(COMMAND))
