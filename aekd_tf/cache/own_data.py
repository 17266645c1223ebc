"""Takes a user's own data as numbered examples: arrays, a `tf.data.Dataset` or a PyDataset."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf.data.examples import (
    ArrayExamples,
    Augmentation,
    Examples,
    StreamExamples,
    fingerprint,
    folded,
    packed,
    pair,
    window_of,
)
from aekd_tf.data.user_data import is_arrays
from aekd_tf.refusals import refusal
from aekd_tf.teachers.identity import value_digest

# Draws that must repeat before an augmentation counts as a function of its seed.
_TRIES = 16


def own_examples(dataset: Any, augmentation: Augmentation | None, name: str | None) -> Examples:
    """Returns a user's data as examples, which a stream has not been counted for yet.

    Raises:
        TypeError: something else than data, or an augmentation that is not a function.
        ValueError: data that have no name, no fixed number of examples, or batches; an
            augmentation that gives something else each time.
    """
    examples: Examples
    parts = _without_none(dataset) if isinstance(dataset, tuple) else ()
    if 1 <= len(parts) <= 3 and is_arrays(parts):
        arrays = keras.tree.map_structure(_array, parts)
        lengths = [len(part) for part in keras.tree.flatten(arrays)]
        if len(set(lengths)) > 1:
            raise refusal("unequal_lengths", lengths=lengths)
        if not lengths[0]:
            raise refusal("no_examples", name=name or "the data set")
        examples = ArrayExamples(arrays, augmentation)
    elif isinstance(dataset, (tf.data.Dataset, keras.utils.PyDataset)):
        if name is None:
            raise refusal("data_without_name", kind=type(dataset).__name__)
        read = functools.partial(_stream, dataset)
        _check_stream(read(), name)
        examples = StreamExamples(name, read, -1, augmentation)
    else:
        raise refusal("not_a_dataset", kind=type(dataset).__name__)
    if augmentation is not None:
        _check_augmentation(examples, augmentation)
    return examples


def _without_none(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    while parts and parts[-1] is None:
        parts = parts[:-1]
    return parts


def _array(part: Any) -> np.ndarray:
    return part.to_numpy() if hasattr(part, "to_numpy") else np.asarray(part)


def _stream(dataset: Any) -> tf.data.Dataset:
    """Returns data of a user as a `tf.data.Dataset` of `(inputs, ...)`, not batched."""
    if isinstance(dataset, keras.utils.PyDataset):
        return _of_batches(dataset)
    if isinstance(dataset.element_spec, tuple):
        return dataset
    return dataset.map(lambda inputs: (inputs,))


def _of_batches(given: keras.utils.PyDataset) -> tf.data.Dataset:
    def batch(index: int) -> Any:
        parts = _without_none(keras.utils.unpack_x_y_sample_weight(given[index]))
        return keras.tree.lists_to_tuples(keras.tree.map_structure(np.asarray, parts))

    def spec(part: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec((None, *part.shape[1:]), part.dtype)

    signature = keras.tree.map_structure(spec, batch(0))
    made = tf.data.Dataset.from_generator(
        lambda: map(batch, range(given.num_batches)), output_signature=signature
    )
    return made.unbatch()


def _check_stream(stream: tf.data.Dataset, name: str) -> None:
    if stream.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise refusal("endless_data", name=name)
    specs = tf.nest.flatten(stream.element_spec)
    if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        raise refusal("sparse_data", name=name)
    if all(spec.shape.rank and spec.shape[0] is None for spec in specs):
        raise refusal("batched_data", name=name)


def survey(examples: Examples, progress: bool) -> Examples:
    """Counts a stream's examples, and takes a fingerprint of each; arrays stay as they are."""
    if not isinstance(examples, StreamExamples):
        return examples

    @tf.autograph.experimental.do_not_convert
    def seen(*example: Any) -> Any:
        texts = packed(example)
        return fingerprint(texts), tf.reduce_sum(tf.strings.length(texts))

    stream = examples.read()
    total = int(stream.cardinality())
    prints, size = [], 0
    batches = stream.map(seen, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(64)
    with tqdm(
        total=total if total >= 0 else None,
        desc=f"reading {examples.name}",
        unit=" examples",
        ascii=" =",
        disable=not progress,
    ) as shown:
        for values, sizes in batches.as_numpy_iterator():
            prints.append(values)
            size += int(sizes.sum(dtype=np.int64))
            shown.update(len(values))
    if not prints:
        raise refusal("no_examples", name=examples.name)
    known = np.concatenate(prints)
    window = window_of(size / len(known))
    return dataclasses.replace(examples, count=len(known), fingerprints=known, window=window)


def identity(examples: Examples, name: str | None, seed: int, shard: int) -> dict[str, Any]:
    """Returns what tells the views of examples from others.

    `shard` is how many examples of a stream have one digest.
    """
    augmentation = None
    if examples.augmentation is not None:
        augmentation = {"function": value_digest(examples.augmentation), "seed": seed}
    return {"dataset": _content(examples, name, shard), "augmentation": augmentation}


def _content(examples: Examples, name: str | None, shard: int) -> dict[str, Any]:
    if isinstance(examples, ArrayExamples):
        content = hashlib.sha256()
        for part in keras.tree.flatten(examples.arrays):
            content.update(f"{part.shape} {part.dtype}".encode())
            content.update(np.ascontiguousarray(part).data if part.dtype != object else part)
        return {"name": name or "arrays", "sha256": content.hexdigest()}
    assert isinstance(examples, StreamExamples)
    assert examples.fingerprints is not None
    prints = examples.fingerprints
    parts = (prints[start : start + shard] for start in range(0, len(prints), shard))
    return {
        "name": name,
        "elements": str(examples.read().element_spec),
        "shards": [hashlib.sha256(part.tobytes()).hexdigest() for part in parts],
    }


def _check_augmentation(examples: Examples, augmentation: Any) -> None:
    function = augmentation
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, types.FunctionType):
        raise refusal("augmentation_kind", kind=type(function).__name__)
    first = _first_inputs(examples)
    made = tf.function(lambda seed: augmentation(first, seed), autograph=False)
    for number in range(_TRIES):
        seed = folded(pair(0), number)
        once, again = (keras.tree.flatten(made(seed)) for _ in range(2))
        if any(tf.reduce_any(a != b) for a, b in zip(once, again, strict=True)):
            raise refusal("augmentation_random", name=function.__qualname__)


def _first_inputs(examples: Examples) -> Any:
    if isinstance(examples, ArrayExamples):
        return keras.tree.map_structure(lambda part: tf.constant(part[0]), examples.arrays[0])
    assert isinstance(examples, StreamExamples)
    for inputs, *_ in examples.read().take(1):
        return inputs
    raise refusal("no_examples", name=examples.name)
