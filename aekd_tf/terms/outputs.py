"""The term on outputs: every teacher's distillation loss and its gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aekd_tf.gradients import parameter_gram, teacher_gradients
from aekd_tf.losses.base import DistillationLoss
from aekd_tf.outputs import UNKNOWN
from aekd_tf.refusals import refusal
from aekd_tf.terms.base import StepBatch, Term
from aekd_tf.weightings.base import Weighting


class OutputsTerm(Term):
    """The distillation loss between the student's outputs and the teachers' (Eq. 1, 13-15).

    Args:
        loss: compares the outputs.
        weighting: weights the teachers.
        num_teachers: M.
        gradient_space: `"logits"` or `"parameters"`.
        specialists: whether a teacher may mark classes that it does not know.
    """

    factor = "kd_weight"

    def __init__(
        self,
        loss: DistillationLoss,
        weighting: Weighting,
        num_teachers: int,
        gradient_space: str,
        specialists: bool,
    ):
        super().__init__(weighting, num_teachers, "", "kd")
        self.loss, self.gradient_space, self.specialists = loss, gradient_space, specialists

    def weighted_loss(
        self,
        batch: StepBatch,
        live: tf.Tensor,
        teacher_outputs: tf.Tensor,
        student_outputs: tf.Tensor,
        parameters: Any,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns this replica's part of the weighted loss, and the teachers' weights.

        Args:
            batch: what the step knows.
            live: `[M]` bool.
            teacher_outputs: `[M, B, ..., K]` float32.
            student_outputs: `[B, ..., K]`.
            parameters: the student's trainable variables, for `gradient_space="parameters"`.
        """
        signals = batch.signals

        def losses_of(student: tf.Tensor) -> tf.Tensor:
            if self.specialists:  # both softmaxes over the classes that the teacher knows
                student = tf.where(teacher_outputs > UNKNOWN / 2, student, teacher_outputs)
            return self.loss.per_teacher(
                teacher_outputs, student, signals.temperature, signals.labels, batch.mask
            )

        losses, gradients = teacher_gradients(
            losses_of,
            student_outputs,
            self.num_teachers,
            batch.gradient_weight(self.weighting),
            batch.tape,
        )
        if gradients is None:
            raise refusal("loss_without_gradient", loss=self.loss.name)
        if self.gradient_space == "parameters" and batch.tape is not None:
            gram, each = parameter_gram(batch.tape, batch.total(losses), parameters), None
        else:
            gram, each = batch.grams(gradients, self.weighting)
        weights = self.weights(batch, live, losses, gram, each)
        combined = self.loss.combined(
            weights,
            losses,
            teacher_outputs,
            tf.cast(student_outputs, tf.float32),
            signals.temperature,
            batch.mask,
        )
        return batch.total(combined), weights
