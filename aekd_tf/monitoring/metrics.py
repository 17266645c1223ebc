"""Reports the teachers' weights of a distiller as a metric."""

from __future__ import annotations

import keras
import tensorflow as tf

from aekd_tf.gradients import gradient_conflict
from aekd_tf.signals import Signals
from aekd_tf.training.replicas import num_replicas


class TeacherWeights(keras.metrics.Metric):
    """Means over steps of the teacher weights, effective teachers, QP gap and conflict.

    It also counts the steps that each teacher was left out of. The mean cosines between the
    teachers' gradients are not among the results: `cosines()` returns them.

    Args:
        num_teachers: M.
        prefix: prefix of every name, to tell the hints' weights from the logits'.
    """

    def __init__(self, num_teachers: int, prefix: str = ""):
        super().__init__(name=f"{prefix}teacher_weights", dtype="float32")
        names = [f"teacher_weight_{index}" for index in range(num_teachers)]
        names += ["effective_teachers", "qp_gap", "gradient_conflict"]
        self.names = [prefix + name for name in names]
        self.left_out_names = [f"{prefix}teacher_left_out_{i}" for i in range(num_teachers)]
        self.total = self.add_weight(shape=(len(self.names),), initializer="zeros", name="total")
        shape = (num_teachers, num_teachers)
        self.cosine_total = self.add_weight(shape=shape, initializer="zeros", name="cosine_total")
        self.steps = self.add_weight(initializer="zeros", name="steps")
        self.left_out = self.add_weight(shape=(num_teachers,), initializer="zeros", name="left_out")

    def update_state(
        self,
        weights: tf.Tensor,
        gap: tf.Tensor,
        gram: tf.Tensor,
        live: tf.Tensor,
        signals: Signals,
    ) -> None:
        """Adds a step, with weights `[M]` or `[M, B]`; the latter count by their batch mean."""
        conflict = gradient_conflict(gram)
        effective = tf.math.divide_no_nan(1.0, tf.reduce_sum(tf.square(weights), 0))
        if weights.shape.rank == 2:
            weights, effective = signals.batch_mean(weights), signals.batch_mean(effective)
        # Every replica counts the step, and their counts are summed.
        self.left_out.assign_add(tf.cast(~live, tf.float32) / num_replicas())
        values = tf.concat([weights, tf.stack([effective, gap, conflict])], 0)
        self.total.assign_add(values)
        lengths = tf.sqrt(tf.linalg.diag_part(gram))
        cosines = tf.math.divide_no_nan(gram, lengths[:, None] * lengths[None, :])
        self.cosine_total.assign_add(tf.where(tf.math.is_finite(cosines), cosines, 0.0))
        self.steps.assign_add(1.0)

    def cosines(self) -> tf.Tensor:
        """Returns the mean cosines `[M, M]`, -1 to 1; zero for a teacher without a gradient."""
        return self.cosine_total / tf.maximum(self.steps, 1.0)

    def result(self) -> dict[str, tf.Tensor]:
        means = tf.unstack(self.total / tf.maximum(self.steps, 1.0), len(self.names))
        left_out = tf.unstack(self.left_out, len(self.left_out_names))
        names = [*self.names, *self.left_out_names]
        return dict(zip(names, [*means, *left_out], strict=True))
