"""Times the capped-simplex QP: solvers, sizes 2 to 100, one problem and 256 at once.

    python benchmarks/qp.py docs/qp.md docs/qp.png

The contestants take turns on the same problems, in random order. A machine that changes speed
changes it for all; medians and ratios of medians are reported. A turn is one call.

`smo` and `projected` are `solve_capped_simplex_qp` as a user's `tf.function` calls it. CVXOPT (its
default accuracy, and the tight one of `solver="cvxopt"`) and LIBSVM are called from Python, one
problem after the other, as they would be without this package. The minimum-norm solver of
TorchJD (MGDA, C = 1) takes part after `pip install torch torchjd`.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import qp_report
import tensorflow as tf
from tqdm import tqdm

import aekd_tf
from aekd_tf.gradients import gram_matrix, teacher_gradients
from aekd_tf.losses.kl import distillation_loss
from aekd_tf.qp.references import solve_cvxopt, solve_libsvm, solve_scaled

SIZES = (2, 5, 10, 25, 50, 100)
RANDOM_SIZES = (5, 10, 25, 50)
TURNS = {1: 150, 256: 7}
CAP = 0.4

Solver = Callable[[np.ndarray], Any]


def kd_gradients(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draws Gram matrices of mean softened-KD gradients, 10 classes, batch 64."""

    def softened(logits):
        exponent = np.exp((logits - logits.max(-1, keepdims=True)) / 4)
        return exponent / exponent.sum(-1, keepdims=True)

    shared = rng.normal(size=(count, 1, 64, 10)) * 3
    student = softened(shared + rng.normal(size=(count, 1, 64, 10)) * 2)
    teachers = softened(shared + rng.normal(size=(count, size, 64, 10)))
    gradients = 4 * (student - teachers).mean(2)
    return gradients @ gradients.transpose(0, 2, 1)


def random_gradients(rng, count: int, size: int, rank: int) -> np.ndarray:
    gradients = rng.normal(size=(count, size, rank))
    return gradients @ gradients.transpose(0, 2, 1)


def contestants(size: int, cap: float) -> dict[str, Solver]:
    """Returns functions of `[batch, M, M]` by name; each returns NumPy weights."""
    caps = np.full(size, cap)

    def in_graph(solver: str) -> Solver:
        weights = tf.function(
            lambda gram: aekd_tf.solve_capped_simplex_qp(gram, cap, solver=solver).weights
        )
        return lambda gram: weights(tf.constant(gram, tf.float32)).numpy()

    def one_by_one(solve: Callable) -> Solver:
        return lambda grams: [solve_scaled(solve, gram, caps)[0] for gram in grams]

    return {
        "smo": in_graph("smo"),
        "smo, eager": lambda gram: aekd_tf.solve_capped_simplex_qp(
            tf.constant(gram, tf.float32), cap
        ).weights.numpy(),
        "projected": in_graph("projected"),
        "cvxopt": one_by_one(functools.partial(solve_cvxopt, tight=False)),
        "cvxopt, tight": one_by_one(solve_cvxopt),
        "libsvm": one_by_one(solve_libsvm),
    }


def medians_by_turns(solvers: dict[str, Solver], turns: list[np.ndarray]) -> dict[str, float]:
    """Returns the median seconds per call; the first turn compiles and does not count."""
    rng, order = np.random.default_rng(0), list(solvers.items())
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    for problems in tqdm(turns, leave=False):
        rng.shuffle(order)  # nobody always runs on another's warm or cold caches
        for name, solve in order:
            started = time.perf_counter()
            solve(problems)
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def measure(
    size: int, batch: int, names: tuple[str, ...] | None = None, draw: Callable = kd_gradients
) -> dict[str, float]:
    """Returns median microseconds per problem by contestant."""
    rng = np.random.default_rng(size)
    solvers = contestants(size, max(CAP, 1.5 / size))
    turns = [draw(rng, batch, size) for _ in range(TURNS[batch] + 1)]
    medians = medians_by_turns({name: solvers[name] for name in names or solvers}, turns)
    return {name: 1e6 * seconds / batch for name, seconds in medians.items()}


