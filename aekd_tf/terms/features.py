"""The term on feature maps (hints): where the maps come from, and their loss (Eq. 5, 16)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.losses.base import DistillationLoss
from aekd_tf.terms.base import StepBatch, Term
from aekd_tf.terms.capture import feature_shape
from aekd_tf.terms.hints import Hints, attention_loss, find_layer, hint_loss
from aekd_tf.terms.pooling import pooled_shape
from aekd_tf.terms.regressors import HintRegressors
from aekd_tf.weightings.base import Weighting


@dataclasses.dataclass(frozen=True)
class HintLayers:
    """Layers of student and teachers, which Keras must not track as the distiller's own."""

    student: keras.layers.Layer
    teachers: list[keras.layers.Layer]

    @classmethod
    def of(cls, hints: Hints, student: keras.Model, teachers: Sequence[Any], count: int) -> Any:
        """Finds the layers that `hints` names; without teachers, the student's alone.

        Raises:
            ValueError: a name that a model does not have exactly once.
        """
        names = hints.teacher_layers(count)
        found = [find_layer(*pair) for pair in zip(teachers, names, strict=False)]
        return cls(find_layer(student, hints.student), found)


class FeatureTerm(Term):
    """The hint loss between the student's feature map and the teachers' (Eq. 5, 16).

    Args:
        hints: which maps are compared, and how.
        weighting: weights the teachers; None takes the weights of the outputs' term.
        num_teachers: M.
        layers: the layers that give the maps.
        regressors: bring the student's map to the teachers'.
        start: 1.0 once the first epoch with the term has begun, else 0.
        number: tells this hint from others in names, such as `"_0"`; empty for the only one.
    """

    def __init__(
        self,
        hints: Hints,
        weighting: Weighting | None,
        num_teachers: int,
        layers: HintLayers,
        regressors: HintRegressors,
        start: keras.Variable,
        number: str = "",
    ):
        super().__init__(weighting, num_teachers, f"hint{number}_", f"hint{number}")
        self.hints, self.layers, self.regressors = hints, layers, regressors
        self.start, self.factor = start, f"hint_weight{number}"

    def build(
        self, student: keras.Model, teachers: Sequence[Any], cached: Any, input_shape: Any
    ) -> None:
        """Builds the regressors for inputs of that shape; `cached` are shapes of cached maps."""
        pooling = self.hints.pooling
        shape = feature_shape(student, self.layers.student, input_shape)
        shapes = cached or [
            pooled_shape(feature_shape(teacher, layer, input_shape), pooling)
            for teacher, layer in zip(teachers, self.layers.teachers, strict=True)
        ]
        if self.hints.regressed:
            self.regressors.build_for(pooled_shape(shape, pooling), shapes, self.hints.activation)
        else:
            check_attention(pooled_shape(shape, pooling), shapes)
            self.regressors.built = True

    def weighted_loss(
        self,
        batch: StepBatch,
        live: tf.Tensor,
        maps: Sequence[tf.Tensor],
        student_map: tf.Tensor,
        of_outputs: tf.Tensor,
    ) -> tf.Tensor:
        """Returns this replica's part of the weighted loss.

        Args:
            batch: what the step knows.
            live: `[M]` bool.
            maps: M maps of the teachers, batch axis first.
            student_map: `[B, ..., c]`.
            of_outputs: weights of the outputs' term.
        """
        losses, gradients = self.regressors.losses_and_gradients(
            student_map,
            maps,
            batch.gradient_weight(self.weighting),
            batch.count,
            batch.training,
            self._loss,
        )
        weights = self.weights(
            batch, live, losses, *batch.grams(gradients, self.weighting), of_outputs
        )
        if weights.shape.rank == 1:
            return batch.total(tf.tensordot(weights, losses, 1))
        return batch.total(tf.reduce_sum(weights * losses, 0))

    def _loss(self, teacher_map: tf.Tensor, student_map: tf.Tensor) -> tf.Tensor:
        loss = self.hints.loss
        if isinstance(loss, DistillationLoss):
            teacher, student = (tf.cast(part, tf.float32) for part in (teacher_map, student_map))
            return loss.per_teacher(teacher[None], student[None], 1.0)[0]
        return (attention_loss if loss == "attention" else hint_loss)(teacher_map, student_map)


def check_attention(student: Sequence[Any], teachers: Sequence[Any]) -> None:
    """Raises ValueError unless all maps have positions, and in the same number of axes."""
    for teacher in teachers:
        if len(teacher) != len(student) or len(student) not in (3, 4) or None in teacher[1:]:
            raise ValueError(
                f"attention compares maps with positions, got {tuple(student[1:])} of the student "
                f"and {tuple(teacher[1:])} of a teacher: choose layers that give "
                "[height, width, channels] or [steps, channels]"
            )
