"""CIFAR residual networks of depth 6n + 2, as in the paper's experiments.

A shortcut is a projection (1x1 convolution and batch norm) if the shape changes.

Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from __future__ import annotations

import keras
from keras import layers

from aekd_tf.models.layers import (
    Statistics,
    activated,
    classifier,
    convolution,
    entrance,
    normalized,
)


def build(
    *,
    depth: int,
    num_classes: int,
    input_shape: tuple[int, int, int],
    name: str,
    widths: tuple[int, ...] = (16, 16, 32, 64),
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds a resnet from images to logits.

    Args:
        depth: 6n + 2.
        num_classes: K.
        input_shape: `(height, width, channels)`.
        name: name of the model.
        widths: channels of the stem and of the stages.
        normalization: mean and standard deviation per channel of images that are not normalized.
    """
    blocks = (depth - 2) // 6
    inputs, x = entrance(input_shape, normalization, "images")
    x = activated(convolution(x, widths[0], name="stem"), name="stem")
    for stage, width in enumerate(widths[1:], start=1):
        for block in range(1, blocks + 1):
            prefix = f"stage{stage}" if block == blocks else f"stage{stage}_block{block}"
            x = _block(x, width, strides=2 if stage > 1 and block == 1 else 1, name=prefix)
    return keras.Model(inputs, classifier(x, num_classes), name=name)


def _block(x, width: int, strides: int, name: str):
    shortcut = x
    if strides > 1 or x.shape[-1] != width:
        shortcut = convolution(x, width, 1, strides, name=f"{name}_shortcut")
        shortcut = normalized(shortcut, name=f"{name}_shortcut_norm")
    x = activated(convolution(x, width, 3, strides, name=f"{name}_1"), name=f"{name}_1")
    x = normalized(convolution(x, width, name=f"{name}_2"), name=f"{name}_2_norm")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=name)(x)
