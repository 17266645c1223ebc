"""The students of a run, one a method: found on disk, or trained and written there."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from aekd_tf import checkpoint, data, models
from aekd_tf.cache import TeacherCache
from aekd_tf.cached_teachers import CachedTeachers
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.experiments import output, strategies, training
from aekd_tf.experiments.config import (
    CROSS_VALIDATION,
    HINT_METHODS,
    HINT_WEIGHTS,
    Config,
    UserError,
)
from aekd_tf.hints import Hints
from aekd_tf.replicas import SupervisedModel
from aekd_tf.resume import SIGNALS
from aekd_tf.weighting import AdaptiveWeighting, UniformWeighting, Weighting

TITLES = {
    "alone": "student alone",
    "kd": "student, first teacher",
    "average": "student, AVER",
    "average_outputs": "student, AVER of outputs",
    "aekd": "student, AE-KD",
    "fitnets": "student, FitNets",
    "aekd_hints": "student, AE-KD*",
}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _shares(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_share, value)))


# What a student's file of figures holds, and what is a valid value.
_FIGURES: dict[str, Callable[[Any], bool]] = {
    "test_accuracy": _share,
    "validation_accuracy": _share,
    "best_validation_test_accuracy": _share,
    "best_validation_epoch": lambda value: isinstance(value, int) and value > 0,
    "teacher_weights": _shares,
    "hint_teacher_weights": _shares,
    "hint_weight": lambda value: value is None or _number(value),
    "teachers": lambda value: isinstance(value, list),
    "seconds": _number,
}


@dataclasses.dataclass(frozen=True)
class Student:
    """One student to train; several a method where its hint weight is cross-validated."""

    name: str
    method: str
    hint_weight: float | None

    @property
    def title(self) -> str:
        candidate = self.name != self.method
        return TITLES[self.method] + (f" beta={self.hint_weight:g}" if candidate else "")


def plan(config: Config) -> list[Student]:
    """All students that `config` asks for, candidates of a cross-validation included."""
    students = []
    for method in config.methods:
        if method not in HINT_METHODS:
            students.append(Student(method, method, None))
        elif config.hint_weight == CROSS_VALIDATION:
            students += [Student(f"{method}_beta{b:g}", method, b) for b in HINT_WEIGHTS]
        else:
            students.append(Student(method, method, float(config.hint_weight)))
    return students


def path(config: Config, student: Student, ending: str) -> str:
    return os.path.join(config.output_dir, "students", f"{student.name}.{ending}")


def finished(config: Config, student: Student) -> dict[str, Any] | None:
    """The figures of a student that an earlier run finished; None if it is to be trained.

    Raises:
        UserError: figures that cannot be read or are incomplete.
    """
    file = path(config, student, "json")
    if not (os.path.exists(file) and os.path.exists(path(config, student, "keras"))):
        return None
    figures = output.read_json(file, "delete it to have the student retrained")
    if set(figures) - {"test_accuracy_top5"} != set(_FIGURES):
        raise UserError(f"{file} is incomplete: delete it to have the student retrained")
    checks = {**_FIGURES, "test_accuracy_top5": _share}
    wrong = [name for name, value in figures.items() if not checks[name](value)]
    if wrong:
        raise UserError(
            f"{file} has no valid {', '.join(wrong)}: delete it to have the student retrained"
        )
    return figures


def train(
    config: Config,
    dataset: data.Dataset,
    networks: Sequence[keras.Model] | CachedTeachers,
    digests: list[str],
    student: Student,
    label: str,
    cache: TeacherCache | None,
) -> dict[str, Any]:
    """Trains one student and writes its model and its figures.

    With a cache its views are trained on, and what it holds of the teachers is read from it.
    """
    training.start_reproducibly(config.seed, config.jit_compile)
    with strategies.strategy(config.strategy).scope():
        network = create_network(config, dataset)
        model = distiller(config, network, networks, student)
    log_dir = os.path.join(config.output_dir, "logs", f"student_{student.name}")
    started = time.monotonic()
    history, best = training.train(
        model,
        network,
        dataset,
        label=label,
        epochs=config.epochs,
        teacher=False,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
        log_dir=log_dir,
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
        checkpoint=path(config, student, "checkpoint"),
        identity={**config.recorded(), "student": student.name, "teacher_weights": digests},
        checkpoint_every=config.checkpoint_every,
        views=views(config, student, cache),
    )
    test = training.accuracy(network, dataset, dataset.test)
    figures: dict[str, Any] = {
        **{f"test_{name}": value for name, value in test.items()},
        "validation_accuracy": history["val_accuracy"][-1],
        "best_validation_test_accuracy": training.accuracy(best.restored(), dataset, dataset.test)[
            "accuracy"
        ],
        "best_validation_epoch": best.epoch,
        "teacher_weights": mean_weights(history, "teacher_weight_"),
        "hint_teacher_weights": mean_weights(history, "hint_teacher_weight_"),
        "hint_weight": student.hint_weight,
        "teachers": digests,
        "seconds": round(time.monotonic() - started, 1),
    }
    if student.name != student.method and strategies.is_chief():
        _write_hparams(log_dir, student, figures["validation_accuracy"])
    output.save_model(network, path(config, student, "keras"))
    output.save_json(figures, path(config, student, "json"))
    if strategies.is_chief():
        checkpoint.remove(path(config, student, "checkpoint"))
    SIGNALS.check()
    return figures


def create_network(config: Config, dataset: data.Dataset) -> keras.Model:
    """An untrained student."""
    policy = keras.config.dtype_policy()
    if config.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        return models.create(config.student, dataset.num_classes, dataset.image_shape)
    finally:
        keras.config.set_dtype_policy(policy)


def check_hints(config: Config, dataset: data.Dataset) -> None:
    """Refuses hint layers that do not fit, before any training.

    Raises:
        UserError: layers that the networks do not have, or whose maps cannot be aligned.
    """
    if not HINT_METHODS & set(config.methods):
        return
    shape = dataset.num_classes, dataset.image_shape
    known = {
        name: keras.models.load_model(
            os.path.expanduser(name), compile=False, safe_mode=not config.trust_teachers
        )
        if name.endswith(".keras")
        else models.create(name, *shape)
        for name in set(config.networks())
    }
    networks = [known[name] for name in config.networks()]
    try:
        student = Student("fitnets", "fitnets", 1.0)
        distiller(config, create_network(config, dataset), networks, student).build(
            (None, *dataset.image_shape)
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def views(config: Config, student: Student, cache: TeacherCache | None) -> dict[str, Any]:
    """How the training images and the teachers' logits are had."""
    if cache is None:
        return {"view_seed": config.view_seed}
    read: Any = cache.read
    if student.method == "alone":
        read = None
    elif student.method in HINT_METHODS and cache.hints is not None:
        read = functools.partial(cache.read, hints=True)
    elif student.method == "kd":

        def read(view: Any, indices: Any) -> dict[str, Any]:
            return {"teacher_logits": cache.read(view, indices)["teacher_logits"][:, :1]}

    return {"views": cache.views.count, "view_seed": cache.views.seed, "teacher_outputs": read}


