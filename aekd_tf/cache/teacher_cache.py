"""Stores teachers' outputs on disk: computed once, read by every student.

One file per teacher holds its logits for R augmented views of N training examples. With hints,
a second file holds its feature maps. View r of an example is the crop that a student sees in
every epoch e with e mod R = r. If R is at least the number of epochs, training from the cache
gives the same student as training without it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import data, files
from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.cache.store import ViewFile, recorded
from aekd_tf.cache.top_k import expand, keep_top_k
from aekd_tf.cache.views import Views
from aekd_tf.checks import check_choice
from aekd_tf.names import HEADS
from aekd_tf.outputs import UNKNOWN
from aekd_tf.refusals import refusal
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.forwards import Forwards
from aekd_tf.teachers.identity import TeacherSource
from aekd_tf.terms.capture import feature_shape
from aekd_tf.terms.hints import Hints, find_layer, listed
from aekd_tf.terms.pooling import pooled, pooled_shape


class TeacherCache:
    """Outputs of M teachers for every view of every training example.

    Args:
        directory: directory of the files; created if missing.
        dataset: a data set in memory, from `data.load`.
        views: which views.
        batch_size: images per forward pass of the teachers. A run equals the uncached run bit
            for bit if both have the same batch size.
        hints: `Hints`, or a list of them: the feature maps to store too, and their pooling;
            None for none.
        split: `"train"`, or `"validation"` or `"test"` for one view of that split's images, not
            augmented.
        head: what the teachers' outputs are, as for `TeacherEnsemble`. Other outputs than
            classes may have any shape.

    Raises:
        ValueError: a data set that is read from disk, a split without examples, several views or
            hints of another split than the training's, or a `top_k` that is not below the number
            of classes.

    Example:

        cache = TeacherCache("runs/cache", dataset, Views(count=8))
        cache.fill(teachers, names)     # computes what is missing
        batches = data.training_pipeline(
            dataset, batch_size=64, epochs=40, seed=1,
            views=8, view_seed=0, teacher_outputs=cache.read,
        )
        distiller = EnsembleDistiller(student, cache.teachers)
        distiller.compile(...)
        distiller.fit(batches, steps_per_epoch=..., epochs=40)
    """

    def __init__(
        self,
        directory: str,
        dataset: data.Dataset,
        views: Views,
        batch_size: int = 64,
        hints: str | Hints | Sequence[str | Hints] | None = None,
        split: str = "train",
        head: str = "classes",
    ):
        if not isinstance(dataset, data.Dataset):
            raise refusal("not_a_dataset", kind=type(dataset).__name__)
        if isinstance(dataset.train, data.StreamedSplit):
            raise ValueError(f"{dataset.name} is read from disk: only sets in memory are cached")
        check_choice("split", split, ("train", "validation", "test"))
        if not len(getattr(dataset, split)):
            raise ValueError(f"{dataset.name} has no {split} examples: there is nothing to cache")
        if split != "train" and (views.count != 1 or hints is not None):
            raise ValueError(f"the {split} split is cached as one view, without hints")
        if views.top_k is not None and views.top_k >= dataset.num_classes:
            raise ValueError(
                f"top_k is {views.top_k} but {dataset.name} has {dataset.num_classes} classes: "
                "give fewer, or None for all logits"
            )
        self.directory = os.fspath(directory)
        self.dataset, self.views, self.batch_size = dataset, views, batch_size
        check_choice("head", head, HEADS)
        self.hints, self.split, self.head = listed(hints), split, head
        self.digests: list[str] = []
        self._logits: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    @property
    def teachers(self) -> CachedTeachers:
        """Returns what an `EnsembleDistiller` takes in place of the loaded teachers."""
        if not self._logits:
            raise ValueError("the cache is empty: call fill first")
        shapes = [list(array.shape[2:]) for array in self._features]
        temperature = self.views.temperature if self.views.top_k is not None else None
        # Written in full by each teacher, so one example tells.
        first = self._gather_logits(0, np.arange(min(1, self._examples)))
        return CachedTeachers(
            len(self._logits), shapes or None, temperature, bool((first < UNKNOWN / 2).any())
        )

    def bytes_each(self, teacher: keras.Model | None = None) -> int:
        """Returns the size of one teacher's files; with hints that of `teacher`, the first."""
        count = self.views.count * self._examples
        shape, dtype = self._logits_type((self.dataset.num_classes,))
        size = count * dtype.itemsize * int(np.prod(shape))
        for hints in self.hints:
            assert teacher is not None
            layers = hints.teachers
            layer = layers if isinstance(layers, str) else layers[0]
            shape = self._feature_shape(teacher, layer, hints)
            size += count * int(np.prod(shape)) * np.dtype(self.views.dtype).itemsize
        return size

    def holds(self, path: str, name: str, teacher: int = 0, num_teachers: int = 1) -> bool:
        """Tells whether all outputs of the teacher in a `.keras` file are stored, unverified."""
        stems = self._stems(name, self._layers(teacher, num_teachers))
        if not os.path.exists(path):
            return False
        digest = files.sha256(path)
        manifests = [recorded(stem) for stem in stems]
        return all(
            content.get("file") == digest
            and isinstance(content.get("checksums"), dict)
            and len(content["checksums"]) == self.views.count
            for content in manifests
        )

    def fill(
        self,
        teachers: Sequence[keras.Model | str],
        names: Sequence[str],
        safe_mode: bool = True,
        progress: bool = True,
    ) -> int:
        """Opens every teacher's files and computes the views that are missing.

        Args:
            teachers: M models to logits `[B, K]`, or paths of their `.keras` files, which are
                loaded only if some of their outputs are missing.
            names: M different names, for the cache's files.
            safe_mode: whether to refuse a model file with Python code in it, as Keras does.
            progress: whether a bar is shown.

        Returns:
            The number of views that were computed.

        Raises:
            CacheError: a file that is damaged, or that comes from another teacher, data set or
                augmentation; no part of it is used.
        """
        self.digests, self._logits, self._features, computed = [], [], [], 0
        maps: list[list[np.ndarray]] = []
        for name in names:
            if list(names).count(name) > 1:
                raise refusal("same_name", name=name)
        os.makedirs(self.directory, exist_ok=True)
        forwards = Forwards()
        for index, (teacher, name) in enumerate(zip(teachers, names, strict=True)):
            source = TeacherSource(teacher, safe_mode)
            layers = self._layers(index, len(teachers))
            digest = source.digest([recorded(stem) for stem in self._stems(name, layers)])
            files = self._open(source, name, layers, digest)
            missing = sorted({view for file in files for view in file.missing()})
            if missing:
                computed += len(missing)
                outputs = self._outputs(self._forward(source.model, layers, forwards), missing)
                shown = tqdm(
                    missing,
                    desc=f"outputs of {name}",
                    unit=" views",
                    ascii=" =",
                    disable=not progress,
                )
                for view, arrays in zip(shown, outputs, strict=True):
                    for file, values in zip(files, arrays, strict=True):
                        if view in file.missing():
                            file.write(view, values)
            for file in files:
                if file.file != source.file:
                    file.file = source.file
                    file.write_manifest()
            self.digests.append(digest)
            self._logits.append(files[0].read())
            maps.append([file.read() for file in files[1:]])
        self._features = [array for of_hint in zip(*maps, strict=True) for array in of_hint]
        return computed

    def read(self, view: tf.Tensor, indices: tf.Tensor, hints: bool = False) -> dict[str, Any]:
        """Reads the outputs for one view of the examples `indices [B]`, inside `tf.data`.

        Returns:
            `"teacher_logits"`, `[B, M, ..., K]` float32; with `hints` also `"teacher_features"`, a
            tuple of M feature maps `[B, ...]` float32, of several hints one after the other.
        """
        outputs = tf.numpy_function(self._gather_logits, [view, indices], tf.float32)
        stored = self._logits[0].shape[2:]
        stored = stored if self.views.top_k is None else (self.dataset.num_classes,)
        shape = [None, len(self._logits), *stored]
        results: dict[str, Any] = {"teacher_logits": tf.ensure_shape(outputs, shape)}
        if hints:
            types = [tf.float32] * len(self._features)
            maps = tf.numpy_function(self._gather_features, [view, indices], types)
            results["teacher_features"] = tuple(
                tf.ensure_shape(values, [None, *array.shape[2:]])
                for values, array in zip(maps, self._features, strict=True)
            )
        return results

    def logits(self, view: int = 0) -> np.ndarray:
        """Returns the outputs of all examples of a view, in order: `[M, N, ..., K]` float32."""
        return np.swapaxes(self._gather_logits(view, np.arange(self._examples)), 0, 1)

    def _gather_logits(self, view: Any, indices: np.ndarray) -> np.ndarray:
        parts = [array[int(view)][indices] for array in self._logits]
        if self.views.top_k is not None:
            parts = [expand(part, self.dataset.num_classes) for part in parts]
        return np.stack(parts, axis=1).astype(np.float32)

    def _gather_features(self, view: Any, indices: np.ndarray) -> list[np.ndarray]:
        return [array[int(view)][indices].astype(np.float32) for array in self._features]

    @property
    def _examples(self) -> int:
        return len(getattr(self.dataset, self.split))

    def _logits_type(self, outputs: tuple[int, ...]) -> tuple[tuple[int, ...], np.dtype]:
        """Returns the shape and dtype in which one example's outputs are stored."""
        number, k = np.dtype(self.views.dtype), self.views.top_k
        if k is None:
            return outputs, number
        classes = np.dtype(np.uint16 if self.dataset.num_classes <= 2**16 else np.uint32)
        fields = [("logits", number, (k,)), ("classes", classes, (k,)), ("others", number)]
        return (), np.dtype(fields)

    def _layers(self, teacher: int, num_teachers: int) -> list[str]:
        """Returns the layer that gives a teacher's feature map, per hint."""
        return [hints.teacher_layers(num_teachers)[teacher] for hints in self.hints]

    def _stems(self, name: str, layers: Sequence[str]) -> list[str]:
        """Returns the paths of a teacher's files without ending: logits, then feature maps."""
        ending = "" if self.split == "train" else f".{self.split}"
        stem = os.path.join(self.directory, name + ending)
        # Two hints may share a layer, with another pooling.
        again = [f".{layers[:index].count(layer)}" for index, layer in enumerate(layers)]
        endings = ["" if number == ".0" else number for number in again]
        return [stem, *(f"{stem}.{one}{two}" for one, two in zip(layers, endings, strict=True))]

    def _open(
        self, source: TeacherSource, name: str, layers: Sequence[str], digest: str
    ) -> list[ViewFile]:
        stems, count = self._stems(name, layers), (self.views.count, self._examples)
        identity = {**self._identity, "teacher": digest}
        shape, dtype = self._logits_type(self._output_shape(source, stems[0]))
        selection = {"top_k": self.views.top_k, "temperature": self.views.temperature}
        selection = selection if self.views.top_k is not None else {}
        files = [ViewFile(stems[0], (*count, *shape), dtype, {**identity, **selection})]
        for stem, layer, hints in zip(stems[1:], layers, self.hints, strict=True):
            known = recorded(stem).get("shape")
            shape = (
                tuple(known[2:])
                if isinstance(known, list)
                else self._feature_shape(source.model, layer, hints)
            )
            feature = {"layer": layer, "pooling": hints.pooling}
            content = {**identity, "feature": feature}
            files.append(ViewFile(stem, (*count, *shape), np.dtype(self.views.dtype), content))
        return files

    def _output_shape(self, source: TeacherSource, stem: str) -> tuple[int, ...]:
        """Returns the shape of a teacher's outputs for one example."""
        known = recorded(stem).get("shape")
        if self.head == "classes":
            return (self.dataset.num_classes,)
        if isinstance(known, list):
            return tuple(known[2:])
        images = keras.KerasTensor((None, *self.dataset.image_shape))
        return tuple(source.model.compute_output_spec(images, training=False).shape[1:])

    def _feature_shape(self, teacher: keras.Model, layer: str, hints: Hints) -> tuple[int, ...]:
        shape = feature_shape(
            teacher, find_layer(teacher, layer), (None, *self.dataset.image_shape)
        )
        return pooled_shape(shape, hints.pooling)[1:]

    def _forward(self, teacher: keras.Model, layers: Sequence[str], forwards: Forwards) -> Any:
        """Returns a function of images that is traced: logits, then a pooled map per hint."""
        ensemble = TeacherEnsemble([teacher], head=self.head)
        ensemble.share(forwards)
        found = [[find_layer(teacher, layer)] for layer in layers]

        def forward(images: tf.Tensor) -> list[tf.Tensor]:
            if not layers:
                return [ensemble.logits(images)[0]]
            logits, maps = ensemble.logits_and_features(images, found)
            pairs = zip(maps, self.hints, strict=True)
            pooled_maps = [pooled(features[0], hints.pooling) for features, hints in pairs]
            return [logits[0], *(tf.cast(features, tf.float32) for features in pooled_maps)]

        own = forwards.kind(teacher) is None
        return tf.function(forward, autograph=False) if own else forward

    def _outputs(self, forward: Any, views: list[int]) -> Iterator[list[np.ndarray]]:
        """Yields the arrays to store per view, `[N, ...]` in the order of the examples."""
        if self.split != "train":
            split = getattr(self.dataset, self.split)
            pipeline = data.evaluation_pipeline(self.dataset, split, self.batch_size)
            batches = iter(pipeline.map(lambda images, labels: images))
        else:
            batches = iter(
                data.view_pipeline(self.dataset, views, self.views.seed, self.batch_size)
            )
        if hasattr(forward, "get_concrete_function"):
            # One trace for all batch sizes: many teachers with few batches each would look like
            # one function that is traced again and again, which TensorFlow warns of.
            forward = forward.get_concrete_function(batches.element_spec)
        steps = -(-self._examples // self.batch_size)
        for _ in views:
            parts = [
                [np.asarray(output) for output in forward(images)]
                for images in itertools.islice(batches, steps)
            ]
            yield self._packed([np.concatenate(column) for column in zip(*parts, strict=True)])

    def _packed(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Converts logits `[N, K]` and feature maps, if any, to the stored format."""
        logits, *features = outputs
        if self.views.top_k is None:
            stored = self._clipped(logits)
        else:
            stored = np.empty(len(logits), self._logits_type(logits.shape[1:])[1])
            values, classes, others = keep_top_k(logits, self.views.top_k, self.views.temperature)
            stored["logits"], stored["classes"] = self._clipped(values), classes
            stored["others"] = self._clipped(others)
        return [stored, *(self._clipped(values) for values in features)]

    def _clipped(self, values: np.ndarray) -> np.ndarray:
        """Converts values to the stored dtype; a value beyond its range becomes its limit."""
        limit = np.finfo(self.views.dtype).max
        return np.clip(values, -limit, limit).astype(self.views.dtype)

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        """Returns what all files depend on; files with another identity are refused."""
        split = getattr(self.dataset, self.split)
        assert isinstance(split, data.Split)
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
