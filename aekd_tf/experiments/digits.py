"""Distills on the 1,797 handwritten digits of scikit-learn, in minutes on two CPU cores.

python -m aekd_tf.experiments.digits --ensemble_size=10
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.experiment_flags import experiment_command
from aekd_tf.experiments.command.main import main
from aekd_tf.experiments.command.presets import Experiment

COMMAND = experiment_command(
    Experiment("digits", dataset="digits", datasets=("digits",), preset="quick"),
    "aekd_tf.experiments.run.distillation",
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
