"""One run: the missing teachers, then the students alone, by AVER and by AE-KD, then a table."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import aekd_tf
from aekd_tf import data, models
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.ensemble import TeacherEnsemble
from aekd_tf.experiments import output, teachers, training
from aekd_tf.experiments.config import Config, UserError
from aekd_tf.weighting import AdaptiveWeighting, UniformWeighting, Weighting

_TITLES = {"alone": "student alone", "average": "student, AVER", "aekd": "student, AE-KD"}


def run(config: Config) -> dict[str, Any]:
    """Runs an experiment and returns what it writes to `<output_dir>/results.json`.

    Teachers and students that an earlier run of the same configuration finished are reused.

    Raises:
        UserError: an output directory that cannot be written or belongs to another
            configuration, a teacher's file that cannot be used.
        DataError: the data set cannot be had.
    """
    found = teachers.plan(config)
    teachers.check_files(found)
    output.check_output_dir(config)
    try:
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            train_examples=config.train_examples,
            validation_examples=config.validation_examples,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    for teacher in found:
        if teacher.exists:
            teachers.load(teacher, dataset)
    output.save_json(
        {"aekd_tf": aekd_tf.__version__, "config": config.recorded()},
        os.path.join(config.output_dir, "config.json"),
    )
    names = list(dict.fromkeys(["alone", "average", config.weighting]))
    missing = [name for name in names if not os.path.exists(_student_path(config, name, "json"))]
    _print_plan(config, dataset, found, names, missing)

    count = sum(not teacher.exists for teacher in found)
    total = count + len(missing)
    ensemble = TeacherEnsemble(teachers.train_or_load(config, dataset, found, total))
    scores = ensemble.evaluate(data.evaluation_pipeline(dataset, dataset.test))
    students = {}
    for name in names:
        if name in missing:
            count += 1
            label = f"[{count}/{total}] {_TITLES[name]}"
            _train_student(config, dataset, ensemble, name, label)
        with open(_student_path(config, name, "json"), encoding="utf-8") as file:
            students[name] = json.load(file)

    results = {
        "teachers": [
            {"name": teacher.name, "test_accuracy": accuracy}
            for teacher, accuracy in zip(found, scores["teachers"], strict=True)
        ],
        "ensemble": {
            "majority_vote": scores["majority_vote"],
            "mean_probability": scores["mean_probability"],
        },
        "students": students,
        "config": config.recorded(),
        "versions": {
            "aekd_tf": aekd_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }
    student = os.path.join(config.output_dir, "student.keras")
    shutil.copyfile(_student_path(config, config.weighting, "keras"), f"{student}.tmp")
    os.replace(f"{student}.tmp", student)
    output.save_json(results, os.path.join(config.output_dir, "results.json"))
    print(_table(config, results))
    print(f"\nwritten to {config.output_dir}: results.json, student.keras, config.json, logs")
    print(
        f"watch:  tensorboard --host=localhost --logdir={os.path.join(config.output_dir, 'logs')}"
    )
    return results


def _weighting(config: Config, name: str) -> Weighting:
    if name == "average":
        return UniformWeighting()
    return AdaptiveWeighting(
        config.tolerance, config.batch_gradient, config.normalize, config.solver
    )


def _train_student(
    config: Config, dataset: data.Dataset, ensemble: TeacherEnsemble, name: str, label: str
) -> None:
    """Trains one student and writes its model and its figures."""
    training.start_reproducibly(config.seed)
    student = models.create(config.student, dataset.num_classes, dataset.image_shape)
    model = student
    if name != "alone":
        model = EnsembleDistiller(
            student,
            ensemble,
            weighting=_weighting(config, name),
            temperature=config.temperature,
            student_loss_weight=config.student_loss_weight,
            kd_weight=config.kd_weight,
        )
    started = time.monotonic()
    history, best = training.train(
        model,
        student,
        dataset,
        label=label,
        epochs=config.epochs,
        teacher=False,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
        log_dir=os.path.join(config.output_dir, "logs", f"student_{name}"),
        jit_compile=config.jit_compile,
    )
    weights = None
    if name != "alone":
        columns = [history[f"teacher_weight_{index}"] for index in range(len(ensemble))]
        weights = np.mean(columns, axis=1).tolist()
    figures = {
        "test_accuracy": training.accuracy(student, dataset, dataset.test),
        "validation_accuracy": history["val_accuracy"][-1],
        "best_validation_test_accuracy": training.accuracy(best.restored(), dataset, dataset.test),
        "best_validation_epoch": best.epoch,
        "teacher_weights": weights,
        "seconds": round(time.monotonic() - started, 1),
    }
    os.makedirs(os.path.join(config.output_dir, "students"), exist_ok=True)
    output.save_model(student, _student_path(config, name, "keras"))
    output.save_json(figures, _student_path(config, name, "json"))


def _student_path(config: Config, name: str, ending: str) -> str:
    return os.path.join(config.output_dir, "students", f"{name}.{ending}")


def _print_plan(
    config: Config,
    dataset: data.Dataset,
    found: list[teachers.Teacher],
    names: list[str],
    missing: list[str],
) -> None:
    steps = data.steps_per_epoch(dataset, config.batch_size)
    lines = [
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation, "
        f"{len(dataset.test)} test images",
        *teachers.describe(found, steps),
    ]
    if len(missing) < len(names):
        lines.append(f"reusing {len(names) - len(missing)} students found on disk")
    if missing:
        lines.append(
            f"training {len(missing)} students {config.student}, {config.epochs * steps} steps "
            f"each: {', '.join(missing)}"
        )
    print("\n".join(lines), flush=True)


def _table(config: Config, results: dict[str, Any]) -> str:
    """The report: test accuracy of everything, last epoch and best validation epoch."""
    weights = results["students"][config.weighting]["teacher_weights"]
    lines = [
        "",
        f"{config.dataset}: {len(results['teachers'])} teachers, student {config.student}, "
        f"{config.weighting}" + (f" C={config.tolerance:g}" if config.weighting == "aekd" else ""),
        "",
        f"{'test accuracy, %':<24}{'last epoch':>12}{'best val.':>12}{'mean weight':>13}",
    ]
    for teacher, weight in zip(results["teachers"], weights, strict=True):
        title = f"teacher {teacher['name']}"
        lines.append(f"{title:<24}{100 * teacher['test_accuracy']:12.2f}{'':12}{weight:13.3f}")
    for key, title in (("majority_vote", "majority vote"), ("mean_probability", "mean vote")):
        lines.append(f"{'ensemble, ' + title:<24}{100 * results['ensemble'][key]:12.2f}")
    for name, student in results["students"].items():
        last, best = student["test_accuracy"], student["best_validation_test_accuracy"]
        lines.append(f"{_TITLES[name]:<24}{100 * last:12.2f}{100 * best:12.2f}")
    return "\n".join(lines)
