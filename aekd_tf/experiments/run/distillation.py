"""Runs one experiment: missing teachers, then one student per method, then a table."""

from __future__ import annotations

import os
import platform
import shutil
import time
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

import aekd_tf
from aekd_tf import data, files
from aekd_tf.experiments.command import output, strategies
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.flags import invocation
from aekd_tf.experiments.run import own_data, students, tables, teacher_pool, teachers
from aekd_tf.experiments.run import student as one_student
from aekd_tf.experiments.run.dataset import check_steps, for_choice, load_data
from aekd_tf.experiments.run.scores import accuracy
from aekd_tf.experiments.run.students import Student
from aekd_tf.experiments.run.teacher_pool import TeacherPool
from aekd_tf.monitoring import figures as figures_of
from aekd_tf.training import checkpoint
from aekd_tf.training.best_epoch import BestEpoch
from aekd_tf.training.heads import HEADS
from aekd_tf.training.stop import SIGNALS


def run(config: Config) -> dict[str, Any]:
    """Runs an experiment and returns what it writes to `<output_dir>/results.json`.

    Teachers and students that an earlier run of the same configuration finished are reused.

    Raises:
        UserError: an output directory that cannot be written or belongs to another
            configuration; a teacher's file that cannot be used.
        DataError: the data set is not on disk and cannot be downloaded.
    """
    if not config.data:
        output.check_configuration(config)
    dataset = load_data(config)
    if config.data:
        config = own_data.settled(config, dataset)
        output.check_configuration(config)
    choice = for_choice(config, dataset)
    check_steps(config, dataset, choice)
    requested_teachers = teachers.plan(config, dataset)
    _check_teachers(config, dataset, requested_teachers)
    one_student.check_hints(config, dataset, requested_teachers)
    for directory in ("", "students", "logs"):
        output.make_directory(os.path.join(config.output_dir, directory), "--output_dir")
    with output.locked(config.output_dir, "--output_dir"):
        return _train_and_report(config, dataset, choice, requested_teachers)


def _check_teachers(config: Config, dataset: data.Dataset, files: list[teachers.Teacher]) -> None:
    """Refuses a teacher's file that cannot be used, before anything is trained."""
    caches = teacher_pool.caches_of(config, dataset)
    for index, teacher in enumerate(files):
        if not teacher.exists or (teacher.entry is not None and teacher.entry.is_array):
            continue
        teachers.check_settings(teacher)
        name = teacher_pool.cache_name(dataset.name, teacher)
        if caches is None or not all(
            cache.holds(teacher.path, name, index, len(files))
            for cache in (caches.training, caches.test)
        ):
            teachers.load(teacher, dataset, config)


def _train_and_report(
    config: Config,
    dataset: data.Dataset,
    choice: data.Dataset,
    requested_teachers: list[teachers.Teacher],
) -> dict[str, Any]:
    """Trains what is missing; candidates for beta are trained on `choice`."""
    about = own_data.recorded(dataset, config) if config.data else None
    _save_configuration(config, {}, about)
    requested = students.plan(config)
    figures = {student.name: students.finished(config, student) for student in requested}
    missing = [s for s in requested if not students.is_finished(s, requested, figures)]
    if config.data:
        own_data.print_plan(config, dataset, requested_teachers)
    tables.print_plan(config, dataset, choice, requested_teachers, requested, missing)

    count = sum(not teacher.exists for teacher in requested_teachers)
    total = count + len(missing)
    hinted = any(student.method.hinted for student in missing) and not config.cache_hints
    pool = teacher_pool.prepare(config, dataset, requested_teachers, total, with_models=hinted)
    for student in requested:
        known = figures[student.name]
        alone = student.method.weighting is None
        if known is not None and not alone and known["teachers"] != pool.digests:
            raise UserError(
                f"{students.path(config, student, 'keras')} was distilled from other teachers than "
                f"{', '.join(t.path for t in requested_teachers)}: delete it, or choose another "
                "--output_dir"
            )
    if config.data:
        own_data.warn_of_weak(config, dataset, pool)
    if pool.caches is not None and missing:
        teacher_pool.announce(config, dataset, pool)
        pool.fill(config, dataset)
    choices: dict[str, str] = {}
    for planned in requested:
        # Not `missing`: candidates that were trained anew may choose another beta.
        if students.is_finished(planned, requested, figures):
            continue
        student = students.settled(planned, requested, figures)
        count += 1
        label = f"[{count}/{max(count, total)}] {student.title}"
        given = choice if student.is_candidate else dataset
        start = None
        if student.quantize_aware:
            trained = students.delivered(student.method_name, requested, figures)
            start = students.path(config, trained, "keras")
        figures[student.name] = _train(config, given, pool, student, label, choices, start)

    chosen = students.chosen(requested, {name: known or {} for name, known in figures.items()})
    results = _results(config, dataset, pool, {name: b for name, (_, b) in chosen.items()})
    delivered, _ = list(chosen.values())[-1]
    if strategies.is_chief():
        with files.replacing(os.path.join(config.output_dir, "student.keras")) as temporary:
            shutil.copyfile(students.path(config, delivered, "keras"), temporary)
    if config.data and strategies.is_chief():
        own_data.describe(config, dataset, pool, requested, results)
    output.save_json(os.path.join(config.output_dir, "results.json"), results)
    print(tables.table(config, results))
    print(f"\nwritten to {config.output_dir}: results.json, student.keras, config.json, logs")
    print(
        f"watch:  tensorboard --host=localhost --logdir={os.path.join(config.output_dir, 'logs')}"
    )
    if config.data:
        print(f"export: {invocation('export')} --run={config.output_dir}")
    return results


