"""Makes many models in one process, one after the other: what each costs, and what stays of it.

    python benchmarks/many.py docs/many.md docs/many.png

Twenty times in a process: a resnet8 student for 32x32 images is made, compiled, trained for one
step of 64 images and dropped, alone or as the student of ten cached teachers. Processes with and
without teachers take turns. A model's seconds are the median over the later ones of all processes,
so that what TensorFlow does once per process is left out. What stays is how fast the process grows
from model to model, after garbage collection and without `keras.backend.clear_session()`.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tqdm import tqdm

from aekd_tf import CachedTeachers, EnsembleDistiller, models
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text
from aekd_tf.monitoring.figures import COLORS, save

PROCESSES = 5
MODELS, FIRST = 20, 5
TEACHERS, BATCH, CLASSES, SHAPE = 10, 64, 10, (32, 32, 3)
CASES = {"plain": None, "AVER": "average", "AE-KD": "aekd", "auto": "auto"}


def resident() -> float:
    """Megabytes of this process's memory."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def one_after_the_other(case: str) -> list[tuple[float, float]]:
    """Returns seconds and megabytes after each model, in this process."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *SHAPE)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    outputs = rng.normal(size=(BATCH, TEACHERS, CLASSES)).astype(np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = []
    for _ in range(MODELS):
        started = time.perf_counter()
        model = models.create("resnet8", CLASSES, SHAPE)
        batch = x
        if CASES[case] is not None:
            model = EnsembleDistiller(model, CachedTeachers(TEACHERS), weighting=CASES[case])
            batch = {"inputs": x, "teacher_logits": outputs}
        model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], jit_compile=False)
        model.train_on_batch(batch, y)
        seconds = time.perf_counter() - started
        del model
        gc.collect()
        found.append((seconds, resident()))
    return found


def measured(case: str) -> list[tuple[float, float]]:
    """Returns `one_after_the_other` of a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", case], capture_output=True, text=True, check=True
    )
    values = [float(value) for value in done.stdout.split()[-2 * MODELS :]]
    return list(zip(values[::2], values[1::2], strict=True))


def main(page: str, picture: str) -> None:
    order, shuffler = list(CASES), random.Random(0)
    runs: dict[str, list[np.ndarray]] = {case: [] for case in CASES}
    with tqdm(total=PROCESSES * len(CASES), ascii=" =") as progress:
        for _ in range(PROCESSES):
            shuffler.shuffle(order)
            for case in order:
                runs[case].append(np.array(measured(case)))
                progress.update()
    seconds = {case: np.median([run[FIRST:, 0] for run in found]) for case, found in runs.items()}
    rows = []
    for case, found in runs.items():
        growth = [np.polyfit(np.arange(FIRST, MODELS), run[FIRST:, 1], 1)[0] for run in found]
        first = np.median([run[0, 0] for run in found])
        ratio = seconds[case] / seconds["plain"]
        rows.append(
            [
                case,
                f"{first:.2f}",
                f"{seconds[case]:.2f}",
                f"{ratio:.2f}",
                f"{np.median(growth):.1f}",
            ]
        )
    columns = ["model", "first, seconds", "later, seconds", "to plain", "stays, MB"]
    text = [
        "# Many models in one process",
        "",
        "    python benchmarks/many.py docs/many.md docs/many.png",
        "",
        f"resnet8, {TEACHERS} cached teachers, made, compiled and trained for one step of {BATCH} "
        f"images, {MODELS} times in a process; medians of {PROCESSES} processes per row, which "
        f"took turns ({platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}). "
        f"Later models are those from the {FIRST + 1}th on.",
        "",
        markdown_table(columns, rows),
        "",
        "![Seconds and memory of each model in turn](many.png)",
    ]
    write_text(page, "\n".join(text) + "\n")
    print("\n".join(text))
    figure = Figure((8, 3))
    left, right = figure.subplots(1, 2)
    for color, (case, found) in zip(COLORS, runs.items(), strict=False):
        middle = np.median(found, 0)
        left.plot(middle[:, 0], color=color, label=case)
        right.plot(middle[:, 1] - middle[0, 1], color=color, label=case)
    left.set(xlabel="model", ylabel="seconds", ylim=(0, None))
    right.set(xlabel="model", ylabel="MB since the first")
    left.legend()
    save(figure, picture)


if __name__ == "__main__":
    if sys.argv[1] == "--case":
        print(*(value for pair in one_after_the_other(sys.argv[2]) for value in pair))
    else:
        main(*sys.argv[1:])
