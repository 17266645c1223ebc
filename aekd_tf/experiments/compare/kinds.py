"""The table of kinds of teachers, and what a teacher of each kind is trained on."""

from __future__ import annotations

import dataclasses

import numpy as np

from aekd_tf import data
from aekd_tf.experiments.compare.recipes import Recipe
from aekd_tf.experiments.compare.settings import NOISE
from aekd_tf.experiments.run.teacher_kinds import (
    CONFIDENT_SCALE,
    RANDOM_LABELS,
    confident,
    random_labels,
)

# Seeds of the noise in the student's labels and in the held-out ones.
_STUDENT_NOISE, _VALIDATION_NOISE = 5, 6
_SPECIALTIES, _QUARTERS = 100, 200


@dataclasses.dataclass(frozen=True)
class Kind:
    """How teachers of a kind are trained.

    Attributes:
        network: field of the recipe with the name of the network, or with several names.
        epochs: field of the recipe with the number of epochs.
        random_labels: share of random labels, other ones for each teacher.
        student_labels: whether the labels are the student's noisy ones.
        examples: share of the training examples.
        classes: share of the classes.
    """

    network: str = "teacher"
    epochs: str = "teacher_epochs"
    random_labels: float = 0.0
    student_labels: bool = False
    examples: float = 1.0
    classes: float = 1.0

    def network_of(self, recipe: Recipe, index: int) -> str:
        """Returns the name of teacher number `index`'s network."""
        names = getattr(recipe, self.network)
        return names if isinstance(names, str) else names[index % len(names)]


KINDS = {
    "good": Kind(),
    **{name: Kind(random_labels=share) for name, share in RANDOM_LABELS.items()},
    "undertrained": Kind(epochs="undertrained_epochs"),
    "small": Kind(network="small"),
    "architecture": Kind(network="architectures"),
    "quarter": Kind(examples=0.25),
    "specialist": Kind(classes=0.5),
    "memorized": Kind(network="wide", epochs="memorized_epochs", student_labels=True),
}


def derived(kind: str, outputs: np.ndarray) -> np.ndarray:
    """Returns the outputs of a kind that is not trained, from those of a good teacher."""
    if kind == "uniform":
        return np.zeros_like(outputs)
    if kind == "overconfident":
        return np.float32(CONFIDENT_SCALE) * outputs
    assert kind == "confident"
    return outputs @ confident(outputs.shape[-1])


def noisy_split(dataset: data.Dataset, split: str) -> data.Split:
    """Returns the training or validation split with noisy labels."""
    clean = getattr(dataset, split)
    seed = _STUDENT_NOISE if split == "train" else _VALIDATION_NOISE
    labels = random_labels(clean.labels, NOISE, dataset.num_classes, seed)
    return data.Split(clean.images, labels)


def training_data(
    dataset: data.Dataset, kind: Kind, index: int, seed: int, batch_size: int
) -> data.Dataset:
    """Returns what teacher number `index` of a kind is trained on."""
    train = noisy_split(dataset, "train") if kind.student_labels else dataset.train
    assert isinstance(train, data.Split)
    labels, chosen = train.labels, np.arange(len(train))
    if kind.random_labels:
        labels = random_labels(labels, kind.random_labels, dataset.num_classes, seed)
    if kind.examples < 1:
        order = np.random.default_rng(_QUARTERS + index).permutation(len(train))
        chosen = order[: round(kind.examples * len(train))]
    if kind.classes < 1:
        order = np.random.default_rng(_SPECIALTIES + index).permutation(dataset.num_classes)
        known = order[: round(kind.classes * dataset.num_classes)]
        chosen = np.flatnonzero(np.isin(labels, known))
    if len(chosen) > batch_size:  # batches of one size, because XLA compiles each size anew
        chosen = chosen[: len(chosen) // batch_size * batch_size]
    return dataclasses.replace(dataset, train=data.Split(train.images[chosen], labels[chosen]))
