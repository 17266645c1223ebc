"""One run: the missing teachers, then the students alone, by AVER and by AE-KD, then a table."""

from __future__ import annotations

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
    output.check_configuration(config)
    dataset = training.load_data(config)
    found = teachers.plan(config, dataset)
    for teacher in found:
        if teacher.exists:
            teachers.load(teacher, dataset)
    for directory in ("", "students", "logs"):
        output.make_directory(os.path.join(config.output_dir, directory), "--output_dir")
    output.save_json(
        {"aekd_tf": aekd_tf.__version__, "config": config.recorded()},
        os.path.join(config.output_dir, "config.json"),
    )
    names = list(dict.fromkeys(["alone", "average", config.weighting]))
    students = {name: _finished_student(config, name) for name in names}
    missing = [name for name, figures in students.items() if figures is None]
    _print_plan(config, dataset, found, names, missing)

    count = sum(not teacher.exists for teacher in found)
    total = count + len(missing)
    networks = teachers.train_or_load(config, dataset, found, total)
    digests = [teachers.digest(network) for network in networks]
    for name, figures in students.items():
        if figures is not None and name != "alone" and figures["teachers"] != digests:
            raise UserError(
                f"{_student_path(config, name, 'keras')} was distilled from other teachers than "
                f"{', '.join(t.path for t in found)}: delete it, or choose another --output_dir"
            )
    try:
        ensemble = TeacherEnsemble(networks)
    except ValueError as error:
        raise UserError(str(error)) from error
    scores = ensemble.evaluate(data.evaluation_pipeline(dataset, dataset.test))
    for name in missing:
        count += 1
        label = f"[{count}/{total}] {_TITLES[name]}"
        students[name] = _train_student(config, dataset, ensemble, digests, name, label)

    results = {
        "teachers": [
            {"name": teacher.name, "test_accuracy": accuracy}
            for teacher, accuracy in zip(found, scores["teachers"], strict=True)
        ],
        "ensemble": {
            "majority_vote": scores["majority_vote"],
            "mean_probability": scores["mean_probability"],
        },
        "students": {
            name: {key: value for key, value in (figures or {}).items() if key != "teachers"}
            for name, figures in students.items()
        },
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


_FIGURES = {
    "test_accuracy",
    "validation_accuracy",
    "best_validation_test_accuracy",
    "best_validation_epoch",
    "teacher_weights",
    "teachers",
    "seconds",
}


def _finished_student(config: Config, name: str) -> dict[str, Any] | None:
    """The figures of a student that an earlier run finished; None if it is to be trained."""
    path = _student_path(config, name, "json")
    if not (os.path.exists(path) and os.path.exists(_student_path(config, name, "keras"))):
        return None
    figures = output.read_json(path, "delete it to have the student retrained")
    if set(figures) != _FIGURES:
        raise UserError(f"{path} is incomplete: delete it to have the student retrained")
    return figures


def _train_student(
    config: Config,
    dataset: data.Dataset,
    ensemble: TeacherEnsemble,
    digests: list[str],
    name: str,
    label: str,
) -> dict[str, Any]:
    """Trains one student and writes its model and its figures."""
    training.start_reproducibly(config.seed, config.jit_compile)
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
        "teachers": digests,
        "seconds": round(time.monotonic() - started, 1),
    }
    output.save_model(student, _student_path(config, name, "keras"))
    output.save_json(figures, _student_path(config, name, "json"))
    return figures


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
