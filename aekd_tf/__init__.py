"""Adaptive ensemble knowledge distillation (AE-KD, NeurIPS 2020) for TensorFlow and Keras.

Everything public is imported on first use, so that `python -m aekd_tf.experiments.cifar
--help` answers without loading TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AdaptiveWeighting": "aekd_tf.weighting",
    "CachedTeachers": "aekd_tf.cached_teachers",
    "DistillationTensorBoard": "aekd_tf.callbacks",
    "EnsembleDistiller": "aekd_tf.distiller",
    "Hints": "aekd_tf.hints",
    "QPSolution": "aekd_tf.qp",
    "TeacherAdapter": "aekd_tf.adapter",
    "TeacherCache": "aekd_tf.cache",
    "TeacherEnsemble": "aekd_tf.ensemble",
    "UniformWeighting": "aekd_tf.weighting",
    "Views": "aekd_tf.cache",
    "Weighting": "aekd_tf.weighting",
    "distillation_loss": "aekd_tf.losses",
    "hint_loss": "aekd_tf.hints",
    "project_capped_simplex": "aekd_tf.qp",
    "solve_capped_simplex_qp": "aekd_tf.qp",
}
_SUBMODULES = ("data", "models")

__all__ = [
    "AdaptiveWeighting",
    "CachedTeachers",
    "DistillationTensorBoard",
    "EnsembleDistiller",
    "Hints",
    "QPSolution",
    "TeacherAdapter",
    "TeacherCache",
    "TeacherEnsemble",
    "UniformWeighting",
    "Views",
    "Weighting",
    "__version__",
    "data",
    "distillation_loss",
    "hint_loss",
    "models",
    "project_capped_simplex",
    "solve_capped_simplex_qp",
]

if TYPE_CHECKING:
    from aekd_tf import data, models
    from aekd_tf.adapter import TeacherAdapter
    from aekd_tf.cache import TeacherCache, Views
    from aekd_tf.cached_teachers import CachedTeachers
    from aekd_tf.callbacks import DistillationTensorBoard
    from aekd_tf.distiller import EnsembleDistiller
    from aekd_tf.ensemble import TeacherEnsemble
    from aekd_tf.hints import Hints, hint_loss
    from aekd_tf.losses import distillation_loss
    from aekd_tf.qp import QPSolution, project_capped_simplex, solve_capped_simplex_qp
    from aekd_tf.weighting import AdaptiveWeighting, UniformWeighting, Weighting


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"aekd_tf.{name}")
    raise AttributeError(f"module 'aekd_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
