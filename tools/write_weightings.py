"""Writes docs/weightings_results.md, a part of README and their picture from committed results.

python tools/write_weightings.py
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aekd_tf.data import mnist1d
from aekd_tf.data.loading import VALIDATION_EXAMPLES
from aekd_tf.experiments.compare.comparisons import (
    LEAST_GAIN,
    overall,
    smallest_differences,
)
from aekd_tf.experiments.compare.config import spans
from aekd_tf.experiments.compare.story import LEAST_LOWER_END, LEAST_SHARE, Story
from aekd_tf.experiments.compare.weightings import AUTO, AVERAGE, ORACLE
from aekd_tf.experiments.compare.wording import UNKNOWN, number, points, verdict
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.monitoring import figures

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RUNS = DOCS / "results" / "weightings"
PRESET = "mnist1d"
OTHERS: tuple[str, ...] = ("mnist1d_others", "digits", "cifar10")
TRIED = "mnist1d_tried"
DATA = {"mnist1d": "MNIST-1D", "digits": "digits", "cifar10": "CIFAR-10"}
TITLES = {
    AVERAGE: "AVER",
    "aekd": "AE-KD",
    "ca_mkd": "CA-MKD",
    "anchored": "`anchored`",
    "accuracy": "accuracy^4",
    "stacked": "`stacked`",
    AUTO: "the default",
    "tolerance": "C chosen by folds",
    "training": "stacked on training labels",
    ORACLE: "the good ones alone",
}
IN_README = ("aekd", AUTO, ORACLE)
DRAWN = ("aekd", "ca_mkd", AUTO)
COLORS = figures.COLORS[1], figures.COLORS[4], figures.COLORS[0]
NOISY = "labels80x4"
PAIRS = ((AUTO, "accuracy"), (AUTO, "stacked"), ("stacked", "anchored"))
MARKS = "<!-- weightings -->", "<!-- /weightings -->"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def cell(story: Story, setting: str, weighting: str) -> str:
    """Returns the difference to AVER and the share of the oracle's gain, a win in bold."""
    differences = story.minus(setting, weighting)
    if not len(differences):
        return ""
    word = verdict(differences)
    mark = "**" if "above" in word else "*" if "below" in word else ""
    share = float("nan") if weighting == ORACLE else story.share(setting, weighting)
    text = f"{mark}{points(differences)}{mark}"
    return text if np.isnan(share) else f"{text} ({share:.2f})"


def table(story: Story, weightings: Sequence[str]) -> str:
    rows = []
    for setting, compared in story.compared.items():
        average = [f"{r.accuracies.mean():.1f}" for r in compared if r.weighting == AVERAGE]
        found = [cell(story, setting, name) for name in weightings]
        rows.append([story.title(setting), "".join(average), *found])
    header = ["teachers", "AVER, %", *(TITLES[name] for name in weightings)]
    return markdown_table(header, rows, left=1)


def titled(story: Story, setting: str) -> str:
    """Returns the title of a setting, and the data if they are not those of the first table."""
    data = story.config.dataset
    return story.title(setting) + ("" if data == PRESET else f" ({DATA[data]})")


def safety(stories: Sequence[Story], weighting: str, reasons: bool = True) -> str:
    """Returns the sentence about the settings in which a weighting is not safe.

    Each has the reasons why, or else the difference to AVER in points.
    """
    known = {
        titled(story, name): (faults, story.minus(name, weighting))
        for story in stories
        for name in story.compared
        for faults in [story.faults(name, weighting)]
        if faults is not None
    }
    unsafe = [
        f"{name} ({' and '.join(faults)})" if reasons else f"{name}, {points(differences)}"
        for name, (faults, differences) in known.items()
        if faults
    ]
    title, count = capital(TITLES[weighting]), len(known)
    if not known:
        return f"Whether {TITLES[weighting]} is safe is {UNKNOWN}."
    if not unsafe:
        return f"{title} is safe in all settings ({count} of {count})."
    unit = "" if reasons else " (minus AVER, points)"
    return f"{title} is not safe in {len(unsafe)} of {count} settings{unit}: {'; '.join(unsafe)}."


