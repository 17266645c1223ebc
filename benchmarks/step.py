"""Times a training step: plain, AVER and AE-KD, teachers in the step or their outputs cached.

    python benchmarks/step.py docs/step.md docs/step.png

resnet20 student, resnet56 teachers, batch 64 of 32x32 images, on pipelines as the experiments
use them (augmentation, cache files). The contestants of one ensemble size and class count take
turns in random order, in one process. Milliseconds are medians of wall time. Ratios are of CPU
seconds, which other programs disturb less: ratios of medians, with the 95% interval of 2,000
resamples of the rounds. 60 rounds can tell ratios that differ by about one percent. Peak memory
is that of a process of its own for each case.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tqdm import tqdm

from aekd_tf import EnsembleDistiller, TeacherCache, Views, data, models
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text
from aekd_tf.monitoring.figures import COLORS, save

SIZES = (1, 5, 10, 25)
CLASSES = (10, 100)
BATCH, IMAGES = 64, 512
# Steps per contestant; fewer when the teachers run in the step.
ROUNDS = 60
ONLINE_ROUNDS = 20


def images(classes: int) -> data.Dataset:
    """Noise in the shape of CIFAR: a step's time does not depend on what it shows."""
    rng = np.random.default_rng(0)
    split = data.Split(
        rng.integers(0, 256, (IMAGES, 32, 32, 3)).astype(np.uint8), rng.integers(0, classes, IMAGES)
    )
    numbers = {"num_classes": classes, "mean": (125.0,) * 3, "std": (63.0,) * 3}
    return data.Dataset("noise", train=split, validation=split, test=split, **numbers, **AUGMENTED)


AUGMENTED: dict[str, Any] = {"crop_padding": 4, "flip": True}


def steps(
    dataset: data.Dataset, teachers: list[keras.Model] | list[str], directory: str, cases: list[str]
) -> dict[str, Callable[[], float]]:
    """Name -> function that makes one training step and waits for it."""
    cache = TeacherCache(directory, dataset, Views(1))
    if any("cached" in case for case in cases):
        cache.fill(teachers, [f"teacher_{index}" for index in range(len(teachers))])
    found = {}
    for case in cases:
        student = models.create("resnet20", dataset.num_classes, dataset.image_shape)
        weighting = {"AVER": "average", "AE-KD": "aekd"}.get(case.split(" ")[0])
        asked = cache.teachers if "cached" in case else teachers
        model = EnsembleDistiller(student, asked, weighting=weighting) if weighting else student
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        outputs = cache.read if "cached" in case else None
        batches = data.training_pipeline(
            dataset, batch_size=BATCH, epochs=10_000, seed=0, views=1, teacher_outputs=outputs
        )
        model.make_train_function()

        iterator = iter(batches)

        def step(model=model, iterator=iterator):
            return float(model.train_function(iterator)["loss"])

        found[case] = step
    return found


CASES = ["plain", "AVER cached", "AE-KD cached", "AVER online", "AE-KD online"]
RATIOS = {
    "AE-KD / AVER online": ("AE-KD online", "AVER online"),
    "AE-KD / AVER cached": ("AE-KD cached", "AVER cached"),
    "cached AE-KD / plain": ("AE-KD cached", "plain"),
    "online / cached AE-KD": ("AE-KD online", "AE-KD cached"),
}
# Case -> wall and CPU seconds of its steps.
Seconds = dict[str, list[tuple[float, float]]]


def measure(size: int, classes: int) -> Seconds:
    """Returns the seconds of every case's steps."""
    keras.utils.set_random_seed(0)
    teachers = [models.create("resnet56", classes, (32, 32, 3)) for _ in range(size)]
    with tempfile.TemporaryDirectory() as directory:
        turns = steps(images(classes), teachers, directory, CASES)
        seconds: Seconds = {case: [] for case in turns}
        for step in turns.values():
            for _ in range(2):
                step()
        rng = np.random.default_rng(0)
        order = list(turns)
        for number in tqdm(range(ROUNDS), desc=f"M={size} K={classes}", ascii=" ="):
            rng.shuffle(order)
            for case in order:
                if "online" in case and number >= ONLINE_ROUNDS:
                    continue
                wall, cpu = time.perf_counter(), time.process_time()
                turns[case]()
                taken = time.perf_counter() - wall, time.process_time() - cpu
                seconds[case].append(taken)
    return seconds


