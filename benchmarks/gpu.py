"""Times training steps on a GPU: how many images per second, and how near to what it can do.

    python benchmarks/gpu.py docs/gpu.md
    python benchmarks/gpu.py --quick /tmp/gpu.md    # small networks: tries the script on a CPU

resnet20 student, resnet56 teachers, batch 256 of 32x32 images that lie in the device's memory.
For each way to compute (float32 and half precision, with and without XLA) the contestants take
turns in random order, in chains of steps with one wait at the end; medians are reported.

The roofline is measured, too: the fastest matrix product and the fastest copy of this device, in
the same precision. A step can be no faster than its operations at that rate, and its bytes at
that bandwidth. Both are counted from the layers' shapes: a training pass is three forward passes,
and each layer reads its inputs and weights and writes its outputs once.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import CachedTeachers, EnsembleDistiller, models, solve_capped_simplex_qp
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text

CLASSES = 10
CASES = ("plain", "AVER cached", "AE-KD cached", "AVER online", "AE-KD online")
# Precision, and whether XLA compiles the step.
WAYS = (("float32", False), ("float32", True), ("mixed", False), ("mixed", True))


class Scale(NamedTuple):
    """How large the contestants are, and how long they run."""

    student: str
    teacher: str
    side: int
    batch: int
    sizes: tuple[int, ...]
    chain: int
    rounds: int


FULL = Scale("resnet20", "resnet56", 32, 256, (1, 5, 10, 25), 10, 11)
QUICK = Scale("resnet8", "resnet8", 8, 16, (1, 3), 2, 3)


class Work(NamedTuple):
    """Operations, and bytes read or written, of one step."""

    operations: float
    numbers: float

    def __add__(self, other: Any) -> Work:
        return Work(self.operations + other.operations, self.numbers + other.numbers)

    def times(self, factor: float) -> Work:
        return Work(factor * self.operations, factor * self.numbers)


def seconds_of(call: Callable[[], Any], rounds: int) -> float:
    """Returns the median seconds of a call that waits for its result, without the first two."""
    found = []
    for number in range(rounds + 2):
        started = time.perf_counter()
        call()
        if number >= 2:
            found.append(time.perf_counter() - started)
    return float(np.median(found))


def roofline(dtype: str, size: int) -> tuple[float, float]:
    """Returns operations per second and bytes per second that the device reaches at best."""
    a = tf.cast(tf.random.stateless_normal((size, size), (1, 2)), dtype)
    chain = 8

    @tf.function(jit_compile=True)
    def product():
        found = a
        for _ in range(chain):
            found = found @ a * tf.cast(1 / size, dtype)
        return tf.reduce_sum(tf.cast(found, tf.float32))

    long = tf.zeros((32 * size * size,), dtype)

    @tf.function(jit_compile=True)
    def copy(values):
        return values + tf.cast(1, dtype)

    operations = chain * 2 * size**3 / seconds_of(lambda: float(product()), 5)
    number = long.shape[0] * long.dtype.size
    return operations, 2 * number / seconds_of(lambda: float(copy(long)[0]), 5)


def forward(model: keras.Model, batch: int) -> Work:
    """Counts one forward pass from the layers' shapes."""
    operations = numbers = 0.0
    for layer in model.layers:
        if not hasattr(layer, "output") or isinstance(layer, keras.layers.InputLayer):
            continue
        inputs, output = (keras.tree.flatten(value) for value in (layer.input, layer.output))
        written = batch * sum(math.prod(t.shape[1:]) for t in output)
        read = batch * sum(math.prod(t.shape[1:]) for t in inputs)
        weights = sum(math.prod(weight.shape) for weight in layer.weights)
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            operations += 2 * written * math.prod(layer.kernel.shape[:-1])
        else:
            operations += written
        numbers += read + written + weights
    return Work(operations, numbers)


def contestant(
    scale: Scale, case: str, teachers: list[keras.Model], jit_compile: bool
) -> tuple[keras.Model, Any]:
    """Returns a compiled model and a batch of noise; only the number of cached teachers counts."""
    rng = np.random.default_rng(0)
    shape = (scale.side, scale.side, 3)
    x = tf.constant(rng.normal(size=(scale.batch, *shape)), tf.float32)
    y = tf.constant(rng.integers(0, CLASSES, scale.batch))
    outputs = tf.constant(rng.normal(size=(scale.batch, len(teachers), CLASSES)), tf.float32)
    model = models.create(scale.student, CLASSES, shape)
    batch: Any = x
    if case != "plain":
        cached = "cached" in case
        weighting = "average" if "AVER" in case else "aekd"
        known = CachedTeachers(len(teachers)) if cached else teachers
        model = EnsembleDistiller(model, known, weighting=weighting)
        batch = {"inputs": x, "teacher_logits": outputs} if cached else x
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=jit_compile)
    return model, (batch, y)


