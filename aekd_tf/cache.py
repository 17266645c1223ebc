"""Teachers' logits on disk: computed once, read by every student.

One `.npy` file a teacher, `[R, N, K]`: its logits for R augmented views of N training
examples, memory-mapped and never pickled, beside a manifest that says whose they are. View
r of an example is the crop that a student sees in every epoch e with e mod R = r; with R at
least the number of epochs, a student trained from the cache is the one trained without.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aekd_tf import data
from aekd_tf.adapter import TeacherAdapter
from aekd_tf.checks import CACHE_DTYPES, check_choice
from aekd_tf.ensemble import frozen

_FORMAT = 1


class CacheError(RuntimeError):
    """A cache file that must not be used; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Which augmented views of which images are cached.

    Attributes:
        count: R, views an example; epoch e trains on view e mod R.
        seed: of the augmentation, the same for all students that share the cache.
        dtype: `"float16"` or `"float32"`, of the files.
    """

    count: int
    seed: int = 0
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"views are {self.count}: give at least 1")
        check_choice("dtype", self.dtype, CACHE_DTYPES)


class TeacherCache:
    """Logits of M teachers for every view of every training example.

    Args:
        directory: of the files; made where missing.
        dataset: in memory, from `data.load`.
        views: which views.
        batch_size: images at a time; for a run that equals the uncached one bit for bit, that
            run's.

    Example:

        cache = TeacherCache("runs/cache", dataset, Views(count=8))
        cache.fill(teachers, names)     # computes what is missing
        batches = data.training_pipeline(
            dataset, batch_size=64, epochs=40, seed=1,
            views=8, view_seed=0, teacher_outputs=cache.read,
        )
        distiller.fit(batches, steps_per_epoch=..., epochs=40)
    """

    def __init__(self, directory: str, dataset: data.Dataset, views: Views, batch_size: int = 64):
        if isinstance(dataset.train, data.StreamedSplit):
            raise ValueError(f"{dataset.name} is read from disk: only sets in memory are cached")
        self.directory = os.fspath(directory)
        self.dataset, self.views, self.batch_size = dataset, views, batch_size
        self._maps: list[np.ndarray] = []

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one teacher's file: views, examples, classes."""
        return self.views.count, len(self.dataset.train), self.dataset.num_classes

    def bytes_each(self) -> int:
        """Size of one teacher's file."""
        return int(np.prod(self.shape)) * np.dtype(self.views.dtype).itemsize

    def fill(self, teachers: Sequence[keras.Model], names: Sequence[str]) -> int:
        """Opens every teacher's file and computes the views that are missing.

        Args:
            teachers: M models to logits `[B, K]`.
            names: of their files, each once.

        Returns:
            How many views were computed.

        Raises:
            CacheError: a file that is damaged, or that another teacher, data set or
                augmentation made; nothing of it is used.
        """
        self._maps, computed = [], 0
        os.makedirs(self.directory, exist_ok=True)
        for teacher, name in zip(teachers, names, strict=True):
            array, done = self._open(name, teacher_digest(teacher))
            missing = [view for view in range(self.views.count) if str(view) not in done]
            for view in tqdm(missing, desc=f"outputs of {name}", unit=" views", ascii=" ="):
                array[view] = self._outputs(teacher, view)
                array.flush()
                done[str(view)] = _checksum(array[view])
                self._write_manifest(name, teacher_digest(teacher), done)
                computed += 1
            self._maps.append(np.load(self._path(name, "npy"), mmap_mode="r", allow_pickle=False))
        return computed

    def read(self, view: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """`[B, M, K]` float32 logits of a view of the examples `indices [B]`; for `tf.data`."""
        outputs = tf.numpy_function(self._gather, [view, indices], tf.float32)
        return tf.ensure_shape(outputs, [None, len(self._maps), self.dataset.num_classes])

    def _gather(self, view: np.ndarray, indices: np.ndarray) -> np.ndarray:
        parts = [array[int(view)][indices] for array in self._maps]
        return np.stack(parts, axis=1).astype(np.float32)

    def _outputs(self, teacher: keras.Model, view: int) -> np.ndarray:
        """`[N, K]` logits of one view, in the order of the examples."""
        batches = data.view_pipeline(self.dataset, view, self.views.seed, self.batch_size)
        forward = tf.function(lambda images: frozen(teacher, images), autograph=False)
        outputs = np.concatenate([np.asarray(forward(images), np.float32) for images in batches])
        limit = np.finfo(self.views.dtype).max
        return np.clip(outputs, -limit, limit).astype(self.views.dtype)

    def _open(self, name: str, digest: str) -> tuple[np.memmap, dict[str, str]]:
        """The file of one teacher and the checksums of the views it holds."""
        path = self._path(name, "npy")
        manifest = self._path(name, "json")
        if not os.path.exists(manifest):
            # A file without a manifest was cut off in its first view: nothing in it counts.
            array = np.lib.format.open_memmap(path, "w+", self.views.dtype, self.shape)
            return array, {}
        advice = f"delete {path} and {manifest} to have it computed again"
        try:
            with open(manifest, encoding="utf-8") as file:
                recorded = json.load(file)
            done = dict(recorded.pop("checksums"))
            # Not "r+", which would lengthen a file that was cut off.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheError(f"cache file {path} cannot be read ({error}): {advice}") from error
        asked = json.loads(json.dumps(self._identity(digest)))
        differ = [key for key in asked if recorded.get(key) != asked[key]]
        if differ:
            raise CacheError(
                f"cache file {path} is of other {', '.join(differ)} than this run asks for: "
                f"choose another --cache_dir, or {advice}"
            )
        if array.shape != self.shape or array.dtype != np.dtype(self.views.dtype):
            raise CacheError(f"cache file {path} is {array.dtype} {array.shape}: {advice}")
        for view, checksum in done.items():
            valid = view.isdigit() and int(view) < self.views.count
            if not valid or _checksum(array[int(view)]) != checksum:
                raise CacheError(f"cache file {path} is damaged in view {view}: {advice}")
        return np.lib.format.open_memmap(path, "r+"), done

    def _identity(self, digest: str) -> dict[str, Any]:
        """What a file depends on; any difference makes it another's."""
        train = self.dataset.train
        assert isinstance(train, data.Split)
        content = hashlib.sha256(train.images.tobytes() + train.labels.tobytes()).hexdigest()
        return {
            "format": _FORMAT,
            "teacher": digest,
            "dataset": {"name": self.dataset.name, "sha256": content},
            "preprocessing": {"mean": self.dataset.mean, "std": self.dataset.std},
            "augmentation": {
                "crop_padding": self.dataset.crop_padding,
                "flip": self.dataset.flip,
                "seed": self.views.seed,
            },
            "shape": self.shape,
            "dtype": self.views.dtype,
        }

    def _write_manifest(self, name: str, digest: str, checksums: dict[str, str]) -> None:
        path = self._path(name, "json")
        temporary = f"{path}.{os.getpid()}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({**self._identity(digest), "checksums": checksums}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _path(self, name: str, ending: str) -> str:
        return os.path.join(self.directory, f"{name}.{ending}")


def teacher_digest(model: keras.Model) -> str:
    """SHA-256 of a model's weights and adapters: what tells one teacher from another."""
    content = hashlib.sha256()
    for part in (model, *model._flatten_layers()):
        if isinstance(part, TeacherAdapter):
            declared = {**part.get_config(), "model": None}
            content.update(json.dumps(_without_names(declared), sort_keys=True).encode())
    for weight in model.get_weights():
        content.update(repr((weight.shape, weight.dtype)).encode())
        content.update(weight.tobytes())
    return content.hexdigest()


def _without_names(config: Any) -> Any:
    """A configuration without names, which Keras numbers anew, and without what was built."""
    if isinstance(config, dict):
        left_out = ("name", "build_config", "shared_object_id")
        return {key: _without_names(v) for key, v in config.items() if key not in left_out}
    return [_without_names(v) for v in config] if isinstance(config, (list, tuple)) else config


def _checksum(view: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(view).tobytes()).hexdigest()
