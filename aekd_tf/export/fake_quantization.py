"""Layers that compute in float32 what an int8 file computes in whole numbers.

Values and kernels are rounded as the LiteRT converter will round them, and the gradient passes
through as if they were not. The converter reads each range from the graph, so that no
calibration is needed.

References:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018.
    Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
    whitepaper", arXiv:1806.08342, 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.export.rounding import (
    TINY,
    ranges,
    rounded,
    rounded_kernel,
    values_per_sign,
    with_gradient_of,
)
from aekd_tf.training.replicas import largest

DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
Bounds = Callable[[], tuple[tf.Tensor, tf.Tensor]]


class FakeQuantization(keras.layers.Layer):
    """A layer whose moving statistics stand still while `frozen` is 1."""

    def build(self, input_shape: Any) -> None:
        self.frozen = self._moving("frozen")

    def _moving(self, name: str) -> Any:
        return self.add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="mean", name=name
        )

    def _unless_frozen(self, old: Any, new: tf.Tensor) -> tf.Tensor:
        """Returns `new`, or what `old` holds while the layer is frozen."""
        return tf.where(tf.convert_to_tensor(self.frozen) > 0, tf.convert_to_tensor(old), new)


@keras.saving.register_keras_serializable("aekd_tf")
class MovingRange(FakeQuantization):
    """Rounds values to 256 equal steps of a range that follows those seen in training.

    The range holds 0 and the moving average of the batches' smallest and largest values, over
    all replicas. Before the first batch there is no range, and nothing is rounded.

    Args:
        momentum: share of the range that a batch leaves as it was, from 0 to 1.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, momentum: float = 0.95, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.low, self.high = self._moving("low"), self._moving("high")

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        low, high = self._moved(inputs) if training else self.bounds()
        return rounded(inputs, low, high, training)

    def bounds(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ends of the range, both 0 before the first batch."""
        return tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)

    def _moved(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Moves the range, unless it is frozen, and returns its ends."""
        low, high = self.bounds()
        batch = tf.stack([-tf.reduce_min(inputs), tf.reduce_max(inputs)])
        batch = largest(tf.maximum(tf.stop_gradient(batch), 0.0))
        share = tf.where(high > low, 1 - self.momentum, 1.0)
        low = self._unless_frozen(self.low, low + share * (-batch[0] - low))
        high = self._unless_frozen(self.high, high + share * (batch[1] - high))
        self.low.assign(low)
        self.high.assign(high)
        return low, high

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable("aekd_tf")
class SharedRange(keras.layers.Layer):
    """Rounds values in the range of another tensor, such as averages in that of their terms.

    Args:
        reads: name of the `MovingRange` in the same model.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, reads: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.reads = reads
        # Set by the model; a function, because Keras would take a layer for a part of this one.
        self.bounds_read: Bounds | None = None

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        return rounded(inputs, *self.bounds_read(), training) if self.bounds_read else inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reads": self.reads}


@keras.saving.register_keras_serializable("aekd_tf")
class FakeQuantized(FakeQuantization):
    """Computes a layer with a rounded kernel, and the batch norm after it, as one operation.

    A kernel has 2^bits - 1 values, per channel, a Dense kernel per tensor. Rounding per channel
    commutes with batch norm's scale. So training normalizes the outputs of the rounded kernel by
    the batch's statistics, without a second convolution. Inference, and training while frozen,
    uses the moving ones: kernel and bias are then folded as in the file.

    Args:
        layer: a Conv1D, Conv2D, DepthwiseConv1D, DepthwiseConv2D or Dense without activation.
        norm: the BatchNormalization after it; None without.
        bits: bits of the kernel's values, 2 to 8.
        reads: name of the `MovingRange` of the inputs; None if they have several.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        norm: keras.layers.BatchNormalization | None = None,
        bits: int = 8,
        reads: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.layer, self.norm, self.bits, self.reads = layer, norm, bits, reads
        self.bounds_read: Bounds | None = None  # set by the model

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if not self.layer.built:  # loading builds it
            self.layer.build(input_shape)
        if self.norm is not None and not self.norm.built:
            self.norm.build(self.compute_output_shape(input_shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        layer: Any = self.layer
        norm, kernel = self.norm, self.kernel_of_channels()
        bias = tf.convert_to_tensor(layer.bias) if layer.use_bias else tf.zeros(kernel.shape[-1:])
        if norm is None:
            return self._as_in_file(inputs, kernel, bias, training)
        beta = tf.convert_to_tensor(norm.beta) if norm.center else 0.0
        mean, variance = map(tf.convert_to_tensor, (norm.moving_mean, norm.moving_variance))
        scale = self._scale(variance)
        folded_bias = beta + (bias - mean) * scale
        if not (training and norm.trainable):
            return self._as_in_file(inputs, kernel * scale, folded_bias, training)
        top = self._ranges(kernel * scale, folded_bias) / (tf.abs(scale) + TINY)
        # A channel that batch norm has switched off must keep some values to learn from.
        top = tf.stop_gradient(tf.minimum(top, 64 * ranges(kernel, bias)))
        outputs = self._computed(inputs, rounded_kernel(kernel, top, self.bits, training)) + bias
        mean, variance = self._moved(outputs, mean, variance)
        return (outputs - mean) * self._scale(variance) + beta

    def _ranges(self, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        return ranges(kernel, bias, per_channel=not isinstance(self.layer, keras.layers.Dense))

    def _as_in_file(
        self, inputs: Any, kernel: tf.Tensor, bias: tf.Tensor, training: bool | None
    ) -> tf.Tensor:
        """Returns the outputs by a rounded kernel and bias."""
        top = self._ranges(kernel, bias)
        outputs = self._computed(inputs, rounded_kernel(kernel, top, self.bits, training))
        return tf.nn.bias_add(outputs, self._counted(bias, top, training))

    def _counted(self, bias: tf.Tensor, top: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns a bias rounded as in a file, to the step of inputs times the kernel's."""
        if self.bounds_read is None:
            return bias
        low, high = self.bounds_read()
        step = (high - low) / 255 * top / values_per_sign(self.bits)
        counted = tf.where(step > 0, tf.round(bias / (step + TINY**2)) * step, bias)
        return with_gradient_of(bias, counted) if training else counted

    def _scale(self, variance: tf.Tensor) -> tf.Tensor:
        norm: Any = self.norm
        scale = tf.math.rsqrt(variance + norm.epsilon)
        return scale * tf.convert_to_tensor(norm.gamma) if norm.scale else scale

    def _moved(
        self, outputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Moves the moving statistics; returns those to normalize a training batch by."""
        norm: Any = self.norm
        axes = list(range(outputs.shape.rank - 1))
        of_batch = keras.ops.moments(outputs, axes, synchronized=norm.synchronized)
        used = []
        for variable, old, new in zip(
            (norm.moving_mean, norm.moving_variance), (mean, variance), of_batch, strict=True
        ):
            moved = old * norm.momentum + tf.stop_gradient(new) * (1 - norm.momentum)
            variable.assign(self._unless_frozen(old, moved))
            used.append(self._unless_frozen(old, new))
        return used[0], used[1]

    def kernel_of_channels(self) -> tf.Tensor:
        """Returns the kernel as it is rounded, with the outputs' channels last."""
        kernel = tf.convert_to_tensor(self.layer.kernel)
        if isinstance(self.layer, DEPTHWISE):
            kernel = tf.reshape(kernel, [*kernel.shape[:-2], kernel.shape[-2] * kernel.shape[-1]])
        # Of images with one row. The converter cannot reshape a kernel that is rounded.
        return kernel[None] if getattr(self.layer, "rank", 2) == 1 else kernel

    def _computed(self, inputs: Any, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the layer's outputs by that kernel, without a bias."""
        layer: Any = self.layer
        if isinstance(layer, keras.layers.Dense):
            return tf.matmul(inputs, kernel)
        inputs = tf.expand_dims(inputs, 1) if layer.rank == 1 else inputs
        strides, dilations = ([1, *each][-2:] for each in (layer.strides, layer.dilation_rate))
        options = {"padding": layer.padding.upper(), "dilations": dilations}
        if isinstance(layer, DEPTHWISE):
            kernel = tf.reshape(kernel, [*kernel.shape[:2], inputs.shape[-1], -1])
            outputs = tf.nn.depthwise_conv2d(inputs, kernel, [1, *strides, 1], **options)
        else:
            outputs = tf.nn.conv2d(inputs, kernel, strides, **options)
        return tf.squeeze(outputs, 1) if layer.rank == 1 else outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "norm": keras.saving.serialize_keras_object(self.norm),
            "bits": self.bits,
            "reads": self.reads,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FakeQuantized:
        config = dict(config)
        for name in ("layer", "norm"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)
