"""What the results say: the paper's tables and figures beside ours, and three questions."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from aekd_tf import pictures
from aekd_tf.experiments import grids, paper_values
from aekd_tf.experiments.cells import Cell, Result
from aekd_tf.experiments.grids import Preset
from aekd_tf.experiments.paper_values import TITLES
from aekd_tf.experiments.report import (
    Heading,
    Part,
    Picture,
    Table,
    Text,
    interval,
    shown,
)
from aekd_tf.experiments.sweep import Trajectory

Results = dict[Cell, Result]


def accuracies(results: Results, cell: Cell, best: bool = False) -> dict[int, float]:
    """By seed, a cell's test accuracy in %: of the last epoch, or the best on validation."""
    return {
        key.seed: 100 * (row.best_validation_test_accuracy if best else row.test_accuracy)
        for key, row in results.items()
        if key.traced == cell.traced
    }


def average(cell: Cell) -> Cell:
    """AVER, or for a method with hints FitNets, of the same teachers."""
    method = "fitnets" if cell.hint_weight else "average"
    plain = Cell(cell.dataset, cell.student, cell.teachers, cell.size, method)
    return dataclasses.replace(plain, hint_weight=cell.hint_weight)


def paired(results: Results, cell: Cell, other: Cell) -> np.ndarray:
    """Differences in points over the seeds that both have."""
    ours, theirs = accuracies(results, cell), accuracies(results, other)
    return np.array([ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))])


def verdict(differences: list[np.ndarray]) -> str:
    """In words, how many of the paired differences the intervals tell from zero."""
    decided = [interval(values) for values in differences if len(values) > 1]
    above = sum(mean - half > 0 for mean, half in decided)
    below = sum(mean + half < 0 for mean, half in decided)
    return (
        f"Of {len(decided)} comparisons with the average of the same teachers and seeds, the 95% "
        f"interval lies above zero in {above}, below zero in {below}, and contains zero in "
        f"{len(decided) - above - below}. (With {len(decided)} comparisons, about "
        f"{0.05 * len(decided):.1f} would exclude zero by chance alone.)"
    )


def _row(results: Results, cell: Cell, title: list[str]) -> list[str]:
    adaptive = cell.method in grids.ADAPTIVE
    difference = paired(results, cell, average(cell)) if adaptive else np.zeros(0)
    rows = [row for key, row in results.items() if key.traced == cell.traced]
    effective = [row.effective_teachers for row in rows if not np.isnan(row.effective_teachers)]
    return [
        *title,
        shown(list(accuracies(results, cell).values())),
        "" if cell.method == "ensemble" else shown(list(accuracies(results, cell, True).values())),
        shown(difference, signed=True),
        f"{np.mean(effective):.1f}" if effective else "",
        str(len(rows)),
    ]


_COLUMNS = ["last epoch, %", "best on validation, %", "minus average", "effective teachers", "n"]


def table_parts(number: int, preset: Preset, results: Results, directory: str) -> list[Part]:
    """One of the paper's tables, ours and where there is one the paper's number."""
    published = paper_values.TABLES[number]
    parts: list[Part] = [Heading(f"Table {number}")]
    wanted = grids.table(number, preset)
    rows = []
    for cell in wanted:
        theirs = ""
        known = published.get((cell.dataset, cell.student), {}).get(cell.size, ())
        if cell.method in paper_values.METHODS and known and cell.teachers != "mixed":
            index = paper_values.METHODS.index(cell.method)
            theirs = f"{known[index]:.2f}" if index < len(known) else ""
        elif cell.method == "alone" and (cell.dataset, cell.student) in paper_values.ALONE:
            theirs = f"{paper_values.ALONE[cell.dataset, cell.student]:.2f}"
        elif cell.teachers == "mixed" and cell.dataset == "cifar100":
            value = paper_values.HETEROGENEOUS.get(cell.method)
            theirs = f"{value:.2f}" if value else ""
        who = cell.teachers if cell.size else ""
        title = [cell.dataset, cell.student, who, str(cell.size or ""), TITLES[cell.method]]
        rows.append([*_row(results, cell, title), theirs])
    header = ["data", "student", "teachers", "M", "method", *_COLUMNS, "paper"]
    parts.append(Table(header, rows))
    adaptive = [cell for cell in wanted if cell.method in grids.ADAPTIVE and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive])))
    return parts


