"""Hints: teachers' feature maps as targets for the student's, through one regressor a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.keras_private import flatten_layers


@keras.saving.register_keras_serializable("aekd_tf")
class Hints:
    """Which feature maps are compared, and from when on.

    Args:
        student: name of the student's layer, e.g. `"stage2"`, wherever it is nested.
        teachers: name of the teachers' layer, or a list with one name a teacher; by default
            the same as the student's.
        first_epoch: epochs before it (counted from 1) train without the hint term; the
            authors' code starts with epoch 2. It takes effect in `fit`.
        pooling: height and width of the squares that both maps are averaged over before they
            are compared, which makes cached maps so much smaller; 1 for the maps as they are.

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
        """The layer's name of each teacher; ValueError unless there are as many as teachers."""
        if isinstance(self.teachers, str):
            return [self.teachers] * num_teachers
        if len(self.teachers) != num_teachers:
            raise ValueError(
                f"hints name {len(self.teachers)} teachers' layers for {num_teachers} teachers: "
                "give one name for all, or one each"
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
    """Layers of others, which Keras must not track as the distiller's own."""

    student: keras.layers.Layer
    teachers: list[keras.layers.Layer]


def pooled(features: tf.Tensor, pooling: int) -> tf.Tensor:
    """`features [B, h, w, c]` averaged over squares of `pooling` pixels."""
    return tf.nn.avg_pool2d(features, pooling, pooling, "VALID") if pooling > 1 else features


def pooled_shape(shape: Sequence[Any], pooling: int) -> tuple[Any, ...]:
    """The shape that `pooled` gives; ValueError where the map is smaller than a square."""
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
    """Eq. 5, `1/2 || f_t - r(f_s) ||^2`, divided by the number of entries of the map.

    So beta means the same whatever the map's size; it is half the mean squared error of the
    authors' code.

    Args:
        teacher_features: `[B, ...]`, any float dtype.
        regressed: of the same shape.

    Returns:
        `[B]` float32, one value an example.
    """
    difference = tf.cast(teacher_features, tf.float32) - tf.cast(regressed, tf.float32)
    return tf.reduce_mean(tf.square(difference), list(range(1, difference.shape.rank))) / 2


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer of that name in `model`, nested models included.

    Raises:
        ValueError: no layer or several of that name; the message lists the names there are.
    """
    layers = [layer for layer in flatten_layers(model) if layer is not model]
    found = [layer for layer in layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{model.name} has {len(found)} layers {name!r}: a hint needs one")
    kinds = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.BatchNormalization)
    names = [layer.name for layer in layers if not isinstance(layer, kinds)]
    shown = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    raise ValueError(f"{model.name} has no layer {name!r}; its layers are {shown}")
