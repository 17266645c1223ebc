"""Regressors from the student's feature map to the teachers' (Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.terms.hints import hint_loss
from aekd_tf.training.replicas import num_replicas


@keras.saving.register_keras_serializable("aekd_tf")
class HintRegressors(keras.layers.Layer):
    """The regressors r_m, one a teacher, from the student's feature map to the teachers'."""

    def build_for(self, student_shape: Any, teacher_shapes: Sequence[Any]) -> None:
        self.regressors = [
            Regressor(student_shape, shape, name=f"regressor_{index}", dtype=self.dtype_policy)
            for index, shape in enumerate(teacher_shapes)
        ]
        self.built = True

    def losses_and_gradients(
        self,
        student_map: tf.Tensor,
        teacher_maps: Sequence[tf.Tensor],
        example_weight: tf.Tensor,
        count: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Every teacher's hint loss, and its gradient w.r.t. the student's feature map.

        `count` is the size of the global batch, float32.
        Under an outer tape the losses also lead to the regressors and the student.

        Returns:
            `(losses [M], gradients [M, B, h, w, c])`, float32; of the latter gradients are
            stopped.
        """
        copies = [tf.identity(student_map) for _ in teacher_maps]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(copies)
            losses = [
                tf.reduce_sum(example_weight * hint_loss(target, regressor(copy, training=True)))
                for regressor, copy, target in zip(
                    self.regressors, copies, teacher_maps, strict=True
                )
            ]
            # In float16 the gradient of a mean over a map would be too small for its numbers.
            size = count * float(student_map.shape[1:].num_elements())
            scaled = [size * loss for loss in losses]
        gradients = tf.cast(tf.stack(tape.gradient(scaled, copies)), tf.float32) / size
        return tf.stack(losses), tf.stop_gradient(gradients)


class Regressor(keras.layers.Layer):
    """r_m: from the student's feature map `[B, h, w, c]` to the teacher's.

    A convolution of stride 2 where the student's map is twice as large, a transposed one
    where it is half, else one whose kernel is as large as the difference; then batch norm
    and ReLU.

    Args:
        student_shape, teacher_shape: of the maps, batch axis first.

    Raises:
        ValueError: maps that cannot be aligned so; the message names both shapes.
    """

    def __init__(
        self,
        student_shape: Sequence[int | None],
        teacher_shape: Sequence[int | None],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        student: tuple[Any, ...] = tuple(student_shape[1:])
        teacher: tuple[Any, ...] = tuple(teacher_shape[1:])
        refusal = ValueError(
            f"feature maps {student} of the student and {teacher} of a teacher cannot be aligned: "
            "choose layers that give [height, width, channels], of which the student's is half "
            "the teacher's size, twice it, or at least as large"
        )
        if len(student) != 3 or len(teacher) != 3 or None in student + teacher:
            raise refusal
        pairs = list(zip(student[:2], teacher[:2], strict=True))
        options = {"use_bias": False, "dtype": self.dtype_policy}
        channels = teacher[2]
        if all(s == 2 * t for s, t in pairs):
            layer = keras.layers.Conv2D(channels, 3, 2, padding="same", **options)
        elif all(2 * s == t for s, t in pairs):
            layer = keras.layers.Conv2DTranspose(channels, 4, 2, padding="same", **options)
        elif all(s >= t for s, t in pairs):
            kernel = tuple(1 + s - t for s, t in pairs)
            layer = keras.layers.Conv2D(channels, kernel, **options)
        else:
            raise refusal
        self.convolution = layer
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, synchronized=num_replicas() > 1, dtype=self.dtype_policy
        )
        self.convolution.build((None, *student))
        self.norm.build((None, *teacher))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.ops.relu(self.norm(self.convolution(inputs), training=training))