def on_one_core() -> dict[int, dict[str, float]]:
    """Returns `measure` by M for one problem per call, in a process that has one core."""
    command = ["taskset", "-c", "0", sys.executable, __file__, "--one-core"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {int(size): medians for size, medians in json.loads(done.stdout).items()}


def on_random_gradients() -> dict[tuple[str, int], dict[str, float]]:
    """Returns `measure` by kind and M for one problem per call."""
    results = {}
    for size in RANDOM_SIZES:
        full = functools.partial(random_gradients, rank=size + 3)
        results["full rank", size] = measure(size, 1, ("smo", "cvxopt", "libsvm"), full)
        # LIBSVM may take seconds for one problem if gradients depend on each other.
        low = functools.partial(random_gradients, rank=size // 3)
        results["rank M / 3", size] = measure(size, 1, ("smo", "cvxopt"), low)
    return results


def share_of_a_step(teachers: int = 10, batch: int = 64) -> dict[str, float]:
    """Returns median seconds of a resnet20 step, given teacher logits, and of its weights."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(batch, 32, 32, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 10, batch))
    logits = tf.constant(rng.normal(size=(teachers, batch, 10)) * 3, tf.float32)

    class Given(aekd_tf.TeacherEnsemble):
        def logits(self, inputs):
            return logits

    inputs = keras.Input((32, 32, 3))
    stub = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    turns: dict[str, Solver] = {}
    for name in ("aekd", "average"):
        student = aekd_tf.models.create("resnet20", 10, (32, 32, 3))
        model = aekd_tf.EnsembleDistiller(student, Given([stub] * teachers), weighting=name)
        model.compile("sgd", loss)
        turns[name] = lambda _, model=model: model.train_on_batch(images, labels)

    @tf.function(autograph=False)
    def weights(output):
        _, gradients = teacher_gradients(
            lambda student: distillation_loss(logits, student, 4.0),
            output,
            teachers,
            tf.fill([batch], 1 / batch),
        )
        return aekd_tf.solve_capped_simplex_qp(gram_matrix(gradients, "mean"), 0.6).weights

    turns["weights alone"] = lambda _: weights(logits[0] + 1.0).numpy()
    return medians_by_turns(turns, [images] * 41)


def against_torchjd() -> dict[int, dict[str, float]] | None:
    """Returns medians at C = 1 by M, seconds and objectives over CVXOPT's; None without TorchJD."""
    try:
        import torch
        from torchjd.aggregation import MGDAWeighting
    except ImportError:
        return None
    torchjd, results = MGDAWeighting(), {}
    for size in SIZES:
        turns = list(kd_gradients(np.random.default_rng(size), 101, size))
        solvers = {
            "smo": contestants(size, 1.0)["smo"],
            "torchjd": lambda gram: torchjd(torch.from_numpy(gram).float()).numpy(),
        }
        medians = medians_by_turns(solvers, turns)
        best = [solve_scaled(solve_cvxopt, gram, np.ones(size))[0] for gram in turns]
        for name, solve in solvers.items():
            reached = [solve(gram).astype(np.float64) for gram in turns]
            ratios = [
                w @ gram @ w / (b @ gram @ b)
                for w, b, gram in zip(reached, best, turns, strict=True)
            ]
            medians[f"{name} objective"] = float(np.median(ratios))
        results[size] = medians
    return results


def main(report: str, picture: str) -> None:
    results = {(batch, size): measure(size, batch) for batch in TURNS for size in SIZES}
    text = qp_report.report(
        results,
        CAP,
        TURNS[1],
        on_one_core(),
        on_random_gradients(),
        share_of_a_step(),
        against_torchjd(),
    )
    with open(report, "w", encoding="utf-8") as file:
        file.write(text)
    qp_report.draw(results, picture)
    print(text)


if __name__ == "__main__":
    if sys.argv[1] == "--one-core":
        print(json.dumps({size: measure(size, 1, ("smo", "cvxopt", "libsvm")) for size in SIZES}))
    else:
        main(*sys.argv[1:])
