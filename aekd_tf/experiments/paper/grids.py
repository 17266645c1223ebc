"""Lists the cells of the paper's tables and figures, and of three more questions, per preset."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import CROSS_VALIDATION
from aekd_tf.experiments.paper import choice
from aekd_tf.experiments.paper.cells import Cell
from aekd_tf.experiments.run.methods import ADAPTIVE, HINTED


@dataclasses.dataclass(frozen=True)
class Preset:
    """The scale at which the tables are computed.

    Attributes:
        subjects: (data set, student) of Table 1.
        twins: (data set, network) of Table 2, with the same network for student and teachers.
        imagenet: (data set, student, teacher) of Table 3; None without Table 3.
        teacher: network of Table 1's teachers.
        mixed: networks of the heterogeneous ensemble; empty for none.
        sizes: M of Tables 1 and 2 and Figure 2.
        tolerances, tolerance_size: C and M of Figure 3; C = 1/M is AVER.
        question_sizes, question_tolerances: M and C of the questions. Other settings vary at
            the largest M only.
        hint_weight: beta, or `cv` to choose it: see `choice`.
        seeds: default number of the students' seeds.
        settings: flags of every training, by name.
    """

    subjects: tuple[tuple[str, str], ...]
    twins: tuple[tuple[str, str], ...]
    imagenet: tuple[str, str, str] | None
    teacher: str
    mixed: tuple[str, ...]
    sizes: tuple[int, ...]
    tolerances: tuple[float, ...]
    tolerance_size: int
    question_sizes: tuple[int, ...]
    question_tolerances: tuple[float, ...]
    hint_weight: float | str
    seeds: int
    settings: dict[str, Any]

    @property
    def flags(self) -> str:
        """Returns the settings as they are typed on a command line."""
        return " ".join(f"--{name}={value}" for name, value in self.settings.items())


PRESETS = {
    "digits": Preset(
        subjects=(("digits", "resnet8"),),
        twins=(("digits", "resnet8"),),
        imagenet=None,
        teacher="resnet14",
        mixed=("resnet14", "wrn_16_1", "vgg8"),
        sizes=(1, 5, 10, 15, 20, 25),
        tolerances=(0.1, 0.15, 0.2, 0.3, 0.5, 0.6, 0.8, 1.0),
        tolerance_size=20,
        question_sizes=(1, 3, 5, 10),
        question_tolerances=(0.2, 0.6, 1.0),
        hint_weight=1.0,
        seeds=10,
        settings={
            "train_examples": 200,
            "epochs": 60,
            "teacher_epochs": 100,
            "cache_views": 60,
            "preset": "paper",
        },
    ),
    "quick": Preset(
        subjects=(("cifar10", "resnet8"),),
        twins=(("cifar10", "resnet8"),),
        imagenet=None,
        teacher="resnet20",
        mixed=(),
        sizes=(5,),
        tolerances=(0.3, 0.6, 1.0),
        tolerance_size=5,
        question_sizes=(5,),
        question_tolerances=(0.6,),
        hint_weight=1.0,
        seeds=3,
        settings={
            "train_examples": 10000,
            "validation_examples": 5000,
            "epochs": 20,
            "teacher_epochs": 20,
            "cache_views": 20,
            "hint_pooling": 2,
            "preset": "paper",
        },
    ),
    "paper": Preset(
        subjects=tuple(
            (d, s) for d in ("cifar10", "cifar100") for s in ("resnet20", "mobilenetv2")
        ),
        twins=(("cifar10", "resnet56"), ("cifar100", "resnet56")),
        imagenet=("imagenet2012", "imagenet_resnet18", "imagenet_resnet50"),
        teacher="resnet56",
        mixed=("resnet110", "wrn_40_2", "vgg13"),
        sizes=(1, 5, 10, 15, 20, 25),
        tolerances=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        tolerance_size=20,
        question_sizes=(1, 3, 5, 10),
        question_tolerances=(0.2, 0.6, 1.0),
        hint_weight=CROSS_VALIDATION,
        seeds=3,
        settings={
            "preset": "paper",
        },
    ),
}
TOLERANCE = 0.6


def table(number: int, preset: Preset) -> list[Cell]:
    """Returns the cells of a table, with seed 0.

    Raises:
        UserError: the preset does not have the table.
    """
    if number == 3:
        if preset.imagenet is None:
            raise UserError("table 3 is ImageNet's: give --preset=paper, or --table=1 or 2")
        return [
            _cell(*preset.imagenet, size, method, 0)
            for size in (1, 3, 5)
            for method in ("ensemble", "average", "aekd")
        ]
    subjects = preset.subjects if number == 1 else preset.twins
    cells = []
    for dataset, student in subjects:
        teacher = preset.teacher if number == 1 else student
        cells.append(Cell(dataset, student, "", 0, "alone"))
        for size in preset.sizes:
            methods = ("ensemble", "average", "aekd", *HINTED)
            cells += [
                _cell(dataset, student, teacher, size, k, preset.hint_weight) for k in methods
            ]
    if number == 1 and preset.mixed:
        dataset, student = preset.subjects[-2 if len(preset.subjects) > 1 else 0]
        cells += [
            _cell(dataset, student, "mixed", len(preset.mixed), method, 0)
            for method in ("ensemble", "average", "aekd")
        ]
    return cells


def figure(number: int, preset: Preset) -> list[Cell]:
    """Returns the cells of Figure 2 (accuracy by M) or 3 (by C), with seed 0.

    They are those of the first data set and student.
    """
    dataset, student = preset.subjects[0]
    if number == 2:
        return [
            _cell(dataset, student, preset.teacher, size, method, 0)
            for size in preset.sizes
            for method in ("average", "aekd")
        ]
    size = preset.tolerance_size
    return [
        _cell(dataset, student, preset.teacher, size, "average", 0),
        *(
            _cell(dataset, student, preset.teacher, size, "aekd", 0, tolerance=tolerance)
            for tolerance in preset.tolerances
        ),
    ]


def spoilt(group: str) -> tuple[str, int]:
    """Returns kind and number of a group's spoilt teachers; `("", 0)` if none is spoilt."""
    match = re.fullmatch(r".+\+(\w+?)x(\d+)", group)
    return (match[1], int(match[2])) if match else ("", 0)


