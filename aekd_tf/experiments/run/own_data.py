"""What a run on a user's own data adds: its plan, a word on weak teachers, and a report."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

import keras
import numpy as np

from aekd_tf import data
from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import CROSS_VALIDATION
from aekd_tf.experiments.run import own_report, students, teachers
from aekd_tf.experiments.run.dataset import load_own
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.experiments.run.student import own_student
from aekd_tf.experiments.run.students import Student
from aekd_tf.experiments.run.teacher_pool import TeacherPool
from aekd_tf.experiments.run.teachers import Teacher
from aekd_tf.files import sha256
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.training.heads import HEADS

# Losses that compare outputs of a head.
_LOSSES = {
    "classes": ("kl", "dkd", "averaged_outputs", "mse", "cosine"),
    "labels": ("binary_kl", "mse", "cosine"),
    "regression": ("mse", "cosine"),
}
_CLASSES_ALONE = ("average_outputs", "ca_mkd", "ebkd", "mtkd")
# Weightings that other heads do not have.
_OF_CLASSES = {
    "logit": _CLASSES_ALONE,
    "labels": _CLASSES_ALONE,
    "regression": (*_CLASSES_ALONE, "cross_entropy"),
}
_WORDS = {
    "classes": "{count} classes",
    "logit": "one logit, for 0 or 1",
    "labels": "{count} independent labels",
    "regression": "regression of {count} values",
}


def settled(config: Config, dataset: data.Dataset) -> Config:
    """Returns the configuration with the distillation loss of the head.

    Raises:
        UserError: a loss, a choice or a student that does not fit; a directory of other data.
    """
    head = HEADS[dataset.head]
    loss = config.distillation_loss or head.distillation_loss
    if loss not in _LOSSES[head.ensemble]:
        raise UserError(
            f"distillation_loss is {loss}, but labels are {_words(dataset)}: give one of "
            f"{', '.join(_LOSSES[head.ensemble])}"
        )
    if head.metric == "rmse" and config.hint_weight == CROSS_VALIDATION:
        raise UserError("hint_weight=cv chooses by accuracy, regression has none: give a number")
    path = os.path.join(config.output_dir, "config.json")
    if os.path.exists(path):
        known = output.read_json(path, "delete it, or choose another --output_dir").get("data")
        now = recorded(dataset, config)
        for name, what in (
            ("sha256", f"data than {config.data} has"),
            ("student", f"weights than {config.student} has"),
        ):
            if known is not None and known.get(name) != now[name]:
                raise UserError(
                    f"{config.output_dir} holds a run with other {what} now: choose another "
                    "--output_dir"
                )
    if own_file(config):
        own_student(config.student, dataset)
    _check_methods(config, dataset)
    try:
        return dataclasses.replace(config, distillation_loss=loss)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_methods(config: Config, dataset: data.Dataset) -> None:
    """Refuses methods that the head or the data do not have."""
    for method in config.methods:
        if dataset.head != "classes" and METHODS[method].weighting in _OF_CLASSES[dataset.head]:
            raise UserError(f"method {method} is for classes, but labels are {_words(dataset)}")
        if METHODS[method].weighting == "stacked" and not len(dataset.validation):
            raise UserError(
                f"{method} chooses weights on validation examples, of which the data have none: "
                "give more examples, or leave it out"
            )
    if config.hint_weight == CROSS_VALIDATION and not len(dataset.validation):
        raise UserError("hint_weight=cv chooses on validation examples, of which there are none")


def _words(dataset: data.Dataset) -> str:
    return _WORDS[dataset.head].format(count=dataset.num_classes)


def print_plan(config: Config, dataset: data.Dataset, files: list[Teacher]) -> None:
    """Prints what labels are, how inputs are seen, and what was found out about the data."""
    own = load_own(config)
    names = ", ".join(own.names[:8]) + (", ..." if len(own.names) > 8 else "")
    lines = [f"{config.data}: {_words(dataset)} ({names}), loss {config.distillation_loss}"]
    lines += own.notes
    if own.augment != "none":
        by = f" by up to {dataset.crop_padding} pixels" if dataset.crop_padding else ""
        lines.append(f"training images are seen with augment={own.augment}{by}")
    if any(teacher.settings for teacher in files) or not own_file(config):
        lines.append("networks of this package normalize their inputs, in their first layer")
    if own_file(config):
        lines.append(f"each student starts from the weights of {config.student}")
    for teacher in files:
        if teacher.entry is not None and teacher.entry.is_array:
            lines.append(f"{teacher.path} holds the outputs of a model of another library")
        elif teacher.settings is None and teacher.exists:
            model = teachers.load(teacher, dataset, config)
            adapted = isinstance(model, TeacherAdapter)
            if adapted and model.outputs_kind == "probabilities":
                lines.append(f"{teacher.path} ends in a {model.ending}: taken as probabilities")
    print("\n".join(lines), flush=True)


def warn_of_weak(config: Config, dataset: data.Dataset, pool: TeacherPool) -> None:
    """Names teachers on stderr that are no better than a constant answer."""
    metric, labels = HEADS[dataset.head].metric, dataset.test.labels
    if dataset.head == "classes":
        least = float(np.bincount(labels).max() / len(labels))
        constant = f"{100 * least:.1f}% of the test examples are of one class"
    elif metric == "rmse":
        least = float(np.sqrt(((labels - labels.mean(0)) ** 2).mean()))
        constant = f"the mean label has an rmse of {least:.4g}"
    else:
        share = labels.mean(0)
        least = float(np.maximum(share, 1 - share).mean())
        constant = f"constant answers are right in {100 * least:.1f}%"
    for teacher, value in zip(pool.files, pool.scores["teachers"], strict=True):
        if HEADS[dataset.head].sign * (value - least) <= 0:
            shown = f"rmse {value:.4g}" if metric == "rmse" else f"{100 * value:.1f}%"
            print(
                f"warning: teacher {teacher.name} has {shown}, but {constant}: does it expect "
                "inputs that are scaled or ordered in another way?",
                file=sys.stderr,
            )


def own_file(config: Config) -> bool:
    """Tells whether the student is a file of the user."""
    return config.student.endswith(".keras")


def recorded(dataset: data.Dataset, config: Config) -> dict[str, Any]:
    """Returns what `config.json` says of the data."""
    own = load_own(config)
    return {
        "sha256": dataset.content,
        "head": dataset.head,
        "student": sha256(os.path.expanduser(config.student)) if own_file(config) else None,
        "augment": own.augment,
        "notes": list(own.notes),
    }


def describe(
    config: Config,
    dataset: data.Dataset,
    pool: TeacherPool,
    requested: list[Student],
    results: dict[str, Any],
) -> None:
    """Adds to the results what own data require, and writes `labels.json` and the reports."""
    own = load_own(config)
    results |= {
        "head": dataset.head,
        "metric": HEADS[dataset.head].metric,
        "data": config.data,
        "classes": list(own.names),
    }
    networks: dict[str, keras.Model] = {}
    known: dict[str, Any] = {each.name: students.finished(config, each) for each in requested}
    for index, teacher in enumerate(pool.files):
        if teacher.entry is not None and teacher.entry.is_array:
            results["teachers"][index] |= own_report.NO_MODEL | {
                "bytes": os.path.getsize(teacher.path)
            }
            continue
        model = pool.models[index] if pool.models else teachers.load(teacher, dataset, config)
        results["teachers"][index] |= own_report.costs(model, teacher.path, dataset)
    for name, figures in results["students"].items():
        student = students.delivered(name, requested, known)
        path = students.path(config, student, "keras")
        networks[name] = keras.models.load_model(path, compile=False)
        figures |= own_report.costs(networks[name], path, dataset)
    output.save_json(os.path.join(config.output_dir, "labels.json"), list(own.names))
    own_report.write(config, dataset, own, pool, networks, results)
