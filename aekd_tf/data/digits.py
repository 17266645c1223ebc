"""Loads the 1,797 handwritten digits that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from aekd_tf.data.dataset import Split

_DIGITS_TEST_EXAMPLES = 360


def load_digits() -> tuple[Split, Split, dict[str, Any]]:
    """Loads the training and test images, and returns further fields of a `Dataset`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=_DIGITS_TEST_EXAMPLES, random_state=0, stratify=labels
    )
    details = {"num_classes": 10, "mean": (4.884,), "std": (6.017,), "crop_padding": 1}
    training, test = Split(train_images, train_labels), Split(test_images, test_labels)
    return training, test, {**details, "flip": False}
