"""Draws the README's figure from finished runs that differ in --seed alone.

python tools/plot_seeds.py docs/digits.png runs/digits_seed*
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aekd_tf.experiments.statistics import interval
from aekd_tf.monitoring import figures

TITLES = {"alone": "student alone", "average": "AVER", "aekd": "AE-KD"}
COLORS = {"alone": figures.COLORS[6], "average": figures.COLORS[0], "aekd": figures.COLORS[1]}


def main(target: str, *directories: str) -> None:
    runs = [json.loads((Path(d) / "results.json").read_text()) for d in directories]
    settings = runs[0]["config"]
    figure = Figure(figsize=(10, 3.6))
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _accuracies(left, runs)
    _weights(right, Path(directories[0]))
    left.set_title(
        f"{settings['dataset']}, {settings['train_examples'] or 'all'} training images, "
        f"{len(runs)} seeds",
        fontsize=10,
    )
    figures.save(figure, target)
    for name, title in TITLES.items():
        values = 100 * np.array([run["students"][name]["test_accuracy"] for run in runs])
        _, half = interval(values)
        print(f"{title:<14}{values.mean():6.2f} +- {half:.2f} (95%, {len(values)} seeds)")
    difference = 100 * np.array(
        [
            run["students"]["aekd"]["test_accuracy"] - run["students"]["average"]["test_accuracy"]
            for run in runs
        ]
    )
    print(f"AE-KD - AVER  {difference.mean():6.2f} +- {interval(difference)[1]:.2f} (paired)")


def _accuracies(axes, runs) -> None:
    teachers = [100 * t["test_accuracy"] for t in runs[0]["teachers"]]
    axes.plot(np.linspace(-0.2, 0.2, len(teachers)), teachers, "o", color="#cccccc", ms=5)
    axes.plot([1], [100 * runs[0]["ensemble"]["majority_vote"]], "D", color=figures.COLORS[2], ms=7)
    for place, name in enumerate(TITLES, start=2):
        values = 100 * np.array([run["students"][name]["test_accuracy"] for run in runs])
        axes.plot(np.full(len(values), place), values, "o", color=COLORS[name], alpha=0.5, ms=5)
        mean, half = interval(values)
        axes.errorbar(place + 0.2, mean, half, fmt="_", color=COLORS[name])
    axes.set_xticks(range(5), ["teachers", "majority\nvote", *TITLES.values()], fontsize=8)
    axes.set_ylabel("test accuracy, last epoch (%)")
    axes.grid(axis="y", alpha=0.3)


def _weights(axes, directory: Path) -> None:
    events = EventAccumulator(
        str(directory / "logs" / "student_aekd" / "train"), size_guidance={"tensors": 0}
    )
    events.Reload()
    tags = sorted(
        (tag for tag in events.Tags()["tensors"] if tag.startswith("teacher_weights/")),
        key=lambda tag: int(tag.rsplit("_", 1)[1]),
    )
    table = [
        [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        for tag in tags
    ]
    image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="weight, mean of the epoch's steps")
    axes.set_xlabel("epoch")
    axes.set_ylabel("teacher")
    axes.set_title("teacher weights of AE-KD, one seed", fontsize=10)


if __name__ == "__main__":
    main(*sys.argv[1:])
