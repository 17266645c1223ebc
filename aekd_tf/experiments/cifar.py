"""Distills on CIFAR-10 or CIFAR-100, by default with the recipe of the paper's section 4.1.

python -m aekd_tf.experiments.cifar --ensemble_size=10
python -m aekd_tf.experiments.cifar --preset=quick --ensemble_size=3
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.experiment_flags import experiment_command
from aekd_tf.experiments.command.main import main
from aekd_tf.experiments.command.presets import Experiment

COMMAND = experiment_command(
    Experiment("cifar", dataset="cifar10", datasets=("cifar10", "cifar100"), preset="paper"),
    "aekd_tf.experiments.run.distillation",
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
