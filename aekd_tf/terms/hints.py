"""Hints: teachers' feature maps as targets for the student's, with one regressor per teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.keras_private import flatten_layers


@keras.saving.register_keras_serializable("aekd_tf")
class Hints:
    """The feature maps that are compared, and the first epoch that compares them.

    Args:
        student: name of the student's layer, e.g. `"stage2"`; it may be nested.
        teachers: name of the teachers' layer, or a list with one name per teacher; by default
            the same as the student's.
        first_epoch: first epoch with the hint term, counted from 1; the authors' code starts
            with epoch 2. It takes effect in `fit`.
        pooling: side of the squares, in pixels, that both maps are averaged over before the
            comparison. Cached maps shrink by its square. 1 leaves the maps as they are.

    Raises:
        ValueError: an empty name, `first_epoch` or `pooling` below 1.
    """

    def __init__(
        self,
        student: str = "stage2",
        teachers: str | Sequence[str] | None = None,
        first_epoch: int = 1,
        pooling: int = 1,
    ):
        teachers = student if teachers is None else teachers
        teachers = teachers if isinstance(teachers, str) else list(teachers)
        names = [student, *([teachers] if isinstance(teachers, str) else teachers)]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"hint layers are {names}: give layers' names, such as 'stage2'")
        if first_epoch < 1:
            raise ValueError(f"first_epoch is {first_epoch}: epochs are counted from 1")
        if pooling < 1:
            raise ValueError(f"pooling is {pooling}: give 1 for none, or more pixels")
        self.student, self.teachers, self.first_epoch = student, teachers, int(first_epoch)
        self.pooling = int(pooling)

    def teacher_layers(self, num_teachers: int) -> list[str]:
        """Returns one layer name per teacher; ValueError if their number differs."""
        if isinstance(self.teachers, str):
            return [self.teachers] * num_teachers
        if len(self.teachers) != num_teachers:
            raise ValueError(
                f"hints name {len(self.teachers)} teachers' layers for {num_teachers} teachers: "
                "give one name for all, or one per teacher"
            )
        return self.teachers

    def get_config(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "teachers": self.teachers,
            "first_epoch": self.first_epoch,
            "pooling": self.pooling,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Hints:
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class HintLayers:
    """Layers of student and teachers, which Keras must not track as the distiller's own."""

    student: keras.layers.Layer
    teachers: list[keras.layers.Layer]


def pooled(features: tf.Tensor, pooling: int) -> tf.Tensor:
    """Averages `features [B, h, w, c]` over squares of `pooling` by `pooling` pixels."""
    return tf.nn.avg_pool2d(features, pooling, pooling, "VALID") if pooling > 1 else features


def pooled_shape(shape: Sequence[Any], pooling: int) -> tuple[Any, ...]:
    """Returns the shape that `pooled` gives; ValueError if the map is smaller than a square."""
    shape = tuple(shape)
    if pooling == 1:
        return shape
    if len(shape) != 4 or None in shape[1:] or min(shape[1:3]) < pooling:
        raise ValueError(f"feature map {shape[1:]} cannot be pooled by {pooling}: pool by less")
    return shape[0], shape[1] // pooling, shape[2] // pooling, shape[3]


class HintStart(keras.callbacks.Callback):
    """Switches the hint term on at its first epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model._hint_scale.assign(float(epoch + 1 >= self.model.hints.first_epoch))

    def on_train_end(self, logs: Any = None) -> None:
        self.model._hint_scale.assign(1.0)


def hint_loss(teacher_features: tf.Tensor, regressed: tf.Tensor) -> tf.Tensor:
    """Computes Eq. 5, `1/2 || f_t - r(f_s) ||^2`, divided by the number of entries of the map.

    The division makes beta independent of the map's size. The loss is half the mean squared
    error of the authors' code.

    Args:
        teacher_features: `[B, ...]`, any float dtype.
        regressed: the regressor's output, same shape.

    Returns:
        `[B]` float32, one value per example.
    """
    difference = tf.cast(teacher_features, tf.float32) - tf.cast(regressed, tf.float32)
    return tf.reduce_mean(tf.square(difference), list(range(1, difference.shape.rank))) / 2


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """Returns the layer of that name in `model`, nested models included.

    Raises:
        ValueError: no layer or several of that name; the message lists the names.
    """
    layers = [layer for layer in flatten_layers(model) if layer is not model]
    matches = [layer for layer in layers if layer.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{model.name} has {len(matches)} layers {name!r}: a hint requires one")
    unlisted = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.BatchNormalization)
    names = [layer.name for layer in layers if not isinstance(layer, unlisted)]
    shown = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    raise ValueError(f"{model.name} has no layer {name!r}; its layers are {shown}")
