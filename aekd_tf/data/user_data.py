"""Data in any form that `fit` takes: its first batch, and all of its batches."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


def peek(x: Any, y: Any, sample_weight: Any, batch_size: int | None) -> tuple[Any, Any]:
    """Looks at the first batch of what `fit` was given, without using it up.

    Returns:
        What to give `fit` as `x`, and the batch `(x, y, sample_weight)`; None without one.
    """
    if x is None or (isinstance(x, (list, tuple, dict)) and not is_arrays(x)):
        return x, None
    if is_arrays(x):
        return x, _rows((x, y, sample_weight), 0, batch_size or 32)
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif isinstance(x, types.GeneratorType):
        batch = next(x, None)
        if batch is None:
            return x, None
        x = _again(batch, x)
    elif hasattr(x, "__next__"):  # which Keras refuses
        return x, None
    else:
        batch = next(iter(x.take(1) if isinstance(x, tf.data.Dataset) else x), None)
        if batch is None:
            return x, None
        strategy = tf.distribute.get_strategy()
        batch = keras.tree.map_structure(lambda part: _of_one_replica(strategy, part), batch)
    return x, keras.utils.unpack_x_y_sample_weight(batch)


def _again(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    # Keras takes generators, not other iterators.
    yield first
    yield from others


def batches(
    x: Any, y: Any = None, batch_size: int = 128, sample_weight: Any = None
) -> Iterator[tuple[Any, Any, Any]]:
    """Yields all batches `(x, y, sample_weight)` of arrays or of a data set, in order."""
    if is_arrays(x):
        count = len(keras.tree.flatten(x)[0])
        for start in range(0, count, batch_size):
            yield _rows((x, y, sample_weight), start, start + batch_size)
        return
    if isinstance(x, keras.utils.PyDataset):
        given = x
        x = (given[index] for index in range(given.num_batches))
    for batch in x:
        parts = [batch]
        if isinstance(x, tf.distribute.DistributedDataset):
            parts = _of_replicas(tf.distribute.get_strategy(), batch)
        for part in parts:
            yield keras.utils.unpack_x_y_sample_weight(part)


def is_arrays(x: Any) -> bool:
    """Returns whether data are arrays of examples, not batches one after the other."""
    kinds = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)
    if isinstance(x, kinds) or hasattr(x, "__next__"):
        return False
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)


def _rows(data: Any, start: int, stop: int) -> Any:
    def cut(part: Any) -> Any:
        part = part.to_numpy() if hasattr(part, "to_numpy") else part
        return part[start:stop]

    return keras.tree.map_structure(lambda part: None if part is None else cut(part), data)


def _of_replicas(strategy: Any, batch: Any) -> list[Any]:
    """Returns the parts of a batch that this process's replicas have, without empty ones."""
    leaves = [strategy.experimental_local_results(leaf) for leaf in keras.tree.flatten(batch)]
    parts = [keras.tree.pack_sequence_as(batch, list(each)) for each in zip(*leaves, strict=True)]
    return [part for part in parts if len(keras.tree.flatten(part)[0])]


def _of_one_replica(strategy: Any, value: Any) -> Any:
    if isinstance(value, tf.distribute.DistributedValues):
        return value.values[0]
    return value
