"""Takes a user's own data as numbered examples: arrays, a `tf.data.Dataset` or a PyDataset."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import types
from collections.abc import Callable, Iterator
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
from aekd_tf.data.pipeline import untuned
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
    if parts:
        leaves = keras.tree.flatten(parts)
        if len(parts) > 3 or not all(getattr(leaf, "shape", ()) for leaf in leaves):
            kinds = [type(part).__name__ for part in parts]
            raise refusal("not_arrays", kinds=kinds)
        arrays = keras.tree.lists_to_tuples(keras.tree.map_structure(_array, parts))
        lengths = [len(part) for part in keras.tree.flatten(arrays)]
        if len(set(lengths)) > 1:
            raise refusal("unequal_lengths", lengths=lengths)
        if not lengths[0]:
            raise refusal("no_examples", name=name or "the data set")
        examples = ArrayExamples(arrays, augmentation)
    elif isinstance(dataset, (tf.data.Dataset, keras.utils.PyDataset)):
        if name is None:
            raise refusal("data_without_name", kind=type(dataset).__name__)
        read = _reader(dataset, name)
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


def _reader(dataset: Any, name: str) -> Callable[[], tf.data.Dataset]:
    """Returns a function that gives a user's data as `(inputs, ...)`, not batched."""
    if isinstance(dataset, keras.utils.PyDataset):
        return _of_batches(dataset, name)
    if isinstance(dataset.element_spec, tuple):
        return lambda: dataset
    return lambda: dataset.map(lambda inputs: (inputs,))


def _of_batches(given: keras.utils.PyDataset, name: str) -> Callable[[], tf.data.Dataset]:
    def batch(index: int) -> Any:
        parts = _without_none(keras.utils.unpack_x_y_sample_weight(given[index]))
        if not parts or any(part is None for part in parts):
            raise refusal("labels_missing", name=name)
        return keras.tree.lists_to_tuples(keras.tree.map_structure(np.asarray, parts))

    def spec(part: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec((None, *part.shape[1:]), part.dtype)

    if given.num_batches is None:
        raise refusal("endless_data", name=name)
    if not given.num_batches:
        raise refusal("no_examples", name=name)
    first = batch(0)  # outside any graph
    signature = keras.tree.map_structure(spec, first)
    kinds = [part.dtype for part in keras.tree.flatten(first)]

    def batches() -> Iterator[Any]:
        for index in range(given.num_batches):
            made = batch(index)
            found = [part.dtype for part in keras.tree.flatten(made)]
            if found != kinds:
                raise refusal("batches_differ", name=name, index=index, found=found, first=kinds)
            yield made

    return lambda: tf.data.Dataset.from_generator(batches, output_signature=signature).unbatch()


def _check_stream(stream: tf.data.Dataset, name: str) -> None:
    if stream.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise refusal("endless_data", name=name)
    specs = tf.nest.flatten(stream.element_spec)
    if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        raise refusal("sparse_data", name=name)
    vectors = [spec.shape.rank == 1 for spec in specs]  # such as the labels of a batch
    if any(vectors) and all(spec.shape.rank and spec.shape[0] is None for spec in specs):
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
    prints_of = stream.map(seen, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = untuned(prints_of.batch(64))
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
    return {"dataset": content(examples, name, shard), "augmentation": augmentation}


def content(examples: Examples, name: str | None, shard: int) -> dict[str, Any]:
    """Returns what tells the examples from others, whatever their views."""
    if isinstance(examples, ArrayExamples):
        digest = hashlib.sha256()
        for part in keras.tree.flatten(examples.arrays):
            digest.update(f"{part.shape} {part.dtype}".encode())
            if part.dtype == object:  # texts, of which it holds the places in memory
                digest.update(tf.io.serialize_tensor(tf.constant(part)).numpy())
            else:
                digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        return {"name": name or "arrays", "sha256": digest.hexdigest()}
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
    function = getattr(function, "python_function", function)  # of a tf.function
    if not isinstance(function, types.FunctionType):
        raise refusal("augmentation_kind", kind=type(function).__name__)
    first = _first_inputs(examples)
    draws = np.random.default_rng(0)
    noise = keras.tree.map_structure(functools.partial(_noise, draws), first)
    for given in (first, noise):
        # Two traces, as Python's draws are constants of a trace.
        traces = [
            tf.function(functools.partial(augmentation, given), autograph=False) for _ in range(2)
        ]
        for number in range(_TRIES):
            seed = folded(pair(0), number)
            # The first one twice, as TensorFlow's draws go on from call to call.
            once, *others = (keras.tree.flatten(made(seed)) for made in (*traces, traces[0]))
            if not all(all(map(_same, once, other)) for other in others):
                raise refusal("augmentation_random", name=function.__qualname__)


def _noise(draws: np.random.Generator, part: tf.Tensor) -> tf.Tensor:
    """Returns random values in place of an example's, of which a flip may see nothing."""
    if part.dtype.is_floating:
        return tf.cast(draws.normal(size=part.shape), part.dtype)
    if part.dtype.is_integer:
        return tf.cast(draws.integers(0, 100, part.shape), part.dtype)
    return part


def _same(once: Any, again: Any) -> bool:
    return tf.io.serialize_tensor(once) == tf.io.serialize_tensor(again)


def _first_inputs(examples: Examples) -> Any:
    if isinstance(examples, ArrayExamples):
        return keras.tree.map_structure(lambda part: tf.constant(part[0]), examples.arrays[0])
    assert isinstance(examples, StreamExamples)
    for inputs, *_ in examples.read().take(1):
        return inputs
    raise refusal("no_examples", name=examples.name)
