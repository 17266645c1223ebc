"""Prints a run's plan and formats the table of its results."""

from __future__ import annotations

from typing import Any

from aekd_tf import data
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.run import students, teachers
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.experiments.run.students import Student


def print_plan(
    config: Config,
    dataset: data.Dataset,
    choice: data.Dataset,
    files: list[teachers.Teacher],
    requested: list[Student],
    missing: list[Student],
) -> None:
    """Prints the data set, and which teachers and students exist or will be trained.

    `choice` is the data set of the candidates for beta.
    """
    steps = data.steps_per_epoch(dataset, config.batch_size)
    lines = [
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation, "
        f"{len(dataset.test)} test " + ("examples" if config.data else "images"),
        *teachers.describe(files, steps),
    ]
    if len(missing) < len(requested):
        lines.append(f"reusing {len(requested) - len(missing)} students found on disk")
    apart = [student for student in missing if student.is_candidate and choice is not dataset]
    if apart:
        lines.append(
            f"choosing beta on {len(choice.train)} training and {len(choice.validation)} "
            "validation images"
        )
        lines.append(_trainings(config, choice, apart))
    again = [student for student in missing if student.quantize_aware]
    if others := [student for student in missing if student not in (*apart, *again)]:
        lines.append(_trainings(config, dataset, others))
    if again:
        lines.append(_trainings(students.second_training(config), dataset, again))
    print("\n".join(lines), flush=True)


def _trainings(config: Config, dataset: data.Dataset, missing: list[Student]) -> str:
    steps = config.epochs * data.steps_per_epoch(dataset, config.batch_size)
    return (
        f"training {len(missing)} students {config.student}, {steps} steps each: "
        f"{', '.join(student.name for student in missing)}"
    )


def table(config: Config, results: dict[str, Any]) -> str:
    """Formats the test accuracy of all networks, at the last and the best validation epoch.

    The latter is blank without validation images.
    """
    delivered = config.methods[-1]
    metric = "rmse" if "test_rmse" in results["teachers"][0] else "accuracy"
    scale, unit = (1, "") if metric == "rmse" else (100, ", %")
    weights = results["students"][delivered]["teacher_weights"]
    top5 = "majority_vote_top5" in results["ensemble"]
    lines = [
        "",
        f"{config.dataset}: {len(results['teachers'])} teachers, student {config.student}, "
        f"{delivered}" + (f" C={config.tolerance:g}" if METHODS[delivered].capped else ""),
        "",
        f"{f'test {metric}' + unit:<26}{'last epoch':>12}{'best val.':>12}"
        + (f"{'top-5':>10}" if top5 else "")
        + f"{'mean weight':>13}",
    ]

    def row(title, last, best=None, last_top5=None, weight=None):
        cells = [f"{title:<26}{scale * last:12.2f}", f"{scale * best:12.2f}" if best else " " * 12]
        if top5:
            cells.append(f"{100 * last_top5:10.2f}" if last_top5 is not None else " " * 10)
        cells.append(f"{weight:13.3f}" if weight is not None else "")
        lines.append("".join(cells).rstrip())

    for index, teacher in enumerate(results["teachers"]):
        # A student of one teacher has one weight.
        weight = weights[index] if weights and index < len(weights) else None
        figures = teacher[f"test_{metric}"], None, teacher.get("test_accuracy_top5"), weight
        row(f"teacher {teacher['name']}", *figures)
    titles = {"majority_vote": "majority vote", "mean_probability": "mean vote", "mean": "mean"}
    votes = results["ensemble"]
    for key, title in ((key, title) for key, title in titles.items() if key in votes):
        row(f"ensemble, {title}", votes[key], None, votes.get(f"{key}_top5"))
    for method, student in results["students"].items():
        title = "  then quantization-aware"
        if method in METHODS:
            beta = student["hint_weight"]
            title = METHODS[method].student_title + (f" beta={beta:g}" if beta is not None else "")
        row(
            title,
            student[f"test_{metric}"],
            student[f"best_validation_test_{metric}"],
            student.get("test_accuracy_top5"),
        )
    return "\n".join(lines)
