"""Distills on ImageNet, or on any other image classification set of TensorFlow Datasets.

python -m aekd_tf.experiments.imagenet --ensemble_size=5
python -m aekd_tf.experiments.imagenet --preset=quick --dataset=imagenette --ensemble_size=2
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.command.experiment_flags import experiment_command
from aekd_tf.experiments.command.main import main
from aekd_tf.experiments.command.presets import Experiment

COMMAND = experiment_command(
    Experiment("imagenet", dataset="imagenet2012", datasets=None, preset="paper", image_size=True),
    "aekd_tf.experiments.run.distillation",
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