def distiller(
    config: Config,
    network: keras.Model,
    networks: Sequence[keras.Model] | CachedTeachers,
    student: Student,
    weighting: Weighting | None = None,
) -> keras.Model:
    """What is fitted by the student's method; with a `weighting` of its own if one is given."""
    method = student.method
    if method == "alone":
        return SupervisedModel(network)
    adaptive = (config.tolerance, config.batch_gradient, config.normalize, config.solver)
    options: dict[str, Any] = {}
    if method in HINT_METHODS:
        options["hints"] = hints(config)
        options["hint_weight"] = student.hint_weight
    if method == "aekd_hints":
        # The authors scale the hints' gradients to unit length, not the logits'.
        options["hint_weighting"] = AdaptiveWeighting(*adaptive[:2], True, config.solver)
    if method == "kd":
        networks = CachedTeachers(1) if isinstance(networks, CachedTeachers) else networks[:1]
    if weighting is None:
        weighting = UniformWeighting("outputs" if method == "average_outputs" else "losses")
        if method in ("aekd", "aekd_hints"):
            weighting = AdaptiveWeighting(*adaptive)
    return EnsembleDistiller(
        network,
        networks,
        weighting=weighting,
        temperature=config.temperature,
        student_loss_weight=config.student_loss_weight,
        kd_weight=config.kd_weight,
        **options,
    )


def hints(config: Config) -> Hints:
    """The hints that `config` asks for."""
    student, *teachers = config.hint_layers
    return Hints(student, teachers or student, config.hint_first_epoch, config.hint_pooling)


def mean_weights(history: dict[str, list[float]], prefix: str) -> list[float] | None:
    """Mean over the epochs of every teacher's weight; None without such weights."""
    count = sum(name.startswith(prefix) for name in history)
    columns = [history[f"{prefix}{index}"] for index in range(count)]
    return np.mean(columns, axis=1).tolist() if columns else None


def _write_hparams(log_dir: str, student: Student, accuracy: float) -> None:
    """For TensorBoard's HParams page, which compares the candidates."""
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=1):
        hparams.hparams({"hint_weight": student.hint_weight, "method": student.method})
        tf.summary.scalar("validation_accuracy", accuracy)
    writer.close()


def chosen(
    students: Sequence[Student], figures: dict[str, dict[str, Any]]
) -> dict[str, tuple[Student, dict[str, Any]]]:
    """By method, its student and figures: of candidates, the best on validation data."""
    found: dict[str, tuple[Student, dict[str, Any]]] = {}
    for method in dict.fromkeys(student.method for student in students):
        candidates = [student for student in students if student.method == method]
        scores = {c.name: figures[c.name]["validation_accuracy"] for c in candidates}
        best = max(candidates, key=lambda candidate: scores[candidate.name])
        content = {key: value for key, value in figures[best.name].items() if key != "teachers"}
        if len(candidates) > 1:
            content["cross_validation"] = {f"{c.hint_weight:g}": scores[c.name] for c in candidates}
        found[method] = best, content
    return found
