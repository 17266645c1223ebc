"""The paper's tables, ours beside the published numbers."""

from __future__ import annotations

from aekd_tf.experiments.paper import grids, published
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


def table_parts(number: int, preset: Preset, results: Results, directory: str) -> list[Part]:
    """One of the paper's tables, ours and where there is one the paper's number."""
    printed = published.TABLES[number]
    parts: list[Part] = [Heading(f"Table {number}")]
    wanted = grids.table(number, preset)
    rows = []
    for cell in wanted:
        theirs = ""
        known = printed.get((cell.dataset, cell.student), {}).get(cell.size, ())
        if cell.method in published.METHODS and known and cell.teachers != "mixed":
            index = published.METHODS.index(cell.method)
            theirs = f"{known[index]:.2f}" if index < len(known) else ""
        elif cell.method == "alone" and (cell.dataset, cell.student) in published.ALONE:
            theirs = f"{published.ALONE[cell.dataset, cell.student]:.2f}"
        elif cell.teachers == "mixed" and cell.dataset == "cifar100":
            value = published.HETEROGENEOUS.get(cell.method)
            theirs = f"{value:.2f}" if value else ""
        who = cell.teachers if cell.size else ""
        title = [cell.dataset, cell.student, who, str(cell.size or ""), TITLES[cell.method]]
        rows.append([*cell_row(results, cell, title), theirs])
    header = ["data", "student", "teachers", "M", "method", *COLUMNS, "paper"]
    parts.append(Table(header, rows))
    adaptive = [cell for cell in wanted if cell.method in ADAPTIVE and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive])))
    return parts
