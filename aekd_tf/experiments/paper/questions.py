"""Answers three questions beyond the paper, with tables and pictures."""

from __future__ import annotations

import os

import numpy as np

from aekd_tf.experiments.paper import grids
from aekd_tf.experiments.paper.cells import Cell
from aekd_tf.experiments.paper.comparisons import (
    COLUMNS,
    Results,
    average,
    cell_row,
    paired,
    spoilt_weight,
    start_share,
    verdict,
)
from aekd_tf.experiments.paper.grids import Preset
from aekd_tf.experiments.paper.published import TITLES
from aekd_tf.experiments.paper.render import Heading, Part, Picture, Table, Text
from aekd_tf.experiments.paper.trajectories import Trajectory
from aekd_tf.experiments.run.methods import ADAPTIVE
from aekd_tf.experiments.statistics import interval
from aekd_tf.monitoring import figures as pictures

QUESTIONS = {
    1: "Does AE-KD beat AVER, where, and by how much?",
    2: "What do weak and noisy teachers do to it?",
    3: "What did the authors' solver change?",
}


def question_parts(
    number: int,
    preset: Preset,
    results: Results,
    trajectories: dict[Cell, Trajectory],
    directory: str,
) -> list[Part]:
    """Returns one of the three questions with its table; pictures are written to `directory`."""
    requested = grids.question(number, preset)
    parts: list[Part] = [Heading(QUESTIONS[number])]
    rows = []
    for cell in requested:
        adaptive = cell.method in ADAPTIVE
        weighting = f"{cell.batch_gradient}{', normalized' if cell.normalize else ''}"
        extra = {
            1: [weighting if adaptive else ""],
            2: [spoilt_title(cell), shown_number(spoilt_weight(results, cell), 2)],
            3: [cell.solver if adaptive else "", shown_number(start_share(results, cell), 3)],
        }[number]
        title = [str(cell.size), TITLES[cell.method], f"{cell.tolerance or ''}", *extra]
        rows.append(cell_row(results, cell, title))
    extra_names = {
        1: ["gradients"],
        2: ["spoilt", "their weight"],
        3: ["solver", "steps at the start"],
    }[number]
    parts.append(Table(["M", "method", "C", *extra_names, *COLUMNS], rows))
    if number == 2:
        parts.append(
            Text("`mean teacher` gives the mean of the spoilt teachers, then of the others.")
        )
    adaptive_cells = [cell for cell in requested if cell.method in ADAPTIVE and cell.size > 1]
    differences = {name(cell): paired(results, cell, average(cell)) for cell in adaptive_cells}
    parts.append(Text(verdict(list(differences.values()))))
    points = {name: interval(values) for name, values in differences.items() if len(values) > 1}
    if points:
        file = f"question{number}_differences.png"
        label = "test accuracy minus AVER's, points"
        pictures.save(pictures.differences(points, label), os.path.join(directory, file))
        caption = "AE-KD minus AVER, same seeds and teachers, mean and 95% interval"
        parts.append(Picture(file, caption))
    chosen = [cell for cell in pictured(number, requested) if cell in trajectories]
    if chosen:
        named = {name(cell): trajectories[cell].weights for cell in chosen}
        file = f"question{number}_effective.png"
        pictures.save(pictures.effective(named), os.path.join(directory, file))
        parts.append(Picture(file, "Effective number of teachers over training, first seed"))
    for index, cell in enumerate(chosen[:1] + chosen[-1:] if len(chosen) > 1 else chosen):
        trajectory = trajectories[cell]
        file = f"question{number}_weights{index}.png"
        weights, cosines = trajectory.weights, trajectory.cosines
        pictures.save(pictures.heat_map(weights, name(cell)), os.path.join(directory, file))
        parts.append(Picture(file, f"Weights over training, first seed: {name(cell)}"))
        file = f"question{number}_cosines{index}.png"
        pictures.save(pictures.cosines(cosines, name(cell)), os.path.join(directory, file))
        caption = f"Cosines between the teachers' gradients, last epoch: {name(cell)}"
        parts.append(Picture(file, caption))
    return parts


def pictured(number: int, requested: list[Cell]) -> list[Cell]:
    """Returns the cells whose weights are drawn: at most seven, of the largest ensemble."""
    largest = max(cell.size for cell in requested)
    cells = [c for c in requested if c.method in ADAPTIVE and c.size == largest]
    if number == 1:
        return [c for c in cells if c.batch_gradient == "mean" and not c.normalize]
    cells = [c for c in cells if c.tolerance == grids.TOLERANCE]
    if number == 3:
        return cells
    most = max(grids.spoilt(cell.teachers)[1] for cell in cells)
    usual, *rest = [c for c in cells if grids.spoilt(c.teachers)[1] in (0, most)]
    # Random labels come last, because the first and the last cell get pictures of their own.
    return [usual, *sorted(rest, key=lambda c: "labels" in c.teachers)]


def spoilt_title(cell: Cell) -> str:
    """Says in words how many teachers are spoilt, and how."""
    kind, count = grids.spoilt(cell.teachers)
    words = {
        "": "none",
        "labels40": "40% random labels",
        "labels80": "80% random labels",
        "confident": "wrong and sure",
    }
    return f"{count} x {words.get(kind, kind)}" if kind else words[kind]


def shown_number(value: float, digits: int) -> str:
    """Formats a number; empty for NaN."""
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def name(cell: Cell) -> str:
    """Returns the settings in which a question's cells differ, as a short name."""
    parts = [f"M={cell.size}", f"C={cell.tolerance:g}"]
    parts += [spoilt_title(cell)] if "+" in cell.teachers else []
    parts += ["full"] * (cell.batch_gradient == "full") + ["normalized"] * cell.normalize
    return ", ".join(parts + ["LIBSVM, unscaled"] * (cell.solver != "smo"))