# Question 2: the kinds of spoilt teachers, and their shares of all teachers.
SPOILT = ("labels40", "labels80", "undertrained", "uniform", "confident")
SHARES = (0.2, 0.4)


def question(number: int, preset: Preset) -> list[Cell]:
    """Returns the cells of one of the three questions, with seed 0."""
    dataset, student = preset.subjects[0]
    group, largest = preset.teacher, max(preset.question_sizes)

    def adaptive(teachers: str, size: int, tolerance: float, **options: Any) -> Cell:
        cell = _cell(dataset, student, teachers, size, "aekd", 0, tolerance=tolerance)
        return dataclasses.replace(cell, **options)

    cells = []
    if number == 1:
        for size in preset.question_sizes:
            cells.append(_cell(dataset, student, group, size, "average", 0))
            cells.append(adaptive(group, size, TOLERANCE))
        for options in (
            {},
            {"batch_gradient": "full"},
            {"normalize": True},
            {"batch_gradient": "full", "normalize": True},
        ):
            cells += [adaptive(group, largest, c, **options) for c in preset.question_tolerances]
    elif number == 2:
        counts = [round(share * largest) for share in SHARES]
        spoilt_groups = [f"{group}+{kind}x{count}" for kind in SPOILT for count in counts]
        for name in (group, *spoilt_groups):
            cells.append(_cell(dataset, student, name, largest, "ensemble", 0))
            cells.append(_cell(dataset, student, name, largest, "average", 0))
            cells += [adaptive(name, largest, c) for c in preset.question_tolerances]
    else:
        for size in preset.question_sizes:
            if size < 5:  # the authors' solver starts at the first two, which may be all teachers
                continue
            cells.append(_cell(dataset, student, group, size, "average", 0))
            for solver in ("smo", "libsvm_unscaled"):
                cells.append(adaptive(group, size, TOLERANCE, solver=solver))
    return list(dict.fromkeys(cells))


def _cell(
    dataset: str,
    student: str,
    teachers: str,
    size: int,
    method: str,
    hint_weight: float | str,
    tolerance: float = TOLERANCE,
) -> Cell:
    return Cell(
        dataset,
        student,
        teachers,
        size,
        method,
        tolerance=tolerance if method in ADAPTIVE else None,
        hint_weight=hint_weight if method in HINTED else None,
    )


def over_seeds(cells: list[Cell], seeds: int) -> list[Cell]:
    """Repeats each cell once per seed, except the ensemble's vote, which has no seed.

    The seeds of a cell follow each other, after its candidates for beta.
    """
    repeated = []
    for cell in dict.fromkeys(cells):
        count = 1 if cell.method == "ensemble" else seeds
        repeated += choice.candidates(cell)
        repeated += [dataclasses.replace(cell, seed=seed) for seed in range(count)]
    return repeated
