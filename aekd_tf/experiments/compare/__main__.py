"""Compares weightings on settings with good and spoilt teachers, over seeds.

python -m aekd_tf.experiments.compare --preset=mnist1d
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from aekd_tf.experiments.command.main import Command, main
from aekd_tf.experiments.compare.config import CompareConfig, define, parse


def _parse(arguments: Sequence[str]) -> CompareConfig | None:
    config = parse(arguments)
    if config is not None and config.recipe.jit_compile:
        # Tiny networks run faster with one thread per operation. TensorFlow reads it as it starts.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    return config


COMMAND = Command(_parse, lambda: define().help_text(), "aekd_tf.experiments.compare.run")

if __name__ == "__main__":
    sys.exit(main(COMMAND))
