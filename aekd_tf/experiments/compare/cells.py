"""Cells of a comparison, their results, and the file of results."""

from __future__ import annotations

import dataclasses

from aekd_tf.experiments.command import results_file


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
    return results_file.read(path, _COLUMNS, _parse)


def _parse(row: dict[str, str]) -> tuple[Cell, Result]:
    weights = tuple(float(weight) for weight in row["weights"].split())
    result = Result(float(row["test_accuracy"]), weights, float(row["seconds"]))
    return Cell(row["setting"], row["weighting"], int(row["seed"])), result


def write(results: Results, path: str) -> None:
    """Writes the file whole or not at all, cells in order."""
    rows = []
    for cell, result in sorted(results.items()):
        weights = " ".join(f"{weight:.4f}" for weight in result.weights)
        accuracy = f"{result.test_accuracy:.6g}"
        rows.append([*dataclasses.astuple(cell), accuracy, weights, result.seconds])
    results_file.write(path, _COLUMNS, rows)
