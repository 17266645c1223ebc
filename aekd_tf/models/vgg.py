"""VGG with batch norm for small images: five groups of convolutions, one dense layer.

As in the authors' code, the image is halved three times and then averaged.

Reference: Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015.
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

_CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def build(
    *,
    depth: int,
    num_classes: int,
    input_shape: tuple[int, int, int],
    name: str,
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds VGG-`depth`, from images to logits; `"stage1"` to `"stage5"` end the groups."""
    inputs, x = entrance(input_shape, normalization, "images")
    widths = (64, 128, 256, 512, 512)
    for stage, (count, width) in enumerate(zip(_CONVOLUTIONS[depth], widths, strict=True), start=1):
        for number in range(1, count + 1):
            prefix = f"stage{stage}_{number}"
            x = convolution(x, width, bias=True, name=prefix)
            if number < count:
                x = activated(x, name=prefix)
        x = normalized(x, name=f"{prefix}_norm")
        x = layers.ReLU(name=f"stage{stage}")(x)
        if stage <= 3:
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
    return keras.Model(inputs, classifier(x, num_classes), name=name)
