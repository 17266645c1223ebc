"""Runs one teacher over a data set, for a cache: outputs, and a pooled map per hint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.outputs import output_key
from aekd_tf.terms.capture import feature_shape
from aekd_tf.terms.hints import Hints, find_layer
from aekd_tf.terms.pooling import pooled_shape


def outputs(
    forward: Any, batches: tf.data.Dataset, sizes: Sequence[int]
) -> Iterator[list[np.ndarray]]:
    """Yields the teacher's outputs for so many examples after the other, in float32."""
    if hasattr(forward, "get_concrete_function"):
        # One trace for all batch sizes: many teachers with few batches each would look like
        # one function that is traced again and again, which TensorFlow warns of.
        forward = forward.get_concrete_function(batches.element_spec)
    results = ([np.asarray(part) for part in forward(inputs)] for inputs in batches)
    waiting: list[list[np.ndarray]] = []
    for size in sizes:
        while sum(len(parts[0]) for parts in waiting) < size:
            waiting.append(next(results))
        whole = [np.concatenate(column) for column in zip(*waiting, strict=True)]
        waiting = [[part[size:] for part in whole]]
        yield [part[:size] for part in whole]


def seconds(forward: Any, batches: tf.data.Dataset, most: int = 8) -> float:
    """Returns the seconds per example of `outputs`, without the first batch's tracing."""
    started, examples = 0.0, 0
    for number, inputs in enumerate(batches.take(most)):
        _ = [np.asarray(part) for part in forward(inputs)]
        if number == 0:
            started = time.perf_counter()
        else:
            examples += len(keras.tree.flatten(inputs)[0])
    return (time.perf_counter() - started) / max(examples, 1)


def output_shape(teacher: keras.Model, inputs: Any) -> tuple[int, ...]:
    """Returns the shape of a teacher's outputs for one example, whose specs are `inputs`."""
    given = keras.tree.map_structure(_symbol, inputs)
    outputs = teacher(given, training=False)
    if not isinstance(outputs, keras.KerasTensor):
        output_key("a teacher", teacher, outputs, None)  # which refuses several
    return tuple(outputs.shape[1:])


def map_shape(teacher: keras.Model, layer: str, hints: Hints, inputs: Any) -> tuple[int, ...]:
    """Returns the shape of a layer's pooled map for one example."""
    shapes = keras.tree.map_structure(lambda spec: (None, *spec.shape), inputs)
    return pooled_shape(feature_shape(teacher, find_layer(teacher, layer), shapes), hints.pooling)[
        1:
    ]


def _symbol(spec: tf.TensorSpec) -> keras.KerasTensor:
    return keras.KerasTensor((None, *spec.shape), spec.dtype.name)
