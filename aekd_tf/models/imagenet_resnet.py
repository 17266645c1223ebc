"""ImageNet residual networks: ResNet18 and 34 of basic blocks, ResNet50 of bottlenecks.

A bottleneck halves the image in its 3x3 convolution, and no convolution has a bias, as in the
authors' framework. `keras.applications.ResNet50` differs in both.

Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
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

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def build(
    *,
    depth: int,
    num_classes: int,
    input_shape: tuple[int, int, int],
    name: str,
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds ResNet-`depth`, from images (224x224 in the paper) to logits."""
    inputs, x = entrance(input_shape, normalization, "images")
    x = activated(convolution(x, 64, 7, 2, name="stem"), name="stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, count in enumerate(_BLOCKS[depth], start=1):
        for block in range(1, count + 1):
            prefix = f"stage{stage}" if block == count else f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            x = _block(x, 64 * 2 ** (stage - 1), strides, bottleneck=depth >= 50, name=prefix)
    return keras.Model(inputs, classifier(x, num_classes), name=name)


def _block(x, width: int, strides: int, bottleneck: bool, name: str):
    shortcut = x
    out = 4 * width if bottleneck else width
    if strides > 1 or x.shape[-1] != out:
        shortcut = convolution(x, out, 1, strides, name=f"{name}_shortcut")
        shortcut = normalized(shortcut, name=f"{name}_shortcut_norm")
    if bottleneck:
        x = activated(convolution(x, width, 1, name=f"{name}_1"), name=f"{name}_1")
        x = activated(convolution(x, width, 3, strides, name=f"{name}_2"), name=f"{name}_2")
        x = normalized(convolution(x, out, 1, name=f"{name}_3"), name=f"{name}_3_norm")
    else:
        x = activated(convolution(x, width, 3, strides, name=f"{name}_1"), name=f"{name}_1")
        x = normalized(convolution(x, width, name=f"{name}_2"), name=f"{name}_2_norm")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=name)(x)
