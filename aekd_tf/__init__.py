"""Distills several trained Keras models into one small student, for TensorFlow and Keras.

    distiller = EnsembleDistiller(student, teachers)
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(x, y, validation_data=(held_out_x, held_out_y))
    export_student(student, "student.tflite", format="litert")

The weighting decides how much each teacher counts: the default by held-out examples, `"aekd"` as
in "Agree to Disagree" (NeurIPS 2020). `TeacherCache` computes the teachers' outputs once. In a
terminal, `aekd-tf --help` lists the commands.

Public names are imported on first use, so that `--help` answers without loading TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aekd_tf import registration
from aekd_tf.refusals import check_backend

__version__ = "0.2.0"

_HOME = {
    "AdaptiveWeighting": "aekd_tf.weightings.adaptive",
    "CAMKDWeighting": "aekd_tf.weightings.ca_mkd",
    "CachedTeachers": "aekd_tf.cache.batches",
    "CrossEntropyWeighting": "aekd_tf.weightings.cross_entropy",
    "DistillationLoss": "aekd_tf.losses.base",
    "DistillationTensorBoard": "aekd_tf.monitoring.tensorboard",
    "EBKDWeighting": "aekd_tf.weightings.ebkd",
    "EnsembleDistiller": "aekd_tf.distiller",
    "FixedWeighting": "aekd_tf.weightings.fixed",
    "Hints": "aekd_tf.terms.hints",
    "MTKDWeighting": "aekd_tf.weightings.mtkd",
    "QPSolution": "aekd_tf.qp.solve",
    "RandomWeighting": "aekd_tf.weightings.random",
    "Signals": "aekd_tf.signals",
    "Smoothed": "aekd_tf.weightings.smoothed",
    "TeacherAdapter": "aekd_tf.teachers.adapter",
    "TeacherCache": "aekd_tf.cache.teacher_cache",
    "TeacherEnsemble": "aekd_tf.teachers.ensemble",
    "UniformWeighting": "aekd_tf.weightings.uniform",
    "Views": "aekd_tf.cache.views",
    "Weighting": "aekd_tf.weightings.base",
    "distillation_loss": "aekd_tf.losses.kl",
    "export_student": "aekd_tf.export.student",
    "hint_loss": "aekd_tf.terms.hints",
    "project_capped_simplex": "aekd_tf.qp.solve",
    "quantize_aware": "aekd_tf.export.quantize_aware",
    "solve_capped_simplex_qp": "aekd_tf.qp.solve",
}
_SUBMODULES = ("data", "losses", "models", "weightings")

__all__ = [
    "AdaptiveWeighting",
    "CAMKDWeighting",
    "CachedTeachers",
    "CrossEntropyWeighting",
    "DistillationLoss",
    "DistillationTensorBoard",
    "EBKDWeighting",
    "EnsembleDistiller",
    "FixedWeighting",
    "Hints",
    "MTKDWeighting",
    "QPSolution",
    "RandomWeighting",
    "Signals",
    "Smoothed",
    "TeacherAdapter",
    "TeacherCache",
    "TeacherEnsemble",
    "UniformWeighting",
    "Views",
    "Weighting",
    "__version__",
    "data",
    "distillation_loss",
    "export_student",
    "hint_loss",
    "losses",
    "models",
    "project_capped_simplex",
    "quantize_aware",
    "solve_capped_simplex_qp",
    "weightings",
]

if TYPE_CHECKING:
    from aekd_tf import data, losses, models, weightings
    from aekd_tf.cache.batches import CachedTeachers
    from aekd_tf.cache.teacher_cache import TeacherCache
    from aekd_tf.cache.views import Views
    from aekd_tf.distiller import EnsembleDistiller
    from aekd_tf.export.quantize_aware import quantize_aware
    from aekd_tf.export.student import export_student
    from aekd_tf.losses.base import DistillationLoss
    from aekd_tf.losses.kl import distillation_loss
    from aekd_tf.monitoring.tensorboard import DistillationTensorBoard
    from aekd_tf.qp.solve import QPSolution, project_capped_simplex, solve_capped_simplex_qp
    from aekd_tf.signals import Signals
    from aekd_tf.teachers.adapter import TeacherAdapter
    from aekd_tf.teachers.ensemble import TeacherEnsemble
    from aekd_tf.terms.hints import Hints, hint_loss
    from aekd_tf.weightings.adaptive import AdaptiveWeighting
    from aekd_tf.weightings.base import Weighting
    from aekd_tf.weightings.ca_mkd import CAMKDWeighting
    from aekd_tf.weightings.cross_entropy import CrossEntropyWeighting
    from aekd_tf.weightings.ebkd import EBKDWeighting
    from aekd_tf.weightings.fixed import FixedWeighting
    from aekd_tf.weightings.mtkd import MTKDWeighting
    from aekd_tf.weightings.random import RandomWeighting
    from aekd_tf.weightings.smoothed import Smoothed
    from aekd_tf.weightings.uniform import UniformWeighting

registration.announce()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        check_backend()
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"aekd_tf.{name}")
    raise AttributeError(f"module 'aekd_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
