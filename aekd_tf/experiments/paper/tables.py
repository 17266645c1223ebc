"""Lays out the paper's tables, with the published numbers beside the new ones."""

from __future__ import annotations

from aekd_tf.experiments.paper import choice, grids, published
from aekd_tf.experiments.paper.comparisons import (
    COLUMNS,
    Results,
    average,
    cell_row,
    paired,
    verdict,
)
from aekd_tf.experiments.paper.grids import Preset
from aekd_tf.experiments.paper.published import TITLES
from aekd_tf.experiments.paper.render import Heading, Part, Table, Text
from aekd_tf.experiments.run.methods import ADAPTIVE

CHOICE = (
    "Beta was chosen with seed 0, on the last tenth of the training images, and then used on all "
    "training images. The teachers know the images of the choice. No images are held out of the "
    "reported trainings, so there is no best epoch on validation."
)


def table_parts(number: int, preset: Preset, results: Results, directory: str) -> list[Part]:
    """Returns one of the paper's tables; its last column has the published numbers, if any."""
    published_table = published.TABLES[number]
    parts: list[Part] = [Heading(f"Table {number}")]
    requested = grids.table(number, preset)
    rows = []
    for cell in requested:
        paper = ""
        values = published_table.get((cell.dataset, cell.student), {}).get(cell.size, ())
        if cell.method in published.METHODS and values and cell.teachers != "mixed":
            index = published.METHODS.index(cell.method)
            paper = f"{values[index]:.2f}" if index < len(values) else ""
        elif cell.method == "alone" and (cell.dataset, cell.student) in published.ALONE:
            paper = f"{published.ALONE[cell.dataset, cell.student]:.2f}"
        elif cell.teachers == "mixed" and cell.dataset == "cifar100":
            value = published.HETEROGENEOUS.get(cell.method)
            paper = f"{value:.2f}" if value else ""
        teachers = cell.teachers if cell.size else ""
        beta = choice.chosen_beta(cell, results)
        method = TITLES[cell.method] + (f", beta {beta:g}" if beta is not None else "")
        title = [cell.dataset, cell.student, teachers, str(cell.size or ""), method]
        rows.append([*cell_row(results, cell, title), paper])
    header = ["data", "student", "teachers", "M", "method", *COLUMNS, "paper"]
    parts.append(Table(header, rows))
    if any(map(choice.candidates, requested)):
        parts.append(Text(CHOICE))
    adaptive = [cell for cell in requested if cell.method in ADAPTIVE and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive])))
    return parts
