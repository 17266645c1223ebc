"""Trains the teachers that are missing and reuses the others.

    python -m aekd_tf.experiments.teachers --dataset=cifar10 --teachers=resnet56 \\
        --ensemble_size=25 --output_dir=runs/cifar10
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.experiment_flags import experiment_command
from aekd_tf.experiments.command.main import main
from aekd_tf.experiments.command.presets import Experiment

COMMAND = experiment_command(
    Experiment(
        "teachers", dataset="cifar10", datasets=None, preset="paper", image_size=True, own_data=True
    ),
    "aekd_tf.experiments.run.teachers",
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
