"""Distills trained models into a small student, on data of your own.

    python -m aekd_tf.experiments.distill --teachers=a.keras,b.keras --student=resnet8 \\
        --data=photos
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.experiment_flags import experiment_command
from aekd_tf.experiments.command.main import main
from aekd_tf.experiments.command.presets import Experiment

COMMAND = experiment_command(
    Experiment("distill", None, None, preset="quick", image_size=True, own_data=True),
    "aekd_tf.experiments.run.distillation",
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