def halves(story: Story) -> dict[str, str]:
    """Returns the choice on the first half of the seeds, and what the second says to it."""
    seeds = story.config.seeds
    middle = len(seeds) // 2
    parts = seeds[:middle], seeds[middle:]
    names = {"first_half": spans(parts[0]), "second_half": spans(parts[1])}
    if not story.complete:
        return {**names, "choice": f"The choice is {UNKNOWN}: no setting is complete.", "ranks": ""}
    found = [
        {row.weighting: row for row in overall(story.over(part, story.complete))} for part in parts
    ]
    ranked = [name for name in found[0] if name != ORACLE]
    best = ranked[0]
    pooled = {name: story.pooled(name, AVERAGE)[middle:] for name in ranked}
    rows = [
        [
            TITLES[name],
            *(f"{half[name].rank:.1f}" for half in found),
            *(["", ""] if name == AVERAGE else [points(pooled[name]), f"{second.lowest:+.1f}"]),
        ]
        for name in ranked
        for second in [found[1][name]]
    ]
    header = ["weighting", *(f"mean rank, seeds {spans(part)}" for part in parts)]
    header += [f"minus AVER, seeds {spans(parts[1])}", "lowest end of an interval there"]
    choice = (
        f"Over {len(story.complete)} settings, {TITLES[best]} has the best mean rank on seeds "
        f"{names['first_half']}. On seeds {names['second_half']} its mean rank is "
        f"{found[1][best].rank:.1f}"
    )
    if best != AVERAGE:
        choice += f", and its difference to AVER is {verdict(pooled[best])}"
    return {**names, "choice": choice + ".", "ranks": markdown_table(header, rows, left=1)}


def lines(story: Story) -> tuple[str, dict[str, np.ndarray]] | None:
    """Returns the weight of noisy teachers over training; of others while that is not known."""
    for setting in (NOISY, *story.config.settings):
        found = {name: story.spoilt_line(setting, name) for name in DRAWN}
        if story.spoilt(setting) and all(len(line) for line in found.values()):
            return setting, found
    return None