def ratio(above: list[tuple[float, float]], below: list[tuple[float, float]]) -> str:
    """Returns the ratio of median CPU seconds, with its interval, as text."""
    rounds = min(len(above), len(below))
    pairs = np.array([above[:rounds], below[:rounds]])[:, :, 1]
    drawn = np.random.default_rng(0).integers(0, rounds, (2000, rounds))
    ratios = np.median(pairs[0][drawn], 1) / np.median(pairs[1][drawn], 1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    middle = np.median(pairs[0]) / np.median(pairs[1])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def peak_memory(size: int, case: str) -> float:
    """Megabytes that a process of its own takes at most for 30 steps of one case.

    The cache is filled beforehand by another process.
    """
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(2 if "cached" in case else 1):
            command = [sys.executable, __file__, "--memory", str(size), case, directory]
            process = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(process.stdout.split()[-1])


def report_memory(size: int, case: str, directory: str) -> None:
    paths = [os.path.join(directory, f"{index}.keras") for index in range(size)]
    if not os.path.exists(paths[0]):
        keras.utils.set_random_seed(0)
        for path in paths:
            models.create("resnet56", 10, (32, 32, 3)).save(path)
    online = "online" in case
    teachers = [keras.models.load_model(path) for path in paths] if online else paths
    step = steps(images(10), teachers, directory, [case])[case]
    for _ in range(30):
        step()
    # Not `getrusage`: its peak is inherited from the process that started this one.
    with open("/proc/self/status", encoding="ascii") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


def milliseconds(values: list[tuple[float, float]]) -> float:
    """Returns the median wall time of steps."""
    return 1e3 * float(np.median(np.array(values)[:, 0]))


def table(results: dict[tuple[int, int], Seconds], memory: dict[str, float]) -> str:
    lines = [
        "# A training step's time",
        "",
        "    python benchmarks/step.py docs/step.md docs/step.png",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}; milliseconds, "
        f"medians of {ROUNDS} steps that took turns ({ONLINE_ROUNDS} online). resnet20 student, "
        f"resnet56 teachers, batch {BATCH}, 32x32 images. `online` runs the teachers in the step, "
        "`cached` reads their outputs, `plain` has none. Ratios are of CPU seconds: of medians, "
        "with the 95% interval of resampled rounds.",
        "",
    ]
    rows = []
    for (classes, size), row in results.items():
        cells = [f"{milliseconds(row[case]):.0f}" for case in CASES]
        cells.append(f"{1e3 * BATCH / milliseconds(row['AE-KD cached']):.0f}")
        cells += [ratio(row[above], row[below]) for above, below in RATIOS.values()]
        rows.append([str(classes), str(size), *cells])
    columns = ["K", "M", *CASES, "images/s, cached AE-KD", *RATIOS]
    lines.append(markdown_table(columns, rows))
    lines += ["", "Peak memory of a process, MB (K = 10):", ""]
    lines += [f"- {case}: {megabytes:.0f}" for case, megabytes in memory.items()]
    lines += ["", "![Milliseconds per step](step.png)"]
    return "\n".join(lines) + "\n"


def draw(results: dict[tuple[int, int], Seconds], target: str) -> None:
    figure = Figure(figsize=(10, 3.8))
    axes = figure.subplots(1, len(CLASSES), sharey=True)
    for axis, classes in zip(axes, CLASSES, strict=True):
        for case, color in zip(CASES, COLORS, strict=False):
            values = [milliseconds(results[classes, size][case]) for size in SIZES]
            axis.semilogy(SIZES, values, "o-", color=color, label=case, ms=4)
        axis.set_title(f"{classes} classes")
        axis.set_xlabel("teachers M")
        axis.set_xticks(SIZES, SIZES)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds per step")
    axes[0].legend(fontsize=8)
    save(figure, target)


def main(report: str, picture: str) -> None:
    results = {(classes, size): measure(size, classes) for classes in CLASSES for size in SIZES}
    cases = [(1, "AE-KD cached"), (25, "AE-KD cached")]
    memory = {f"{case}, M = {size}": peak_memory(size, case) for size, case in cases}
    text = table(results, memory)
    write_text(report, text)
    draw(results, picture)
    print(text)


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        report_memory(int(sys.argv[2]), *sys.argv[3:])
    else:
        main(*sys.argv[1:])
