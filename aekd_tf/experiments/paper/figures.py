"""Draws the paper's Figures 2 and 3."""

from __future__ import annotations

import os

from aekd_tf.experiments.paper import grids
from aekd_tf.experiments.paper.comparisons import (
    COLUMNS,
    Results,
    accuracies,
    average,
    cell_row,
    paired,
    verdict,
)
from aekd_tf.experiments.paper.grids import Preset
from aekd_tf.experiments.paper.published import TITLES
from aekd_tf.experiments.paper.render import Heading, Part, Picture, Table, Text
from aekd_tf.experiments.statistics import interval
from aekd_tf.monitoring import figures as pictures


def figure_parts(number: int, preset: Preset, results: Results, directory: str) -> list[Part]:
    """Returns Figure 2 or 3 with its table; the picture is written to `directory`."""
    requested = grids.figure(number, preset)
    first = requested[0]
    lines: dict[str, list[tuple[float, float, float]]] = {}
    level = None
    for cell in requested:
        values = list(accuracies(results, cell).values())
        if not values:
            continue
        mean, half = interval(values)
        if number == 3 and cell.method == "average":
            level = ("AVER", mean, half)
            continue
        x = cell.size if number == 2 else cell.tolerance
        assert x is not None
        lines.setdefault(TITLES[cell.method], []).append((x, mean, half))
    file = f"figure{number}.png"
    label = "teachers M" if number == 2 else f"tolerance C, {first.size} teachers"
    parts: list[Part] = [Heading(f"Figure {number}")]
    if lines:
        pictures.save(pictures.curves(lines, label, level), os.path.join(directory, file))
        variable = "ensemble size" if number == 2 else "tolerance C"
        caption = f"Accuracy by {variable}, mean and 95% interval over the seeds"
        parts.append(Picture(file, caption))
    rows = [
        cell_row(results, cell, [str(cell.size), TITLES[cell.method], f"{cell.tolerance or ''}"])
        for cell in requested
    ]
    parts.append(Table(["M", "method", "C", *COLUMNS], rows))
    adaptive = [cell for cell in requested if cell.method == "aekd" and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive])))
    return parts
