"""A small network for signals: three convolutions that halve the length, one dense layer.

Reference: Greydanus, Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024.
"""

from __future__ import annotations

import keras
from keras import layers

from aekd_tf.models.layers import Statistics, entrance


def build(
    *,
    width: int,
    num_classes: int,
    input_shape: tuple[int, ...],
    name: str,
    normalization: Statistics | None = None,
) -> keras.Model:
    """Builds the network from signals `[B, L, C]` to logits; `"stage1"` to `"stage3"`."""
    inputs, x = entrance(input_shape, normalization, "signals")
    for stage in (1, 2, 3):
        x = layers.Conv1D(
            width,
            5,
            strides=2,
            padding="same",
            activation="relu",
            kernel_initializer=_he(1.0),
            name=f"stage{stage}",
        )(x)
    x = layers.Flatten(name="features")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_he(0.5), dtype="float32", name="logits")
    return keras.Model(inputs, logits(x), name=name)


def _he(scale: float) -> keras.initializers.Initializer:
    """Returns He's initializer, whose values are multiplied by `scale`."""
    return keras.initializers.VarianceScaling(2 * scale**2, "fan_in", "untruncated_normal")
