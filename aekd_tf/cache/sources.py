"""What a cache knows of a data set: its examples by number, its views, and what identifies it."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aekd_tf import data
from aekd_tf.cache import own_data
from aekd_tf.cache.views import Views
from aekd_tf.checks import check_choice
from aekd_tf.data.examples import ArrayExamples, Augmentation, Examples
from aekd_tf.data.pipeline import example_batches, untuned
from aekd_tf.monitoring.reprs import Words, counted, repr_of
from aekd_tf.refusals import refusal

# Examples whose outputs are stored, checked and resumed together, if they are read in order.
SHARD = 2048

Outputs = Callable[[Any, Any], dict[str, Any]]


class Source(abc.ABC):
    """A data set as a cache sees it.

    Attributes:
        name: name of the data, for messages.
        prefix: what a cache's files begin with.
        classes: number of classes, if the data set knows it.
        shard: examples whose outputs are stored together; None for all.
        augmented: whether views differ from the inputs as they are.
    """

    name: str
    prefix: str = ""
    classes: int | None = None
    shard: int | None = None
    augmented: bool = False

    def settle(self, progress: bool) -> None:  # noqa: B027
        """Counts the examples of a stream, and takes their fingerprints."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @abc.abstractmethod
    def inputs(self) -> Any:
        """Returns the `tf.TensorSpec` of one view's inputs, or a structure of them."""

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """Returns what the outputs depend on besides the teacher."""

    @abc.abstractmethod
    def filling(self, views: Sequence[int], wanted: np.ndarray, batch_size: int) -> Any:
        """Gives batches of the views' inputs, in order: of the shards that are `wanted [V, S]`."""

    @abc.abstractmethod
    def training(self, batch_size: int, seed: int | None, epochs: int, outputs: Any) -> Any:
        """Gives batches `(inputs, ...)` for training; see `TeacherCache.dataset`."""


class OfSource:
    """Tells what a cache holds, in its `repr`."""

    _source: Source
    _logits: list[np.ndarray]
    hints: list[Any]

    def _shown(self) -> dict[str, Any]:
        source = self._source
        # Its length would count a stream, which takes an epoch.
        count = source.examples.count if isinstance(source, _Numbered) else source
        return {
            "dataset": counted(count, "example"),
            "hints": self.hints or None,
            "name": source.name if source.prefix else None,
            "teachers": Words(len(self._logits)),
        }

    __repr__ = repr_of


def source_of(
    dataset: Any, split: str, views: Views, augmentation: Augmentation | None, name: str | None
) -> Source:
    """Returns a data set as a cache sees it.

    Raises:
        TypeError, ValueError: no data set, or one that cannot be cached.
    """
    check_choice("split", split, ("train", "validation", "test"))
    if name is not None and (not name or name != name.replace("/", "_").strip()):
        raise refusal("data_name", name=name)
    if isinstance(dataset, data.Dataset):
        if augmentation is not None:
            raise refusal("augmentation_twice", name=dataset.name)
        if not len(getattr(dataset, split)):
            raise ValueError(f"{dataset.name} has no {split} examples: there is nothing to cache")
        if isinstance(dataset.train, data.StreamedSplit):
            return _Streamed(dataset, split, views)
        return _InMemory(dataset, split, views)
    if split != "train":
        raise refusal("split_of_own_data", split=split)
    if augmentation is None and views.count > 1:
        raise refusal("views_alike", count=views.count)
    return _Own(own_data.own_examples(dataset, augmentation, name), views, name)


class _InMemory(Source):
    """A split of a `data.Dataset` in memory."""

    def __init__(self, dataset: data.Dataset, split: str, views: Views):
        self.dataset, self.split, self.views = dataset, split, views
        self.name, self.classes = dataset.name, dataset.num_classes
        self.augmented = split == "train" and bool(dataset.crop_padding or dataset.flip)

    def __len__(self) -> int:
        return len(getattr(self.dataset, self.split))

    def inputs(self) -> Any:
        return tf.TensorSpec(self.dataset.image_shape)

    def identity(self) -> dict[str, Any]:
        split = getattr(self.dataset, self.split)
        content = hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
        augmentation = {
            "crop_padding": self.dataset.crop_padding,
            "flip": self.dataset.flip,
            "seed": self.views.seed,
        }
        return {
            "dataset": {"name": self.dataset.name, "sha256": content},
            "preprocessing": {"mean": self.dataset.mean, "std": self.dataset.std},
            "augmentation": augmentation if self.split == "train" else None,
        }

    def filling(self, views: Sequence[int], wanted: np.ndarray, batch_size: int) -> Any:
        if self.split == "train":
            return data.view_pipeline(self.dataset, views, self.views.seed, batch_size)
        split = getattr(self.dataset, self.split)
        batches = data.evaluation_pipeline(self.dataset, split, batch_size)
        return batches.map(lambda images, labels: images)

    def training(self, batch_size: int, seed: int | None, epochs: int, outputs: Any) -> Any:
        if self.split == "train":
            return data.training_pipeline(
                self.dataset,
                batch_size=batch_size,
                epochs=epochs,
                seed=seed,
                views=self.views.count,
                view_seed=self.views.seed,
                teacher_outputs=outputs,
            )
        split = getattr(self.dataset, self.split)
        images = data.normalize(split.images, self.dataset)
        return _batches(
            ArrayExamples((images, split.labels)), self.views, batch_size, seed, epochs, outputs
        )


