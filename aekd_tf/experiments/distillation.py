"""One run: the teachers that are missing, then a student by each method, then a table."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any

import keras
import tensorflow as tf

import aekd_tf
from aekd_tf import data
from aekd_tf.cache import TeacherCache, Views
from aekd_tf.ensemble import TeacherEnsemble, accuracies
from aekd_tf.experiments import output, strategies, students, teachers, training
from aekd_tf.experiments.config import HINT_METHODS, Config, UserError
from aekd_tf.teacher_source import teacher_digest
from aekd_tf.view_file import CacheError


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
    training.check_steps(config, dataset)
    found = teachers.plan(config, dataset)
    caches = caches_of(config, dataset)
    for index, teacher in enumerate(found):
        if not teacher.exists:
            continue
        teachers.check_settings(teacher)
        name = _cache_name(dataset, teacher)
        if not caches or not all(c.holds(teacher.path, name, index, len(found)) for c in caches):
            teachers.load(teacher, dataset, config)
    students.check_hints(config, dataset)
    for directory in ("", "students", "logs"):
        output.make_directory(os.path.join(config.output_dir, directory), "--output_dir")
    with output.locked(config.output_dir, "--output_dir"):
        return _train_and_report(config, dataset, found, caches)


def _train_and_report(
    config: Config,
    dataset: data.Dataset,
    found: list[teachers.Teacher],
    caches: list[TeacherCache],
) -> dict[str, Any]:
    output.save_json(
        {"aekd_tf": aekd_tf.__version__, "config": config.recorded()},
        os.path.join(config.output_dir, "config.json"),
    )
    asked = students.plan(config)
    figures = {student.name: students.finished(config, student) for student in asked}
    missing = [student for student in asked if figures[student.name] is None]
    _print_plan(config, dataset, found, asked, missing)

    count = sum(not teacher.exists for teacher in found)
    total = count + len(missing)
    hinted = HINT_METHODS & {student.method for student in missing} and not config.cache_hints
    networks: Any = None
    if caches:
        teachers.train_missing(config, dataset, found, total)
        digests = fill(config, found, caches[-1])
    if not caches or hinted:
        networks = teachers.train_or_load(config, dataset, found, total)
        digests = [teacher_digest(network) for network in networks]
    for student in asked:
        known = figures[student.name]
        if known is not None and student.method != "alone" and known["teachers"] != digests:
            raise UserError(
                f"{students.path(config, student, 'keras')} was distilled from other teachers than "
                f"{', '.join(t.path for t in found)}: delete it, or choose another --output_dir"
            )
    scores = evaluate(dataset, found, networks, caches[-1] if caches else None)
    cache = caches[0] if caches else None
    if cache is not None and missing:
        _announce(config, found, cache)
        fill(config, found, cache)
        networks = networks or cache.teachers
    for student in missing:
        count += 1
        label = f"[{count}/{total}] {student.title}"
        figures[student.name] = students.train(
            config, dataset, networks, digests, student, label, cache
        )

    chosen = students.chosen(asked, {name: known or {} for name, known in figures.items()})
    results = {
        "teachers": [
            {
                "name": teacher.name,
                **{
                    name.replace("teachers", "test_accuracy"): values[index]
                    for name, values in scores.items()
                    if name.startswith("teachers")
                },
            }
            for index, teacher in enumerate(found)
        ],
        "ensemble": {
            name: value for name, value in scores.items() if not name.startswith("teachers")
        },
        "students": {method: content for method, (_, content) in chosen.items()},
        "config": config.recorded(),
        "versions": {
            "aekd_tf": aekd_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }
    target = os.path.join(config.output_dir, "student.keras")
    delivered, _ = chosen[config.methods[-1]]
    if strategies.is_chief():
        shutil.copyfile(students.path(config, delivered, "keras"), f"{target}.tmp")
        os.replace(f"{target}.tmp", target)
    output.save_json(results, os.path.join(config.output_dir, "results.json"))
    print(_table(config, results))
    print(f"\nwritten to {config.output_dir}: results.json, student.keras, config.json, logs")
    print(
        f"watch:  tensorboard --host=localhost --logdir={os.path.join(config.output_dir, 'logs')}"
    )
    return results


def caches_of(config: Config, dataset: data.Dataset) -> list[TeacherCache]:
    """Of the teachers' outputs: for training and for the test images; none without a cache."""
    if not config.cache_views:
        return []
    hints = students.hints(config) if config.cache_hints else None
    views = Views(
        config.cache_views,
        config.view_seed or 0,
        config.cache_dtype,
        config.cache_top_k,
        config.temperature,
    )
    directory, size = config.cache_dir, config.batch_size
    try:
        return [
            TeacherCache(directory, dataset, views, size, hints),
            TeacherCache(directory, dataset, Views(1, dtype="float32"), size, split="test"),
        ]
    except ValueError as error:
        raise UserError(str(error)) from error