def noise(story: Story) -> dict[str, str]:
    """Returns what the picture shows, in numbers."""
    found = lines(story)
    if found is None:
        return dict.fromkeys(("noisy_title", "noisy_share", "noisy_table"), UNKNOWN)
    setting, by_name = found
    rows, last = [], min(map(len, by_name.values())) - 1
    chosen = sorted({0, last // 6, last // 2, last})
    for name, line in by_name.items():
        numbers = [*(line[epoch] for epoch in chosen), story.spoilt_weight(setting, name)]
        rows.append([TITLES[name], *(number(value) for value in numbers)])
    header = ["weighting", *(f"epoch {epoch + 1}" for epoch in chosen), "mean over all seeds"]
    return {
        "noisy_title": story.title(setting),
        "noisy_share": number(story.spoilt(setting) / story.config.recipe.size),
        "noisy_table": markdown_table(header, rows, left=1),
    }


def picture(story: Story) -> Figure | None:
    """Draws the total weight of the noisy teachers over training."""
    found = lines(story)
    if found is None:
        return None
    setting, by_name = found
    figure = Figure(figsize=(7.2, 3.2))
    axis = figure.subplots()
    for (name, line), color in zip(by_name.items(), COLORS, strict=True):
        axis.plot(np.arange(1, len(line) + 1), line, color=color, lw=2, label=TITLES[name])
    share = story.spoilt(setting) / story.config.recipe.size
    label = f"their share in the average, {share:.1f}"
    axis.axhline(share, color="#555555", ls="--", lw=1, label=label)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("epoch")
    axis.set_ylabel("total weight of these teachers")
    axis.set_title(story.title(setting), fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def stories() -> dict[str, Story]:
    """Returns the committed comparisons by preset."""
    return {name: Story(name, str(RUNS / name)) for name in (PRESET, *OTHERS, TRIED)}


def values(stories: dict[str, Story]) -> dict[str, str]:
    """Returns all numbers by their names in the templates."""
    story = stories[PRESET]
    everywhere = [story, *(stories[name] for name in OTHERS)]
    weightings = [name for name in story.config.weightings if name != AVERAGE]
    numbers = {
        **design(story),
        "least_lower_end": f"{LEAST_LOWER_END:+g}",
        "least_share": f"{LEAST_SHARE:g}",
        "least_gain": f"{LEAST_GAIN:g}",
        "unsafe": safety(everywhere, AUTO, reasons=False),
        "safe_everywhere": safety(everywhere, AUTO),
        "table": table(story, weightings),
        "readme_table": table(story, IN_README),
        "adds": verdict(story.pooled(AUTO, "accuracy")),
        **halves(story),
        **noise(story),
    }
    added = {story.title(n): verdict(story.minus(n, AUTO, "accuracy")) for n in story.compared}
    header = ["teachers", "the default minus accuracy^4"]
    numbers["adds_table"] = markdown_table(header, [[*row] for row in added.items()], left=1)
    for name in weightings:
        numbers[f"safety_{name}"] = safety([story], name)
    for setting in story.config.settings:
        numbers[f"title_{setting}"] = story.title(setting)
        for name in weightings:
            numbers[f"minus_{name}_{setting}"] = verdict(story.minus(setting, name))
            numbers[f"weight_{name}_{setting}"] = number(story.spoilt_weight(setting, name))
        for first, second in PAIRS:
            pair = verdict(story.minus(setting, first, second))
            numbers[f"pair_{first}_{second}_{setting}"] = pair
    for name in (*OTHERS, TRIED):
        numbers |= {f"{name}_{key}": value for key, value in more(stories[name]).items()}
    for name in ("tolerance", "training"):
        numbers[f"pooled_{name}"] = verdict(stories[TRIED].pooled(name, AUTO))
        for setting in ("memorized4", "copies"):
            pair = verdict(stories[TRIED].minus(setting, name, AUTO))
            numbers[f"pair_{name}_{setting}"] = pair
            weight = number(stories[TRIED].spoilt_weight(setting, name))
            numbers[f"weight_{name}_{setting}"] = weight
    return numbers


def more(story: Story) -> dict[str, str]:
    """Returns the numbers of another table."""
    names = [name for name in story.config.weightings if name != AVERAGE]
    recipe = story.config.recipe
    return {
        **design(story),
        "train_examples": f"{recipe.train_examples or 0:,}",
        "image_size": str(recipe.image_size),
        "views": str(recipe.views),
        "table": table(story, names),
        "safety": safety([story], AUTO),
    }


def design(story: Story) -> dict[str, str]:
    """Returns what was compared, the power of that, and what it took."""
    rows = [row for compared in story.compared.values() for row in compared]
    least = smallest_differences(rows)
    counts = {len(row.accuracies) for row in rows}
    recipe, held_out = story.config.recipe, VALIDATION_EXAMPLES[story.config.dataset]
    total = len(story.config.cells())
    gaps = "the tables have gaps, and fewer seeds than they will have"
    return {
        "smallest": number(float(np.median(least)) if len(least) else float("nan"), ".1f"),
        "smallest_least": number(min(least, default=float("nan")), ".1f"),
        "smallest_most": number(max(least, default=float("nan")), ".1f"),
        "seeds": " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
        if counts
        else UNKNOWN,
        "finished": f"{total - len(story.missing)} of {total} students are finished"
        + (f": {gaps}." if story.missing else "."),
        "hours": f"{sum(result.seconds for result in story.results.values()) / 3600:.1f}",
        "command": f"    python -m aekd_tf.experiments.compare --preset={story.config.preset}",
        "train": f"{mnist1d.TRAINING_SIGNALS - VALIDATION_EXAMPLES[PRESET]:,}",
        "validation": f"{held_out:,}",
        "test": f"{mnist1d.TEST_SIGNALS:,}",
        **{name: str(getattr(recipe, name)) for name in ("size", "student", "teacher", "epochs")},
    }


def wrapped(text: str) -> str:
    """Breaks the lines of paragraphs; a number stays with its interval."""
    text = text.replace(" +- ", "~+-~")
    parts = [
        part if part.startswith(("|", "!")) else textwrap.fill(part, 118, break_on_hyphens=False)
        for part in text.strip().split("\n\n")
    ]
    return "\n\n".join(parts).replace("~+-~", " +- ")


def build(known: dict[str, str]) -> str:
    """Returns the page."""
    template = DOCS / "results" / "weightings.template.md"
    return template.read_text(encoding="utf-8").format_map(known)


def readme(known: dict[str, str], text: str) -> str:
    """Returns README with the part between the marks written anew."""
    template = (DOCS / "results" / "readme.template.md").read_text(encoding="utf-8")
    first, last = MARKS
    part = f"{first}\n\n{wrapped(template.format_map(known))}\n\n{last}"
    return re.sub(f"{first}.*{last}", lambda match: part, text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    told = stories()
    numbers = values(told)
    (DOCS / "weightings_results.md").write_text(build(numbers), encoding="utf-8")
    top = ROOT / "README.md"
    top.write_text(readme(numbers, top.read_text(encoding="utf-8")), encoding="utf-8")
    drawn = picture(told[PRESET])
    if drawn is not None:
        figures.save(drawn, str(DOCS / "noisy_weights.png"))
