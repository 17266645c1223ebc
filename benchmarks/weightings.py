"""Measures what each weighting adds to a training step, in CPU seconds relative to the average.

    python benchmarks/weightings.py docs/weightings_cost.md

resnet20 on 64 images of 32x32, M = 10 cached teachers, K = 100 classes. All weightings take turns
in random order, in one process, several steps per turn. The table has the ratio of each
weighting's CPU seconds to the average's in the same turn: geometric mean and 95% interval. The
average is there twice, and its mean counts.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy import stats
from tqdm import tqdm

from aekd_tf import (
    AdaptiveWeighting,
    CachedTeachers,
    CrossEntropyWeighting,
    EnsembleDistiller,
    FixedWeighting,
    Smoothed,
    models,
)
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text

TEACHERS, BATCH, CLASSES = 10, 64, 100
TURNS, STEPS = 24, 3

WEIGHTINGS = {
    "average": lambda: "average",
    "average, again": lambda: "average",
    "aekd": lambda: "aekd",
    "mgda": lambda: "mgda",
    "anchored": lambda: "anchored",
    "anchored to the vote (auto without validation data)": lambda: "auto",
    "stacked, by class (auto)": lambda: FixedWeighting(
        np.random.default_rng(0).dirichlet(np.ones(TEACHERS), CLASSES)
    ),
    "random": lambda: "random",
    "cross_entropy": lambda: "cross_entropy",
    "cross_entropy, per example": lambda: CrossEntropyWeighting(per_example=True),
    "ca_mkd": lambda: "ca_mkd",
    "ebkd": lambda: "ebkd",
    "mtkd": lambda: "mtkd",
    "Smoothed(aekd)": lambda: Smoothed(AdaptiveWeighting()),
    "aekd, one program per example": lambda: AdaptiveWeighting(per_example=True),
    "anchored, one program per example": lambda: AdaptiveWeighting(anchor=1.0, per_example=True),
}


def stepping(weighting):
    """Returns a function that makes some training steps and returns their CPU seconds."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, BATCH)
    batch = {
        "inputs": random.normal(size=(BATCH, 32, 32, 3)).astype(np.float32),
        "teacher_logits": (
            random.normal(size=(BATCH, TEACHERS, CLASSES)) + 4 * np.eye(CLASSES)[labels][:, None]
        ).astype(np.float32),
    }
    student = models.create("resnet20", CLASSES, (32, 32, 3))
    model = EnsembleDistiller(student, CachedTeachers(TEACHERS), weighting=weighting)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )

    def steps(count: int = STEPS) -> float:
        started = time.process_time()
        for _ in range(count):
            model.train_on_batch(batch, labels)
        return time.process_time() - started

    return steps


def main(path: str) -> None:
    turns = {name: stepping(make()) for name, make in tqdm(WEIGHTINGS.items(), desc="tracing")}
    for steps in turns.values():
        steps(3)
    random, order = np.random.default_rng(0), list(turns)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in tqdm(range(TURNS), desc="turns", ascii=" ="):
        random.shuffle(order)
        for name in order:
            seconds[name].append(turns[name]())
    # Two of the same tell how much of a ratio is noise.
    base = (np.array(seconds["average"]) + np.array(seconds["average, again"])) / 2
    rows = []
    for name, values in seconds.items():
        logs = np.log(np.array(values) / base)
        half = stats.t.ppf(0.975, TURNS - 1) * logs.std(ddof=1) / np.sqrt(TURNS)
        low, mean, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
        rows.append([name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}"])
    text = [
        "# What a weighting costs",
        "",
        f"CPU seconds of a training step relative to the average's ({base.mean() / STEPS:.2f} CPU",
        f"seconds per step): resnet20, {BATCH} images of 32x32, {TEACHERS} cached teachers, "
        f"{CLASSES} classes, {TURNS} turns of",
        f"{STEPS} steps each. The average is there twice: the ratios to its mean show what the",
        "measurement itself can tell. Made by",
        "`python benchmarks/weightings.py docs/weightings_cost.md`.",
        "",
        markdown_table(["weighting", "ratio", "95% interval"], rows),
    ]
    write_text(path, "\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1])
