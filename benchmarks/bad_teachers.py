"""What a bad teacher among good ones does to the student: accuracy over seeds on few digits.

    python benchmarks/bad_teachers.py docs/bad_teachers.md

Five resnet8 teachers and a sixth that is bad, each in its own way, against the five alone; AE-KD
at C = 0.6 and AVER. 200 training images, 60 epochs, the recipe of the experiments.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from scipy import stats
from tqdm import tqdm

from aekd_tf import CachedTeachers, EnsembleDistiller, TeacherCache, Views, data, models
from aekd_tf.training import fit as training

TEACHERS, SEEDS, EPOCHS = 5, 5, 60
GOOD = "without it"
BAD = {
    "always NaN": lambda logits, chance: logits * np.nan,
    "NaN on a third of the images": lambda logits, chance: np.where(
        chance.random((*logits.shape[:2], 1)) < 1 / 3, np.nan, logits
    ),
    "infinite": lambda logits, chance: np.full_like(logits, np.inf),
    "constant, one class": lambda logits, chance: np.eye(logits.shape[-1])[0] * 10 + 0 * logits,
    "uniform": lambda logits, chance: 0 * logits,
    "a duplicate of teacher 0": lambda logits, chance: logits,
}
SHUFFLED = "trained on shuffled labels"


def trained(dataset: data.Dataset, seed: int, name: str, directory: str) -> Any:
    """A resnet8 by the recipe."""
    training.start_reproducibly(seed, False)
    network = models.create("resnet8", 10, (8, 8, 1))
    fit(network, network, dataset, seed, name, directory, {})
    return network


def fit(model, network, dataset, seed, name, directory, views) -> dict[str, list[float]]:
    history, _ = training.train(
        model,
        network,
        dataset,
        label=name,
        epochs=EPOCHS,
        teacher=model is network,
        batch_size=64,
        learning_rate=0.05,
        seed=seed,
        log_dir=f"{directory}/logs/{name}",
        checkpoint=f"{directory}/{name}.checkpoint",
        identity={},
        checkpoint_every="60min",
        views=views,
    )
    return history


def logits_of(networks: list[Any], dataset: data.Dataset, directory: str) -> np.ndarray:
    """`[R, N, M, K]`, as the cache holds them."""
    cache = TeacherCache(directory, dataset, Views(EPOCHS, dtype="float32"))
    cache.fill(networks, [f"teacher_{index}" for index in range(len(networks))])
    return np.stack([cache.logits(view).swapaxes(0, 1) for view in range(EPOCHS)])


def read(logits: np.ndarray, view: Any, indices: Any) -> dict[str, Any]:
    outputs = tf.numpy_function(lambda v, i: logits[int(v)][i], [view, indices], tf.float32)
    return {"teacher_logits": tf.ensure_shape(outputs, [None, *logits.shape[2:]])}


def main(report: str) -> None:
    dataset = data.load("digits", train_examples=200)
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        networks = [
            trained(dataset, 1_000_000 + index, f"teacher {index}", directory)
            for index in range(TEACHERS)
        ]
        split = dataset.train
        assert isinstance(split, data.Split)
        shuffled = data.Split(split.images, chance.permutation(split.labels))
        noisy = data.dataclasses.replace(dataset, train=shuffled)
        networks.append(trained(noisy, 2_000_000, "shuffled", directory))
        everyone = logits_of(networks, dataset, f"{directory}/outputs")
        good, wrong = everyone[:, :, :-1], everyone[:, :, -1:]
        cases = {GOOD: good, SHUFFLED: np.concatenate([good, wrong], 2)}
        for name, spoil in BAD.items():
            bad = np.stack([spoil(view, chance) for view in good[:, :, :1]])
            cases[name] = np.concatenate([good, bad.astype(np.float32)], 2)
        accuracy: dict[tuple[str, str], list[float]] = {}
        weight: dict[tuple[str, str], list[float]] = {}
        plan = [
            (seed, case, method)
            for seed in range(SEEDS)
            for case in cases
            for method in ("aekd", "average")
        ]
        for seed, case, method in tqdm(plan, desc="students", ascii=" ="):
            training.start_reproducibly(seed, False)
            student = models.create("resnet8", 10, (8, 8, 1))
            count = cases[case].shape[2]
            model = EnsembleDistiller(student, CachedTeachers(count), weighting=method)
            views = {
                "views": EPOCHS,
                "view_seed": 0,
                "teacher_outputs": functools.partial(read, cases[case]),
            }
            name = f"{method}_{case}_{seed}".replace(" ", "_")
            history = fit(model, student, dataset, seed, name, directory, views)
            found = training.accuracy(student, dataset, dataset.test)["accuracy"]
            accuracy.setdefault((case, method), []).append(100 * found)
            if case != GOOD:
                weights = np.mean(history[f"teacher_weight_{count - 1}"])
                weight.setdefault((case, method), []).append(float(weights))
    text = table(list(cases), accuracy, weight)
    with open(report, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


def interval(values: list[float] | np.ndarray) -> str:
    """Mean and half width of its 95% interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.2f} +- {half:.2f}"


def table(
    cases: list[str],
    accuracy: dict[tuple[str, str], list[float]],
    weight: dict[tuple[str, str], list[float]],
) -> str:
    lines = [
        "# A bad teacher among good ones",
        "",
        "    python benchmarks/bad_teachers.py docs/bad_teachers.md",
        "",
        f"{TEACHERS} resnet8 teachers and one bad one, resnet8 student, 200 digits, {EPOCHS} "
        f"epochs, {SEEDS} student seeds, C = 0.6. Test accuracy in %, mean and 95% interval; the "
        "difference to the run without the bad teacher is paired by seed; the weight is the bad "
        "teacher's mean. An image "
        "with NaN takes its whole batch from the teacher.",
        "",
        "| the sixth teacher | AE-KD | difference | its weight | AVER | difference | its weight |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for case in cases:
        cells = [case]
        for method in ("aekd", "average"):
            values = np.array(accuracy[case, method])
            cells.append(interval(values))
            if case == GOOD:
                cells += ["", ""]
            else:
                cells.append(interval(values - np.array(accuracy[GOOD, method])))
                cells.append(f"{np.mean(weight[case, method]):.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