def figure_parts(number: int, preset: Preset, results: Results, directory: str) -> list[Part]:
    """Figure 2 or 3."""
    wanted = grids.figure(number, preset)
    first = wanted[0]
    lines: dict[str, list[tuple[float, float, float]]] = {}
    level = None
    for cell in wanted:
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
        what = "ensemble size" if number == 2 else "tolerance C"
        parts.append(Picture(file, f"Accuracy by {what}, mean and 95% interval over the seeds"))
    rows = [
        _row(results, cell, [str(cell.size), TITLES[cell.method], f"{cell.tolerance or ''}"])
        for cell in wanted
    ]
    parts.append(Table(["M", "method", "C", *_COLUMNS], rows))
    adaptive = [cell for cell in wanted if cell.method == "aekd" and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive])))
    return parts


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
    """One of the three questions, with its table and pictures."""
    wanted = grids.question(number, preset)
    parts: list[Part] = [Heading(QUESTIONS[number])]
    rows = []
    for cell in wanted:
        adaptive = cell.method in grids.ADAPTIVE
        weighting = f"{cell.batch_gradient}{', normalised' if cell.normalize else ''}"
        _, bad = grids.spoilt(cell.teachers)
        found = [row for key, row in results.items() if key.traced == cell.traced and row.weights]
        weights = np.array([[float(w) for w in row.weights.split()] for row in found])
        share = f"{weights[:, :bad].sum(1).mean():.2f}" if bad and len(weights) else ""
        start = [row.at_start for row in found if not np.isnan(row.at_start)]
        extra = {
            1: [weighting if adaptive else ""],
            2: [cell.teachers.partition("+")[2] or "none", share],
            3: [cell.solver if adaptive else "", f"{np.mean(start):.3f}" if start else ""],
        }[number]
        title = [str(cell.size), TITLES[cell.method], f"{cell.tolerance or ''}", *extra]
        rows.append(_row(results, cell, title))
    extra_names = {
        1: ["gradients"],
        2: ["spoilt", "their weight"],
        3: ["solver", "steps at the start"],
    }[number]
    parts.append(Table(["M", "method", "C", *extra_names, *_COLUMNS], rows))
    adaptive_cells = [cell for cell in wanted if cell.method in grids.ADAPTIVE and cell.size > 1]
    parts.append(Text(verdict([paired(results, cell, average(cell)) for cell in adaptive_cells])))
    seen = [cell for cell in adaptive_cells if cell.traced in trajectories]
    chosen = [cell for cell in seen if cell.tolerance == grids.TOLERANCE][:7]
    if chosen:
        named = {_name(cell): trajectories[cell.traced].weights for cell in chosen}
        file = f"question{number}_effective.png"
        pictures.save(pictures.effective(named), os.path.join(directory, file))
        parts.append(Picture(file, "Effective number of teachers over training, first seed"))
        for index, cell in enumerate(chosen[-2:]):
            file = f"question{number}_weights{index}.png"
            picture = pictures.heat_map(trajectories[cell.traced].weights, _name(cell))
            pictures.save(picture, os.path.join(directory, file))
            parts.append(Picture(file, f"Weights over training, first seed: {_name(cell)}"))
        file = f"question{number}_cosines.png"
        picture = pictures.cosines(trajectories[chosen[-1].traced].cosines, _name(chosen[-1]))
        pictures.save(picture, os.path.join(directory, file))
        parts.append(Picture(file, "Cosines between the teachers' gradients, last epoch"))
    return parts


def _name(cell: Cell) -> str:
    parts = [cell.teachers, f"M={cell.size}", f"C={cell.tolerance:g}", cell.batch_gradient]
    parts += ["normalised"] * cell.normalize + [cell.solver] * (cell.solver != "smo")
    return " ".join(parts)
