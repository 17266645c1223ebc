"""Wide residual networks WRN-depth-width with pre-activation blocks, depth 6n + 4.

Reference: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016.
"""

from __future__ import annotations

import keras
from keras import layers

from aekd_tf.models.layers import Statistics, activated, classifier, convolution, entrance


def build(
    *,
    depth: int,
    width: int,
    num_classes: int,
    input_shape: tuple[int, int, int],
    name: str,
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds WRN-`depth`-`width`, from images to logits."""
    blocks = (depth - 4) // 6
    inputs, x = entrance(input_shape, normalization, "images")
    x = convolution(x, 16, name="stem")
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            prefix = f"stage{stage}" if block == blocks else f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            x = _block(x, 16 * width * 2 ** (stage - 1), strides, name=prefix)
    return keras.Model(inputs, classifier(activated(x, "last"), num_classes), name=name)


def _block(x, width: int, strides: int, name: str):
    before = activated(x, name=f"{name}_1")
    shortcut = x
    if x.shape[-1] != width or strides > 1:
        shortcut = convolution(before, width, 1, strides, name=f"{name}_shortcut")
    x = activated(convolution(before, width, 3, strides, name=f"{name}_1"), name=f"{name}_2")
    x = convolution(x, width, name=f"{name}_2")
    return layers.Add(name=name)([x, shortcut])
