"""Generates MNIST-1D: signals of the ten digits, random in place, scale, slope and noise.

Nothing is downloaded. The data set is small enough for hundreds of trainings, and hard enough
to tell them apart.

Reference: Greydanus, Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np

from aekd_tf.data.dataset import DataError, Split

TRAINING_SIGNALS, TEST_SIGNALS = 4500, 10_000
_TRAINING_SEED, _TEST_SEED = 1, 2


def load_mnist1d() -> tuple[Split, Split, dict[str, Any]]:
    """Generates the training and test signals, and returns further fields of a `Dataset`.

    Raises:
        DataError: the package `mnist1d` is missing.
    """
    training = _generated(TRAINING_SIGNALS, _TRAINING_SEED)
    test = _generated(TEST_SIGNALS, _TEST_SEED)
    details = {"num_classes": 10, "mean": (0.0,), "std": (1.0,), "crop_padding": 0}
    return training, test, {**details, "flip": False}


@functools.cache
def _generated(count: int, seed: int) -> Split:
    """Returns standardized signals `[N, 40, 1]` float32 and their labels."""
    try:
        from mnist1d import data
    except ImportError as error:
        raise DataError(
            "mnist1d requires the package of that name: pip install 'aekd_tf[evidence]'"
        ) from error
    arguments = data.get_dataset_args()
    arguments.num_samples, arguments.train_split, arguments.seed = count, 1.0, seed
    # The package seeds the global generators.
    states = random.getstate(), np.random.get_state()
    try:
        content = data.make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return Split(content["x"].astype(np.float32)[..., None], content["y"].astype(np.int64))