def _save_configuration(
    config: Config, choices: dict[str, str], about: dict[str, Any] | None = None
) -> None:
    content: dict[str, Any] = {
        "aekd_tf": aekd_tf.__version__,
        "config": config.recorded(),
        "places": config.places(),
    }
    path = os.path.join(config.output_dir, "config.json")
    if about is None and os.path.exists(path):
        about = output.read_json(path, "delete it").get("data")
    if about is not None:
        content["data"] = about
    output.save_json(path, {**content, "choices": choices} if choices else content)


def _train(
    config: Config,
    dataset: data.Dataset,
    pool: TeacherPool,
    student: Student,
    label: str,
    choices: dict[str, str],
    start: str | None,
) -> dict[str, Any]:
    """Trains one student, writes its model and its figures, and returns the figures.

    `start` is the file of the student that a quantization-aware one starts from. What its
    weighting has chosen is added to `choices`, and to `config.json`.
    """
    started = time.monotonic()
    log_dir = os.path.join(config.output_dir, "logs", f"student_{student.name}")
    saved = students.path(config, student, "checkpoint")
    identity: dict[str, Any] = {"student": student.name, "teacher_weights": pool.digests}
    if config.retrains and not student.is_candidate:
        identity["beta"] = student.hint_weight
    settings = config if start is None else students.second_training(config)
    training = one_student.training_of(settings, label, saved, log_dir, identity)
    trained = one_student.train(settings, dataset, pool, student, training, start=start)
    history, best = trained.history, trained.best
    weighting = getattr(trained.model, "weighting", None)
    if weighting is not None and weighting.choice is not None:
        choices[student.name] = weighting.choice
        _save_configuration(config, choices)
        print(f"weighting {weighting.choice}", flush=True)
    if weighting is not None and weighting.values is not None and strategies.is_chief():
        picture = figures_of.table(weighting.values)
        figures_of.save(picture, students.path(config, student, "png"))
    test = accuracy(trained.network, dataset, dataset.test, pool.forwards)
    figures: dict[str, Any] = {
        **{f"test_{name}": value for name, value in test.items()},
        **_validation(history, best, dataset, pool),
        "teacher_weights": one_student.mean_weights(history, "teacher_weight_"),
        "hint_teacher_weights": one_student.mean_weights(history, "hint_teacher_weight_"),
        "hint_weight": student.hint_weight,
        "teachers": pool.digests,
        "seconds": round(time.monotonic() - started, 1),
    }
    if student.is_candidate and strategies.is_chief():
        _write_hparams(log_dir, student, figures["validation_accuracy"])
    output.save_model(trained.network, students.path(config, student, "keras"))
    output.save_json(students.path(config, student, "json"), figures)
    if strategies.is_chief():
        checkpoint.remove(saved)
    SIGNALS.check()
    return figures


def _validation(
    history: dict[str, list[float]], best: BestEpoch, dataset: data.Dataset, pool: TeacherPool
) -> dict[str, Any]:
    """Returns the figures that require validation images; None without any."""
    names = students.held_out_figures(best.metric)
    if not len(dataset.validation):
        return dict.fromkeys(names)
    test = accuracy(best.restored(), dataset, dataset.test, pool.forwards)[best.metric]
    values = (history[f"val_{best.metric}"][-1], test, best.epoch)
    return dict(zip(names, values, strict=True))


def _write_hparams(log_dir: str, student: Student, accuracy: float) -> None:
    """Writes to TensorBoard's HParams page, which compares the candidates."""
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=1):
        hparams.hparams({"hint_weight": student.hint_weight, "method": student.method_name})
        tf.summary.scalar("validation_accuracy", accuracy)
    writer.close()


def _results(
    config: Config, dataset: data.Dataset, pool: TeacherPool, by_name: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Returns the content of `results.json`."""
    of_teachers = {k: v for k, v in pool.scores.items() if k.startswith("teachers")}
    return {
        "teachers": [
            {
                "name": teacher.name,
                **{
                    name.replace("teachers", f"test_{HEADS[dataset.head].metric}"): values[index]
                    for name, values in of_teachers.items()
                },
            }
            for index, teacher in enumerate(pool.files)
        ],
        "ensemble": {k: v for k, v in pool.scores.items() if k not in of_teachers},
        "students": by_name,
        "config": config.recorded(),
        "versions": {
            "aekd_tf": aekd_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }
