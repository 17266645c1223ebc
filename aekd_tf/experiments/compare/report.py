"""Writes the report: tables per setting and overall, as Markdown, CSV, HTML and PNG."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

import numpy as np

from aekd_tf import files
from aekd_tf.experiments.compare import pictures, weightings
from aekd_tf.experiments.compare.cells import Results
from aekd_tf.experiments.compare.comparisons import (
    Comparison,
    compare,
    overall,
    smallest_differences,
)
from aekd_tf.experiments.compare.config import CompareConfig, spans
from aekd_tf.experiments.compare.settings import SETTINGS
from aekd_tf.experiments.compare.sweep import Trajectories
from aekd_tf.experiments.compare.weightings import WEIGHTINGS
from aekd_tf.experiments.paper.render import (
    Code,
    Heading,
    Part,
    Picture,
    Table,
    Text,
    markdown,
    page,
)
from aekd_tf.experiments.statistics import interval, shown
from aekd_tf.monitoring.figures import save


def write(config: CompareConfig, results: Results, trajectories: Trajectories) -> None:
    """Writes `report.md`, `report.html`, `table.csv` and the pictures to the output directory."""
    compared = {name: compare(config, results, name) for name in config.settings}
    compared = {name: rows for name, rows in compared.items() if rows}
    parts = report_parts(config, compared, trajectories)
    directory, title = config.output_dir, f"Weightings compared on {config.dataset}"
    files.write_text(os.path.join(directory, "table.csv"), table(compared))
    files.write_text(os.path.join(directory, "report.md"), markdown(parts))
    files.write_text(os.path.join(directory, "report.html"), page(parts, directory, title))


def report_parts(
    config: CompareConfig, compared: dict[str, list[Comparison]], trajectories: Trajectories
) -> list[Part]:
    """Returns the parts of the report; pictures are written to the output directory."""
    everything = [row for rows in compared.values() for row in rows]
    parts: list[Part] = [
        Heading(f"Weightings compared on {config.dataset}", 1),
        Text(_power(everything, config)),
        Code(config.command),
        Text(
            "Accuracies are test accuracies in % after the last epoch: the mean over the seeds and "
            "its 95% interval (Student's t). `minus average` is the difference, in points, to the "
            "plain average of the same teachers and seeds. A win or a loss is an interval that "
            "excludes zero. The teachers and their outputs are the same for all."
        ),
    ]
    if not compared:
        return parts
    parts += [Heading("Overall"), _overall_table(compared)]
    parts += _pictures(config, compared, trajectories)
    for name, rows in compared.items():
        parts += _setting_parts(config, name, rows)
    return parts


def _power(rows: Sequence[Comparison], config: CompareConfig) -> str:
    least = smallest_differences(rows)
    if not len(least):
        return "There are too few results to say which differences this design would see."
    return (
        "The smallest difference to the average that this design would see is "
        f"{np.median(least):.1f} points in the median comparison ({least.min():.1f} to "
        f"{least.max():.1f}). A paired test over {len(config.seeds)} seeds finds it with a "
        "probability of 80%."
    )


def title(weighting: str) -> str:
    """Returns the name of a weighting in tables."""
    return "auto" if weighting == weightings.AUTO else WEIGHTINGS[weighting].title


def _overall_table(compared: dict[str, list[Comparison]]) -> Table:
    header = [
        "weighting",
        "average rank",
        "settings",
        "wins",
        "losses",
        "lowest lower end",
        "least share of the oracle's gain",
    ]
    rows = []
    for row in overall(compared):
        average = row.weighting == weightings.AVERAGE
        rows.append(
            [
                title(row.weighting),
                _number(row.rank, ".1f"),
                str(row.settings),
                "" if average else str(row.wins),
                "" if average else str(row.losses),
                "" if average else _number(row.lowest, "+.1f"),
                "" if average else _number(row.share, ".2f"),
            ]
        )
    return Table(header, rows)


def _setting_parts(config: CompareConfig, name: str, rows: list[Comparison]) -> list[Part]:
    halves = [spans(seeds) for seeds in _halves(config.seeds)]
    header = [
        "rank",
        "weighting",
        "accuracy, %",
        "minus average",
        *(f"seeds {text}" for text in halves if text),
        "weight of the spoilt",
        "n",
    ]
    lines = []
    for place, row in enumerate(rows, start=1):
        compared = row.weighting != weightings.AVERAGE
        parts = zip(row.halves, halves, strict=True)
        lines.append(
            [
                str(place),
                title(row.weighting),
                shown(row.accuracies),
                shown(row.differences, signed=True) if compared else "",
                *(shown(part, signed=True) if compared else "" for part, text in parts if text),
                _number(row.spoilt_weight, ".2f"),
                str(len(row.accuracies)),
            ]
        )
    least = smallest_differences(rows)
    caption = Text(
        f"The design would see {np.median(least):.1f} points in the median comparison."
        if len(least)
        else "There are too few results for intervals."
    )
    return [Heading(SETTINGS[name].shown(config.recipe.size)), caption, Table(header, lines)]


def _halves(seeds: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    middle = len(seeds) // 2
    return seeds[:middle], seeds[middle:]


def _pictures(
    config: CompareConfig, compared: dict[str, list[Comparison]], trajectories: Trajectories
) -> list[Part]:
    titles = {name: SETTINGS[name].shown(config.recipe.size) for name in compared}
    save(
        pictures.differences(compared, titles, title),
        os.path.join(config.output_dir, "differences.png"),
    )
    parts: list[Part] = [
        Picture("differences.png", "Accuracy minus the average's, in points, with 95% intervals")
    ]
    spoilt = {name: SETTINGS[name].spoilt_count(config.recipe.size) for name in compared}
    lines = {
        name: {
            title(weighting): np.array(trajectories[key])[:, :count].sum(1)
            for weighting in config.weightings
            for key in [(name, weightings.resolved(weighting, SETTINGS[name]))]
            if key in trajectories
        }
        for name, count in spoilt.items()
        if count
    }
    lines = {name: found for name, found in lines.items() if found}
    if lines:
        save(pictures.weights(lines, titles), os.path.join(config.output_dir, "weights.png"))
        parts.append(Picture("weights.png", "Weight of the spoilt teachers over training, seed 0"))
    return parts


def table(compared: dict[str, list[Comparison]]) -> str:
    """Returns all rows of all settings as CSV, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = "setting,rank,weighting,accuracy,interval,minus_average,minus_average_interval"
    writer.writerow([*columns.split(","), "spoilt_weight", "seeds"])
    for name, rows in compared.items():
        for place, row in enumerate(rows, start=1):
            accuracy = interval(row.accuracies)
            difference = interval(row.differences) if len(row.differences) else (np.nan, np.nan)
            numbers = [*accuracy, *difference, row.spoilt_weight]
            formatted = [_number(number, ".4f") for number in numbers]
            writer.writerow([name, place, row.weighting, *formatted, len(row.accuracies)])
    return text.getvalue()


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)
