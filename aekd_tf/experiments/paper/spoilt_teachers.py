"""Makes groups of teachers for the paper's tables: trained as usual, or some of them spoilt.

The name of a group is its network, `mixed`, or network`+`kind`x`count. For example,
`resnet14+labels80x4` are resnet14 teachers; the first four were trained on labels that are
random for 80% of the images. The kinds:

- `labels40`, `labels80`: random labels for 40 or 80% of the training images.
- `undertrained`: a twentieth of the epochs.
- `uniform`: the same probability for all classes, whatever the image.
- `confident`: a good teacher's logits, moved to the next class and five times as large.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from aekd_tf import data
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.paper import grids
from aekd_tf.experiments.run import teachers
from aekd_tf.experiments.run.teacher_kinds import (
    RANDOM_LABELS,
    UNDERTRAINED_DIVISOR,
    confident,
    random_labels,
)
from aekd_tf.experiments.run.teachers import Teacher, Traced


def plan(config: Config, dataset: data.Dataset, group: str) -> list[Teacher]:
    """Returns the teachers of `group`; `config` gives their number and their directory."""
    usual = teachers.plan(config, dataset)
    kind, count = grids.spoilt(group)
    return [_spoil(teacher, kind) if i < count else teacher for i, teacher in enumerate(usual)]


def _spoil(teacher: Teacher, kind: str) -> Teacher:
    settings: dict[str, Any] = {**(teacher.settings or {}), "kind": kind}
    if kind in RANDOM_LABELS:
        settings["random_labels"] = RANDOM_LABELS[kind]
    elif kind == "undertrained":
        settings["epochs"] = max(1, settings["epochs"] // UNDERTRAINED_DIVISOR)
    directory, file = os.path.split(teacher.path)
    return dataclasses.replace(
        teacher,
        name=f"{teacher.name}_{kind}",
        path=os.path.join(directory, file.replace(".keras", f"_{kind}.keras")),
        settings=settings,
    )


def train(
    config: Config, dataset: data.Dataset, teacher: Teacher, label: str, traced: Traced
) -> keras.Model:
    """Makes one teacher, spoilt or not, writes its file and returns the model."""
    kind = (teacher.settings or {}).get("kind", "")
    if kind in ("uniform", "confident"):
        return _wrap(config, dataset, teacher, kind)
    given = _relabeled(dataset, teacher) if kind in RANDOM_LABELS else dataset
    return teachers.train(config, given, teacher, label, traced)


def _relabeled(dataset: data.Dataset, teacher: Teacher) -> data.Dataset:
    settings, split = teacher.settings, dataset.train
    assert settings is not None
    assert isinstance(split, data.Split)
    share, seed = settings["random_labels"], settings["seed"]
    labels = random_labels(split.labels, share, dataset.num_classes, seed)
    return dataclasses.replace(dataset, train=data.Split(split.images, labels))


def _wrap(config: Config, dataset: data.Dataset, teacher: Teacher, kind: str) -> keras.Model:
    """Writes and returns a teacher that requires no training of its own."""
    inputs = keras.Input(dataset.image_shape)
    classes = dataset.num_classes
    if kind == "uniform":
        features = keras.layers.Flatten()(inputs)
        kernel = np.zeros((features.shape[-1], classes), np.float32)
    else:
        features = _usual(config, dataset, teacher, kind)(inputs)
        kernel = confident(classes)
    layer = keras.layers.Dense(classes, use_bias=False, name="spoilt")
    model = keras.Model(inputs, layer(features), name=f"{teacher.network}_{kind}")
    layer.set_weights([kernel])
    teachers.save(teacher, model)
    return model


def _usual(config: Config, dataset: data.Dataset, teacher: Teacher, kind: str) -> Any:
    """Returns the teacher as it is when it is not spoilt, and trains it if it is missing."""
    settings = {name: v for name, v in (teacher.settings or {}).items() if name != "kind"}
    path = teacher.path.replace(f"_{kind}.keras", ".keras")
    usual = dataclasses.replace(teacher, path=path, settings=settings)
    if usual.exists:
        return teachers.load(usual, dataset, config)
    return teachers.train(config, dataset, usual, f"teacher {teacher.name}", {})
