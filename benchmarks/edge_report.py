"""Writes the page and the picture of `benchmarks/edge.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edge_report_rows import CALIBRATION, PLANS, TEACHERS, VARIANTS, VOTE, Results, Row, read
from matplotlib.figure import Figure

from aekd_tf.data.loading import VALIDATION_EXAMPLES
from aekd_tf.experiments.compare.comparisons import standardized_difference
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.experiments.statistics import interval, shown
from aekd_tf.files import write_text
from aekd_tf.monitoring import figures

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results" / "edge"
LIMIT = 1.0  # points that 8 bits may lose
UNKNOWN = "not known yet"
MARKS = {"teachers": "s", "vote": "D", "float": "o", "float16": "^", "dynamic": "v", "int8": "P"}
MARKS["int8_aware"] = "X"


def verdict(differences: np.ndarray) -> str:
    """Returns mean and interval in points, and the word that they allow."""
    if not len(differences):
        return UNKNOWN
    center, half = interval(differences)
    if np.isnan(half):
        return f"{center:+.2f} points (one seed, no interval)"
    word = "above" if center - half > 0 else "below" if center + half < 0 else "no difference seen"
    return f"{center:+.2f} +- {half:.2f} points ({word})"


def largest_loss(differences: np.ndarray) -> float:
    """Returns the upper end of the interval of the loss, NaN below two seeds."""
    if len(differences) < 2:
        return float("nan")
    center, half = interval(differences)
    return half - center


def eight_bits(results: Results, variant: str) -> str:
    """Returns the sentences about an int8 file."""
    differences = results.minus(variant)
    title = VARIANTS[variant].replace("int8", "Int8", 1)
    text = f"{title}, minus float32: {verdict(differences)}."
    if len(differences) < 2:
        return text
    most = largest_loss(differences)
    kept = "at most" if most <= LIMIT else "perhaps more than"
    text += f" The loss has its upper end at {most:.2f} points, which is {kept} {LIMIT:g} point."
    if variant == "int8":
        center, half = interval(differences)
        if center + half >= 0:
            text += " So this design sees no loss by quantization after training either."
        else:
            text += " So quantization after training loses accuracy."
    return text


def sentences(results: Results) -> list[str]:
    """Returns what the numbers of a plan say."""
    four, aware = results.minus("weights4"), results.minus("weights4_aware")
    gained = results.minus("weights4_aware", "weights4")
    least = [
        np.std(each, ddof=1) * standardized_difference(len(each)) if len(each) > 1 else np.nan
        for each in (results.minus("int8_aware"), aware)
    ]
    power = "One seed has no interval, so it says what happened once."
    if not np.isnan(least).any():
        power = (
            f"This design sees {least[0]:.2f} points between quantization-aware int8 and float32, "
            f"and {least[1]:.2f} points for 4 bits. A smaller difference is no evidence."
        )
    control = verdict(results.minus("int8_aware", "longer"))
    return [
        power,
        eight_bits(results, "int8_aware"),
        eight_bits(results, "int8"),
        f"Int8, quantization-aware, minus int8 after training: "
        f"{verdict(results.minus('int8_aware', 'int8'))}.",
        f"Training on in float32, minus float32: {verdict(results.minus('longer'))}. "
        f"Quantization-aware int8, minus that: {control}.",
        f"4-bit weights after training, minus float32: {verdict(four)}. With the second training: "
        f"{verdict(aware)}. The second training, minus none: {verdict(gained)}.",
    ]


def table(results: Results) -> str:
    """Returns accuracy, size and latency of everything that was measured."""
    rows = []
    groups = {"teachers, mean": TEACHERS, "their vote": (VOTE,)}
    groups |= {title: (name,) for name, title in VARIANTS.items()}
    for title, names in groups.items():
        found = results.of(*names)
        if not found:
            continue
        differences = results.minus(names[0]) if names[0] in VARIANTS else np.zeros(0)
        accuracies = 100 * np.array([row.accuracy for row in found])
        mean = f"{accuracies.mean():.2f}"
        sizes, times = measured(found, "bytes"), measured(found, "latency_ms")
        rows.append(
            [
                title,
                mean if names == TEACHERS else shown(accuracies),
                "" if names[0] == "float" else shown(differences, signed=True),
                f"{sizes / 1000:.1f}" if sizes else "",
                f"{times:.3f}" if times else "",
                str(len(found)) if names[0] in VARIANTS else "",
            ]
        )
    header = ["", "accuracy, %", "minus float32", "kB", "latency, ms", "seeds"]
    return markdown_table(header, rows, left=1)


def measured(rows: Sequence[Row], name: str) -> float:
    """Returns the median of what has been measured, 0 if nothing has."""
    known = [value for row in rows for value in [getattr(row, name)] if value is not None]
    return float(np.median(known)) if known else 0.0


def wrapped(text: str, indent: str = "") -> str:
    """Breaks a paragraph into lines; a number stays with its interval."""
    text = text.replace(" +- ", "~+-~")
    lines = textwrap.fill(text, 118, break_on_hyphens=False, subsequent_indent=indent)
    return lines.replace("~+-~", " +- ")


def section(results: Results) -> str:
    """Returns the part of the page about a plan."""
    plan, recipe = results.plan, results.plan.recipe
    count = len(plan.all_keys())
    hours = sum(row.seconds for row in results.rows.values()) / 3600
    finished = f"{len(results.rows)} of {count} rows are finished"
    if results.rows:
        finished += f", after {hours:.1f} hours without the teachers' training"
    pixels = (
        "" if recipe.image_size is None else f" of {recipe.image_size}x{recipe.image_size} pixels"
    )
    design = (
        f"{recipe.train_examples:,} training images{pixels}, {VALIDATION_EXAMPLES[plan.dataset]:,} "
        f"held-out and {plan.test:,} test images; {recipe.size} `{recipe.teacher}` teachers of "
        f"{recipe.teacher_epochs} epochs. Students are `{recipe.student}` of {recipe.epochs} "
        f"epochs, and the second training has {plan.second_epochs}. {finished}."
    )
    lines = [
        f"## {plan.title}",
        f"    python benchmarks/edge.py --data={plan.name}",
        wrapped(design),
    ]
    if results.rows:
        lines.append(table(results))
    if results.of("float"):
        lines.append("\n".join(wrapped(f"- {text}", "  ") for text in sentences(results)))
    return "\n\n".join(lines)


def short(everything: Sequence[Results]) -> str:
    """Returns the answer, in one sentence per plan that has an interval."""
    found = {r.plan.title: largest_loss(r.minus("int8_aware")) for r in everything}
    known = {title: most for title, most in found.items() if not np.isnan(most)}
    if not known:
        return f"The cost of 8 bits is {UNKNOWN}."
    ends = ", ".join(f"{most:.2f} points ({title})" for title, most in known.items())
    word = "at most" if max(known.values()) <= LIMIT else "perhaps more than"
    gains = ", ".join(
        f"{verdict(r.minus('weights4_aware', 'weights4'))} with {r.plan.title}"
        for r in everything
        if r.plan.title in known
    )
    return wrapped(
        f"**A quantization-aware student loses {word} {LIMIT:g} point in its int8 file.** The "
        f"upper ends of the 95% intervals of the loss: {ends}. With 4-bit weights, "
        f"quantization-aware training minus rounding after training is {gains}."
    )


def build(everything: Sequence[Results]) -> str:
    """Returns the page."""
    template = (DOCS / "results" / "edge.template.md").read_text(encoding="utf-8")
    parts = {"short": short(everything), "calibration": str(CALIBRATION)}
    return template.format_map({**parts, "sections": "\n\n".join(map(section, everything))})


def picture(everything: Sequence[Results]) -> Figure:
    """Draws accuracy against size and against latency."""
    known = [results for results in everything if results.of("float")]
    figure = Figure(figsize=(8.4, 0.4 + 2.9 * max(1, len(known))))
    grid = figure.subplots(max(1, len(known)), 2, squeeze=False)
    for results, axes in zip(known, grid, strict=False):
        for axis, (field, unit, label) in zip(
            axes, (("bytes", 1000, "size, kB"), ("latency_ms", 1, "latency, ms")), strict=True
        ):
            for (name, mark), color in zip(MARKS.items(), figures.COLORS, strict=True):
                found = results.of(*(TEACHERS if name == "teachers" else (name,)))
                if not found:
                    continue
                mean, half = interval(100 * np.array([row.accuracy for row in found]))
                half = 0.0 if name == "teachers" else half  # not over seeds
                title = {"teachers": "teachers", "vote": "their vote"}.get(name)
                axis.errorbar(
                    *(measured(found, field) / unit, mean),
                    np.nan_to_num(half),
                    fmt=mark,
                    color=color,
                    capsize=3,
                    label=title or VARIANTS[name],
                )
            if field == "bytes":
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter("{x:g}")
            else:
                axis.set_xlim(left=0)
            axis.set_xlabel(label)
            axis.set_title(results.plan.title, fontsize=9)
            axis.grid(alpha=0.3, which="both")
        axes[0].set_ylabel("test accuracy, %")
    if known:
        grid[0][1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def render(directory: Path) -> None:
    """Writes the page and the picture from the files of results."""
    everything = [Results(plan, read(directory / f"{name}.csv")) for name, plan in PLANS.items()]
    write_text(str(DOCS / "edge_results.md"), build(everything))
    figures.save(picture(everything), str(DOCS / "edge.png"))
