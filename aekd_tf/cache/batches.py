"""Gets the teachers' outputs for a training step, from the batch or from the teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.refusals import refusal
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.terms.pooling import pooled


@dataclasses.dataclass(frozen=True, repr=False)
class CachedTeachers:
    """Stands for teachers that are not loaded, because every batch brings their cached outputs.

    Attributes:
        count: M.
        feature_shapes: shapes of the M feature maps without the batch axis, of several hints
            one after the other; None if batches bring none.
        temperature: the only temperature at which the cached logits are right, as a top-k
            cache's are; None for any.
        specialists: whether a teacher does not know some of the classes.

    Raises:
        ValueError: a count below 1, or another number of shapes.

    Example::

        import keras
        import numpy as np
        from aekd_tf import CachedTeachers, EnsembleDistiller

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(20, 4), np.random.randint(0, 3, 20)
        distiller = EnsembleDistiller(network(), CachedTeachers(2), weighting="average")
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        batches = {"inputs": x, "teacher_logits": np.random.rand(20, 2, 3)}
        history = distiller.fit(batches, y, verbose=0).history
        print(history["teacher_weight_0"])  # [0.5]
    """

    count: int
    feature_shapes: Sequence[Sequence[int]] | None = None
    temperature: float | None = None
    specialists: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"an ensemble requires at least one teacher, got {self.count}")
        shapes = self.feature_shapes
        if shapes is not None and (not shapes or len(shapes) % self.count):
            raise ValueError(
                f"{len(shapes)} feature shapes for {self.count} teachers: give one per teacher"
            )

    def __len__(self) -> int:
        return self.count

    __repr__ = repr_of


def repeats_within(batches: tf.data.Dataset, epochs: int, steps: int) -> tf.data.Dataset:
    """Notes on a data set that it holds so many epochs of so many steps, no two of them alike."""
    batches.aekd_epochs = epochs, steps
    return batches


def check_epochs(batches: Any, given: dict[str, Any]) -> None:
    """Refuses a `fit`, by its arguments, that would begin such a data set anew."""
    held, per_epoch = getattr(batches, "aekd_epochs", (None, 0))
    epochs, steps = given.get("epochs", 1), given.get("steps_per_epoch")
    left = epochs - given.get("initial_epoch", 0)
    if held is not None and left > 1 and (steps is None or left * steps > held * per_epoch):
        raise refusal("epochs_begin_anew", held=held, epochs=epochs)


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
    layers: Sequence[Sequence[keras.layers.Layer]],
    pooling: Sequence[int],
) -> tuple[tf.Tensor, Sequence[Sequence[tf.Tensor]]]:
    """Returns outputs `[M, B, ..., K]` and, per hint, M pooled feature maps.

    Outputs in `given` are used; the teachers compute the others.

    Args:
        teachers: the models, or what stands for them.
        inputs: the batch for the models.
        given: the teachers' outputs that came with the batch, by name.
        layers: per hint, the M layers that give feature maps.
        pooling: per hint, the side of the squares that maps are averaged over, in pixels.

    Raises:
        ValueError: outputs of another number of teachers, or missing outputs when the teachers
            are not loaded.
    """
    logits, maps = given.get("teacher_logits"), given.get("teacher_features", ())
    # Of several hints one after the other.
    maps = [maps[start : start + len(teachers)] for start in range(0, len(maps), len(teachers))]
    if logits is not None:
        if logits.shape[1] != len(teachers):
            raise ValueError(
                f"batches bring logits of {logits.shape[1]} teachers, the distiller has "
                f"{len(teachers)}: fill the cache with the same teachers"
            )
        axes = [1, 0, *range(2, logits.shape.rank)]
        logits = tf.transpose(tf.cast(logits, tf.float32), axes)
    if logits is not None and len(maps) >= len(pooling):
        return logits, maps[: len(pooling)]
    if isinstance(teachers, CachedTeachers):
        raise ValueError(
            "batches bring no outputs of the teachers: train on cache.dataset(...) of a cache "
            "with these hints, or give the teachers"
        )
    if not pooling:
        return teachers.logits(inputs), ()
    computed, computed_maps = teachers.logits_and_features(inputs, layers)
    return computed if logits is None else logits, [
        [pooled(features, side) for features in each]
        for each, side in zip(computed_maps, pooling, strict=True)
    ]
