"""EnsembleDistiller: a keras.Model that learns from several frozen teachers at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf import weighting as weightings
from aekd_tf.checks import check_number
from aekd_tf.ensemble import TeacherEnsemble
from aekd_tf.gradients import gradient_conflict, gram_matrix, teacher_gradients
from aekd_tf.losses import distillation_loss


@keras.saving.register_keras_serializable("aekd_tf")
class EnsembleDistiller(keras.Model):
    r"""Distils M frozen teachers into one student, weighting the teachers anew every step.

    The training loss is Eq. 7 of the paper,

        student_loss_weight * compiled loss + kd_weight * sum_m w_m kd_m + regularisation

    where `kd_m` is the softened KL divergence from teacher m (`distillation_loss`) and the
    weights `w` solve a small quadratic programme over the teachers' gradients w.r.t. the
    student's logits (Eq. 13-15). One step makes one forward pass of each teacher, one
    forward and one backward pass of the student: the per-teacher gradients stop at the
    student's logits.

    It is an ordinary Keras model: `compile(optimizer, loss, metrics)` with a loss *from
    logits*, then `fit`. `evaluate` and `predict` are the student's own, without teachers.
    Teachers are never trained nor updated. `save_weights`, and so `BackupAndRestore` and
    `ModelCheckpoint(save_weights_only=True)`, hold the student alone; `save` also stores
    the teachers, so that a loaded distiller trains on (`load_model` knows the class once
    `EnsembleDistiller` is imported). Deliver `distiller.student`.

    `sample_weight` and `class_weight` scale an example's part in the distillation loss and
    in the teachers' gradients just as in the compiled loss.

    Args:
        student: Keras model from inputs to logits `[B, K]`.
        teachers: a `TeacherEnsemble`, or Keras models from the same inputs to logits.
        weighting: `"aekd"`, `"average"`, or a `Weighting`, e.g.
            `AdaptiveWeighting(tolerance=0.3)`.
        temperature: T > 0 of the softened outputs.
        student_loss_weight: weight of the compiled loss, at least 0.
        kd_weight: the paper's lambda, at least 0.
        **kwargs: `name` and the like, for `keras.Model`. The dtype policy is the student's.

    Training logs, besides the compiled metrics: `loss`, `student_loss`, `kd_loss`,
    `teacher_weight_0` to `teacher_weight_{M-1}`, `effective_teachers` (1 / sum w^2, from 1
    to M), `qp_gap` (certified, relative), `gradient_conflict` (share of teacher pairs with
    a negative cosine).

    Raises:
        ValueError: a temperature or a weight out of range or NaN, a tolerance below 1/M, no
            teacher, `jit_compile=True` with a solver that leaves the graph.

    Example:

        distiller = EnsembleDistiller(student, teachers, weighting="aekd")
        distiller.compile(
            optimizer="sgd",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        distiller.fit(images, labels, epochs=10)
        distiller.student.save("student.keras")

    Reference:
        Du et al., "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient
        Space", NeurIPS 2020.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: TeacherEnsemble | Sequence[keras.Model],
        *,
        weighting: str | weightings.Weighting = "aekd",
        temperature: float = 4.0,
        student_loss_weight: float = 1.0,
        kd_weight: float = 0.9,
        **kwargs: Any,
    ):
        # A float32 wrapper around a float16 student would get no loss scaling.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # inputs reach the student as they would without the wrapper
        ensemble = teachers if isinstance(teachers, TeacherEnsemble) else TeacherEnsemble(teachers)
        if any(teacher is student for teacher in ensemble):
            raise ValueError("the student is one of its own teachers: give it separate weights")
        self.student = student
        self.weighting = weightings.get(weighting)
        self.weighting.validate(len(ensemble))
        self.temperature = check_number("temperature", temperature, above_zero=True)
        self.student_loss_weight = check_number("student_loss_weight", student_loss_weight)
        self.kd_weight = check_number("kd_weight", kd_weight)
        layers = [layer for teacher in ensemble for layer in teacher._flatten_layers()]
        self.supports_jit = not self.weighting.leaves_graph and all(
            layer.supports_jit for layer in layers
        )
        self._ensemble = ensemble  # no Keras object: neither tracked, trained nor saved
        self._student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self._kd_loss_tracker = keras.metrics.Mean(name="kd_loss")
        self._weights_tracker = _TeacherWeightsMetric(len(ensemble))

    @property
    def teachers(self) -> TeacherEnsemble:
        """The frozen teachers."""
        return self._ensemble

    @property
    def jit_compile(self) -> bool:
        return keras.Model.jit_compile.fget(self)

    @jit_compile.setter
    def jit_compile(self, value: bool) -> None:
        if value and self.weighting.leaves_graph:
            raise ValueError(
                f"jit_compile=True cannot compile {self.weighting.description}, which leaves the "
                "graph for Python: use solver='smo' or jit_compile=False"
            )
        keras.Model.jit_compile.fset(self, value)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's logits."""
        return self.student(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The student's own loss, compiled plus regularisation; what `evaluate` reports."""
        return self._compiled_loss(y, y_pred, sample_weight) + self._regularisation()

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "EnsembleDistiller trains on one replica: the strategy in scope has "
                f"{self.distribute_strategy.num_replicas_in_sync}; build and fit it outside"
            )
        teacher_logits = self.teachers.logits(x)
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            self._check_classes(logits, teacher_logits)
            student_loss = self._compiled_loss(y, logits, sample_weight)
            example_weight = _example_weight(logits, sample_weight)
            weights, gap, conflict = self._weigh_teachers(teacher_logits, logits, example_weight)
            losses = distillation_loss(teacher_logits, logits, self.temperature)
            kd_loss = tf.tensordot(weights, tf.reduce_sum(example_weight * losses, -1), 1)
            loss = self.student_loss_weight * student_loss + self.kd_weight * kd_loss
            loss += self._regularisation()
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)

        batch_size = tf.shape(logits)[0]
        self._loss_tracker.update_state(loss, sample_weight=batch_size)
        self._student_loss_tracker.update_state(student_loss, sample_weight=batch_size)
        self._kd_loss_tracker.update_state(kd_loss, sample_weight=batch_size)
        self._weights_tracker.update_state(weights, gap, conflict)
        return self.compute_metrics(x, y, logits, sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        logs = super().test_step(data)
        untouched = {"student_loss", "kd_loss", *self._weights_tracker.names}
        return {name: value for name, value in logs.items() if name not in untouched}

    def _weigh_teachers(
        self, teacher_logits: tf.Tensor, logits: tf.Tensor, example_weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`(weights [M], qp gap [], gradient conflict [])`."""
        _, gradients = teacher_gradients(
            lambda student: distillation_loss(teacher_logits, student, self.temperature),
            logits,
            len(self.teachers),
            example_weight,
        )
        gram = gram_matrix(gradients, self.weighting.batch_gradient)
        weights, gap = self.weighting(gram)
        return tf.stop_gradient(weights), gap, gradient_conflict(gram)

    def _compiled_loss(self, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
        loss = None
        if self._compile_loss is not None and y is not None:
            loss = self._compile_loss(y, y_pred, sample_weight)
        return tf.zeros([]) if loss is None else tf.cast(loss, tf.float32)

    def _regularisation(self) -> tf.Tensor:
        return tf.add_n([tf.zeros([]), *(tf.cast(loss, tf.float32) for loss in self.losses)])

    def _check_classes(self, logits: tf.Tensor, teacher_logits: tf.Tensor) -> None:
        if logits.shape.rank != 2 or logits.shape[-1] != teacher_logits.shape[-1]:
            raise ValueError(
                f"student {self.student.name} gives {tuple(logits.shape)}, its teachers give "
                f"{tuple(teacher_logits.shape[1:])}: both must be logits [batch, classes] of the "
                "same classes"
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            "teachers": [keras.saving.serialize_keras_object(t) for t in self.teachers],
            "vote": self.teachers.vote,
            "weighting": keras.saving.serialize_keras_object(self.weighting),
            "temperature": self.temperature,
            "student_loss_weight": self.student_loss_weight,
            "kd_weight": self.kd_weight,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EnsembleDistiller:
        config = dict(config)
        for name in ("student", "weighting"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        teachers = [
            keras.saving.deserialize_keras_object(teacher, custom_objects)
            for teacher in config["teachers"]
        ]
        config["teachers"] = TeacherEnsemble(teachers, vote=config.pop("vote"))
        return cls(**config)

    # Keras calls these for a whole-model file only, never for `save_weights`.
    def save_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self.teachers):
            teacher.save_weights(os.path.join(inner_path, f"teacher_{index}.weights.h5"))

    def load_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self.teachers):
            teacher.load_weights(os.path.join(inner_path, f"teacher_{index}.weights.h5"))


class _TeacherWeightsMetric(keras.metrics.Metric):
    """Means over steps of the teacher weights and of what the solver says of them."""

    def __init__(self, num_teachers: int):
        super().__init__(name="teacher_weights", dtype="float32")
        self.names = [f"teacher_weight_{index}" for index in range(num_teachers)]
        self.names += ["effective_teachers", "qp_gap", "gradient_conflict"]
        self.total = self.add_weight(shape=(len(self.names),), initializer="zeros", name="total")
        self.steps = self.add_weight(initializer="zeros", name="steps")

    def update_state(self, weights: tf.Tensor, gap: tf.Tensor, conflict: tf.Tensor) -> None:
        effective = 1 / tf.reduce_sum(tf.square(weights))
        values = tf.concat([weights, tf.stack([effective, gap, conflict])], 0)
        self.total.assign_add(values)
        self.steps.assign_add(1.0)

    def result(self) -> dict[str, tf.Tensor]:
        means = tf.unstack(self.total / tf.maximum(self.steps, 1.0), len(self.names))
        return dict(zip(self.names, means, strict=True))


def _example_weight(logits: tf.Tensor, sample_weight: Any) -> tf.Tensor:
    """`[B]`: each example's share in a batch mean, as Keras's sum-over-batch-size takes it."""
    count = tf.cast(tf.shape(logits)[0], tf.float32)
    if sample_weight is None:
        return tf.fill([tf.shape(logits)[0]], 1 / count)
    return tf.reshape(tf.cast(sample_weight, tf.float32), [-1]) / count
