"""Times the first training step: what a user waits for before anything is trained.

    python benchmarks/first_step.py docs/first_step.md docs/first_step.png

A resnet20 student on 64 images of 32x32, 10 classes. Each measurement is a process of its own
that makes its models and then times the first `train_on_batch`: tracing, compiling and running
one step, with what TensorFlow does once per process. All cases take turns in random order; the
medians and their ratios to the plain student's are reported. XLA is off.
"""

from __future__ import annotations

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

ROUNDS = 5
BATCH, CLASSES, SHAPE = 64, 10, (32, 32, 3)
# Ten different networks, each small.
DIFFERENT = (
    "resnet8",
    "resnet14",
    "resnet20",
    "resnet44",
    "resnet8x4",
    "vgg8",
    "wrn_16_1",
    "wrn_16_2",
    "mobilenetv2",
    "resnet32",
)
# Name -> weighting (None without teachers), teachers, whether their outputs are cached.
CASES: dict[str, tuple[str | None, list[str], bool]] = {
    "plain student": (None, [], False),
    "AVER, 10 resnet56": ("average", ["resnet56"] * 10, False),
    "AE-KD, 10 resnet56": ("aekd", ["resnet56"] * 10, False),
    "AE-KD, 25 resnet56": ("aekd", ["resnet56"] * 25, False),
    "AE-KD, ten different": ("aekd", list(DIFFERENT), False),
    "AVER, 10 cached": ("average", [""] * 10, True),
    "AE-KD, 10 cached": ("aekd", [""] * 10, True),
    "AE-KD, 25 cached": ("aekd", [""] * 25, True),
}
PLAIN = next(iter(CASES))


def first_step(case: str) -> tuple[float, float]:
    """Returns wall and CPU seconds of the first step, in this process."""
    weighting, networks, cached = CASES[case]
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = models.create("resnet20", CLASSES, SHAPE)
    x = rng.normal(size=(BATCH, *SHAPE)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    batch = x
    if weighting is not None:
        count = len(networks)
        if cached:
            teachers = CachedTeachers(count)
            outputs = rng.normal(size=(BATCH, count, CLASSES)).astype(np.float32)
            batch = {"inputs": x, "teacher_logits": outputs}
        else:
            teachers = [models.create(network, CLASSES, SHAPE) for network in networks]
        model = EnsembleDistiller(model, teachers, weighting=weighting)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    wall, cpu = time.perf_counter(), time.process_time()
    model.train_on_batch(batch, y)
    return time.perf_counter() - wall, time.process_time() - cpu


def measured(case: str) -> tuple[float, float]:
    """Returns `first_step` of a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", case], capture_output=True, text=True, check=True
    )
    wall, cpu = done.stdout.split()[-2:]
    return float(wall), float(cpu)


def main(page: str, picture: str) -> None:
    seconds: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    order = list(CASES)
    shuffler = random.Random(0)
    with tqdm(total=ROUNDS * len(CASES), ascii=" =") as progress:
        for _ in range(ROUNDS):
            shuffler.shuffle(order)
            for case in order:
                seconds[case].append(measured(case))
                progress.update()
    medians = {case: np.median(np.array(values), 0) for case, values in seconds.items()}
    rows = []
    for case, (wall, cpu) in medians.items():
        low, high = np.quantile([value for value, _ in seconds[case]], [0.25, 0.75])
        ratios = [
            f"{part / plain:.2f}" for part, plain in zip((wall, cpu), medians[PLAIN], strict=True)
        ]
        rows.append([case, f"{wall:.2f}", f"{low:.2f} to {high:.2f}", *ratios])
    columns = ["first step", "seconds", "middle half", "to plain", "to plain, CPU seconds"]
    text = [
        "# The first step",
        "",
        "    python benchmarks/first_step.py docs/first_step.md docs/first_step.png",
        "",
        f"Seconds from compiled models to the end of the first `train_on_batch` "
        f"({platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}), medians of "
        f"{ROUNDS} fresh processes per row, which took turns. "
        "resnet20 student, 64 images of 32x32, no XLA. Teachers of one "
        "architecture share one traced graph, so that each more of them costs little.",
        "",
        markdown_table(columns, rows),
        "",
        "![Seconds of the first step](first_step.png)",
    ]
    write_text(page, "\n".join(text) + "\n")
    print("\n".join(text))
    figure = Figure((7, 3.2))
    axes = figure.subplots()
    names = list(medians)[::-1]
    axes.barh(names, [medians[name][0] for name in names], color=COLORS[0])
    axes.set_xlabel("seconds of the first step")
    save(figure, picture)


if __name__ == "__main__":
    if sys.argv[1] == "--case":
        print(*first_step(sys.argv[2]))
    else:
        main(*sys.argv[1:])
