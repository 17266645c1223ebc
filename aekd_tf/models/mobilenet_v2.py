"""MobileNetV2 for small images, width 0.5 and expansion 6, as in the authors' experiments.

Unlike in the reference, the first block expands too and no activation is capped at 6. Two of
the strides are gone, so that 32x32 images end as 2x2.

Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
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

# Expansion, channels at width 1, blocks, stride of the first block.
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The groups that end stages 1 to 4: the last ones of their image size, except the first group.
_STAGES = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}
_WIDTH = 0.5


def build(
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    name: str,
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds MobileNetV2, from images to logits."""
    inputs, x = entrance(input_shape, normalization, "images")
    x = activated(convolution(x, int(32 * _WIDTH), strides=2, name="stem"), name="stem")
    for group, (expansion, channels, blocks, stride) in enumerate(_GROUPS):
        for block in range(blocks):
            prefix = f"group{group + 1}_block{block + 1}"
            last = _STAGES.get(group) if block == blocks - 1 else None
            x = _block(
                x, expansion, int(channels * _WIDTH), stride if block == 0 else 1, prefix, last
            )
    x = activated(convolution(x, 1280, 1, name="last"), name="last")
    return keras.Model(inputs, classifier(x, num_classes), name=name)


def _block(x, expansion: int, width: int, strides: int, name: str, stage: str | None):
    shortcut = x
    expanded = expansion * x.shape[-1]
    x = activated(convolution(x, expanded, 1, name=f"{name}_expand"), name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        3,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.VarianceScaling(
            2.0 / expanded, "fan_out", "untruncated_normal"
        ),
        name=f"{name}_depthwise_conv",
    )(x)
    x = activated(x, name=f"{name}_depthwise")
    x = convolution(x, width, 1, name=f"{name}_project")
    if strides == 1 and shortcut.shape[-1] == width:
        x = layers.Add(name=stage or name)([normalized(x, name=f"{name}_project_norm"), shortcut])
    else:
        x = normalized(x, name=stage or f"{name}_project_norm")
    return x
