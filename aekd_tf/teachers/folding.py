"""Folds batch norm into the convolution before it, for the same outputs in less time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.keras_private import (
    flatten_layers,
    inbound_nodes,
    outbound_nodes,
    replaced_calls,
)


@contextlib.contextmanager
def folded_batch_norm(
    model: keras.Model, keep: Collection[keras.layers.Layer] = ()
) -> Iterator[None]:
    """Folds batch norm into convolutions while the block lasts; `model` may only infer in it.

    Each pair becomes one operation, and outputs differ by rounding alone. Every call or trace
    computes kernel and bias from the layers' variables, so that weights loaded later count.

    Args:
        model: any Keras model; the pairs come from its functional parts.
        keep: layers whose own output is needed; they are left as they are.
    """
    calls: dict[keras.layers.Layer, Any] = {}
    for convolution, norm in _pairs(model):
        if convolution not in keep and norm not in keep:
            calls[convolution] = _folded_call(convolution, norm)
            calls[norm] = lambda inputs, training=None, mask=None: inputs
    with replaced_calls(calls):
        yield


def _pairs(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Returns pairs of a convolution and the batch norm that alone takes its output.

    There are none if Keras hides how its layers are connected.
    """
    try:
        return _find_pairs(model)
    except AttributeError:
        return []


def _find_pairs(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    outputs = {id(tensor) for part in _functional_parts(model) for tensor in part.outputs}
    pairs = []
    for layer in flatten_layers(model):
        if type(layer) is not keras.layers.Conv2D or "call" in vars(layer):
            continue
        linear = layer.activation is keras.activations.linear
        if not linear or len(inbound_nodes(layer)) != 1 or len(outbound_nodes(layer)) != 1:
            continue
        norm = outbound_nodes(layer)[0].operation
        last = layer.data_format == "channels_last" and getattr(norm, "axis", None) in (-1, 3)
        if type(norm) is not keras.layers.BatchNormalization or not last:
            continue
        if len(inbound_nodes(norm)) == 1 and id(layer.output) not in outputs:
            pairs.append((layer, norm))
    return pairs


def _functional_parts(model: keras.Model) -> list[keras.Model]:
    parts = [model, *(layer for layer in flatten_layers(model) if isinstance(layer, keras.Model))]
    return [part for part in parts if getattr(part, "outputs", None)]


def _folded_call(convolution: keras.layers.Layer, norm: keras.layers.Layer) -> Any:
    def call(inputs: Any) -> Any:
        scale = keras.ops.rsqrt(norm.moving_variance + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma
        shift = -norm.moving_mean * scale
        if convolution.use_bias:
            shift = shift + convolution.bias * scale
        if norm.center:
            shift = shift + norm.beta
        outputs = keras.ops.conv(
            inputs,
            keras.ops.cast(convolution.kernel * scale, inputs.dtype),
            strides=list(convolution.strides),
            padding=convolution.padding,
            dilation_rate=convolution.dilation_rate,
            data_format=convolution.data_format,
        )
        # Not `+`: TensorFlow fuses this operation, and a rectifier after it, with the convolution.
        return tf.nn.bias_add(outputs, keras.ops.cast(shift, inputs.dtype))

    return call
