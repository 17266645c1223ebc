"""The layers that the networks share: convolutions, batch norm and the last layer."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from aekd_tf.training.replicas import num_replicas

# Mean and standard deviation per channel, or one of each.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def entrance(input_shape: tuple[int, ...], normalization: Statistics | None, name: str):
    """Returns a network's inputs, and what its first layer sees: normalized, if asked for."""
    inputs = keras.Input(input_shape, name=name)
    if normalization is None:
        return inputs, inputs
    mean, std = (np.broadcast_to(np.array(each), input_shape[-1:]) for each in normalization)
    layer = layers.Normalization(mean=mean, variance=std**2, dtype="float32", name="normalization")
    return inputs, layer(inputs)


def convolution(x, width: int, size: int = 3, strides: int = 1, *, bias: bool = False, name: str):
    """Applies a He-initialized (fan out) convolution; a stride divides the size, rounded up."""
    return layers.Conv2D(
        width,
        size,
        strides,
        padding="same",
        use_bias=bias,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)


def normalized(x, name: str):
    """Applies batch norm, over the global batch if the network is made in a strategy's scope."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=num_replicas() > 1, name=name
    )(x)


def activated(x, name: str):
    """Applies batch norm and ReLU."""
    return layers.ReLU(name=f"{name}_relu")(normalized(x, name=f"{name}_norm"))


def classifier(x, num_classes: int):
    """Computes logits from a feature map: global average, then one dense layer."""
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return layers.Dense(
        num_classes,
        # Gives the bounds +-1/sqrt(inputs) of the authors' framework.
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        dtype="float32",  # logits stay exact under mixed precision
        name="logits",
    )(x)
