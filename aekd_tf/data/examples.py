"""Gives examples by number, in order or shuffled, as views that can be replayed.

Every example has a number, its place in the data. An augmented view of it is a function of
(seed, view, number) alone. So what was computed for a view belongs to it in every run.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

# Examples that are shuffled together where data can only be read in order, and their size.
WINDOW, _WINDOW_BYTES = 1024, 2**28

Augmentation = Callable[[Any, Any], Any]


def pair(seed: int) -> Any:
    """Returns a whole number as the int32 `[2]` that stateless functions take."""
    import tensorflow as tf

    seed = int(seed)
    parts = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
    return tf.constant(parts.view(np.int32))


def folded(seed: Any, *numbers: Any) -> Any:
    """Returns an int32 `[2]` made of another one and further numbers."""
    import tensorflow as tf

    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int32))
    return seed


class Examples(abc.ABC):
    """Examples that have numbers.

    Attributes:
        count: N.
        augmentation: function of one example's inputs and an int32 `[2]`; None without.
    """

    count: int
    augmentation: Augmentation | None

    @abc.abstractmethod
    def in_order(self) -> Any:
        """Gives `(number, (inputs, ...))`, one example after the other."""

    @abc.abstractmethod
    def shuffled(self, key: Any) -> Any:
        """Gives the same in an order that depends on `key`, an int32 `[2]`."""

    def views(self, examples: Any, seed: int, view: Any) -> Any:
        """Augments what `in_order` or `shuffled` gives."""
        import keras
        import tensorflow as tf

        augmentation = self.augmentation
        if augmentation is None:
            return examples
        start = pair(seed)

        @tf.autograph.experimental.do_not_convert
        def shown(number: Any, example: Any) -> Any:
            inputs, *others = example
            seen = keras.tree.lists_to_tuples(augmentation(inputs, folded(start, view, number)))
            return number, (seen, *others)

        return examples.map(shown, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def epoch(self, seed: int | None, epoch: Any, view_seed: int, view: Any) -> Any:
        """Gives `(number, (view of the inputs, ...))` for all examples, in order without a seed."""
        examples = self.in_order() if seed is None else self.shuffled(folded(pair(seed), epoch))
        return self.views(examples, view_seed, view)


@dataclasses.dataclass(frozen=True)
class ArrayExamples(Examples):
    """Examples in memory.

    Attributes:
        arrays: `(inputs, ...)`, structures of arrays `[N, ...]`.
    """

    arrays: tuple[Any, ...]
    augmentation: Augmentation | None = None

    @property
    def count(self) -> int:  # type: ignore[override]
        import keras

        return len(keras.tree.flatten(self.arrays)[0])

    @functools.cached_property
    def _tensors(self) -> Any:
        """Returns the arrays as tensors outside any graph, which would hold another copy."""
        import keras
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU"):
            return keras.tree.map_structure(tf.convert_to_tensor, self.arrays)

    def in_order(self) -> Any:
        import tensorflow as tf

        return self._numbered(tf.range(self.count))

    def shuffled(self, key: Any) -> Any:
        import tensorflow as tf

        numbers = tf.range(self.count)
        return self._numbered(tf.random.experimental.stateless_shuffle(numbers, key))

    def _numbered(self, numbers: Any) -> Any:
        import keras
        import tensorflow as tf

        arrays = self._tensors

        @tf.autograph.experimental.do_not_convert
        def example(number: Any) -> Any:
            picked = keras.tree.map_structure(lambda array: tf.gather(array, number), arrays)
            return tf.cast(number, tf.int64), picked

        return tf.data.Dataset.from_tensor_slices(numbers).map(example)


@dataclasses.dataclass(frozen=True)
class StreamExamples(Examples):
    """Examples that can only be read one after the other, always in the same order.

    Attributes:
        name: name of the data, for messages.
        read: function that returns the `tf.data.Dataset` of `(inputs, ...)`, not batched.
        count: N.
        fingerprints: `[N]` int64 of `fingerprints_of`, which every example is compared with; None
            for data that cannot change.
        window: examples that are shuffled together.
    """

    name: str
    read: Callable[[], Any]
    count: int
    augmentation: Augmentation | None = None
    fingerprints: np.ndarray | None = None
    window: int = WINDOW

    def in_order(self) -> Any:
        packed, unpack = self._packed()
        return packed.map(unpack)

    def shuffled(self, key: Any) -> Any:
        """Shuffles windows of examples, whose bounds move with the key.

        Not `Dataset.shuffle`, whose order also depends on the global seed.
        """
        import tensorflow as tf

        packed, unpack = self._packed()
        window = min(self.count, self.window)
        start = tf.random.stateless_uniform([], folded(key, 0), 0, max(window, 1), tf.int64)
        rotated = packed.skip(start).concatenate(packed.take(start))

        @tf.autograph.experimental.do_not_convert
        def one_window(index: Any, examples: Any) -> Any:
            places = tf.range(tf.shape(examples[0])[0])
            order = tf.random.experimental.stateless_shuffle(places, folded(key, 1, index))
            return tf.data.Dataset.from_tensor_slices(order).map(
                lambda place: tf.nest.map_structure(lambda part: tf.gather(part, place), examples)
            )

        return rotated.batch(window).enumerate().flat_map(one_window).map(unpack)

    def _packed(self) -> tuple[Any, Any]:
        """Returns the data as `(number, texts [P])`, which fit in one batch whatever their shapes.

        The second result is the function that unpacks them. Examples of known shapes, which are
        not checked, stay as they are.
        """
        import tensorflow as tf

        stream = self.read()
        spec = stream.element_spec
        known, message = self.fingerprints, f"{self.name} has changed since it was first read: "
        message += "it must give the same examples in the same order each time, so shuffle and "
        message += "augment through TeacherCache, or give what has changed another name"

        @tf.autograph.experimental.do_not_convert
        def pack(number: Any, example: Any) -> Any:
            texts = packed(example)
            if known is not None:
                same = tf.equal(fingerprint(texts), tf.gather(known, number))
                with tf.control_dependencies([tf.debugging.Assert(same, [message])]):
                    texts = tf.identity(texts)
            return number, texts

        @tf.autograph.experimental.do_not_convert
        def unpack(number: Any, texts: Any) -> Any:
            return number, unpacked(texts, spec)

        stream = stream.apply(tf.data.experimental.assert_cardinality(self.count))
        if known is None and all(part.shape.is_fully_defined() for part in tf.nest.flatten(spec)):
            return stream.enumerate(), lambda number, example: (number, example)
        return stream.enumerate().map(pack), unpack


def packed(example: Any) -> Any:
    """Returns a structure of tensors as texts `[P]`."""
    import tensorflow as tf

    return tf.stack([tf.io.serialize_tensor(part) for part in tf.nest.flatten(example)])


def unpacked(texts: Any, spec: Any) -> Any:
    """Returns the structure that was packed."""
    import tensorflow as tf

    parts = [
        tf.ensure_shape(tf.io.parse_tensor(texts[index], each.dtype), each.shape)
        for index, each in enumerate(tf.nest.flatten(spec))
    ]
    return tf.nest.pack_sequence_as(spec, parts)


def fingerprint(texts: Any) -> Any:
    """Returns an int64 that tells packed examples apart."""
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(tf.strings.reduce_join(texts), 2**63 - 1)


def window_of(example_bytes: float) -> int:
    """Returns how many examples of a size may be in memory together."""
    return int(np.clip(_WINDOW_BYTES / max(example_bytes, 1), 64, WINDOW))
