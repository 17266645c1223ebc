"""One step of a distiller, from top to bottom, in training and in validation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.cache.batches import CachedTeachers, split_batch, teacher_outputs
from aekd_tf.gradients import example_shares, per_position
from aekd_tf.keras_private import keras_mask, loss_tracker
from aekd_tf.outputs import of_output, output_key, picked
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals
from aekd_tf.teachers.finite import zero_unless_live
from aekd_tf.terms.base import StepBatch
from aekd_tf.terms.capture import with_features
from aekd_tf.terms.features import FeatureTerm
from aekd_tf.terms.heads import head_of
from aekd_tf.terms.outputs import OutputsTerm
from aekd_tf.terms.pooling import pooled
from aekd_tf.training.global_batch import GlobalBatch
from aekd_tf.training.replicas import batch_size, summed


class DistillationStep(GlobalBatch):
    """The steps of an `EnsembleDistiller`, which makes what they use."""

    gradient_space: str
    _output_name: Any
    _own_compute_loss = False
    _validating = False
    _evaluates_teachers = False

    @property
    def _outputs_term(self) -> OutputsTerm:
        """The distillation loss on outputs."""
        return self._terms.outputs

    @property
    def _feature_terms(self) -> tuple[FeatureTerm, ...]:
        """The hint losses."""
        return self._terms.features

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, given = split_batch(x)
        self._build_for(x)
        of_teachers = self._teacher_outputs(x, given)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        with tf.GradientTape(persistent=self.gradient_space == "parameters") as tape:
            y_pred, maps = self._student_outputs(x, training=True)
            student_loss = self._student_loss(x, y, y_pred, sample_weight, examples / count)
            batch = self._batch(of_teachers, y, y_pred, sample_weight, count, tape)
            losses = self._term_losses(batch, of_teachers, y_pred, maps)
            loss = self._settings.tensor("student_loss_weight") * student_loss
            loss += self._distillation_loss(losses) + self._regularization_share()
            scaled_loss = self.optimizer.scale_loss(loss)
        self._apply_summed(tape.gradient(scaled_loss, self.trainable_variables))
        self._track_mean(loss_tracker(self), loss, count)
        self._track_mean(self._student_loss_tracker, student_loss, count)
        self._track_terms(losses, count)
        return self._reduced_logs(self.compute_metrics(x, y, y_pred, sample_weight))

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
        y_pred, maps = self._student_outputs(x, training=False)
        batch = self._batch(of_teachers, y, y_pred, sample_weight, count, None)
        losses = self._term_losses(batch, of_teachers, y_pred, maps)
        if y is None:
            loss = self._distillation_loss(losses)
        else:
            loss = self._student_loss(x, y, y_pred, sample_weight, examples / count)
        self._track_mean(loss_tracker(self), loss + self._regularization_share(), count)
        self._track_terms(losses, count)
        logs = self._reduced_logs(self.compute_metrics(x, y, y_pred, sample_weight))
        unused = self._unused_in_evaluation()
        return {name: value for name, value in logs.items() if name not in unused}

    def _build_for(self, x: Any) -> None:
        """Makes the regressors for these inputs, unless they are there."""
        if any(not term.regressors.built for term in self._feature_terms):
            self.build(keras.tree.map_structure(lambda part: (None, *part.shape[1:]), x))

    def _teacher_outputs(self, x: Any, given: dict[str, Any]) -> list[tuple[Any, tf.Tensor]]:
        """Returns the outputs, and the maps of each hint, each with `live [M]`, bool."""
        terms = self._feature_terms
        outputs, maps = teacher_outputs(
            self.teachers,
            x,
            given,
            [term.layers.teachers for term in terms],
            [term.hints.pooling for term in terms],
        )
        return zero_unless_live([tf.unstack(outputs), *maps])

    def _student_outputs(self, x: Any, training: bool) -> tuple[Any, list[tf.Tensor]]:
        """Returns what the student gives, and its feature map per hint."""
        terms = self._feature_terms
        if not terms:
            return self(x, training=training), []
        layers = [term.layers.student for term in terms]
        y_pred, features = with_features(self, layers, x, training=training)
        return y_pred, [
            pooled(part, term.hints.pooling) for part, term in zip(features, terms, strict=True)
        ]

    def _distilled(self, y_pred: Any) -> Any:
        """Returns the output of the student that is distilled, and its key among the others."""
        key = output_key("student", self.student, y_pred, self._output_name)
        return picked(y_pred, key), key

    def _batch(
        self,
        of_teachers: list[tuple[Any, tf.Tensor]],
        y: Any,
        y_pred: Any,
        sample_weight: Any,
        count: tf.Tensor,
        tape: tf.GradientTape | None,
    ) -> StepBatch:
        """Returns what weightings and losses may read."""
        outputs, key = self._distilled(y_pred)
        labels, weight = (of_output(part, key, self.student) for part in (y, sample_weight))
        weight = None if weight is None else tf.convert_to_tensor(weight)
        labels = _squeezed(labels)
        mask = keras_mask(outputs)
        if mask is None and weight is not None and per_position(weight, outputs):
            mask = weight
        shares = example_shares(outputs, weight, count)
        signals = Signals(
            live=of_teachers[0][1],
            teacher_outputs=tf.stop_gradient(tf.stack(of_teachers[0][0])),
            student_outputs=tf.stop_gradient(tf.cast(outputs, tf.float32)),
            labels=labels,
            sample_weight=weight,
            temperature=self._settings.tensor("temperature"),
            step=self._steps(),
            head=head_of(
                self._outputs_term.loss,
                labels if hasattr(labels, "dtype") else None,
                outputs.shape[-1] or 1,
            ),
            _mean_weight=shares * count,
            _mask=mask,
        )
        return StepBatch(signals, mask, shares, count, tape)

    def _term_losses(
        self,
        batch: StepBatch,
        of_teachers: list[tuple[Any, tf.Tensor]],
        y_pred: Any,
        maps: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns the weighted loss of each term, on outputs first, this replica's parts."""
        (_, live), *of_hints = of_teachers
        outputs, _ = self._distilled(y_pred)
        check_shapes(self.student.name, outputs, batch.signals.teacher_outputs)
        loss, weights = self._outputs_term.weighted_loss(
            batch, live, batch.signals.teacher_outputs, outputs, self.student.trainable_variables
        )
        return [
            loss,
            *(
                term.weighted_loss(batch, live, targets, student_map, weights)
                for term, (targets, live), student_map in zip(
                    self._feature_terms, of_hints, maps, strict=True
                )
            ),
        ]

    def _distillation_loss(self, losses: list[tf.Tensor]) -> tf.Tensor:
        """Returns Eq. 7 without the student's own term."""
        total = self._settings.tensor("kd_weight") * losses[0]
        for term, loss in zip(self._feature_terms, losses[1:], strict=True):
            scale = self._settings.tensor(term.factor) * tf.convert_to_tensor(term.start)
            total += scale * loss
        return total

    def _student_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any, share: tf.Tensor
    ) -> tf.Tensor:
        """Returns this replica's part of what `compute_loss` gives, without regularization."""
        if not self._own_compute_loss:
            return self._compiled_share(y, y_pred, sample_weight, share)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        return self._as_share(loss - self._regularization_share(), share)

    def _track_terms(self, losses: list[tf.Tensor], count: tf.Tensor) -> None:
        for term, loss in zip([self._outputs_term, *self._feature_terms], losses, strict=True):
            self._track_mean(term.loss_tracker, loss, count)

    def _unused_in_evaluation(self) -> set[str]:
        terms = [self._outputs_term, *self._feature_terms]
        names = {"student_loss", *(name for t in terms for name in t.weights_tracker.result())}
        if not self._evaluates_teachers:
            names |= {term.loss_tracker.name for term in terms}
        return names


def check_shapes(student: str, outputs: tf.Tensor, teacher_outputs: tf.Tensor) -> None:
    """Raises ValueError unless `outputs [B, ..., K]` fit `teacher_outputs [M, B, ..., K]`."""
    shape, teachers = outputs.shape, teacher_outputs.shape[1:]
    if (
        shape.rank < 2
        or shape.rank != teachers.rank
        or not shape[1:].is_compatible_with(teachers[1:])
    ):
        raise refusal(
            "shapes_differ", name=student, shape=str(tuple(shape)), teachers=str(tuple(teachers))
        )


def _squeezed(labels: Any) -> Any:
    """Returns integer labels `[B, 1]` as `[B]`."""
    if labels is None or isinstance(labels, dict):
        return labels
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_integer and labels.shape.rank == 2 and labels.shape[-1] == 1:
        return labels[:, 0]
    return labels
