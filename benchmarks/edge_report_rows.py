"""Defines what `benchmarks/edge.py` measures and its report shows: plans, rows and results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from aekd_tf.experiments.command import results_file
from aekd_tf.experiments.compare.recipes import RECIPES, Recipe

TEACHERS, VOTE = ("teacher_0", "teacher_1", "teacher_2"), "vote"
CALIBRATION = 500  # training images at most
VARIANTS = {
    "float": "student, float32",
    "longer": "the same, trained on in float32",
    "float16": "float16",
    "dynamic": "dynamic",
    "int8": "int8 after training",
    "int8_aware": "int8, quantization-aware",
    "weights4": "4-bit weights after training",
    "weights4_aware": "4-bit weights, quantization-aware",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Networks and trainings, and how many seeds of the student.

    Attributes:
        name: of the file of results.
        dataset, title: the data, and what the page calls them with their student.
        recipe: of teachers and first training.
        second_epochs: length of the second training.
        seeds: number of seeds.
        test: number of test images.
    """

    name: str
    dataset: str
    title: str
    recipe: Recipe
    second_epochs: int
    seeds: int
    test: int

    def all_keys(self) -> list[Key]:
        """Returns all rows, those of a seed one after the other."""
        known = [Key(name) for name in (*TEACHERS, VOTE)]
        return known + [Key(name, seed) for seed in range(self.seeds) for name in VARIANTS]

    def shortened(self, divisor: int) -> Plan:
        second = max(1, self.second_epochs // divisor)
        return dataclasses.replace(
            self, recipe=self.recipe.shortened(divisor), second_epochs=second
        )


@dataclasses.dataclass(frozen=True)
class Key:
    variant: str
    seed: int | None = None  # teachers have none


@dataclasses.dataclass(frozen=True)
class Row:
    accuracy: float  # from 0 to 1
    bytes: int | None
    latency_ms: float | None
    seconds: float


COLUMNS = [field.name for kind in (Key, Row) for field in dataclasses.fields(kind)]
Rows = dict[Key, Row]
_DIGITS = dataclasses.replace(RECIPES["digits"], size=len(TEACHERS))
_CIFAR = dataclasses.replace(RECIPES["cifar10"], size=len(TEACHERS))
_MOBILE = dataclasses.replace(_CIFAR, student="mobilenetv2", learning_rate=0.01)
PLANS = {
    plan.name: plan
    for plan in (
        Plan("digits", "digits", "resnet8 on digits", _DIGITS, 6, 10, 360),
        Plan("cifar10", "cifar10", "resnet8 on CIFAR-10", _CIFAR, 2, 5, 10_000),
        Plan("mobilenetv2", "cifar10", "MobileNetV2 on CIFAR-10", _MOBILE, 2, 1, 10_000),
    )
}


def read(path: Path) -> Rows:
    """Returns the rows of a file, none if it is missing."""
    return results_file.read(str(path), COLUMNS, _parse)


def _parse(row: dict[str, str]) -> tuple[Key, Row]:
    size = int(row["bytes"]) if row["bytes"] else None
    latency = float(row["latency_ms"]) if row["latency_ms"] else None
    key = Key(row["variant"], int(row["seed"]) if row["seed"] else None)
    return key, Row(float(row["accuracy"]), size, latency, float(row["seconds"]))


def write(rows: Rows, path: Path) -> None:
    """Writes the file whole or not at all, the teachers first and then each seed."""
    lines = []
    for key, row in sorted(
        rows.items(), key=lambda pair: -1 if pair[0].seed is None else pair[0].seed
    ):
        latency = row.latency_ms and round(row.latency_ms, 5)
        lines.append(
            [key.variant, key.seed, f"{row.accuracy:.6g}", row.bytes, latency, row.seconds]
        )
    results_file.write(str(path), COLUMNS, lines)


class Results:
    """The finished rows of a plan, in points and by variant."""

    def __init__(self, plan: Plan, rows: Rows):
        self.plan = plan
        self.rows = {key: rows[key] for key in plan.all_keys() if key in rows}
        if Key(VOTE) in self.rows and all(Key(name) in self.rows for name in TEACHERS):
            each = [self.rows[Key(name)] for name in TEACHERS]
            self.rows[Key(VOTE)] = dataclasses.replace(
                self.rows[Key(VOTE)],
                bytes=sum(row.bytes or 0 for row in each),
                latency_ms=sum(row.latency_ms or 0 for row in each),
            )

    def of(self, *variants: str) -> list[Row]:
        return [row for key, row in self.rows.items() if key.variant in variants]

    def minus(self, variant: str, other: str = "float") -> np.ndarray:
        """Returns the differences in points, over the seeds that both have."""
        pairs = [
            (row.accuracy, self.rows[Key(other, key.seed)].accuracy)
            for key, row in self.rows.items()
            if key.variant == variant and Key(other, key.seed) in self.rows
        ]
        return 100 * np.array([first - second for first, second in pairs])
