"""Refuses arguments of `export_student` that would give another file than was asked for."""

from __future__ import annotations

import os
from typing import Any

import keras

from aekd_tf.checks import check_choice
from aekd_tf.distiller import EnsembleDistiller
from aekd_tf.names import EXPORT_ENDINGS, QUANTIZATIONS
from aekd_tf.outputs import known_key
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import TeacherAdapter


def student_of(model: Any) -> tuple[keras.Model, Any, str | None]:
    """Returns the student, the key of its distilled output and its head, None if not known.

    Raises:
        TypeError: teachers, or something else that is no model.
        ValueError: a student without weights yet.
    """
    if isinstance(model, TeacherAdapter) or not isinstance(model, keras.Model):
        raise refusal("not_exportable", kind=type(model).__name__)
    key, head, student = None, None, model
    if isinstance(model, EnsembleDistiller):
        student, head = model.student, model.distillation_loss.head
        key = known_key("student", student, model.distilled_output)
        key = model.distilled_output if key is None else key
    if not student.built:
        raise refusal("export_unbuilt", name=student.name)
    return student, key, head


def check_quantization(
    student: keras.Model, file_format: str, quantize: str | None, integer_io: bool
) -> bool:
    """Returns whether a quantization requires calibration data.

    Raises:
        ValueError: an unknown quantization, or one that does not fit the format or the student.
    """
    if integer_io and quantize != "int8":
        raise refusal("integer_io", quantize=quantize)
    if quantize is None:
        return False
    check_choice("quantize", quantize, QUANTIZATIONS)
    if file_format != "litert":
        raise refusal("quantize_format", quantize=quantize, format=file_format)
    aware = hasattr(student, "quantize_aware_bits")
    if aware and quantize != "int8":
        raise refusal("quantize_aware_other", name=student.name, quantize=quantize)
    return quantize == "int8" and not aware


def check_surroundings(
    student: keras.Model, head: str | None, preprocessing: Any, probabilities: bool, threads: Any
) -> None:
    """Refuses what cannot go in front of the student or behind it, and an unusable `threads`."""
    if preprocessing is not None and not isinstance(preprocessing, keras.layers.Layer):
        raise refusal("preprocessing_kind", kind=type(preprocessing).__name__)
    if probabilities and head in ("labels", "regression"):
        raise refusal("probabilities", name=student.name, kind=head)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise refusal("threads", threads=threads)


def check_path(path: str, file_format: str) -> None:
    """Refuses a path of another format, or in whose place there is something else."""
    ending = EXPORT_ENDINGS[file_format]
    name, given = os.path.splitext(os.path.basename(path))
    others = (*filter(None, EXPORT_ENDINGS.values()), ".h5")
    if not name or (given != ending if ending else given in others):
        place = f"{ending} files" if ending else "a folder"
        example = f"{os.path.splitext(path)[0] or 'student'}{ending}"
        raise refusal("export_suffix", path=path, format=file_format, place=place, example=example)
    if ending and os.path.isdir(path):
        raise refusal("export_place", path=path, kind="folder")
    if not ending and os.path.exists(path):
        exported = os.path.exists(os.path.join(path, "saved_model.pb"))
        if not exported and not (os.path.isdir(path) and not os.listdir(path)):
            kind = "folder of other files" if os.path.isdir(path) else "file"
            raise refusal("export_place", path=path, kind=kind)
