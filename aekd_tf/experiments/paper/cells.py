"""Cells of tables and figures, their results, and the file of results."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from typing import Any

from aekd_tf import files
from aekd_tf.experiments.command.errors import UserError
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


_KINDS: dict[str, Any] = {"size": int, "seed": int, "normalize": lambda text: text == "True"}
# Starts the hint weight of a candidate.
CANDIDATE = f"{CROSS_VALIDATION}="
_TEXTS = ("weights", "teacher_accuracies")


def read(path: str) -> dict[Cell, Result]:
    """Reads the results in a file; none if the file is missing.

    Raises:
        UserError: the file cannot be read.
    """
    if not os.path.exists(path):
        return {}
    results = {}
    cell_names = [field.name for field in dataclasses.fields(Cell)]
    result_names = [field.name for field in dataclasses.fields(Result)]
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [*cell_names, *result_names]:
                raise ValueError(f"its columns are {reader.fieldnames}")
            for row in reader:
                given: dict[str, Any] = {n: _KINDS.get(n, str)(row[n]) for n in cell_names}
                given["tolerance"] = float(row["tolerance"]) if row["tolerance"] else None
                given["hint_weight"] = _hint_weight(row["hint_weight"])
                values: dict[str, Any] = {
                    name: row[name] if name in _TEXTS else float(row[name]) for name in result_names
                }
                results[Cell(**given)] = Result(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): correct the line, or delete it to have its cell "
            "computed anew"
        ) from error
    return results


def _hint_weight(text: str) -> float | str | None:
    if text == CROSS_VALIDATION:
        return text
    if text.startswith(CANDIDATE):
        float(text.removeprefix(CANDIDATE))
        return text
    return float(text) if text else None


def write(results: dict[Cell, Result], path: str) -> None:
    """Writes the file whole or not at all, cells in order."""
    names = [field.name for kind in (Cell, Result) for field in dataclasses.fields(kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for cell in sorted(results, key=sort_key):
        row = (*dataclasses.astuple(cell), *dataclasses.astuple(results[cell]))
        writer.writerow(["" if value is None else value for value in row])
    files.write_text(path, text.getvalue())


def sort_key(cell: Cell) -> list[str]:
    """Returns a key that sorts cells by data set, student and so on, and numbers by value."""
    parts = dataclasses.astuple(cell)
    return [f"{p:08.3f}" if isinstance(p, (int, float)) else str(p or "") for p in parts]
