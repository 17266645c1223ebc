"""Regressors from the student's feature map to the teachers' (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.terms.hints import hint_loss
from aekd_tf.training.replicas import num_replicas


@keras.saving.register_keras_serializable("aekd_tf")
class HintRegressors(keras.layers.Layer):
    """The regressors r_m, one per teacher, from the student's feature map to the teachers'."""

    def build_for(
        self, student_shape: Any, teacher_shapes: Sequence[Any], activation: Any = "relu"
    ) -> None:
        """Builds one regressor per teacher; the shapes have the batch axis first."""
        self.regressors = [
            Regressor(
                student_shape, shape, activation, name=f"regressor_{index}", dtype=self.dtype_policy
            )
            for index, shape in enumerate(teacher_shapes)
        ]
        self.built = True

    def losses_and_gradients(
        self,
        student_map: tf.Tensor,
        teacher_maps: Sequence[tf.Tensor],
        example_weight: tf.Tensor,
        count: tf.Tensor,
        training: bool = True,
        loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = hint_loss,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes every teacher's hint loss and its gradient w.r.t. the student's feature map.

        An outer tape can differentiate the losses w.r.t. the regressors and the student.

        Args:
            student_map: `[B, ..., c]`.
            teacher_maps: M maps, batch axis first.
            example_weight: `[B]`, each example's share in the batch loss.
            count: size of the global batch, float32.
            training: whether batch norm takes the batch's own statistics.
            loss: maps a teacher's map and the regressor's to `[B]`.

        Returns:
            `(losses [M, B], gradients [M, B, ..., c])`, float32. No gradient flows through the
            gradients.
        """
        regressors: Sequence[Any] = getattr(self, "regressors", None) or [_as_it_is] * len(
            teacher_maps
        )
        copies = [tf.identity(student_map) for _ in teacher_maps]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(copies)
            losses = [
                loss(target, regressor(copy, training=training))
                for regressor, copy, target in zip(regressors, copies, teacher_maps, strict=True)
            ]
            # In float16 the gradient of a mean over a map would underflow.
            size = count * float(student_map.shape[1:].num_elements())
            scaled = [size * tf.reduce_sum(example_weight * each) for each in losses]
        gradients = tf.cast(tf.stack(tape.gradient(scaled, copies)), tf.float32) / size
        return tf.stack(losses), tf.stop_gradient(gradients)


def _as_it_is(features: tf.Tensor, training: bool) -> tf.Tensor:
    """Stands for a regressor where maps are compared without."""
    return features


class Regressor(keras.layers.Layer):
    """The regressor r_m, from the student's feature map to the teacher's.

    It is a convolution, then batch norm and an activation. The convolution has stride 2 if the
    student's map is twice as large, and is transposed if the map is half as large. Otherwise its
    kernel, 1 + the difference of the sizes, aligns the maps. For sequences it runs along time;
    for vectors it is a dense layer.

    Args:
        student_shape, teacher_shape: shapes of the maps, batch axis first.
        activation: `"relu"`, None, or another activation of Keras.

    Raises:
        ValueError: maps that cannot be aligned this way; the message names both shapes.
    """

    def __init__(
        self,
        student_shape: Sequence[int | None],
        teacher_shape: Sequence[int | None],
        activation: Any = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        student: tuple[Any, ...] = tuple(student_shape[1:])
        teacher: tuple[Any, ...] = tuple(teacher_shape[1:])
        # The name is part of files that are there already.
        self.convolution = _aligning(student, teacher, self.dtype_policy)
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, synchronized=num_replicas() > 1, dtype=self.dtype_policy
        )
        self.activation = keras.activations.get(activation)
        self.convolution.build((None, *student))
        self.norm.build((None, *teacher))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.activation(self.norm(self.convolution(inputs), training=training))


def _aligning(
    student: tuple[Any, ...], teacher: tuple[Any, ...], policy: Any
) -> keras.layers.Layer:
    """Returns the layer that brings maps of the student's shape to the teacher's."""
    refusal = ValueError(
        f"feature maps {student} of the student and {teacher} of a teacher cannot be aligned: "
        "choose layers that give [height, width, channels], [steps, channels] or [channels] in "
        "both; the student's map must be half the teacher's size, twice it, or at least as large"
    )
    if len(student) != len(teacher) or len(student) > 3 or None in student + teacher:
        raise refusal
    pairs = list(zip(student[:-1], teacher[:-1], strict=True))
    options = {"use_bias": False, "dtype": policy}
    channels = teacher[-1]
    if not pairs:
        return keras.layers.Dense(channels, **options)
    images = len(pairs) == 2
    convolution = keras.layers.Conv2D if images else keras.layers.Conv1D
    if all(s == 2 * t for s, t in pairs):
        return convolution(channels, 3, 2, padding="same", **options)
    if all(2 * s == t for s, t in pairs):
        transposed = keras.layers.Conv2DTranspose if images else keras.layers.Conv1DTranspose
        return transposed(channels, 4, 2, padding="same", **options)
    if all(s >= t for s, t in pairs):
        return convolution(channels, tuple(1 + s - t for s, t in pairs), **options)
    raise refusal
