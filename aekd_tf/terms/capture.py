"""Captures a layer's outputs inside a model, however the model is written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.keras_private import own_call, replace_call, restore_call

# Lists that collect outputs, by layer and thread; only the newest list receives an output.
_LISTENERS: dict[int, dict[int, list[list[Any]]]] = {}

_LOCK = threading.Lock()


@contextlib.contextmanager
def captured(layer: keras.layers.Layer) -> Iterator[list[Any]]:
    """Yields a list that receives the output of each call of `layer` while the block lasts.

    Only calls in this thread count: a strategy traces every replica in a thread of its own.
    """
    outputs: list[Any] = []
    thread = threading.get_ident()
    with _LOCK:
        listeners = _LISTENERS.setdefault(id(layer), {})
        if not listeners:
            replace_call(layer, _recording(layer, listeners))
        listeners.setdefault(thread, []).append(outputs)
    try:
        yield outputs
    finally:
        with _LOCK:
            listeners[thread].pop()
            if not listeners[thread]:
                del listeners[thread]
            if not listeners:
                del _LISTENERS[id(layer)]
                restore_call(layer)


def _recording(layer: keras.layers.Layer, listeners: dict[int, list[list[Any]]]) -> Any:
    original = own_call(layer)

    def recording(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        if threading.get_ident() in listeners:
            listeners[threading.get_ident()][-1].append(output)
        return output

    return recording


def with_features(
    model: keras.Model, layers: Sequence[keras.layers.Layer], inputs: Any, training: bool
) -> tuple[Any, list[tf.Tensor]]:
    """Returns the outputs of `model` and those of its `layers`, from one forward pass.

    Raises:
        ValueError: the model does not call a layer exactly once.
    """
    with contextlib.ExitStack() as stack:
        # Two hints may share a layer.
        captures = {id(layer): stack.enter_context(captured(layer)) for layer in set(layers)}
        outputs = model(inputs, training=training)
    for layer in layers:
        if len(captures[id(layer)]) != 1:
            raise ValueError(
                f"{model.name} calls its layer {layer.name!r} {len(captures[id(layer)])} times per "
                "forward pass: a hint requires a layer that is called once"
            )
    return outputs, [tf.convert_to_tensor(captures[id(layer)][0]) for layer in layers]


def feature_shape(
    model: keras.Model, layer: keras.layers.Layer, input_shape: Any
) -> tuple[int | None, ...]:
    """Returns the shape of the output of `layer` when `model` gets inputs of `input_shape`."""
    try:
        shape = tuple(layer.output.shape)
    except (AttributeError, ValueError):  # not part of a functional graph
        shape = (None, None)
    if model.built and None not in shape[1:]:
        return shape

    def spec(shape):
        return tf.TensorSpec((None, *shape[1:]), tf.float32)

    specs = keras.tree.map_shape_structure(spec, input_shape)

    def last_features(inputs):
        # The first call of a model that is not built yet may call its layers more than once.
        with captured(layer) as features:
            model(inputs, training=False)
        return features[-1]

    trace = tf.function(last_features, autograph=False)
    return tuple(trace.get_concrete_function(specs).structured_outputs.shape)