def contestants(
    scale: Scale, teachers: list[keras.Model], jit_compile: bool
) -> dict[str, Callable[[], float]]:
    """Returns by name a function that makes a chain of steps and waits for the last."""
    found = {}
    for case in CASES:
        model, batch = contestant(scale, case, teachers, jit_compile)
        model.make_train_function()
        endless = tf.data.Dataset.from_tensors(batch).cache().repeat()
        iterator = iter(endless.prefetch(2))

        def chain(model=model, iterator=iterator):
            for _ in range(scale.chain):
                logs = model.train_function(iterator)
            return float(logs["loss"])

        found[case] = chain
    return found


def measure(scale: Scale, size: int, jit_compile: bool) -> dict[str, float]:
    """Returns the seconds per step of each contestant, and of the program alone."""
    keras.utils.set_random_seed(0)
    shape = (scale.side, scale.side, 3)
    teachers = [models.create(scale.teacher, CLASSES, shape) for _ in range(size)]
    turns = contestants(scale, teachers, jit_compile)
    for chain in turns.values():
        chain()
    seconds: dict[str, list[float]] = {case: [] for case in turns}
    order = list(turns)
    for _ in range(scale.rounds):
        random.shuffle(order)
        for case in order:
            started = time.perf_counter()
            turns[case]()
            seconds[case].append((time.perf_counter() - started) / scale.chain)
    gradients = np.random.default_rng(0).normal(size=(size, CLASSES))
    gram = tf.constant(gradients @ gradients.T, tf.float32)
    tolerance = max(0.6, 1 / size)

    @tf.function(jit_compile=jit_compile)
    def solve():
        weights = tf.zeros([size])
        for _ in tf.range(scale.chain):  # each on another matrix, so that none is left out
            weights = solve_capped_simplex_qp(gram + tf.reduce_sum(weights), tolerance)[0]
        return weights

    found = {case: float(np.median(values)) for case, values in seconds.items()}
    return {**found, "QP": seconds_of(lambda: solve().numpy(), scale.rounds) / scale.chain}


def least_seconds(
    scale: Scale, size: int, case: str, best: tuple[float, float], byte: int
) -> float:
    """Returns what the roofline allows for a step."""
    shape = (scale.side, scale.side, 3)
    work = forward(models.create(scale.student, CLASSES, shape), scale.batch).times(3)
    if "online" in case:
        work += forward(models.create(scale.teacher, CLASSES, shape), scale.batch).times(size)
    return max(work.operations / best[0], byte * work.numbers / best[1])


def device() -> tuple[str, str]:
    """Returns the name of the device, and its half precision."""
    found = tf.config.list_physical_devices("GPU")
    if not found:
        return f"CPU, {os.cpu_count()} cores (no GPU)", "bfloat16"
    details = tf.config.experimental.get_device_details(found[0])
    bfloat16 = details.get("compute_capability", (0, 0)) >= (8, 0)
    return details.get("device_name", "GPU"), "bfloat16" if bfloat16 else "float16"


def main(report: str, scale: Scale) -> None:
    name, half = device()
    text = ["# Training steps on a GPU", "", f"    python benchmarks/gpu.py {report}", ""]
    text += [
        f"{name}, TensorFlow {tf.__version__}. {scale.student} student, {scale.teacher} teachers, "
        f"batch {scale.batch} of {scale.side}x{scale.side} images in the device's memory. Medians "
        f"of {scale.rounds} chains of {scale.chain} steps; contestants took turns. The share of "
        "the roofline is what the device's fastest product and copy would take, over the time.",
        "",
    ]
    progress = tqdm(total=len(WAYS) * len(scale.sizes), ascii=" =")
    for precision, jit_compile in WAYS:
        dtype = half if precision == "mixed" else "float32"
        policy = f"mixed_{half}" if precision == "mixed" else "float32"
        best = roofline(dtype, 256 if scale is QUICK else 4096)
        rows = []
        for size in scale.sizes:
            keras.config.set_dtype_policy(policy)
            seconds = measure(scale, size, jit_compile)
            for case in CASES:
                least = least_seconds(scale, size, case, best, tf.as_dtype(dtype).size)
                rows.append(
                    [
                        str(size),
                        case,
                        f"{1e3 * seconds[case]:.2f}",
                        f"{scale.batch / seconds[case]:,.0f}",
                        f"{least / seconds[case]:.2f}",
                        f"{seconds[case] / seconds['plain']:.3f}",
                        f"{seconds['QP'] / seconds[case]:.3f}" if "AE-KD" in case else "",
                    ]
                )
            keras.config.set_dtype_policy("float32")
            keras.backend.clear_session()
            progress.update()
        xla = "with XLA" if jit_compile else "without XLA"
        text += [
            f"## {policy}, {xla}",
            "",
            f"Roofline: {best[0] / 1e12:.3g} T operations/s, {best[1] / 1e9:.4g} GB/s.",
            "",
        ]
        columns = ["M", "step", "ms", "images/s", "of the roofline", "to plain", "QP's share"]
        text += [markdown_table(columns, rows, left=2), ""]
    progress.close()
    write_text(report, "\n".join(text).rstrip() + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    (target,) = (argument for argument in sys.argv[1:] if argument != "--quick")
    main(target, QUICK if quick else FULL)
