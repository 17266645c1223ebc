"""Recipes by data set, and presets: which weightings, settings and seeds are compared."""

from __future__ import annotations

import dataclasses

from aekd_tf.experiments.compare.settings import SETTINGS
from aekd_tf.experiments.compare.weightings import NAMES


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Networks and trainings on one data set: SGD with momentum, the rate falls as a cosine.

    Attributes:
        student: network of the student.
        teacher: network of good teachers.
        small: network of small teachers.
        wide: network of teachers that memorize.
        architectures: networks of teachers of different architectures, in turn.
        size: number of teachers M.
        epochs, teacher_epochs, undertrained_epochs, memorized_epochs: lengths of the trainings.
        learning_rate, teacher_learning_rate: rates at the start.
        batch_size: examples per step.
        train_examples, validation_examples: sizes of the splits; None for the usual.
        image_size: pixels per side that images are shrunk to; None keeps them.
        views: augmented views per example, 1 without augmentation.
        temperature, kd_weight: of the distillation loss.
        l2: weight decay, as part of the gradient.
        jit_compile: whether XLA compiles whole steps and each operation has one thread, which
            pays for tiny networks.
    """

    student: str
    teacher: str
    small: str
    wide: str
    architectures: tuple[str, ...]
    size: int
    epochs: int
    teacher_epochs: int
    undertrained_epochs: int
    memorized_epochs: int
    learning_rate: float
    teacher_learning_rate: float
    batch_size: int
    train_examples: int | None = None
    validation_examples: int | None = None
    image_size: int | None = None
    views: int = 1
    temperature: float = 4.0
    kd_weight: float = 0.9
    l2: float = 5e-4
    jit_compile: bool = True

    def shortened(self, divisor: int) -> Recipe:
        """Returns the recipe with all trainings shorter."""
        names = ("epochs", "teacher_epochs", "undertrained_epochs", "memorized_epochs", "views")
        shorter = {name: max(1, getattr(self, name) // divisor) for name in names}
        return dataclasses.replace(self, **shorter)


RECIPES = {
    "mnist1d": Recipe(
        student="cnn1d_6",
        teacher="cnn1d_25",
        small="cnn1d_4",
        wide="cnn1d_40",
        architectures=("cnn1d_40", "cnn1d_25", "cnn1d_6"),
        size=10,
        epochs=60,
        teacher_epochs=60,
        undertrained_epochs=2,
        memorized_epochs=240,
        # At 0.05 students of ten teachers diverge.
        learning_rate=0.01,
        teacher_learning_rate=0.05,
        batch_size=100,
    ),
    "digits": Recipe(
        student="resnet8",
        teacher="resnet14",
        small="resnet8",
        wide="resnet20",
        architectures=("resnet14", "wrn_16_1", "vgg8"),
        size=10,
        epochs=60,
        teacher_epochs=100,
        undertrained_epochs=5,
        memorized_epochs=300,
        learning_rate=0.05,
        teacher_learning_rate=0.05,
        batch_size=50,
        train_examples=200,
        views=60,
        jit_compile=False,
    ),
    # Half the pixels per side and short trainings, because two CPU cores train them.
    "cifar10": Recipe(
        student="resnet8",
        teacher="resnet14",
        small="resnet8",
        wide="resnet20",
        architectures=("resnet14", "wrn_16_1", "vgg8"),
        size=5,
        epochs=10,
        teacher_epochs=10,
        undertrained_epochs=1,
        memorized_epochs=80,
        learning_rate=0.05,
        teacher_learning_rate=0.05,
        batch_size=100,
        train_examples=10_000,
        image_size=16,
        views=5,
        jit_compile=False,
    ),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is compared unless flags say otherwise.

    Attributes:
        dataset: name of the data set.
        weightings, settings: names.
        seeds: number of seeds, from 0 on.
        shorter: divisor of all lengths of trainings.
    """

    dataset: str
    weightings: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: int
    shorter: int = 1


_STORY = (
    "average",
    "aekd",
    "ca_mkd",
    "anchored",
    "accuracy",
    "stacked",
    "auto",
    "oracle",
)
_SHORT_STORY = ("average", "aekd", "accuracy", "auto", "oracle")
_SHORTEST_STORY = ("average", "aekd", "auto", "oracle")
_SETTINGS = ("good", "labels80x4", "confident", "specialists", "memorized4", "copies")
_OTHERS = tuple(name for name in SETTINGS if name not in _SETTINGS)
_TRIED = ("average", "auto", "tolerance", "training")
PRESETS = {
    "mnist1d": Preset("mnist1d", _STORY, _SETTINGS, seeds=16),
    "mnist1d_others": Preset("mnist1d", _SHORTEST_STORY, _OTHERS, seeds=8),
    "mnist1d_tried": Preset("mnist1d", _TRIED, _SETTINGS, seeds=8),
    "mnist1d_full": Preset("mnist1d", NAMES, tuple(SETTINGS), seeds=16),
    "digits": Preset(
        "digits", _SHORT_STORY, ("good", "labels80x4", "confident", "copies"), seeds=10
    ),
    "cifar10": Preset(
        "cifar10",
        _SHORTEST_STORY,
        ("good", "labels80x4", "undertrained", "specialists"),
        seeds=5,
    ),
    "quick": Preset(
        "mnist1d", ("average", "aekd", "stacked"), ("good", "labels80x4"), seeds=2, shorter=4
    ),
}
