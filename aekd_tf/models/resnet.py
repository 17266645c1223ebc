"""CIFAR residual networks of depth 6n + 2, as in the paper's experiments.

Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2;
projection shortcuts (1x1 convolution and batch norm) where the shape changes.
"""

from __future__ import annotations

import keras
from keras import layers


def build(
    *, depth: int, num_classes: int, input_shape: tuple[int, int, int], name: str
) -> keras.Model:
    """A resnet of `depth` = 6n + 2 with 16, 32 and 64 channels, from images to logits."""
    blocks = (depth - 2) // 6
    inputs = keras.Input(input_shape, name="images")
    x = _activated(_convolution(inputs, 16, name="stem"), name="stem")
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(1, blocks + 1):
            prefix = f"stage{stage}" if block == blocks else f"stage{stage}_block{block}"
            x = _block(x, width, strides=2 if stage > 1 and block == 1 else 1, name=prefix)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    logits = layers.Dense(
        num_classes,
        # The bounds +-1/sqrt(inputs) of the authors' framework.
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        dtype="float32",  # logits stay exact under mixed precision
        name="logits",
    )(x)
    return keras.Model(inputs, logits, name=name)


def _block(x, width: int, strides: int, name: str):
    shortcut = x
    if strides > 1 or x.shape[-1] != width:
        shortcut = _convolution(x, width, 1, strides, name=f"{name}_shortcut")
        shortcut = _normalised(shortcut, name=f"{name}_shortcut")
    x = _activated(_convolution(x, width, 3, strides, name=f"{name}_1"), name=f"{name}_1")
    x = _normalised(_convolution(x, width, name=f"{name}_2"), name=f"{name}_2")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=name)(x)


def _convolution(x, width: int, size: int = 3, strides: int = 1, *, name: str):
    return layers.Conv2D(
        width,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)


def _normalised(x, name: str):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def _activated(x, name: str):
    return layers.ReLU(name=f"{name}_relu")(_normalised(x, name))
