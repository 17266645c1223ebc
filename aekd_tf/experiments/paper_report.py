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


def rows_of(results: Results, cell: Cell) -> list[Result]:
    """A cell's results of all seeds."""
    return [row for key, row in results.items() if key.traced == cell.traced]


def teacher_accuracies(results: Results, cell: Cell) -> np.ndarray:
    """Test accuracy in % of each teacher of an `ensemble`; empty where it is not known."""
    texts = [row.teacher_accuracies for row in rows_of(results, cell)]
    return 100 * np.array([float(text) for text in "".join(texts).split()])


def spoilt_weight(results: Results, cell: Cell) -> float:
    """What the spoilt teachers get of the weight, mean over the seeds; NaN without any."""
    _, bad = grids.spoilt(cell.teachers)
    rows = [row.weights.split() for row in rows_of(results, cell) if row.weights]
    weights = np.array(rows, np.float64)
    return float(weights[:, :bad].sum(1).mean()) if bad and len(weights) else float("nan")


def start_share(results: Results, cell: Cell) -> float:
    """The share of steps in which the authors' solver stayed at its start; NaN with others."""
    shares = [row.at_start for row in rows_of(results, cell)]
    return float(np.mean(shares)) if shares else float("nan")


def _row(results: Results, cell: Cell, title: list[str]) -> list[str]:
    adaptive = cell.method in grids.ADAPTIVE
    difference = paired(results, cell, average(cell)) if adaptive else np.zeros(0)
    rows = rows_of(results, cell)
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


_COLUMNS = [
    "mean teacher, %",
    "last epoch, %",
    "best on validation, %",
    "minus average",
    "effective teachers",
    "n",
]


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
        extra = {
            1: [weighting if adaptive else ""],
            2: [spoilt_title(cell), _number(spoilt_weight(results, cell), 2)],
            3: [cell.solver if adaptive else "", _number(start_share(results, cell), 3)],
        }[number]
        title = [str(cell.size), TITLES[cell.method], f"{cell.tolerance or ''}", *extra]
        rows.append(_row(results, cell, title))
    extra_names = {
        1: ["gradients"],
        2: ["spoilt", "their weight"],
        3: ["solver", "steps at the start"],
    }[number]
    parts.append(Table(["M", "method", "C", *extra_names, *_COLUMNS], rows))
    if number == 2:
        parts.append(Text("Mean teacher: of the spoilt ones and of the others."))
    adaptive_cells = [cell for cell in wanted if cell.method in grids.ADAPTIVE and cell.size > 1]
    differences = {name(cell): paired(results, cell, average(cell)) for cell in adaptive_cells}
    parts.append(Text(verdict(list(differences.values()))))
    points = {name: interval(values) for name, values in differences.items() if len(values) > 1}
    if points:
        file = f"question{number}_differences.png"
        label = "test accuracy minus AVER's, points"
        pictures.save(pictures.differences(points, label), os.path.join(directory, file))
        caption = "AE-KD minus AVER, same seeds and teachers, mean and 95% interval"
        parts.append(Picture(file, caption))
    chosen = [cell for cell in pictured(number, wanted) if cell in trajectories]
    if chosen:
        named = {name(cell): trajectories[cell].weights for cell in chosen}
        file = f"question{number}_effective.png"
        pictures.save(pictures.effective(named), os.path.join(directory, file))
        parts.append(Picture(file, "Effective number of teachers over training, first seed"))
    for index, cell in enumerate(chosen[:1] + chosen[-1:] if len(chosen) > 1 else chosen):
        of_cell = trajectories[cell]
        file = f"question{number}_weights{index}.png"
        pictures.save(pictures.heat_map(of_cell.weights, name(cell)), os.path.join(directory, file))
        parts.append(Picture(file, f"Weights over training, first seed: {name(cell)}"))
        file = f"question{number}_cosines{index}.png"
        pictures.save(pictures.cosines(of_cell.cosines, name(cell)), os.path.join(directory, file))
        caption = f"Cosines between the teachers' gradients, last epoch: {name(cell)}"
        parts.append(Picture(file, caption))
    return parts


def pictured(number: int, wanted: list[Cell]) -> list[Cell]:
    """The cells of a question whose weights are drawn: at most seven, of the largest ensemble."""
    largest = max(cell.size for cell in wanted)
    cells = [c for c in wanted if c.method in grids.ADAPTIVE and c.size == largest]
    if number == 1:
        return [c for c in cells if c.batch_gradient == "mean" and not c.normalize]
    cells = [c for c in cells if c.tolerance == grids.TOLERANCE]
    if number == 3:
        return cells
    most = max(grids.spoilt(cell.teachers)[1] for cell in cells)
    usual, *rest = [c for c in cells if grids.spoilt(c.teachers)[1] in (0, most)]
    # Random labels last: the first and the last are drawn whole.
    return [usual, *sorted(rest, key=lambda c: "labels" in c.teachers)]


def spoilt_title(cell: Cell) -> str:
    """Which teachers are spoilt, in words."""
    kind, count = grids.spoilt(cell.teachers)
    words = {
        "": "none",
        "labels40": "40% random labels",
        "labels80": "80% random labels",
        "confident": "wrong and sure",
    }
    return f"{count} x {words.get(kind, kind)}" if kind else words[kind]


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def name(cell: Cell) -> str:
    """What sets a cell of a question apart."""
    parts = [f"M={cell.size}", f"C={cell.tolerance:g}"]
    parts += [spoilt_title(cell)] if "+" in cell.teachers else []
    parts += ["full"] * (cell.batch_gradient == "full") + ["normalised"] * cell.normalize
    return ", ".join(parts + ["LIBSVM, unscaled"] * (cell.solver != "smo"))
