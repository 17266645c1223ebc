"""Heads: what a model's outputs are, and what follows for its ensemble and its losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.losses.averaged_outputs import AveragedOutputs
from aekd_tf.losses.base import DistillationLoss
from aekd_tf.losses.kl import KL
from aekd_tf.names import HEAD_TITLES
from aekd_tf.refusals import refusal
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.weightings.base import Weighting


def loss_of(loss: DistillationLoss, weighting: Weighting) -> DistillationLoss:
    """Returns the loss in use: `UniformWeighting("outputs")` stands for averaged outputs.

    Raises:
        ValueError: such a weighting with another loss than `"kl"`.
    """
    if getattr(weighting, "average", "losses") == "losses":
        return loss
    if type(loss) not in (KL, AveragedOutputs):
        raise refusal("averaged_twice", loss=loss.name)
    return AveragedOutputs()


def ensemble_of(teachers: Any, loss: DistillationLoss) -> TeacherEnsemble | CachedTeachers:
    """Returns the teachers as an ensemble whose head fits the loss.

    Raises:
        ValueError: an ensemble of another head; models whose outputs do not fit the loss.
    """
    if isinstance(teachers, CachedTeachers):
        return teachers
    if not isinstance(teachers, TeacherEnsemble):
        return TeacherEnsemble(teachers, head=loss.head or "any")
    fitting = (loss.head,) if loss.head else ("classes", "regression", "any")
    if teachers.head not in fitting:
        expected = HEAD_TITLES[loss.head] if loss.head else "classes or regression"
        raise refusal("head_mismatch", loss=loss.name, expected=expected, head=teachers.head)
    return teachers


def head_of(loss: DistillationLoss, labels: Any, num_outputs: int) -> str:
    """Returns the head of what a loss compares: `"classes"`, `"labels"` or `"regression"`.

    A loss that fits several heads compares classes if the labels are integers and there are
    several outputs, otherwise regression.
    """
    if loss.head is not None:
        return loss.head
    if labels is None or num_outputs < 2:
        return "regression"
    kind = np.dtype(getattr(labels.dtype, "as_numpy_dtype", labels.dtype)).kind
    return "classes" if kind in "iub" else "regression"
