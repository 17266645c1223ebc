"""Presets and the paper's recipe, which give the flags their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from aekd_tf.names import DATASETS_IN_MEMORY

PRESETS = ("quick", "paper")
_RECIPES = ("epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate")
# The hint weight that is chosen from several.
CROSS_VALIDATION = "cv"

_PAPER = {"student": "resnet20", "teachers": "resnet56", "weighting": "aekd"}
# By family of data sets and preset.
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "quick": {"student": "resnet8", "teachers": "resnet8", "epochs": 12, "teacher_epochs": 8},
        "paper": _PAPER,
    },
    "mnist1d": {
        "quick": {"student": "cnn1d_6", "teachers": "cnn1d_25", "epochs": 12, "teacher_epochs": 8},
        "paper": {"student": "cnn1d_6", "teachers": "cnn1d_25"},
    },
    "cifar": {
        "quick": {
            "student": "resnet8",
            "teachers": "resnet8",
            "epochs": 8,
            "teacher_epochs": 8,
            "train_examples": 4000,
        },
        # The paper trains on all images. Its beta holds for methods with hints alone.
        "paper": {**_PAPER, "validation_examples": 0, "hint_weight": CROSS_VALIDATION},
    },
    "own": {"quick": {}, "paper": {}},
    "imagenet": {
        "quick": {
            "student": "imagenet_resnet18",
            "teachers": "imagenet_resnet34",
            "epochs": 2,
            "teacher_epochs": 2,
            "train_examples": 1000,
            "image_size": 64,
        },
        "paper": {
            "student": "imagenet_resnet18",
            "teachers": "imagenet_resnet50",
            "weighting": "aekd",
            "image_size": 224,
            "batch_size": 256,
        },
    },
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The properties in which one command's flags differ from the others'.

    Attributes:
        name: name of the command.
        dataset: default data set.
        datasets: data sets that the command takes; None for all of TensorFlow Datasets.
        preset: default preset.
        image_size: whether images can be cropped to another size.
        own_data: whether `--data` names data of the user's.
    """

    name: str
    dataset: str | None
    datasets: tuple[str, ...] | None
    preset: str
    image_size: bool = False
    own_data: bool = False


def family(dataset: str) -> str:
    """Returns the family of a data set: digits, mnist1d, cifar or imagenet."""
    if dataset not in DATASETS_IN_MEMORY:
        return "imagenet"
    return dataset if dataset in ("digits", "mnist1d") else "cifar"


def recipe(family: str, network: str, teacher: bool) -> dict[str, Any]:
    """Returns the epochs, first learning rate, milestones and weight decay of a family's sets.

    In section 4.1, teachers and a MobileNetV2 student train for 240 epochs, other students for
    350. MobileNetV2 starts from 0.01, others from 0.05. ImageNet has the usual 100 epochs from
    0.1, own data 20. The learning rate falls tenfold at each milestone, a share of the epochs.
    """
    if family == "imagenet":
        return {"epochs": 100, "learning_rate": 0.1, "milestones": (0.3, 0.6, 0.9), "l2": 1e-4}
    rate = 0.01 if network == "mobilenetv2" else 0.05
    if family == "own":
        return {"epochs": 20, "learning_rate": rate, "milestones": (0.6, 0.85), "l2": 5e-4}
    if teacher or network == "mobilenetv2":
        epochs, boundaries = 240, [150, 180, 210]
    else:
        epochs, boundaries = 350, [150, 200, 250, 300]
    milestones = tuple(boundary / epochs for boundary in boundaries)
    return {"epochs": epochs, "learning_rate": rate, "milestones": milestones, "l2": 5e-4}


def shown_default(experiment: Experiment, name: str) -> str | None:
    """Returns in words a default that depends on the preset or on the recipe, else None."""
    presets = DEFAULTS["own" if experiment.dataset is None else family(experiment.dataset)]
    usual = {"batch_size": "64", "hint_weight": "0", **dict.fromkeys(_RECIPES, "the recipe's")}
    usual["distillation_loss"] = "by the head" if experiment.own_data else "kl"
    if experiment.dataset is None:
        usual |= {"epochs": "20", "teacher_epochs": "20", "learning_rate": "0.05"}
        usual["validation_examples"] = "by the data"
    other = usual.get(name)
    if any(name in preset for preset in presets.values()):
        other = {"validation_examples": "5000"}.get(name, "all") if other is None else other
        return ", ".join(f"{preset}: {given.get(name, other)}" for preset, given in presets.items())
    return other
