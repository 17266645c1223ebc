"""Losses of the user's own and of Keras as distillation losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import can_be_found_again

# Targets are probabilities or classes, teachers give raw outputs.
_OF_PROBABILITIES = (
    *("KLDivergence", "Poisson", "BinaryCrossentropy", "BinaryFocalCrossentropy"),
    *("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "SparseCategoricalCrossentropy"),
)


@keras.saving.register_keras_serializable("aekd_tf")
class OwnLoss(DistillationLoss):
    """A Keras loss, or a function of one teacher's and the student's raw outputs.

    Args:
        loss: a `keras.losses.Loss`, whose `call(teacher, student)` is used, or a function
            `(teacher_outputs, student_outputs) -> [B, ...]`. To save the distiller, a function
            must be registered with Keras.

    Raises:
        ValueError: a loss of Keras whose targets are probabilities or classes.
    """

    def __init__(self, loss: keras.losses.Loss | Callable[[Any, Any], Any]):
        kinds = [
            base.__name__ for base in type(loss).__mro__ if base.__module__.startswith("keras")
        ]
        if isinstance(loss, keras.losses.Loss) and kinds[0] in _OF_PROBABILITIES:
            raise refusal("keras_loss_of_probabilities", loss=type(loss).__name__)
        self.loss = loss

    @property
    def name(self) -> str:
        return getattr(self.loss, "__name__", None) or type(self.loss).__name__

    def call(self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor) -> tf.Tensor:
        function = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        return function(teacher_outputs, student_outputs)

    def get_config(self) -> dict[str, Any]:
        if not isinstance(self.loss, keras.losses.Loss) and not can_be_found_again(self.loss):
            raise refusal("loss_unsaveable", loss=self.name)
        return {"loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OwnLoss:
        return cls(keras.saving.deserialize_keras_object(config["loss"]))
