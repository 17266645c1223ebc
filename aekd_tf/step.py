"""One step of a distiller, from top to bottom, in training and in validation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.cache.batches import CachedTeachers, split_batch, teacher_outputs
from aekd_tf.gradients import example_shares, gram_matrix, parameter_gram, teacher_gradients
from aekd_tf.keras_private import loss_tracker
from aekd_tf.losses.averaged_outputs import averaged_outputs_loss
from aekd_tf.losses.kl import check_classes, distillation_loss
from aekd_tf.losses.weighted import weighted_loss
from aekd_tf.teachers.finite import zero_unless_live
from aekd_tf.terms.capture import with_features
from aekd_tf.terms.hints import pooled
from aekd_tf.training.global_batch import GlobalBatch
from aekd_tf.training.replicas import batch_size, summed
from aekd_tf.weightings.base import uniform_among


class DistillationStep(GlobalBatch):
    """The steps of an `EnsembleDistiller`, which makes what they use."""

    _own_compute_loss = False
    _validating = False
    _evaluates_teachers = False

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, given = split_batch(x)
        self._build_for(x)
        of_teachers = self._teacher_outputs(x, given)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        with tf.GradientTape(persistent=self.gradient_space == "parameters") as tape:
            logits, student_map = self._student_outputs(x, training=True)
            student_loss = self._student_loss(x, y, logits, sample_weight, examples / count)
            example_weight = example_shares(logits, sample_weight, count)
            kd_loss, hint_loss = self._distillation_losses(
                of_teachers, logits, student_map, example_weight, count, tape
            )
            loss = self._settings.tensor("student_loss_weight") * student_loss
            loss += self._distillation_loss(kd_loss, hint_loss) + self._regularization_share()
            scaled_loss = self.optimizer.scale_loss(loss)
        self._apply_summed(tape.gradient(scaled_loss, self.trainable_variables))
        self._track_mean(loss_tracker(self), loss, count)
        self._track_mean(self._student_loss_tracker, student_loss, count)
        self._track_distillation(kd_loss, hint_loss, count)
        return self._reduced_logs(self.compute_metrics(x, y, logits, sample_weight))

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, given = split_batch(x)
        there = "teacher_logits" in given or not isinstance(self._ensemble, CachedTeachers)
        self._evaluates_teachers = there and (y is None or self._validating)
        if y is not None and not self._evaluates_teachers:
            return super().test_step((x, y, sample_weight))
        of_teachers = self._teacher_outputs(x, given)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        logits, student_map = self._student_outputs(x, training=False)
        example_weight = example_shares(logits, sample_weight, count)
        kd_loss, hint_loss = self._distillation_losses(
            of_teachers, logits, student_map, example_weight, count
        )
        if y is None:
            loss = self._distillation_loss(kd_loss, hint_loss)
        else:
            loss = self._student_loss(x, y, logits, sample_weight, examples / count)
        self._track_mean(loss_tracker(self), loss + self._regularization_share(), count)
        self._track_distillation(kd_loss, hint_loss, count)
        logs = self._reduced_logs(self.compute_metrics(x, y, logits, sample_weight))
        unused = self._unused_in_evaluation()
        return {name: value for name, value in logs.items() if name not in unused}

    def _build_for(self, x: Any) -> None:
        """Makes the regressors for these inputs, unless they are there."""
        if self.hints is not None and not self.regressors.built:
            self.build(keras.tree.map_structure(lambda part: (None, *part.shape[1:]), x))

    def _teacher_outputs(self, x: Any, given: dict[str, Any]) -> list[tuple[Any, tf.Tensor]]:
        """Returns the logits and, with hints, the maps, each with `live [M]`, bool."""
        layers, pooling = (
            (self._hint_layers.teachers, self.hints.pooling) if self.hints else ((), None)
        )
        logits, maps = teacher_outputs(self.teachers, x, given, layers, pooling)
        return zero_unless_live([tf.unstack(logits), *([maps] if self.hints else [])])

    def _student_outputs(self, x: Any, training: bool) -> tuple[tf.Tensor, Any]:
        if self.hints is None:
            return self(x, training=training), None
        logits, features = with_features(self, self._hint_layers.student, x, training=training)
        return logits, pooled(features, self.hints.pooling)

    def _distillation_losses(
        self,
        of_teachers: list[tuple[Any, tf.Tensor]],
        logits: tf.Tensor,
        student_map: Any,
        example_weight: tf.Tensor,
        count: tf.Tensor,
        tape: tf.GradientTape | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the weighted losses on logits and on maps; `tape` is there while training."""
        (teacher_logits, live), *of_hints = of_teachers
        teacher_logits = tf.stack(teacher_logits)
        check_classes(self.student.name, logits, teacher_logits)
        temperature = self._settings.tensor("temperature")
        losses = distillation_loss(teacher_logits, logits, temperature)
        losses = tf.reduce_sum(example_weight * losses, -1)
        if self.gradient_space == "parameters" and tape is not None:
            gram = parameter_gram(tape, losses, self.student.trainable_variables)
        else:
            gram = self._logit_gram(teacher_logits, logits, example_weight, temperature)
        tracker = self._weights_tracker if tape is not None else None
        kd_loss = weighted_loss(losses, gram, live, self.weighting, tracker)
        if self.weighting.average == "outputs":
            outputs_loss = averaged_outputs_loss(
                teacher_logits, logits, temperature, uniform_among(live)
            )
            kd_loss = tf.reduce_sum(example_weight * outputs_loss)
        hint_loss = None
        for maps, maps_live in of_hints:
            training = tape is not None
            losses, gradients = self.regressors.losses_and_gradients(
                student_map, maps, example_weight, count, training
            )
            gram = gram_matrix(gradients, self.hint_weighting.batch_gradient)
            tracker = self._hint_weights_tracker if training else None
            hint_loss = weighted_loss(losses, gram, maps_live, self.hint_weighting, tracker)
        return kd_loss, hint_loss

    def _logit_gram(
        self,
        teacher_logits: tf.Tensor,
        logits: tf.Tensor,
        example_weight: tf.Tensor,
        temperature: Any,
    ) -> tf.Tensor:
        """Returns the Gram matrix of the gradients w.r.t. the student's logits (Eq. 15)."""
        _, gradients = teacher_gradients(
            lambda student: distillation_loss(teacher_logits, student, temperature),
            logits,
            len(self._ensemble),
            example_weight,
        )
        return gram_matrix(gradients, self.weighting.batch_gradient)

    def _distillation_loss(self, kd_loss: tf.Tensor, hint_loss: tf.Tensor | None) -> tf.Tensor:
        """Returns Eq. 7 without the student's own term."""
        loss = self._settings.tensor("kd_weight") * kd_loss
        if hint_loss is not None:
            scale = self._settings.tensor("hint_weight") * tf.convert_to_tensor(self._hint_scale)
            loss += scale * hint_loss
        return loss

    def _student_loss(
        self, x: Any, y: Any, logits: tf.Tensor, sample_weight: Any, share: tf.Tensor
    ) -> tf.Tensor:
        """Returns this replica's part of what `compute_loss` gives, without regularization."""
        if not self._own_compute_loss:
            return self._compiled_share(y, logits, sample_weight, share)
        loss = self.compute_loss(x, y, logits, sample_weight, training=True)
        return self._as_share(loss - self._regularization_share(), share)

    def _track_distillation(
        self, kd_loss: tf.Tensor, hint_loss: tf.Tensor | None, count: tf.Tensor
    ) -> None:
        self._track_mean(self._kd_loss_tracker, kd_loss, count)
        if hint_loss is not None:
            self._track_mean(self._hint_loss_tracker, hint_loss, count)

    def _unused_in_evaluation(self) -> set[str]:
        names = {"student_loss", *self._weights_tracker.result()}
        if not self._evaluates_teachers:
            names |= {"kd_loss", "hint_loss"}
        return names | set(self._hint_weights_tracker.result() if self.hints is not None else ())
