"""Writes docs/results.md: docs/results/template.md, with the numbers of `*/results.csv` in it.

python tools/write_results.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aekd_tf import data
from aekd_tf.experiments.command.experiment_flags import configure
from aekd_tf.experiments.command.presets import Experiment
from aekd_tf.experiments.paper import cells, comparisons, grids, questions
from aekd_tf.experiments.paper.cells import Cell
from aekd_tf.experiments.paper.published import TITLES
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.experiments.run.methods import ADAPTIVE
from aekd_tf.experiments.statistics import interval, shown

HERE = Path(__file__).parents[1] / "docs" / "results"
ASKED = {
    "digits": "--preset=digits --table=1 --figure=2,3 --question=1,2,3",
    "cifar10": "--preset=quick --table=1 --figure=3",
}


class Run:
    """The results of one preset, as committed."""

    def __init__(self, name: str, preset: str):
        self.name, self.preset = name, grids.PRESETS[preset]
        self.results = cells.read(str(HERE / name / "results.csv"))
        self.dataset, self.student = self.preset.subjects[0]
        self.config = configure(
            Experiment("paper", self.dataset, None, "paper", image_size=True),
            {"dataset": self.dataset, **self.preset.settings},
        )
        self.seeds = 1 + max(cell.seed for cell in self.results)

    def accuracy(self, cell: Cell) -> str:
        return shown(list(comparisons.accuracies(self.results, cell).values()))

    def minus(self, cell: Cell, other: Cell | None = None) -> np.ndarray:
        """Paired differences to AVER (of hints, to FitNets), or to another cell."""
        return comparisons.paired(self.results, cell, other or comparisons.average(cell))

    def pooled(self, wanted: Iterable[Cell]) -> np.ndarray:
        """By seed, the mean difference over several cells."""
        return np.mean([self.minus(cell) for cell in wanted], axis=0)

    def pooled_by_size(self, wanted: Iterable[Cell]) -> np.ndarray:
        """The same, every M counting alike: cells of one M share their partner."""
        by_size: dict[int, list[Cell]] = {}
        for cell in wanted:
            by_size.setdefault(cell.size, []).append(cell)
        return np.mean([self.pooled(group) for group in by_size.values()], axis=0)

    def weights(self, cell: Cell) -> np.ndarray:
        """Mean weight of each teacher over the seeds."""
        rows = [row.weights.split() for row in comparisons.of_seeds(self.results, cell).values()]
        return np.array(rows, np.float64).mean(0)


def verdict(differences: np.ndarray) -> str:
    """The interval, and the word that it allows."""
    mean, half = interval(differences)
    word = "above" if mean - half > 0 else "below" if mean + half < 0 else "no difference seen"
    return f"{mean:+.2f} +- {half:.2f} ({word})"


def answer(differences: np.ndarray, ours: str, theirs: str, where: str) -> str:
    """The same in a sentence."""
    mean, half = interval(differences)
    first = ours[0].upper() + ours[1:]
    if mean - half > 0:
        return f"{first} is above {theirs} {where}: {mean:+.2f} +- {half:.2f} points."
    if mean + half < 0:
        return f"{first} is below {theirs} {where}: {mean:+.2f} +- {half:.2f} points."
    return (
        f"No difference between {ours} and {theirs} was seen {where}: {mean:+.2f} +- {half:.2f} "
        f"points; the interval ends at {mean - half:+.2f} and {mean + half:+.2f}."
    )


def adaptive(wanted: list[Cell], method: str = "aekd") -> list[Cell]:
    """The cells of AE-KD that have several teachers to weight."""
    return [cell for cell in wanted if cell.method == method and cell.size > 1]


def table(header: list[str], rows: list[list[str]]) -> str:
    return markdown_table(header, rows)


def settings(run: Run) -> dict[str, str]:
    config, preset = run.config, run.preset
    vote = Cell(run.dataset, run.student, preset.teacher, max(preset.sizes), "ensemble")
    each = comparisons.teacher_accuracies(run.results, vote)
    alone = run.accuracy(Cell(run.dataset, run.student, "", 0, "alone"))
    hours = sum(row.seconds for row in run.results.values()) / 3600
    return {
        f"{run.name}_command": "    python -m aekd_tf.experiments.paper "
        f"{ASKED[run.name]} --seeds={run.seeds}",
        f"{run.name}_settings": f"{config.train_examples:,} training images, {preset.teacher} "
        f"teachers x {config.teacher_epochs} epochs, {run.student} students x {config.epochs} "
        f"epochs, {run.seeds} student seeds; {len(run.results)} cells, which took "
        f"{hours:.1f} hours of a part of two cores beside the usual teachers. The "
        f"{len(each)} teachers reach {each.min():.2f} to {each.max():.2f}%, "
        f"{each.mean():.2f} on average, their majority vote {run.accuracy(vote)}%, "
        f"the student alone {alone}%. All of it: "
        f"[report](results/{run.name}/report.md), [results.csv](results/{run.name}/results.csv).",
    }


def cifar_table(cifar: Run) -> str:
    wanted = [*grids.table(1, cifar.preset), *adaptive(grids.figure(3, cifar.preset))]
    rows = []
    for cell in dict.fromkeys(wanted):
        best = list(comparisons.accuracies(cifar.results, cell, best=True).values())
        rows.append(
            [
                TITLES[cell.method],
                f"{cell.tolerance:g}" if cell.tolerance else "",
                cifar.accuracy(cell),
                "" if cell.method == "ensemble" else shown(best),
                verdict(cifar.minus(cell)) if cell.method in ADAPTIVE else "",
            ]
        )
    return table(["method", "C", "last epoch, %", "best on validation, %", "minus average"], rows)


def listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def first_question(digits: Run, cifar: Run) -> dict[str, str]:
    variants = adaptive(grids.question(1, digits.preset))
    by_size = [cell for cell in variants if cell.tolerance == grids.TOLERANCE and cell.size == 3]
    by_size += adaptive(grids.figure(2, digits.preset))
    by_tolerance = adaptive(grids.figure(3, digits.preset))
    largest = max(cell.size for cell in variants)
    in_table = grids.table(1, digits.preset)
    groups = {f"M = {listed(c.size for c in by_size)}; C = {grids.TOLERANCE}": by_size}
    groups[f"M = {by_tolerance[0].size}; C = {listed(c.tolerance or 0 for c in by_tolerance)}"] = (
        by_tolerance
    )
    for gradient in ("mean", "full"):
        for normalized in (False, True):
            kind = (largest, gradient, normalized)
            chosen = [c for c in variants if (c.size, c.batch_gradient, c.normalize) == kind]
            what = f"batch gradient {gradient}{', normalized' if normalized else ''}"
            groups[f"{what}; M = {largest}; C = {listed(c.tolerance or 0 for c in chosen)}"] = (
                chosen
            )
    mixed = [cell for cell in adaptive(in_table) if cell.teachers == "mixed"]
    groups[f"{', '.join(digits.preset.mixed)}; C = {grids.TOLERANCE}"] = mixed
    rows = [["digits", name, verdict(digits.pooled(group))] for name, group in groups.items()]
    hints = "AE-KD* minus FitNets, M = "
    hinted = adaptive(in_table, "aekd_hints")
    rows.append(["digits", hints + listed(c.size for c in hinted), verdict(digits.pooled(hinted))])
    ours = adaptive(grids.figure(3, cifar.preset))
    for cell in ours:
        name = f"M = {cell.size}; C = {cell.tolerance:g}"
        rows.append(["CIFAR-10", name, verdict(cifar.minus(cell))])
    hinted = adaptive(grids.table(1, cifar.preset), "aekd_hints")
    rows.append(["CIFAR-10", hints + listed(c.size for c in hinted), verdict(cifar.pooled(hinted))])
    every = list(dict.fromkeys([*by_size, *by_tolerance, *variants, *mixed]))
    ordered = sorted(every, key=lambda cell: digits.minus(cell).mean())
    worst, best = (
        f"{digits.minus(cell).mean():+.2f} ({questions.name(cell)})"
        for cell in (ordered[0], ordered[-1])
    )
    return {
        "differences_table": table(["data", "settings", "difference"], rows),
        "every_setting": answer(
            digits.pooled_by_size(every),
            "AE-KD",
            "AVER",
            f"on digits, over all {len(every)} settings, each M counting alike",
        ),
        "one_by_one": comparisons.verdict([digits.minus(cell) for cell in every]),
        "worst": worst,
        "best": best,
        "cifar10_settings_pooled": answer(
            cifar.pooled(ours), "AE-KD", "AVER", f"on CIFAR-10, over its {len(ours)} settings"
        ),
        "cifar10_one_by_one": comparisons.verdict([cifar.minus(cell) for cell in ours]),
        "cifar10_widest": f"{max(interval(cifar.minus(cell))[1] for cell in ours):.2f}",
    }


def second_question(digits: Run) -> dict[str, str]:
    wanted = grids.question(2, digits.preset)
    usual = wanted[0].teachers
    worst = max(cell.teachers for cell in wanted if "confident" in cell.teachers)
    effects, shares = [], []
    given: dict[Cell, tuple[float, float]] = {}
    for group in dict.fromkeys(cell.teachers for cell in wanted):
        vote, plain, *ours = [cell for cell in wanted if cell.teachers == group]
        _, bad = grids.spoilt(group)
        each = comparisons.teacher_accuracies(digits.results, vote)
        title = questions.spoilt_title(vote)
        lost = digits.minus(plain, dataclasses.replace(plain, teachers=usual))
        effects.append(
            [
                *(title, f"{each[:bad].mean():.1f}" if bad else "", f"{each[bad:].mean():.1f}"),
                *(digits.accuracy(vote), digits.accuracy(plain), verdict(lost) if bad else ""),
                *(verdict(digits.minus(cell)) for cell in ours),
            ]
        )
        if bad:
            for cell in ours:
                weight = comparisons.spoilt_weight(digits.results, cell)
                given[cell] = weight, bad / cell.size
            weights = [f"{given[cell][0]:.2f}" for cell in ours]
            shares.append([title, f"{bad / vote.size:.2f}", *weights])
    by_kind: dict[str, list[Cell]] = {}
    for cell in given:
        by_kind.setdefault(questions.spoilt_title(cell), []).append(cell)
    ratios = {cell: weight / share for cell, (weight, share) in given.items()}
    most = max(ratios, key=ratios.__getitem__)
    over = {
        kind: [ratios[cell] > 1 for cell in given if kind in cell.teachers]
        for kind in ("labels", "confident")
    }
    names = [f"C = {tolerance:g}" for tolerance in digits.preset.question_tolerances]
    header = ["spoilt", "they, %", "others, %", "vote, %", "AVER, %", "AVER minus unspoilt"]
    return {
        "question_size": str(max(digits.preset.question_sizes)),
        "spoilt_table": table([*header, *names], effects),
        "spoilt_weights": table(["spoilt", "share", *names], shares),
        "labels_over": f"{sum(over['labels'])} of {len(over['labels'])}",
        "confident_over": f"{sum(over['confident'])} of {len(over['confident'])}",
        "most_over": f"{ratios[most]:.1f}",
        "most_over_where": f"{questions.name(most)}: {given[most][0]:.2f} of the weight for "
        f"{given[most][1]:.2f} of the teachers",
        "confident_short": answer(
            digits.pooled(cell for cell in given if cell.teachers == worst),
            "AE-KD",
            "AVER",
            f"where {questions.spoilt_title(Cell('', '', worst, 0, ''))} teachers teach along",
        ),
        "answers_by_kind": "\n".join(
            f"- {answer(digits.pooled(group), 'AE-KD', 'AVER', f'({kind})')}"
            for kind, group in by_kind.items()
        ),
        "spoilt_one_by_one": comparisons.verdict([digits.minus(cell) for cell in given]),
    }


def third_question(digits: Run) -> dict[str, str]:
    rows, said = [], []
    for cell in grids.question(3, digits.preset):
        if cell.solver != "libsvm_unscaled":
            continue
        exact = dataclasses.replace(cell, solver="smo")
        start = comparisons.start_share(digits.results, cell)
        pairs = [digits.weights(which)[:2] for which in (cell, exact)]
        change = digits.minus(cell, exact)
        rows.append(
            [
                *(str(cell.size), f"{start:.3f}"),
                *(" ".join(f"{weight:.2f}" for weight in pair) for pair in pairs),
                *(digits.accuracy(cell), digits.accuracy(exact)),
                *(verdict(change), verdict(digits.minus(cell))),
            ]
        )
        where = f"with {cell.size} teachers"
        said.append(
            f"**It stays at its start in {start:.1%} of the steps {where}.** "
            + answer(change, "the authors' solver", "the exact one", where)
        )
    header = ["M", "at the start", "first two, theirs", "first two, exact"]
    header += ["theirs, %", "exact, %", "theirs minus exact", "theirs minus AVER"]
    return {
        "solver_table": table(header, rows),
        "solver_answers": " ".join(said),
        "solver_short": "; ".join(f"M = {row[0]}, {row[-2]}" for row in rows),
    }


def build() -> str:
    digits, cifar = Run("digits", "digits"), Run("cifar10", "quick")
    found = {**settings(digits), **settings(cifar), "cifar10_table": cifar_table(cifar)}
    images = len(data.load("digits").test)
    found |= {"digits_test_images": str(images), "digits_one_image": f"{100 / images:.2f}"}
    found |= first_question(digits, cifar) | second_question(digits)
    found |= third_question(digits)
    return (HERE / "template.md").read_text(encoding="utf-8").format_map(found)


if __name__ == "__main__":
    (HERE.parent / "results.md").write_text(build(), encoding="utf-8")
