"""Compares the results of cells: accuracies, paired differences, verdicts."""

from __future__ import annotations

import dataclasses

import numpy as np

from aekd_tf.experiments.paper import grids
from aekd_tf.experiments.paper.cells import Cell, Result
from aekd_tf.experiments.run.methods import ADAPTIVE
from aekd_tf.experiments.statistics import interval, shown

Results = dict[Cell, Result]


def of_seeds(results: Results, cell: Cell) -> dict[int, Result]:
    """Returns a cell's results by seed."""
    seeds = sorted({key.seed for key in results})
    cells = {seed: dataclasses.replace(cell, seed=seed) for seed in seeds}
    return {seed: results[key] for seed, key in cells.items() if key in results}


def accuracies(results: Results, cell: Cell, best: bool = False) -> dict[int, float]:
    """Returns a cell's test accuracy in % by seed.

    The epoch is the last, or with `best` the best on validation data, if there are any.
    """
    return {
        seed: 100 * (row.best_validation_test_accuracy if best else row.test_accuracy)
        for seed, row in of_seeds(results, cell).items()
        if not (best and np.isnan(row.best_validation_test_accuracy))
    }


def average(cell: Cell) -> Cell:
    """Returns the cell of AVER with the same teachers, or of FitNets for a method with hints."""
    method = "fitnets" if cell.hint_weight else "average"
    plain = Cell(cell.dataset, cell.student, cell.teachers, cell.size, method)
    return dataclasses.replace(plain, hint_weight=cell.hint_weight)


def paired(results: Results, cell: Cell, other: Cell) -> np.ndarray:
    """Computes the differences between two cells, in points, over the seeds that both have."""
    first, second = accuracies(results, cell), accuracies(results, other)
    return np.array([first[seed] - second[seed] for seed in sorted(set(first) & set(second))])


def verdict(differences: list[np.ndarray]) -> str:
    """Says in words how many of the paired differences the intervals tell from zero."""
    decided = [interval(values) for values in differences if len(values) > 1]
    above = sum(mean - half > 0 for mean, half in decided)
    below = sum(mean + half < 0 for mean, half in decided)
    return (
        f"There are {len(decided)} comparisons with the average of the same teachers and seeds. "
        f"The 95% interval lies above zero in {above}, below zero in {below}, and contains zero "
        f"in {len(decided) - above - below}. (About {0.05 * len(decided):.1f} would exclude zero "
        "by chance alone.)"
    )


def teacher_accuracies(results: Results, cell: Cell) -> np.ndarray:
    """Returns the test accuracy in % of each teacher of an `ensemble`; empty if unknown."""
    texts = [row.teacher_accuracies for row in of_seeds(results, cell).values()]
    return 100 * np.array([float(text) for text in "".join(texts).split()])


def spoilt_weight(results: Results, cell: Cell) -> float:
    """Returns the total weight of the spoilt teachers, mean over the seeds; NaN without any."""
    _, bad = grids.spoilt(cell.teachers)
    rows = [row.weights.split() for row in of_seeds(results, cell).values() if row.weights]
    weights = np.array(rows, np.float64)
    return float(weights[:, :bad].sum(1).mean()) if bad and len(weights) else float("nan")


def start_share(results: Results, cell: Cell) -> float:
    """Returns the share of steps that the authors' solver ended at its start; else NaN."""
    shares = [row.at_start for row in of_seeds(results, cell).values()]
    return float(np.mean(shares)) if shares else float("nan")


COLUMNS = [
    "mean teacher, %",
    "last epoch, %",
    "best on validation, %",
    "minus average",
    "effective teachers",
    "n",
]


def cell_row(results: Results, cell: Cell, title: list[str]) -> list[str]:
    """Returns a cell's row of a table: `title`, then the values of `COLUMNS`."""
    adaptive = cell.method in ADAPTIVE
    difference = paired(results, cell, average(cell)) if adaptive else np.zeros(0)
    rows = list(of_seeds(results, cell).values())
    effective = [row.effective_teachers for row in rows if not np.isnan(row.effective_teachers)]
    accuracy = shown(list(accuracies(results, cell).values()))
    if cell.method != "ensemble":
        best = shown(list(accuracies(results, cell, True).values()))
        used = f"{np.mean(effective):.1f}" if effective else ""
        return [*title, "", accuracy, best, shown(difference, signed=True), used, str(len(rows))]
    each = teacher_accuracies(results, cell)
    _, bad = grids.spoilt(cell.teachers)
    parts = [each[:bad], each[bad:]] if bad and len(each) else [each]
    teachers = " and ".join(f"{part.mean():.2f}" for part in parts if len(part))
    return [*title, teachers, accuracy, "", "", "", str(len(rows))]
