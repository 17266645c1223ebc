"""Stores teachers' outputs on disk: computed once, read by every student.

One file per teacher holds its outputs for R augmented views of N training examples. With hints,
a second file holds its feature maps. View r of an example is what a student sees in every epoch e
with e mod R = r. If R is at least the number of epochs, training from the cache gives the same
student as training without it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import files
from aekd_tf.cache import computing
from aekd_tf.cache.batches import CachedTeachers, repeats_within
from aekd_tf.cache.sources import OfSource, source_of
from aekd_tf.cache.store import ViewFile, parts_of, recorded, write_parts
from aekd_tf.cache.stored import gather_features, gather_logits, logits_type, stored
from aekd_tf.cache.teacher_source import OutputsSource, TeacherSource, as_source
from aekd_tf.cache.views import Views
from aekd_tf.checks import check_choice
from aekd_tf.names import HEADS
from aekd_tf.outputs import UNKNOWN
from aekd_tf.refusals import refusal
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.forwards import Forwards
from aekd_tf.terms.hints import Hints, listed


class TeacherCache(OfSource):
    """Stores the outputs of M teachers for every view of every training example, on disk.

    They are computed once. Every student, in any later run, reads them.

    Args:
        directory: directory of the files; created if missing.
        dataset: one of:

            - arrays `(inputs, labels)` or `(inputs, labels, sample_weight)`; inputs may be a dict
              or a tuple of arrays, and labels may be missing.
            - a `tf.data.Dataset` of such tuples, one example each, always in the same order.
            - a `keras.utils.PyDataset`, whose batches are read in the order of their indices.
            - a `data.Dataset` of `data.load`, with its own augmentation.
        views: which views. Several require an augmentation.
        batch_size: examples per forward pass of the teachers. A run equals the uncached run bit
            for bit if both have the same batch size.
        hints: `Hints`, or a list of them: the feature maps to store too, and their pooling;
            None for none.
        split: of a `data.Dataset`: `"train"`, or `"validation"` or `"test"` for one view of that
            split's examples, not augmented.
        augmentation: function of one example's inputs and an int32 `[2]` to what the models see.
            It must draw by TensorFlow's stateless functions (`tf.image.stateless_...`), with
            the second argument as their seed. None for the inputs as they are.
        name: name of the data, which their files begin with; required for a `tf.data.Dataset`
            and a `PyDataset`, whose content is checked against it whenever it is read.
        head: what the teachers' outputs are, as for `TeacherEnsemble`. Other outputs than
            classes may have any shape.

    Raises:
        TypeError: something else than data, or an augmentation that is not a function.
        ValueError: data without a name, in batches or without an end; an augmentation that
            does not follow its seed, or is missing for several views; a split without examples;
            several views or hints of another split than the training's; a `top_k` that is not
            below the number of classes.

    Example::

        import keras
        import numpy as np
        from aekd_tf import EnsembleDistiller, TeacherCache

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(20, 4).astype("float32"), np.random.randint(0, 3, 20)
        cache = TeacherCache("cache", (x, y))
        cache.fill([network(), network()], progress=False)  # computes what is missing
        print(cache.logits().shape)  # (2, 20, 3)
        distiller = EnsembleDistiller(network(), cache.teachers, weighting="average")
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        distiller.fit(cache.dataset(10, seed=1, epochs=2), epochs=2, steps_per_epoch=2, verbose=0)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        dataset: Any,
        views: Views | None = None,
        batch_size: int = 64,
        hints: str | Hints | Sequence[str | Hints] | None = None,
        split: str = "train",
        head: str = "classes",
        *,
        augmentation: Callable[[Any, Any], Any] | None = None,
        name: str | None = None,
    ):
        self.views = Views(1) if views is None else views
        self._source = source_of(dataset, split, self.views, augmentation, name)
        if split != "train" and (self.views.count != 1 or hints is not None):
            raise ValueError(f"the {split} split is cached as one view, without hints")
        check_choice("head", head, HEADS)
        self.directory = os.fspath(directory)
        self.dataset_name, self.batch_size = self._source.name, batch_size
        self.hints, self.split, self.head = listed(hints), split, head
        self.digests: list[str] = []
        self._logits: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        # Of one example; known from the first teacher on, or from the data set.
        self._outputs_shape: tuple[int, ...] | None = None
        if self._source.classes is not None and head == "classes":
            self._outputs_shape = (self._source.classes,)
            self._check_top_k()

    @property
    def teachers(self) -> CachedTeachers:
        """Returns what an `EnsembleDistiller` takes in place of the loaded teachers."""
        self._check_filled()
        shapes = [list(array.shape[2:]) for array in self._features]
        temperature = self.views.temperature if self.views.top_k is not None else None
        # Written in full by each teacher, so one example tells.
        first = self._rows(0, np.arange(1))
        return CachedTeachers(
            len(self._logits), shapes or None, temperature, bool((first < UNKNOWN / 2).any())
        )

    def bytes_each(self, teacher: keras.Model | None = None) -> int:
        """Returns the size of one teacher's files; of `teacher`, where its outputs decide."""
        count = self.views.count * len(self._source)
        outputs = self._outputs_shape
        if outputs is None and teacher is not None:
            outputs = computing.output_shape(teacher, self._source.inputs())
        outputs = (self._source.classes or 1,) if outputs is None else outputs
        shape, dtype = logits_type(self.views, outputs)
        size = count * dtype.itemsize * int(np.prod(shape))
        for hints in self.hints:
            assert teacher is not None
            layers = hints.teachers
            layer = layers if isinstance(layers, str) else layers[0]
            shape = computing.map_shape(teacher, layer, hints, self._source.inputs())
            size += count * int(np.prod(shape)) * np.dtype(self.views.dtype).itemsize
        return size

    def seconds_each(self, teacher: keras.Model) -> float:
        """Estimates how long one teacher's outputs take, from a few batches."""
        forward = TeacherSource(teacher, Forwards()).forward(self.head)
        shards = -(-len(self._source) // (self._source.shard or len(self._source)))
        batches = self._source.filling([0], np.ones((1, shards), bool), self.batch_size)
        return self.views.count * len(self._source) * computing.seconds(forward, batches)

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
            and len(content["checksums"]) == len(self._parts)
            for content in manifests
        )

    def fill(
        self,
        teachers: Sequence[keras.Model | str | np.ndarray] | TeacherEnsemble,
        names: Sequence[str] | None = None,
        safe_mode: bool = True,
        progress: bool = True,
        part: tuple[int, int] = (0, 1),
    ) -> int:
        """Opens every teacher's files and computes what is missing.

        Args:
            teachers: M models to outputs `[B, ..., K]`, or paths of their `.keras` files, which
                are loaded only if some of their outputs are missing; or outputs `[N, ..., K]` of a
                model of another library, for one view without an augmentation.
            names: M different names, for the cache's files; by default `teacher_0` and so on.
            safe_mode: whether to refuse a model file with Python code in it, as Keras does.
            progress: whether a bar is shown.
            part: `(i, n)` computes the i-th of n shares, counted from 0, so that n processes
                fill one cache. A `fill` without it then opens the whole.

        Returns:
            The number of views that were computed, of streamed data of shards of views.

        Raises:
            CacheError: a file that is damaged, or that comes from another teacher, data set or
                augmentation; no part of it is used.
            ValueError: names or shares that do not fit; teachers whose outputs differ in shape.
        """
        names = [f"teacher_{m}" for m in range(len(teachers))] if names is None else list(names)
        for name in names:
            if names.count(name) > 1:
                raise refusal("same_name", name=name)
        if not 0 <= part[0] < part[1]:
            raise refusal("cache_part", part=str(part))
        self.digests, self._logits, self._features, computed = [], [], [], 0
        if self._source.classes is None or self.head != "classes":
            self._outputs_shape = None
        opened: list[list[ViewFile]] = []
        os.makedirs(self.directory, exist_ok=True)
        self._source.settle(progress)
        forwards = Forwards()
        pipelines: dict[Any, Any] = {}  # which hold the images, until this ends
        for index, (teacher, name) in enumerate(zip(teachers, names, strict=True)):
            source = as_source(teacher, forwards, safe_mode)
            if isinstance(source, OutputsSource):
                self._check_outputs(source.outputs, name)
            layers = self._layers(index, len(teachers))
            digest = source.digest([recorded(stem) for stem in self._stems(name, layers)])
            opened.append(self._open(source, name, layers, digest))
            missing = {key for file in opened[-1] for key in file.missing()}
            wanted = [key for key in list(self._parts)[part[0] :: part[1]] if key in missing]
            if wanted and isinstance(source, OutputsSource):
                for key in wanted:
                    rows = source.outputs[self._parts[key][1]].astype(np.float32)
                    opened[-1][0].write(key, stored(self.views, [rows])[0])
            elif wanted and isinstance(source, TeacherSource):
                forward = source.forward(self.head, layers, self.hints)
                arrays = self._outputs(forward, wanted, name, pipelines)
                write_parts(opened[-1], wanted, arrays, f"outputs of {name}", progress)
            source.release()
            computed += len(wanted)
            for file in opened[-1]:
                file.of_file(source.file)
            self.digests.append(digest)
        if not any(file.missing() for each in opened for file in each):
            self._logits = [each[0].read() for each in opened]
            maps = [[file.read() for file in each[1:]] for each in opened]
            self._features = [array for of_hint in zip(*maps, strict=True) for array in of_hint]
        return computed

    def dataset(
        self, batch_size: int, *, seed: int | None = None, epochs: int = 1, outputs: bool = True
    ) -> Any:
        """Gives batches for `fit`, with the teachers' outputs.

        Args:
            batch_size: examples per step. The last batch of an epoch may be smaller.
            seed: seed of the order, which differs from epoch to epoch; None for the order of the
                data. Data that can only be read in order are shuffled in windows of up to
                1,024 examples, 256 MB at most.
            epochs: epochs, one after the other; epoch e shows view e mod R. Give `fit` the same
                number and `steps_per_epoch`, so that no epoch repeats the first one's.
            outputs: whether the batches bring the teachers' outputs and, if the cache has hints,
                feature maps. Without, they show the same views, for teachers in every step.

        Returns:
            `tf.data.Dataset` of `({"inputs": ..., "teacher_logits": [B, M, ..., K], ...}, labels,
            sample_weight)`, as far as the data have them; without outputs of `(inputs, ...)`.

        Raises:
            ValueError: the cache is empty, or its share alone was filled.
        """
        if outputs:
            self._check_filled()
        read = functools.partial(self.read, hints=bool(self.hints)) if outputs else None
        batches = self._source.training(batch_size, seed, epochs, read)
        varied = seed is not None or self.views.count > 1
        steps = -(-len(self._source) // batch_size)
        return repeats_within(batches, epochs, steps) if varied else batches

    def read(self, view: tf.Tensor, indices: tf.Tensor, hints: bool = False) -> dict[str, Any]:
        """Reads the outputs for one view of the examples `indices [B]`, inside `tf.data`.

        Returns:
            `"teacher_logits"`, `[B, M, ..., K]` float32; with `hints` also `"teacher_features"`, a
            tuple of M feature maps `[B, ...]` float32, of several hints one after the other.
        """
        # What is filled later has no part in these batches.
        gather = functools.partial(gather_logits, self._logits, self._classes_of_top_k)
        outputs = tf.numpy_function(gather, [view, indices], tf.float32)
        assert self._outputs_shape is not None
        shape = [None, len(self._logits), *self._outputs_shape]
        results: dict[str, Any] = {"teacher_logits": tf.ensure_shape(outputs, shape)}
        if hints:
            types = [tf.float32] * len(self._features)
            gather_maps = functools.partial(gather_features, self._features)
            maps = tf.numpy_function(gather_maps, [view, indices], types)
            results["teacher_features"] = tuple(
                tf.ensure_shape(values, [None, *array.shape[2:]])
                for values, array in zip(maps, self._features, strict=True)
            )
        return results

    def logits(self, view: int = 0) -> np.ndarray:
        """Returns the outputs of all examples of a view, in order: `[M, N, ..., K]` float32."""
        return np.swapaxes(self._rows(view, np.arange(len(self._source))), 0, 1)

    def _rows(self, view: int, indices: np.ndarray) -> np.ndarray:
        return gather_logits(self._logits, self._classes_of_top_k, view, indices)

    @property
    def _classes_of_top_k(self) -> int | None:
        shape = self._outputs_shape
        return None if self.views.top_k is None or shape is None else shape[-1]

    def _check_outputs(self, outputs: np.ndarray, name: str) -> None:
        if self.hints or self.views.count > 1 or self._source.augmented:
            raise refusal("outputs_of_views", name=name)
        if len(outputs) != len(self._source):
            count = len(self._source)
            raise refusal("outputs_count", name=name, given=len(outputs), count=count)

    def _check_filled(self) -> None:
        if not self._logits:
            raise refusal("cache_empty")

    def _check_top_k(self) -> None:
        assert self._outputs_shape is not None
        if self.views.top_k is not None and self.views.top_k >= self._outputs_shape[-1]:
            raise ValueError(
                f"top_k is {self.views.top_k} but {self.dataset_name} has "
                f"{self._outputs_shape[-1]} classes: give fewer, or None for all logits"
            )

    @property
    def _parts(self) -> dict[str, tuple[int, slice]]:
        return parts_of(self.views.count, len(self._source), self._source.shard)

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        """Returns what all files depend on; files with another identity are refused."""
        return self._source.identity()

    def _layers(self, teacher: int, num_teachers: int) -> list[str]:
        """Returns the layer that gives a teacher's feature map, per hint."""
        return [hints.teacher_layers(num_teachers)[teacher] for hints in self.hints]

    def _stems(self, name: str, layers: Sequence[str]) -> list[str]:
        """Returns the paths of a teacher's files without ending: logits, then feature maps."""
        ending = "" if self.split == "train" else f".{self.split}"
        stem = os.path.join(self.directory, self._source.prefix + name + ending)
        # Two hints may share a layer, with another pooling.
        again = [f".{layers[:index].count(layer)}" for index, layer in enumerate(layers)]
        endings = ["" if number == ".0" else number for number in again]
        return [stem, *(f"{stem}.{one}{two}" for one, two in zip(layers, endings, strict=True))]

    def _open(
        self, source: TeacherSource | OutputsSource, name: str, layers: Sequence[str], digest: str
    ) -> list[ViewFile]:
        stems, count = self._stems(name, layers), (self.views.count, len(self._source))
        identity, shard = {**self._identity, "teacher": digest}, self._source.shard
        outputs = self._outputs_of(source, recorded(stems[0]), name)
        shape, dtype = logits_type(self.views, outputs)
        selection: dict[str, Any] = {}
        if self.views.top_k is not None:
            selection = {"top_k": self.views.top_k, "temperature": self.views.temperature}
            if self._source.classes is None:
                selection["outputs"] = outputs
        files = [ViewFile(stems[0], (*count, *shape), dtype, {**identity, **selection}, shard)]
        for stem, layer, hints in zip(stems[1:], layers, self.hints, strict=True):
            assert isinstance(source, TeacherSource)
            known = recorded(stem).get("shape")
            shape = tuple(known[2:]) if isinstance(known, list) else ()
            if not isinstance(known, list):
                shape = computing.map_shape(source.model, layer, hints, self._source.inputs())
            feature = {"layer": layer, "pooling": hints.pooling}
            content = {**identity, "feature": feature}
            number = np.dtype(self.views.dtype)
            files.append(ViewFile(stem, (*count, *shape), number, content, shard))
        return files

    def _outputs_of(
        self, source: TeacherSource | OutputsSource, known: dict[str, Any], name: str
    ) -> tuple[int, ...]:
        """Returns the shape of a teacher's outputs for one example, which all teachers share."""
        given = source.outputs.shape[1:] if isinstance(source, OutputsSource) else ()
        if self.head == "classes" and self._source.classes is not None:
            if given not in ((), (self._source.classes,)):
                wrong = {"name": name, "shape": given, "data": self.dataset_name}
                raise refusal("cached_classes", **wrong, classes=self._source.classes)
            return (self._source.classes,)
        shape = given or tuple(known.get("outputs") or (known.get("shape") or [])[2:])
        if not shape and isinstance(source, TeacherSource):
            shape = computing.output_shape(source.model, self._source.inputs())
        if self._outputs_shape is None:
            self._outputs_shape = shape
            self._check_top_k()
        if shape != self._outputs_shape:
            raise refusal("cached_shapes", name=name, shape=shape, other=self._outputs_shape)
        return shape

    def _outputs(self, forward: Any, keys: list[str], name: str, pipelines: Any) -> Iterator[Any]:
        """Yields the arrays to store for parts, in order."""
        places = [self._parts[key] for key in keys]
        views = sorted({view for view, _ in places})
        shard = self._source.shard or len(self._source)
        wanted = np.zeros((len(views), -(-len(self._source) // shard)), bool)
        for view, rows in places:
            wanted[views.index(view), rows.start // shard] = True
        asked = (tuple(views), wanted.tobytes())
        if asked not in pipelines:  # the same for every teacher of a new cache
            pipelines.clear()
            pipelines[asked] = self._source.filling(views, wanted, self.batch_size)
        batches = pipelines[asked]
        sizes = [rows.stop - rows.start for _, rows in places]
        for outputs in computing.outputs(forward, batches, sizes):
            shape, classes = outputs[0].shape[1:], self._source.classes
            if shape != self._outputs_shape:
                given = {"name": name, "shape": shape, "data": self.dataset_name}
                raise refusal("cached_classes", **given, classes=classes)
            largest = np.abs(outputs[0]).max()
            if self.head == "regression" and largest > np.finfo(self.views.dtype).max:
                raise refusal("cached_range", name=name, value=f"{largest:g}")
            yield stored(self.views, outputs)
