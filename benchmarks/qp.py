"""Times the capped-simplex QP: every solver, sizes 2 to 100, one problem and 256, one run.

    python benchmarks/qp.py docs/qp.md docs/qp.png

The contestants take turns on the same problems, in random order, so that a machine that
changes speed changes it for all; medians and ratios of medians are reported. A turn is ten
calls, as in a training loop; its first call, which finds XLA's thread asleep, is also
reported by itself, and so is a run on one core, where no other core has to be woken, with one
call a turn.
`smo` and `projected` are `solve_capped_simplex_qp` as called, one XLA program; `no XLA` is
the same solver in a plain `tf.function`. CVXOPT (its default tolerances, and the tight ones
of `solver="cvxopt"`) and LIBSVM are called from Python, one problem after the other, as
they would be without this package. With `pip install torch torchjd` the minimum-norm solver of
TorchJD (MGDA, C = 1) takes part too.
"""

from __future__ import annotations

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
from aekd_tf.qp import references as qp_references
from aekd_tf.qp import solve as qp

SIZES = (2, 5, 10, 25, 50, 100)
BATCHES = (1, 256)
TURNS = {1: 40, 256: 7}
CALLS = {1: 10, 256: 1}  # a turn
TURNS_ON_ONE_CORE = 100
OTHER_SIZES = (5, 10, 25, 50)
CAP = 0.4