def _cache_name(dataset: data.Dataset, teacher: teachers.Teacher) -> str:
    return f"{dataset.name.replace('/', '_')}_{teacher.name}"


def _announce(config: Config, found: list[teachers.Teacher], cache: TeacherCache) -> None:
    first = teachers.load(found[0], cache.dataset, config) if config.cache_hints else None
    kept = "" if config.cache_top_k is None else f", the {config.cache_top_k} largest logits"
    print(
        f"teachers' outputs: {len(found)} x {cache.bytes_each(first) / 1e6:.1f} MB in "
        f"{config.cache_dir} ({config.cache_views} views of {len(cache.dataset.train)} images, "
        f"{config.cache_dtype}{kept})",
        flush=True,
    )


def fill(config: Config, found: list[teachers.Teacher], cache: TeacherCache) -> list[str]:
    """Computes what is missing; returns the teachers' digests."""
    output.make_directory(config.cache_dir, "--cache_dir")
    names = [_cache_name(cache.dataset, teacher) for teacher in found]
    try:
        with output.locked(config.cache_dir, "--cache_dir"):
            # The chief computes what is missing, for the others to find.
            if not strategies.is_chief():
                strategies.wait_for_all()
            cache.fill([t.path for t in found], names, safe_mode=not config.trust_teachers)
            if strategies.is_chief():
                strategies.wait_for_all()
    except (CacheError, ValueError) as error:
        raise UserError(str(error)) from error
    return cache.digests


def evaluate(
    dataset: data.Dataset,
    found: list[teachers.Teacher],
    networks: list[keras.Model] | None,
    cache: TeacherCache | None,
) -> dict[str, Any]:
    """Test accuracy of the teachers and of their votes."""
    top_k = training.top_k(dataset)
    try:
        if cache is None:
            test = data.evaluation_pipeline(dataset, dataset.test)
            return TeacherEnsemble(networks or []).evaluate(test, top_k=top_k)
        assert isinstance(dataset.test, data.Split)
        names = [teacher.name for teacher in found]
        return accuracies([(cache.logits(), dataset.test.labels)], names, top_k)
    except ValueError as error:
        raise UserError(str(error)) from error


def _print_plan(
    config: Config,
    dataset: data.Dataset,
    found: list[teachers.Teacher],
    asked: list[students.Student],
    missing: list[students.Student],
) -> None:
    steps = data.steps_per_epoch(dataset, config.batch_size)
    lines = [
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation, "
        f"{len(dataset.test)} test images",
        *teachers.describe(found, steps),
    ]
    if len(missing) < len(asked):
        lines.append(f"reusing {len(asked) - len(missing)} students found on disk")
    if missing:
        lines.append(
            f"training {len(missing)} students {config.student}, {config.epochs * steps} steps "
            f"each: {', '.join(student.name for student in missing)}"
        )
    print("\n".join(lines), flush=True)


def _table(config: Config, results: dict[str, Any]) -> str:
    """The report: test accuracy of everything, last epoch and best validation epoch."""
    delivered = config.methods[-1]
    weights = results["students"][delivered]["teacher_weights"]
    adaptive = delivered in ("aekd", "aekd_hints")
    top5 = "majority_vote_top5" in results["ensemble"]
    lines = [
        "",
        f"{config.dataset}: {len(results['teachers'])} teachers, student {config.student}, "
        f"{delivered}" + (f" C={config.tolerance:g}" if adaptive else ""),
        "",
        f"{'test accuracy, %':<26}{'last epoch':>12}{'best val.':>12}"
        + (f"{'top-5':>10}" if top5 else "")
        + f"{'mean weight':>13}",
    ]

    def row(title, last, best=None, last_top5=None, weight=None):
        cells = [f"{title:<26}{100 * last:12.2f}", f"{100 * best:12.2f}" if best else " " * 12]
        if top5:
            cells.append(f"{100 * last_top5:10.2f}" if last_top5 is not None else " " * 10)
        cells.append(f"{weight:13.3f}" if weight is not None else "")
        lines.append("".join(cells).rstrip())

    for index, teacher in enumerate(results["teachers"]):
        # A student of one teacher has one weight.
        weight = weights[index] if weights and index < len(weights) else None
        figures = teacher["test_accuracy"], None, teacher.get("test_accuracy_top5"), weight
        row(f"teacher {teacher['name']}", *figures)
    for key, title in (("majority_vote", "majority vote"), ("mean_probability", "mean vote")):
        votes = results["ensemble"]
        row(f"ensemble, {title}", votes[key], None, votes.get(f"{key}_top5"))
    for method, student in results["students"].items():
        title = students.TITLES[method]
        if student["hint_weight"] is not None:
            title += f" beta={student['hint_weight']:g}"
        row(
            title,
            student["test_accuracy"],
            student["best_validation_test_accuracy"],
            student.get("test_accuracy_top5"),
        )
    return "\n".join(lines)
