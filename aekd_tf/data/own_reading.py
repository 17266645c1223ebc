"""Reads a user's data as stored: a table, arrays, a folder of images, or a set of TFDS."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from aekd_tf.data import folder, splitting, streaming, table
from aekd_tf.data.dataset import DataError
from aekd_tf.data.tfds import prepared_builder


@dataclasses.dataclass(frozen=True)
class Read:
    """What was read: inputs and labels by split, or of `"all"`."""

    inputs: dict[str, Any]
    labels: dict[str, np.ndarray]
    digests: dict[str, list[str]]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


def read_table(path: str, label: Sequence[str]) -> Read:
    """Reads a `.csv` or a `.npz` file; `label` names label columns."""
    if path.endswith(".npz") and label:
        raise DataError("label names columns of a .csv file: leave it out for a .npz file")
    read = table.read_csv(path, label) if path.endswith(".csv") else table.read_npz(path)
    inputs = {split: x for split, (x, _) in read.parts.items()}
    labels = {split: y for split, (_, y) in read.parts.items()}
    made = {split: splitting.digests(labels[split].tolist(), inputs[split]) for split in inputs}
    return Read(inputs, labels, made, read.columns)


def read_folder(path: str, augment: str, size: int) -> Read:
    """Reads a folder; images of one small size are held in memory."""
    files, notes = folder.scan(path)
    names = sorted({file.label for file in files})
    if len(names) < 2:
        raise DataError(f"{path} has images of one class, {names[0]}: give at least two classes")
    shapes = {file.shape for file in files}
    in_memory = augment != "resized_crop" and len(shapes) == 1 and files[0].pixels is not None
    inputs: dict[str, Any] = {}
    labels: dict[str, np.ndarray] = {}
    digests: dict[str, list[str]] = {}
    for split in ("all", *table.SPLITS):
        of_split = [file for file in files if file.split == split]
        if not of_split:
            continue
        labels[split] = np.array([names.index(file.label) for file in of_split])
        digests[split] = splitting.digests(
            [file.label for file in of_split], [file.digest.encode() for file in of_split]
        )
        if in_memory:
            inputs[split] = np.stack([file.pixels for file in of_split if file.pixels is not None])
        else:
            paths, contents = zip(*((file.path, file.digest) for file in of_split), strict=True)
            inputs[split] = folder.FolderSplit(paths, contents, labels[split], size)
    return Read(inputs, labels, digests, notes=tuple(notes), classes=tuple(names))


def read_tfds(name: str, data_dir: str | None, size: int) -> Read:
    """Reads a set of TensorFlow Datasets; small images are held in memory."""
    builder = prepared_builder(name, data_dir)
    features, keys = streaming.image_features(name, builder)
    inputs: dict[str, Any] = {}
    labels: dict[str, np.ndarray] = {}
    digests: dict[str, list[str]] = {}
    known = set(builder.info.splits)
    test = "validation" if name.startswith("imagenet") or "test" not in known else "test"
    wanted = {"train": "train", "test": test}
    if {"train", "validation", "test"} <= known and test == "test":
        wanted["validation"] = "validation"
    if "train" not in known:
        raise DataError(f"{name} has no split 'train', only {', '.join(known)}")
    height, width, _ = features[0].shape
    small = None not in (height, width) and max(height, width) <= folder.SMALL
    for split, instruction in wanted.items():
        if instruction not in known:
            continue
        count = builder.info.splits[instruction].num_examples
        stored = "all" if test not in known else split
        part = streaming.TfdsSplit(builder, instruction, count, size, *keys, scale=None, flip=False)
        values, images = [], []
        digests[stored] = []
        for content, value in part.read().as_numpy_iterator():  # one after the other in memory
            values.append(int(value))
            digests[stored] += splitting.digests([int(value)], [bytes(content)])
            if small:
                images.append(streaming.decode(content).numpy())
        labels[stored] = np.array(values)
        inputs[stored] = np.stack(images) if small else part
    return Read(inputs, labels, digests, classes=tuple(features[1].names))
