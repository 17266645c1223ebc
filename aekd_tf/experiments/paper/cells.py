"""A cell of a table or figure, its result, and the file that results are kept in."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from typing import Any

from aekd_tf import files
from aekd_tf.experiments.command.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cell:
    """One student of one seed, or with the method `ensemble` the teachers' majority vote.

    Attributes:
        dataset, student: names.
        teachers: group of teachers, see `teacher_groups`; empty for a student alone.
        size: M, 0 for a student alone.
        method: of the experiments, or `ensemble`.
        tolerance: C of an adaptive method, else None.
        batch_gradient, normalize, solver: of an adaptive method.
        hint_weight: beta of a method with hints, else None.
        seed: of the student.
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
    hint_weight: float | None = None
    seed: int = 0

    @property
    def traced(self) -> Cell:
        """The same for all seeds."""
        return dataclasses.replace(self, seed=0)


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out; accuracies from 0 to 1.

    Attributes:
        test_accuracy: of the last epoch.
        best_validation_test_accuracy: of the epoch that was best on validation data.
        validation_accuracy: of the last epoch.
        effective_teachers: mean over the epochs of 1 / sum w^2; NaN without weights.
        at_start: share of the steps in which the authors' solver returned its starting point;
            NaN with other solvers.
        weights: the teachers' mean weights, separated by spaces; empty without.
        teacher_accuracies: of each teacher, of an `ensemble`, separated by spaces; else empty.
        seconds: of all that the cell had to compute; of an ensemble's first cell also the teachers
            and the cache, of an interrupted one what was done after it.
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
_NUMBERS = ("tolerance", "hint_weight")
_TEXTS = ("weights", "teacher_accuracies")


def read(path: str) -> dict[Cell, Result]:
    """The results in a file; none if it is not there.

    Raises:
        UserError: a file that cannot be read, naming the line.
    """
    if not os.path.exists(path):
        return {}
    found = {}
    cell_names = [field.name for field in dataclasses.fields(Cell)]
    result_names = [field.name for field in dataclasses.fields(Result)]
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [*cell_names, *result_names]:
                raise ValueError(f"its columns are {reader.fieldnames}")
            for row in reader:
                given: dict[str, Any] = {n: _KINDS.get(n, str)(row[n]) for n in cell_names}
                for name in _NUMBERS:
                    given[name] = float(row[name]) if row[name] else None
                values: dict[str, Any] = {
                    name: row[name] if name in _TEXTS else float(row[name]) for name in result_names
                }
                found[Cell(**given)] = Result(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): correct the line, or delete it to have its cell "
            "computed anew"
        ) from error
    return found


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
    """By data set, student, teachers and so on; numbers by their value."""
    parts = dataclasses.astuple(cell)
    return [f"{p:08.3f}" if isinstance(p, (int, float)) else str(p or "") for p in parts]
