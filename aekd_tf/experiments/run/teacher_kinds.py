"""Says in numbers how teachers are spoilt, for every experiment that spoils some."""

from __future__ import annotations

import numpy as np

# Share of the training images whose label is random.
RANDOM_LABELS = {"labels40": 0.4, "labels80": 0.8}
UNDERTRAINED_DIVISOR = 20
CONFIDENT_SCALE = 5.0


def random_labels(labels: np.ndarray, share: float, num_classes: int, seed: int) -> np.ndarray:
    """Returns the labels, of which a share is replaced by random ones."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, num_classes, len(labels))
    chosen = generator.random(len(labels)) < share
    return np.where(chosen, drawn, labels).astype(labels.dtype)


def confident(num_classes: int) -> np.ndarray:
    """Returns `[K, K]` for `logits @ matrix`: five times as large, moved to the next class."""
    return CONFIDENT_SCALE * np.roll(np.eye(num_classes, dtype=np.float32), 1, axis=1)