class _Numbered(Source):
    """A source whose examples have numbers and are augmented one by one."""

    def __init__(self, examples: Examples, views: Views, name: str):
        self.examples, self.views, self.name = examples, views, name
        self.shard = None if isinstance(examples, ArrayExamples) else SHARD
        self.augmented = examples.augmentation is not None

    def __len__(self) -> int:
        self.settle(False)
        return self.examples.count

    def inputs(self) -> Any:
        self.settle(False)
        return self.examples.epoch(None, 0, self.views.seed, 0).element_spec[1][0]

    def filling(self, views: Sequence[int], wanted: np.ndarray, batch_size: int) -> Any:
        shard = self.shard or len(self)  # which settles

        @tf.autograph.experimental.do_not_convert
        def one_view(view: Any, of_view: Any) -> Any:
            examples = self.examples.in_order()
            if not wanted.all():
                examples = examples.filter(lambda number, _: tf.gather(of_view, number // shard))
            shown = self.examples.views(examples, self.views.seed, view)
            return shown.map(lambda number, example: example[0]).batch(batch_size)

        numbers = tf.data.Dataset.from_tensor_slices((tf.constant(views, tf.int32), wanted))
        return untuned(numbers.flat_map(one_view).prefetch(2))

    def training(self, batch_size: int, seed: int | None, epochs: int, outputs: Any) -> Any:
        self.settle(False)
        return _batches(self.examples, self.views, batch_size, seed, epochs, outputs)


class _Own(_Numbered):
    """A user's own data."""

    def __init__(self, examples: Examples, views: Views, name: str | None):
        super().__init__(examples, views, name or "the data set")
        self._given, self._settled = name, isinstance(examples, ArrayExamples)
        self.prefix = "" if name is None else f"{name}_"
        self._filled: dict[str, Any] | None = None

    def settle(self, progress: bool) -> None:
        if not self._settled:
            self.examples = own_data.survey(self.examples, progress)
            self._settled = True

    def identity(self) -> dict[str, Any]:
        self.settle(False)
        found = own_data.identity(self.examples, self._given, self.views.seed, SHARD)
        self._filled = found["dataset"]
        return found

    def training(self, batch_size: int, seed: int | None, epochs: int, outputs: Any) -> Any:
        if outputs is not None and isinstance(self.examples, ArrayExamples):
            found = own_data.content(self.examples, self._given, SHARD)
            if found != self._filled:
                raise refusal("arrays_changed", name=self.name)
        return super().training(batch_size, seed, epochs, outputs)


class _Streamed(_Numbered):
    """A split of a `data.Dataset` that is read from disk."""

    def __init__(self, dataset: data.Dataset, split: str, views: Views):
        self._split = getattr(dataset, split)
        self._random = split == "train" and self._split.augmented
        super().__init__(self._split.examples(random=self._random), views, dataset.name)
        self.classes, self.shard, self.augmented = dataset.num_classes, SHARD, self._random

    def identity(self) -> dict[str, Any]:
        split = self._split
        flip = " and flip" if split.flip else ""
        views = {"recipe": f"random resized crop{flip}", "seed": self.views.seed}
        return {
            "dataset": split.identity,
            "preprocessing": {"size": split.size, "scale": split.scale},
            "augmentation": views if self._random else None,
        }


def _batches(
    examples: Examples,
    views: Views,
    batch_size: int,
    seed: int | None,
    epochs: int,
    outputs: Outputs | None,
) -> Any:
    return example_batches(
        examples,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        view_seed=views.seed,
        views=views.count,
        teacher_outputs=outputs,
    )
