"""Reads calibration and check data as the exported file takes them, or makes some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.cache.batches import split_batch
from aekd_tf.data.user_data import batches, is_arrays
from aekd_tf.export.wrapping import Exported
from aekd_tf.refusals import refusal

# Of arrays; a data set keeps its own batches.
_BATCH_SIZE = 64
_NOISE_EXAMPLES = 16
# Where an input has no size, such as None x None images.
_NOISE_SIZE = 32

Batch = tuple[list[np.ndarray], Any, Any]


def check_kind(what: str, given: Any) -> None:
    """Refuses data that are not arrays or a data set that ends."""
    x = given[0] if isinstance(given, tuple) and given else given
    kinds = (tf.data.Dataset, keras.utils.PyDataset)
    whole = isinstance(x, kinds)
    if whole and x is not given:
        raise refusal("examples_kind", what=what, kind=f"tuple with a {type(x).__name__}")
    if not whole and not is_arrays(x):
        raise refusal("examples_kind", what=what, kind=type(x).__name__)
    endless = isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY
    if endless or (isinstance(x, keras.utils.PyDataset) and x.num_batches is None):
        raise refusal("examples_endless", what=what)


def first_inputs(given: Any) -> Any:
    """Returns the inputs of the first batch of data; None if there is none."""
    return next((x for x, _, _ in _batches(given)), None)


def check_first(what: str, given: Any, exported: Exported) -> None:
    """Checks the first batch as `read` does, before anything takes long."""
    next(read(what, given, exported))


def read(what: str, given: Any, exported: Exported) -> Iterator[Batch]:
    """Yields batches `(inputs, y, sample_weight)`, the inputs as a list of arrays.

    Args:
        what: what messages call the data.
        given: x, `(x, y)`, or a data set.
        exported: the model whose inputs they are.

    Raises:
        ValueError: no examples; inputs of other shapes, or that their dtype cannot hold;
            another number of labels.
    """
    empty = True
    for x, y, weight in _batches(given):
        arrays = _arrays(what, x, exported)
        count = len(arrays[0])
        if y is not None and any(len(part) != count for part in keras.tree.flatten(y)):
            given_labels = len(keras.tree.flatten(y)[0])
            raise refusal("examples_labels", given=given_labels, examples=count)
        if count:
            empty = False
            yield arrays, y, weight
    if empty:
        raise refusal("examples_none", what=what)


def noise(exported: Exported) -> tuple[str, Iterator[Batch]]:
    """Returns what to call noise, and one batch of it; integers and texts are zeros."""
    generator = np.random.default_rng(0)
    arrays, zeros = [], False
    for tensor in exported.flat_inputs:
        shape = [_NOISE_EXAMPLES, *(_NOISE_SIZE if n is None else n for n in tensor.shape[1:])]
        if tensor.dtype.startswith("float"):
            arrays.append(generator.normal(size=shape).astype(tensor.dtype))
        else:
            zeros = True
            kind = object if tensor.dtype == "string" else tensor.dtype
            arrays.append(np.full(shape, "" if kind is object else 0, kind))
    name = "noise" if not zeros else "zeros" if len(arrays) == 1 else "noise and zeros"
    return name, iter([(arrays, None, None)])


def _batches(given: Any) -> Iterator[tuple[Any, Any, Any]]:
    parts = given if isinstance(given, tuple) else (given,)
    x, y, weight = (*parts, None, None)[:3]
    if y is not None and is_arrays(x):
        y = keras.tree.map_structure(np.asarray, y) if is_arrays(y) else np.asarray(y)
        count = len(keras.tree.flatten(x)[0])
        if (labels := len(keras.tree.flatten(y)[0])) != count:
            raise refusal("examples_labels", given=labels, examples=count)
    for inputs, labels, weights in batches(x, y, _BATCH_SIZE, weight):
        yield split_batch(inputs)[0], labels, weights


def _arrays(what: str, x: Any, exported: Exported) -> list[np.ndarray]:
    """Returns a batch's inputs in the model's order and dtypes."""
    tensors = exported.flat_inputs
    if isinstance(x, dict) and not isinstance(exported.inputs, dict):
        names = [tensor.name for tensor in tensors]
        leaves = [x[name] for name in names if name in x]
    elif isinstance(x, dict):
        leaves = [x[name] for name in exported.inputs if name in x]
        tensors = list(exported.inputs.values())
    else:
        leaves = keras.tree.flatten(x)
    shapes = [tuple(np.shape(leaf)) for leaf in leaves]
    fits = len(leaves) == len(tensors) and all(
        len(shape) == len(tensor.shape)
        and all(size in (None, n) for n, size in zip(shape[1:], tensor.shape[1:], strict=True))
        for shape, tensor in zip(shapes, tensors, strict=True)
    )
    if not fits or len({shape[0] for shape in shapes}) > 1:
        expected = [f"{t.name} {(None, *t.shape[1:])}" for t in tensors]
        raise refusal("examples_inputs", what=what, given=shapes, expected=expected)
    cast = {
        id(tensor): _cast(what, leaf, tensor) for leaf, tensor in zip(leaves, tensors, strict=True)
    }
    return [cast[id(tensor)] for tensor in exported.flat_inputs]


def _cast(what: str, leaf: Any, tensor: Any) -> np.ndarray:
    values = np.asarray(leaf)
    if tensor.dtype == "string":
        return values.astype(object)
    if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16":
        raise refusal("examples_dtype", what=what, given=values.dtype, expected=tensor.dtype,
                      name=tensor.name)  # fmt: skip
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(tensor.dtype)
        lost = not tensor.dtype.startswith("float") and not np.array_equal(cast, values)
    if lost:
        raise refusal("examples_dtype", what=what, given=values.dtype, expected=tensor.dtype,
                      name=tensor.name)  # fmt: skip
    return cast
