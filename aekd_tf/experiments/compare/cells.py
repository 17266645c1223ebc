"""Cells of a comparison, their results, and the file of results."""

from __future__ import annotations

import csv
import dataclasses
import io
import os

from aekd_tf import files
from aekd_tf.experiments.command.errors import UserError


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """One student: a setting, a weighting and a seed."""

    setting: str
    weighting: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a cell.

    Attributes:
        test_accuracy: of the last epoch, from 0 to 1.
        weights: the teachers' mean weights over training.
        seconds: time to compute the cell, without the teachers.
    """

    test_accuracy: float
    weights: tuple[float, ...]
    seconds: float


Results = dict[Cell, Result]
_COLUMNS = [field.name for kind in (Cell, Result) for field in dataclasses.fields(kind)]


def read(path: str) -> Results:
    """Reads the results in a file; none if the file is missing.

    Raises:
        UserError: the file cannot be read.
    """
    if not os.path.exists(path):
        return {}
    results = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise ValueError(f"its columns are {reader.fieldnames}")
            for row in reader:
                cell = Cell(row["setting"], row["weighting"], int(row["seed"]))
                weights = tuple(float(weight) for weight in row["weights"].split())
                accuracy, seconds = float(row["test_accuracy"]), float(row["seconds"])
                results[cell] = Result(accuracy, weights, seconds)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): correct the line, or delete it to have its cell "
            "computed anew"
        ) from error
    return results


def write(results: Results, path: str) -> None:
    """Writes the file whole or not at all, cells in order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell, result in sorted(results.items()):
        weights = " ".join(f"{weight:.4f}" for weight in result.weights)
        writer.writerow(
            [*dataclasses.astuple(cell), f"{result.test_accuracy:.6g}", weights, result.seconds]
        )
    files.write_text(path, text.getvalue())
