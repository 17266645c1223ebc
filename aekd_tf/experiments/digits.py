"""Distil on scikit-learn's 1,797 handwritten digits: no download, minutes on two CPU cores.

python -m aekd_tf.experiments.digits --ensemble_size=10
"""

from __future__ import annotations

import sys

from aekd_tf.experiments.main import main

if __name__ == "__main__":
    sys.exit(main("digits"))
