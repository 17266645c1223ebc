"""Gets the teachers' outputs for a training step, from the batch or from the teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.terms.hints import pooled


@dataclasses.dataclass(frozen=True)
class CachedTeachers:
    """Stands for teachers that are not loaded, because every batch brings their cached outputs.

    Attributes:
        count: M.
        feature_shapes: shapes of the M feature maps without the batch axis; None if batches
            bring none.
        temperature: the only temperature at which the cached logits are right, as a top-k
            cache's are; None for any.

    Raises:
        ValueError: a count below 1, or another number of shapes.
    """

    count: int
    feature_shapes: Sequence[Sequence[int]] | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"an ensemble requires at least one teacher, got {self.count}")
        shapes = self.feature_shapes
        if shapes is not None and len(shapes) != self.count:
            raise ValueError(
                f"{len(shapes)} feature shapes for {self.count} teachers: give one per teacher"
            )

    def __len__(self) -> int:
        return self.count


def split_batch(x: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the student's inputs, and the teachers' outputs that come with them, if any."""
    known = {"inputs", "teacher_logits", "teacher_features"}
    if isinstance(x, dict) and {"inputs", "teacher_logits"} <= set(x) <= known:
        return x["inputs"], {name: value for name, value in x.items() if name != "inputs"}
    return x, {}


def teacher_outputs(
    teachers: TeacherEnsemble | CachedTeachers,
    inputs: Any,
    given: dict[str, Any],
    layers: Sequence[keras.layers.Layer],
    pooling: int | None,
) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
    """Returns logits `[M, B, K]` and, unless `pooling` is None, M pooled feature maps.

    Outputs in `given` are used; the teachers compute the others.

    Args:
        teachers: the models, or what stands for them.
        inputs: the batch for the models.
        given: the teachers' outputs that came with the batch, by name.
        layers: the M layers that give feature maps.
        pooling: side of the squares that feature maps are averaged over, in pixels.

    Raises:
        ValueError: outputs of another number of teachers, or missing outputs when the teachers
            are not loaded.
    """
    logits, maps = given.get("teacher_logits"), given.get("teacher_features", ())
    if logits is not None:
        if logits.shape[1] != len(teachers):
            raise ValueError(
                f"batches bring logits of {logits.shape[1]} teachers, the distiller has "
                f"{len(teachers)}: fill the cache with the same teachers"
            )
        logits = tf.transpose(tf.cast(logits, tf.float32), [1, 0, 2])
    if logits is not None and (pooling is None or maps):
        return logits, maps
    if isinstance(teachers, CachedTeachers):
        raise ValueError(
            "batches bring no outputs of the teachers: train on "
            "data.training_pipeline(..., teacher_outputs=cache.read), with hints "
            "functools.partial(cache.read, hints=True), or give the teachers"
        )
    if pooling is None:
        return teachers.logits(inputs), ()
    computed, maps = teachers.logits_and_features(inputs, layers)
    return (
        computed if logits is None else logits,
        [pooled(features, pooling) for features in maps],
    )
