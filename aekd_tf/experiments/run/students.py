"""Plans the students of a run, and reads the finished ones from disk."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from aekd_tf.experiments.command import output
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.consistency import HINT_WEIGHTS
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import CROSS_VALIDATION
from aekd_tf.experiments.run.methods import METHODS, Method


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _are_shares(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_share, value)))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


# The figures in a student's file, each with a test of its value.
_FIGURES: dict[str, Callable[[Any], bool]] = {
    "best_validation_epoch": lambda value: isinstance(value, int) and value > 0,
    "teacher_weights": _are_shares,
    "hint_teacher_weights": _are_shares,
    "hint_weight": lambda value: value is None or _is_number(value),
    "teachers": lambda value: isinstance(value, list),
    "seconds": _is_number,
}


def held_out_figures(metric: str) -> tuple[str, ...]:
    """Returns the figures that are null if the student's training held out no examples."""
    return (f"validation_{metric}", f"best_validation_test_{metric}", "best_validation_epoch")


Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Student:
    """One student to train; a method has several if its hint weight is cross-validated.

    The hint weight of a student that is trained anew is None until all candidates are finished.
    A quantization-aware student starts from the one that its method delivers.
    """

    name: str
    method_name: str
    hint_weight: float | None
    quantize_aware: bool = False

    @property
    def method(self) -> Method:
        """Returns the student's row in the table of methods."""
        return METHODS[self.method_name]

    @property
    def is_candidate(self) -> bool:
        """Tells whether this is one of several students, which differ in their hint weight."""
        return self.name != self.method_name and not self.quantize_aware

    @property
    def title(self) -> str:
        """Returns the student's name in progress bars."""
        beta = f" beta={self.hint_weight:g}" if self.is_candidate else ""
        second = ", quantization-aware" if self.quantize_aware else ""
        return self.method.student_title + beta + second

    @property
    def result_name(self) -> str:
        """Returns the name in the results: the method's, or that of the second training."""
        return self.name if self.quantize_aware else self.method_name


def plan(config: Config) -> list[Student]:
    """Returns all students of a configuration, candidates of a cross-validation included.

    A method's candidates come before the student that is trained anew with the best hint weight.
    """
    students = []
    for method in config.methods:
        if not METHODS[method].hinted:
            students.append(Student(method, method, None))
        elif config.hint_weight == CROSS_VALIDATION:
            students += [Student(f"{method}_beta{b:g}", method, b) for b in HINT_WEIGHTS]
            if config.retrains:
                students.append(Student(method, method, None))
        else:
            students.append(Student(method, method, float(config.hint_weight)))
        if config.quantize_aware:
            weight = None if students[-1].is_candidate else students[-1].hint_weight
            students.append(Student(f"{method}_quantize_aware", method, weight, True))
    return students


def second_training(config: Config) -> Config:
    """Returns the settings of quantization-aware students, which go on from trained ones."""
    return dataclasses.replace(
        config,
        epochs=max(1, round(config.epochs / 10)),
        learning_rate=config.learning_rate / 10,
        hint_first_epoch=1,
    )


def path(config: Config, student: Student, ending: str) -> str:
    """Returns the path of a student's file."""
    return os.path.join(config.output_dir, "students", f"{student.name}.{ending}")


def finished(config: Config, student: Student) -> Figures | None:
    """Returns the figures of a student that an earlier run finished; None if there is none.

    Raises:
        UserError: figures that cannot be read or are incomplete.
    """
    file = path(config, student, "json")
    if not (os.path.exists(file) and os.path.exists(path(config, student, "keras"))):
        return None
    figures = output.read_json(file, "delete it to have the student retrained")
    metric = "rmse" if "test_rmse" in figures else "accuracy"
    scored = _is_number if metric == "rmse" else _is_share
    names = (f"test_{metric}", *held_out_figures(metric)[:2])
    checks = {**dict.fromkeys(names, scored), **_FIGURES}
    others = {"test_accuracy_top5", "test_accuracy_auc"}
    if set(figures) - others != set(checks):
        raise UserError(f"{file} is incomplete: delete it to have the student retrained")
    checks |= dict.fromkeys(others, _is_share)
    if config.data:  # which may be too few to hold some out, or to have an AUC
        known = [*held_out_figures(metric), "test_accuracy_auc"]
        checks |= {name: _or_none(checks[name]) for name in known}
    elif config.validation_examples == 0 and not student.is_candidate:
        checks.update(dict.fromkeys(held_out_figures(metric), lambda value: value is None))
    wrong = [name for name, value in figures.items() if not checks[name](value)]
    if wrong:
        raise UserError(
            f"{file} has no valid {', '.join(wrong)}: delete it to have the student retrained"
        )
    return figures


def best_candidate(
    method: str, students: Sequence[Student], figures: dict[str, Figures | None]
) -> Student | None:
    """Returns the candidate of a method that is best on validation data.

    None if the method has no candidates, or if some are not finished.
    """
    scores: dict[Student, float] = {}
    for student in students:
        if student.is_candidate and student.method_name == method:
            known = figures[student.name]
            if known is None:
                return None
            scores[student] = known["validation_accuracy"]
    return max(scores, key=lambda student: scores[student]) if scores else None


def settled(
    student: Student, students: Sequence[Student], figures: dict[str, Figures | None]
) -> Student:
    """Returns the student with the hint weight that its candidates choose.

    Returns it as it is if it has no candidates, or if some are not finished.
    """
    best = best_candidate(student.method_name, students, figures)
    if student.is_candidate or best is None:
        return student
    return dataclasses.replace(student, hint_weight=best.hint_weight)


def is_finished(
    student: Student, students: Sequence[Student], figures: dict[str, Figures | None]
) -> bool:
    """Tells whether there are figures, and for the hint weight that the candidates choose."""
    known, wanted = figures[student.name], settled(student, students, figures).hint_weight
    return known is not None and wanted in (None, known["hint_weight"])


def delivered(
    result_name: str, students: Sequence[Student], figures: dict[str, Figures | None]
) -> Student:
    """Returns the student of that name in the results; its candidates must be finished."""
    others = [s for s in students if s.result_name == result_name and not s.is_candidate]
    best = others[0] if others else best_candidate(result_name, students, figures)
    assert best is not None
    return best


def chosen(
    students: Sequence[Student], figures: dict[str, Figures]
) -> dict[str, tuple[Student, Figures]]:
    """Returns each method's student and figures, and those of its second training.

    With candidates that is the student that was trained anew, else the best candidate.
    """
    best_of: dict[str, tuple[Student, Figures]] = {}
    for name in dict.fromkeys(student.result_name for student in students):
        candidates = [each for each in students if each.result_name == name and each.is_candidate]
        best = delivered(name, students, {**figures})
        content = {key: value for key, value in figures[best.name].items() if key != "teachers"}
        if candidates:
            content["cross_validation"] = {
                f"{c.hint_weight:g}": figures[c.name]["validation_accuracy"] for c in candidates
            }
        best_of[name] = best, content
    return best_of
