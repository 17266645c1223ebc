"""Loads CIFAR-10 and CIFAR-100 into memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from aekd_tf.data.dataset import DataError, Split
from aekd_tf.data.tfds import first_line, prepared_builder

# Statistics of the training images per channel, from the authors' code.
_CIFAR = {
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
}


def load_cifar(name: str, data_dir: str | None) -> tuple[Split, Split, dict[str, Any]]:
    """Loads the training and test images, and returns further fields of a `Dataset`.

    Raises:
        DataError: the data are not on disk and cannot be downloaded, or cannot be read.
    """
    builder = prepared_builder(name, data_dir)
    splits = []
    for split in ("train", "test"):
        try:
            content = builder.as_dataset(split=split, batch_size=-1)
        except Exception as error:
            raise DataError(
                f"{name} in {builder.data_path} cannot be read ({first_line(error)}): delete that "
                "folder to have it downloaded again, or give another data_dir"
            ) from error
        splits.append(Split(content["image"].numpy(), content["label"].numpy().astype(np.int64)))
    scale = {key: tuple(255 * v for v in values) for key, values in _CIFAR[name].items()}
    details = {"num_classes": builder.info.features["label"].num_classes, **scale}
    return splits[0], splits[1], {**details, "crop_padding": 4, "flip": True}
