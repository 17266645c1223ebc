"""Trains one student by a method, in the same way for runs and sweeps."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from aekd_tf import data
from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.data.tfds import first_line
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.experiments.command import strategies
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import recipe
from aekd_tf.experiments.run import teachers
from aekd_tf.experiments.run.methods import HINTED
from aekd_tf.experiments.run.students import Student
from aekd_tf.experiments.run.teacher_pool import TeacherPool, hints_of
from aekd_tf.experiments.run.teachers import Teacher, create
from aekd_tf.experiments.run.weighting import choose, make
from aekd_tf.export.quantize_aware import quantize_aware
from aekd_tf.outputs import squashing
from aekd_tf.training import fit
from aekd_tf.training.best_epoch import BestEpoch
from aekd_tf.training.global_batch import SupervisedModel
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.base import Weighting


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained student.

    Attributes:
        model: the model that was fitted, e.g. a distiller.
        network: the student in it.
        history: lists of figures by name, one entry per epoch.
        best: the best epoch on the validation data.
    """

    model: keras.Model
    network: keras.Model
    history: dict[str, list[float]]
    best: BestEpoch


def training_of(
    config: Config, label: str, checkpoint: str, log_dir: str | None, identity: dict[str, Any]
) -> fit.Training:
    """Returns a student's training; `identity` adds to the configuration what identifies it."""
    usual = recipe(config.family, config.student, teacher=False)
    return fit.Training(
        label=label,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        learning_rate=config.learning_rate,
        milestones=usual["milestones"],
        l2=usual["l2"],
        checkpoint=checkpoint,
        identity={**config.recorded(), **identity},
        checkpoint_every=config.checkpoint_every,
        log_dir=log_dir,
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )


def train(
    config: Config,
    dataset: data.Dataset,
    pool: TeacherPool | None,
    student: Student,
    training: fit.Training,
    *,
    start: str | None = None,
    weighting: Weighting | None = None,
    traced: Trained | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Trains a student from new weights, or a quantization-aware one from a trained student's.

    Args:
        config: configuration of the run or of the cell.
        dataset: data set to train on.
        pool: the teachers; None for a student alone. If it has a cache, it must be filled.
        student: the student to train.
        training: settings from `training_of`.
        start: file of the student that a quantization-aware one starts from.
        weighting: replacement of the method's own weighting.
        traced: result of an earlier call with the same settings, whose traces are reused.
        callbacks: more callbacks for `fit`.
    """
    fit.start_reproducibly(config.seed, config.jit_compile, traced is not None)
    with strategies.strategy(config.strategy).scope():
        if start is None:
            network = create_network(config, dataset)
        else:
            trained = keras.models.load_model(start, compile=False)
            network = quantize_aware(trained, weight_bits=config.weight_bits)
        teachers = CachedTeachers(1) if pool is None else pool.teachers
        model = distiller(config, network, teachers, student, weighting)
        if pool is not None and isinstance(model, EnsembleDistiller):
            choose(model.weighting, pool, dataset)
        if traced is not None and not model.built:
            model.build((None, *dataset.image_shape))
    if traced is not None:
        traced.model.set_weights(model.get_weights())
        model, network = traced.model, traced.network
    history, best = fit.train(
        model, network, dataset, training, views_of(config, student, pool), callbacks
    )
    return Trained(model, network, history, best)


def create_network(config: Config, dataset: data.Dataset) -> keras.Model:
    """Returns an untrained student."""
    policy = keras.config.dtype_policy()
    if config.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        if config.student.endswith(".keras"):
            return own_student(config.student, dataset)
        return create(config.student, dataset)
    finally:
        keras.config.set_dtype_policy(policy)


def own_student(path: str, dataset: data.Dataset) -> keras.Model:
    """Returns a user's student, with the weights that its file has.

    Raises:
        UserError: it cannot be read, or does not fit the data.
    """
    file = os.path.expanduser(path)
    try:
        model = keras.models.load_model(file, compile=False)
        outputs = np.shape(model(np.zeros((1, *dataset.image_shape), np.float32), training=False))
    except Exception as error:
        raise UserError(
            f"student file {path} does not take {dataset.name}'s inputs {dataset.image_shape} "
            f"({first_line(error)}): give a .keras file that does, or a network's name"
        ) from error
    if outputs != (1, dataset.num_classes):
        raise UserError(
            f"student file {path} gives outputs {outputs} for one example, {dataset.name} requires "
            f"{dataset.num_classes}: give another one"
        )
    if dataset.head != "regression" and squashing(model) is not None:
        raise UserError(
            f"student file {path} ends in a {squashing(model)}: give one that ends in logits"
        )
    return model


def check_hints(config: Config, dataset: data.Dataset, files: list[Teacher]) -> None:
    """Refuses hint layers that do not fit, before any training.

    Raises:
        UserError: layers that the networks do not have, or whose maps cannot be aligned.
    """
    if not set(HINTED) & set(config.methods):
        return
    if any(each.entry is not None and each.entry.is_array for each in files):
        raise UserError("saved outputs of a teacher have no feature maps: leave hints out")
    networks = [
        teachers.load(each, dataset, config) if each.exists else create(each.network, dataset)
        for each in files
    ]
    try:
        student = Student(HINTED[0], HINTED[0], 1.0)
        distiller(config, create_network(config, dataset), networks, student).build(
            (None, *dataset.image_shape)
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def views_of(config: Config, student: Student, pool: TeacherPool | None) -> dict[str, Any]:
    """Returns the arguments of `data.training_pipeline` for the views and the cached outputs."""
    if pool is None or pool.caches is None:
        return {"view_seed": config.view_seed}
    cache = pool.caches.training
    read: Any = cache.read
    if student.method.weighting is None:
        read = None
    elif student.method.hinted and cache.hints:
        read = functools.partial(cache.read, hints=True)
    elif student.method.first_teacher_alone:

        def read(view: Any, indices: Any) -> dict[str, Any]:
            return {"teacher_logits": cache.read(view, indices)["teacher_logits"][:, :1]}

    return {"views": cache.views.count, "view_seed": cache.views.seed, "teacher_outputs": read}


def distiller(
    config: Config,
    network: keras.Model,
    teachers: Sequence[keras.Model] | CachedTeachers,
    student: Student,
    weighting: Weighting | None = None,
) -> keras.Model:
    """Returns the model to fit by the student's method; `weighting` replaces the method's own."""
    method = student.method
    if method.weighting is None:
        return SupervisedModel(network)
    options: dict[str, Any] = {}
    if method.hinted:
        options["hints"] = hints_of(config)
        options["hint_weight"] = student.hint_weight
        if method.adaptive:
            # The authors scale only the hints' gradients to unit length, not the logits'.
            options["hint_weighting"] = AdaptiveWeighting(
                config.tolerance, config.batch_gradient, True, config.solver
            )
    if method.first_teacher_alone:
        teachers = CachedTeachers(1) if isinstance(teachers, CachedTeachers) else teachers[:1]
    return EnsembleDistiller(
        network,
        teachers,
        weighting=make(config, method) if weighting is None else weighting,
        distillation_loss=config.distillation_loss or "kl",
        temperature=config.temperature,
        student_loss_weight=config.student_loss_weight,
        kd_weight=config.kd_weight,
        **options,
    )


def mean_weights(history: dict[str, list[float]], prefix: str) -> list[float] | None:
    """Computes the mean over the epochs of every teacher's weight; None without weights."""
    count = sum(name.startswith(prefix) for name in history)
    columns = [history[f"{prefix}{index}"] for index in range(count)]
    return np.mean(columns, axis=1).tolist() if columns else None