def gram_matrices(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Gram matrices of mean softened-KD gradients, 10 classes, batch 64."""

    def softened(logits):
        exponent = np.exp((logits - logits.max(-1, keepdims=True)) / 4)
        return exponent / exponent.sum(-1, keepdims=True)

    shared = rng.normal(size=(count, 1, 64, 10)) * 3
    student = softened(shared + rng.normal(size=(count, 1, 64, 10)) * 2)
    teachers = softened(shared + rng.normal(size=(count, size, 64, 10)))
    gradients = 4 * (student - teachers).mean(2)
    return gradients @ gradients.transpose(0, 2, 1)


def full_rank(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    gradients = rng.normal(size=(count, size, size + 3))
    return gradients @ gradients.transpose(0, 2, 1)


def low_rank(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    gradients = rng.normal(size=(count, size, size // 3))
    return gradients @ gradients.transpose(0, 2, 1)


def contestants(size: int, batch: int) -> dict[str, Callable[[np.ndarray], Any]]:
    """What takes turns: name -> function of `[batch, M, M]` that returns NumPy weights."""
    cap = max(CAP, 1.5 / size)
    caps = np.full(size, cap)

    def compiled(solver: str) -> Callable[[np.ndarray], Any]:
        return lambda gram: aekd_tf.solve_capped_simplex_qp(
            tf.constant(gram, tf.float32), cap, solver=solver
        ).weights.numpy()

    graph = tf.function(lambda gram: qp.solve("smo", gram, tf.constant(cap)), autograph=False)

    def one_by_one(solve: Callable) -> Callable[[np.ndarray], Any]:
        return lambda grams: [qp_references.solve_scaled(solve, g, caps)[0] for g in grams]

    found = {
        "smo": compiled("smo"),
        "projected": compiled("projected"),
        "smo, no XLA": lambda gram: graph(tf.constant(gram, tf.float32))[0].numpy(),
        "cvxopt": one_by_one(lambda g, c: qp_references.solve_cvxopt(g, c, tight=False)),
        "cvxopt tight": one_by_one(qp_references.solve_cvxopt),
        "libsvm": one_by_one(qp_references.solve_libsvm),
    }
    return found


def measure(
    size: int,
    batch: int,
    turns: int,
    calls: int,
    problems: Callable = gram_matrices,
    names: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """Median seconds a call of each contestant; of `first NAME`, a turn's first call."""
    rng = np.random.default_rng(size)
    contest = contestants(size, batch)
    contest = {name: contest[name] for name in names or contest}
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    firsts: dict[str, list[float]] = {f"first {name}": [] for name in contest}
    for solve in contest.values():
        solve(problems(rng, batch, size))
    order = list(contest.items())
    for _ in tqdm(range(turns), desc=f"M={size} batch={batch}", leave=False):
        turn = [problems(rng, batch, size) for _ in range(calls)]
        rng.shuffle(order)  # nobody always runs on another's warm or cold caches
        for name, solve in order:
            for number, gram in enumerate(turn):
                started = time.perf_counter()
                solve(gram)
                elapsed = time.perf_counter() - started
                seconds[name].append(elapsed)
                if number == 0:
                    firsts[f"first {name}"].append(elapsed)
    return {name: float(np.median(values)) for name, values in {**seconds, **firsts}.items()}


def on_one_core() -> dict[int, dict[str, float]]:
    """By M, the medians of one problem a call and one call a turn, in a process on one core."""
    command = ["taskset", "-c", "0", sys.executable, __file__, "--one-core"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {int(size): medians for size, medians in json.loads(done.stdout).items()}


def share_of_a_step(teachers: int = 10, batch: int = 64) -> dict[str, float]:
    """Median seconds of a resnet20 step on 32x32 images, given teacher logits, and of its QP."""
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
    turns = {}
    for name in ("aekd", "average"):
        student = aekd_tf.models.create("resnet20", 10, (32, 32, 3))
        model = aekd_tf.EnsembleDistiller(student, Given([stub] * teachers), weighting=name)
        model.compile("sgd", loss)
        turns[name] = lambda model=model: model.train_on_batch(images, labels)
        turns[name]()
    weighting = aekd_tf.AdaptiveWeighting()

    @tf.function(autograph=False)
    def weigh(output):
        _, gradients = teacher_gradients(
            lambda student: distillation_loss(logits, student, 4.0),
            output,
            teachers,
            tf.fill([batch], 1 / batch),
        )
        gram = gram_matrix(gradients, weighting.batch_gradient)
        return weighting.among(gram, tf.fill([teachers], True))[0]

    output = logits[0] + 1.0
    turns["weights alone"] = lambda: weigh(output).numpy()
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    turns["weights alone"]()
    for _ in tqdm(range(40), desc="resnet20 step", leave=False):
        for name, call in turns.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def against_torchjd() -> dict[int, dict[str, float]] | None:
    """At C = 1, by M: median seconds of both, median objectives over CVXOPT's; None without it."""
    try:
        import torch
        from torchjd.aggregation import MGDAWeighting
    except ImportError:
        return None
    torchjd = MGDAWeighting()
    found = {}
    for size in SIZES:
        problems = gram_matrices(np.random.default_rng(size), 101, size)
        caps = np.ones(size)
        best = [
            qp_references.solve_scaled(qp_references.solve_cvxopt, g, caps)[0] for g in problems
        ]
        turns = {
            "smo": lambda gram: aekd_tf.solve_capped_simplex_qp(
                tf.constant(gram, tf.float32), 1.0
            ).weights.numpy(),
            "torchjd": lambda gram: torchjd(torch.from_numpy(gram).float()).numpy(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        objectives: dict[str, list[float]] = {name: [] for name in turns}
        for number, (gram, optimum) in enumerate(zip(problems, best, strict=True)):
            for name, solve in turns.items():
                started = time.perf_counter()
                weights = solve(gram).astype(np.float64)
                if number:  # the first call compiles
                    seconds[name].append(time.perf_counter() - started)
                    objectives[name].append(weights @ gram @ weights / (optimum @ gram @ optimum))
        found[size] = {f"{name} seconds": float(np.median(seconds[name])) for name in turns}
        found[size] |= {f"{name} objective": float(np.median(objectives[name])) for name in turns}
    return found


def others() -> dict[tuple[str, int], dict[str, float]]:
    """One problem a call on random gradients: `(kind, M) -> medians`."""
    # LIBSVM may take seconds for one problem where gradients are dependent.
    kinds = {
        "full rank": (full_rank, ("smo", "cvxopt", "libsvm")),
        "rank M / 3": (low_rank, ("smo", "cvxopt")),
    }
    return {
        (kind, size): measure(size, 1, TURNS[1], CALLS[1], problems, names)
        for kind, (problems, names) in kinds.items()
        for size in OTHER_SIZES
    }


def main(report: str, picture: str) -> None:
    one_core = on_one_core()
    results = {
        (batch, size): measure(size, batch, TURNS[batch], CALLS[batch])
        for batch in BATCHES
        for size in SIZES
    }
    text = qp_report.table(
        results,
        others(),
        share_of_a_step(),
        against_torchjd(),
        one_core,
        cap=CAP,
        turns=TURNS_ON_ONE_CORE,
    )
    with open(report, "w", encoding="utf-8") as file:
        file.write(text)
    qp_report.draw(results, picture)
    print(text)


if __name__ == "__main__":
    if sys.argv[1] == "--one-core":
        print(json.dumps({size: measure(size, 1, TURNS_ON_ONE_CORE, 1) for size in SIZES}))
    else:
        main(*sys.argv[1:])
