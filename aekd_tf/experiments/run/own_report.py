"""Writes the report of a run on own data, as Markdown and as a page that opens from disk."""

from __future__ import annotations

import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import data
from aekd_tf.data.own import OwnData
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.flags import invocation
from aekd_tf.experiments.paper.render import (
    Code,
    Heading,
    Part,
    Picture,
    Table,
    Text,
    markdown,
    page,
)
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.experiments.run.teacher_pool import TeacherPool
from aekd_tf.files import write_text
from aekd_tf.monitoring import figures as pictures
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.votes import vote_scores

_CALLS = 30
# Of saved outputs.
NO_MODEL = {"parameters": None, "latency_ms": None}


def costs(model: keras.Model, path: str, dataset: data.Dataset) -> dict[str, Any]:
    """Returns a model's parameters, the bytes of its file, and milliseconds per example."""
    example = tf.zeros((1, *dataset.image_shape))
    call = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    call(example)
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        np.asarray(call(example))
        seconds.append(time.perf_counter() - started)
    return {
        "parameters": model.count_params(),
        "bytes": os.path.getsize(path),
        "latency_ms": round(1000 * float(np.median(seconds)), 3),
    }


def write(
    config: Config,
    dataset: data.Dataset,
    own: OwnData,
    pool: TeacherPool,
    networks: dict[str, keras.Model],
    results: dict[str, Any],
) -> None:
    """Writes `report.md` and `report.html`."""
    parts: list[Part] = [
        Heading(f"Distilled on {dataset.name}", 1),
        Text(
            f"{len(dataset.train)} training, {len(dataset.validation)} validation and "
            f"{len(dataset.test)} test examples, labels: {dataset.head}. {_sentences(own.notes)}"
        ),
        _scores(results),
        Text(
            "All figures are on the test examples, after the last epoch. Bytes are of the .keras "
            "file; milliseconds per example are of Keras on this machine."
        ),
    ]
    if dataset.head == "classes":
        parts += [Heading("Accuracy by class, %"), _by_class(dataset, own, pool, networks)]
    parts += _weights(config, results)
    run = config.output_dir
    parts += [
        Heading("To a device"),
        Code(
            f"{invocation('export')} --run={run}\n"
            f"{invocation('export')} --run={run} --quantize=int8"
        ),
    ]
    write_text(os.path.join(run, "report.md"), markdown(parts))
    title = f"Distilled on {dataset.name}"
    write_text(os.path.join(run, "report.html"), page(parts, run, title))


def _sentences(notes: tuple[str, ...]) -> str:
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def _scores(results: dict[str, Any]) -> Table:
    metric = results["metric"]
    unit = "rmse" if metric == "rmse" else "accuracy, %"

    def shown(value: float) -> str:
        return f"{value:.4g}" if metric == "rmse" else f"{100 * value:.2f}"

    def row(name: str, score: float, figures: dict[str, Any]) -> list[str]:
        values = [figures[name] for name in ("parameters", "bytes", "latency_ms")]
        cost = ["" if value is None else f"{value:,}" for value in values]
        return [name, shown(score), *cost]

    rows = [row(f"teacher {t['name']}", t[f"test_{metric}"], t) for t in results["teachers"]]
    titles = {"majority_vote": "majority vote", "mean_probability": "mean vote", "mean": "mean"}
    for key, title in titles.items():
        if key in results["ensemble"]:
            rows.append([f"the teachers' {title}", shown(results["ensemble"][key]), "", "", ""])
    for name, student in results["students"].items():
        title = METHODS[name].student_title if name in METHODS else name.replace("_", " ")
        rows.append(row(title, student[f"test_{metric}"], student))
    return Table(["", unit, "parameters", "bytes", "ms"], rows)


def _by_class(
    dataset: data.Dataset, own: OwnData, pool: TeacherPool, networks: dict[str, keras.Model]
) -> Table:
    test = data.evaluation_pipeline(dataset, dataset.test)
    if pool.caches is not None:
        outputs = pool.caches.test.logits()
    else:
        ensemble = TeacherEnsemble(pool.models or [])
        outputs = np.concatenate([ensemble.logits(x).numpy() for x, _ in test], axis=1)
    labels = dataset.test.labels
    answers = {"vote": vote_scores(tf.constant(outputs))["majority"].numpy().argmax(-1)}
    for name, network in networks.items():
        answers[name] = network.predict(test, verbose=0).argmax(-1)
    rows = []
    for index, name in enumerate(own.names):
        places = labels == index
        shares = [
            f"{100 * (answer[places] == index).mean():.1f}" if places.any() else ""
            for answer in answers.values()
        ]
        rows.append([name, str(int(places.sum())), *shares])
    return Table(["class", "examples", *answers], rows)


def _weights(config: Config, results: dict[str, Any]) -> list[Part]:
    """Returns a picture of each student's mean weights, and of those by class."""
    names = [teacher["name"] for teacher in results["teachers"]]
    weighted = {
        name: figures["teacher_weights"]
        for name, figures in results["students"].items()
        if len(figures["teacher_weights"] or ()) == len(names)
    }
    parts: list[Part] = []
    if weighted:
        figure = pictures.bars(weighted, names)
        pictures.save(figure, os.path.join(config.output_dir, "weights.png"))
        parts += [
            Heading("How much each teacher counts"),
            Picture("weights.png", "Mean weight of each teacher over the training, by method"),
        ]
    for name in results["students"]:
        file = os.path.join("students", f"{name}.png")
        if os.path.exists(os.path.join(config.output_dir, file)):
            parts.append(Picture(file, f"{name}: weights by teacher and class"))
    return parts
