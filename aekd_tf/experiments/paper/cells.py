"""Cells of tables and figures, their results, and the file of results."""

from __future__ import annotations

import dataclasses
from typing import Any

from aekd_tf.experiments.command import results_file
from aekd_tf.experiments.command.presets import CROSS_VALIDATION


@dataclasses.dataclass(frozen=True)
class Cell:
    """One student of one seed, or with the method `ensemble` the teachers' majority vote.

    Attributes:
        dataset, student: names.
        teachers: group of teachers, see `spoilt_teachers`; empty for a student alone.
        size: M, or 0 for a student alone.
        method: a method of the experiments, or `ensemble`.
        tolerance: C of an adaptive method, else None.
        batch_gradient, normalize, solver: settings of an adaptive method.
        hint_weight: beta of a method with hints, or `cv` if it is chosen from candidates, whose
            own are `cv=0.1` and so on; else None.
        seed: seed of the student.
    """

    dataset: str
    student: str
    teachers: str
    size: int
    method: str
    tolerance: float | None = None
    batch_gradient: str = "mean"
    normalize: bool = False
    solver: str = "smo"
    hint_weight: float | str | None = None
    seed: int = 0

    @property
    def traced(self) -> Cell:
        """Returns the cell with seed 0, which stands for all its seeds."""
        return dataclasses.replace(self, seed=0)


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a cell, with accuracies from 0 to 1.

    Attributes:
        test_accuracy: test accuracy of the last epoch.
        best_validation_test_accuracy: test accuracy of the epoch with the best validation
            accuracy; NaN without validation images.
        validation_accuracy: validation accuracy of the last epoch; NaN without validation images.
        effective_teachers: mean over the epochs of 1 / sum w^2; NaN without weights.
        at_start: share of the steps in which the authors' solver returned its starting point;
            NaN with other solvers.
        weights: the teachers' mean weights, separated by spaces; empty without weights.
        teacher_accuracies: test accuracy per teacher for an `ensemble`, separated by spaces;
            else empty.
        seconds: time to compute the cell. An ensemble's first cell includes the teachers and
            the cache; an interrupted cell counts only the time after the interruption.
    """

    test_accuracy: float
    best_validation_test_accuracy: float
    validation_accuracy: float
    effective_teachers: float
    at_start: float
    weights: str
    teacher_accuracies: str
    seconds: float


_CELL = [field.name for field in dataclasses.fields(Cell)]
_RESULT = [field.name for field in dataclasses.fields(Result)]
_KINDS: dict[str, Any] = {"size": int, "seed": int, "normalize": lambda text: text == "True"}
# Starts the hint weight of a candidate.
CANDIDATE = f"{CROSS_VALIDATION}="
_TEXTS = ("weights", "teacher_accuracies")


def read(path: str) -> dict[Cell, Result]:
    """Reads the results in a file; none if the file is missing.

    Raises:
        UserError: the file cannot be read.
    """
    return results_file.read(path, [*_CELL, *_RESULT], _parse)


def _parse(row: dict[str, str]) -> tuple[Cell, Result]:
    given: dict[str, Any] = {name: _KINDS.get(name, str)(row[name]) for name in _CELL}
    given["tolerance"] = float(row["tolerance"]) if row["tolerance"] else None
    given["hint_weight"] = _hint_weight(row["hint_weight"])
    values: dict[str, Any] = {
        name: row[name] if name in _TEXTS else float(row[name]) for name in _RESULT
    }
    return Cell(**given), Result(**values)


def _hint_weight(text: str) -> float | str | None:
    if text == CROSS_VALIDATION:
        return text
    if text.startswith(CANDIDATE):
        float(text.removeprefix(CANDIDATE))
        return text
    return float(text) if text else None


def write(results: dict[Cell, Result], path: str) -> None:
    """Writes the file whole or not at all, cells in order."""
    cells = sorted(results, key=sort_key)
    rows = [(*dataclasses.astuple(cell), *dataclasses.astuple(results[cell])) for cell in cells]
    results_file.write(path, [*_CELL, *_RESULT], rows)


def sort_key(cell: Cell) -> list[str]:
    """Returns a key that sorts cells by data set, student and so on, and numbers by value."""
    parts = dataclasses.astuple(cell)
    return [f"{p:08.3f}" if isinstance(p, (int, float)) else str(p or "") for p in parts]
