"""What a bad teacher among good ones does to the student: accuracy over seeds on few digits.

    python benchmarks/bad_teachers.py docs/bad_teachers.md

Five resnet8 teachers and a sixth that is bad, each in its own way, against the five alone; AE-KD
at C = 0.6 and AVER. 200 training images, 60 epochs, the recipe of the experiments.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import CachedTeachers, EnsembleDistiller, TeacherCache, Views, data, models
from aekd_tf.experiments.command.presets import recipe
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.experiments.run import scores
from aekd_tf.experiments.statistics import shown
from aekd_tf.files import write_text
from aekd_tf.training.fit import Training, start_reproducibly, train

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
    start_reproducibly(seed, False)
    network = models.create("resnet8", 10, (8, 8, 1))
    fit(network, network, dataset, seed, name, directory, {})
    return network


def fit(model, network, dataset, seed, name, directory, views) -> dict[str, list[float]]:
    usual = recipe("digits", "resnet8", teacher=model is network)
    training = Training(
        label=name,
        epochs=EPOCHS,
        batch_size=64,
        seed=seed,
        learning_rate=0.05,
        milestones=usual["milestones"],
        l2=usual["l2"],
        checkpoint=f"{directory}/{name}.checkpoint",
        identity={},
        checkpoint_every="60min",
        log_dir=f"{directory}/logs/{name}",
    )
    history, _ = train(model, network, dataset, training, views)
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
        noisy = dataclasses.replace(dataset, train=shuffled)
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
            start_reproducibly(seed, False)
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
            found = scores.accuracy(student, dataset, dataset.test)["accuracy"]
            accuracy.setdefault((case, method), []).append(100 * found)
            if case != GOOD:
                weights = np.mean(history[f"teacher_weight_{count - 1}"])
                weight.setdefault((case, method), []).append(float(weights))
    text = table(list(cases), accuracy, weight)
    write_text(report, text)
    print(text)


def table(
    cases: list[str],
    accuracy: dict[tuple[str, str], list[float]],
    weight: dict[tuple[str, str], list[float]],
) -> str:
    rows = []
    for case in cases:
        cells = [case]
        for method in ("aekd", "average"):
            values = np.array(accuracy[case, method])
            cells.append(shown(values))
            if case == GOOD:
                cells += ["", ""]
            else:
                cells.append(shown(values - np.array(accuracy[GOOD, method])))
                cells.append(f"{np.mean(weight[case, method]):.3f}")
        rows.append(cells)
    columns = ["AE-KD", "difference", "its weight", "AVER", "difference", "its weight"]
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
        markdown_table(["the sixth teacher", *columns], rows, left=1),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
