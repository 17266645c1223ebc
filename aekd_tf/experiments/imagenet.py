"""Distil on ImageNet, or on any other image classification set of TensorFlow Datasets.

python -m aekd_tf.experiments.imagenet --ensemble_size=5
python -m aekd_tf.experiments.imagenet --preset=quick --dataset=imagenette --ensemble_size=2
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.main import main

if __name__ == "__main__":
    sys.exit(main("imagenet"))
