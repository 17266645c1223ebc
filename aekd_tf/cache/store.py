"""Stores one array on disk, part by part, with a manifest that describes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from aekd_tf import files

FORMAT = 3


class CacheError(RuntimeError):
    """A cache file that must not be used; the message names the file and the remedy."""


class ViewFile:
    """An array `[R, N, ...]` in `<stem>.npy`, memory-mapped, with a manifest in `<stem>.json`.

    It is written in parts: view by view, or shard by shard of each view. The manifest holds what
    the file depends on and a checksum per finished part. A part without a checksum counts as
    missing. Several processes may write different parts at a time. Nothing is ever pickled.

    Args:
        stem: path without ending.
        shape: `(R, N, ...)`.
        dtype: dtype of the array, structured or not.
        identity: everything that the content depends on, for JSON; it must equal the
            manifest's.
        shard: examples per part; None for whole views.

    Attributes:
        file: SHA-256 of the teacher's file, if there is one.

    Raises:
        CacheError: the file is damaged or has another identity; no part of it is used.
    """

    def __init__(
        self,
        stem: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        identity: dict,
        shard: int | None = None,
    ):
        self.path, self.manifest = f"{stem}.npy", f"{stem}.json"
        self.shape, self.dtype = shape, dtype
        self._parts = parts_of(shape[0], shape[1], shard)
        sharded = {} if shard is None else {"shard": shard}
        self.identity = json.loads(
            json.dumps(
                {"format": FORMAT, **identity, **sharded, "shape": shape, "dtype": str(dtype)}
            )
        )
        self.checksums: dict[str, str] = {}
        self.file: str | None = None
        self._advice = f"delete {self.path} and {self.manifest} to have it computed again"
        with files.exclusive(os.path.dirname(stem)):
            new = not os.path.exists(self.manifest)
            if new:
                # A file without a manifest was interrupted when it was made.
                np.lib.format.open_memmap(self.path, "w+", dtype, shape)
                _reserve_space(self.path)
                self._write_manifest()
        if not new:
            self._verify()

    def _verify(self) -> None:
        try:
            with open(self.manifest, encoding="utf-8") as file:
                recorded = json.load(file)
            checksums, self.file = dict(recorded["checksums"]), recorded.get("file")
            array = self.read()
        except Exception as error:  # NumPy's reader of headers raises many kinds of errors
            raise CacheError(
                f"cache file {self.path} cannot be read ({error}): {self._advice}"
            ) from error
        differ = [key for key in self.identity if recorded.get(key) != self.identity[key]]
        if differ:
            raise CacheError(
                f"cache file {self.path} is of other {', '.join(differ)} than this run asks for: "
                f"choose another directory for the cache, or {self._advice}"
            )
        if array.shape != self.shape or array.dtype != self.dtype:
            raise CacheError(
                f"cache file {self.path} is {array.dtype} {array.shape}: {self._advice}"
            )
        for name, checksum in checksums.items():
            part = self._parts.get(name)
            if part is None or _checksum(array[part]) != checksum:
                raise CacheError(
                    f"cache file {self.path} is damaged in view {name}: {self._advice}"
                )
        self.checksums = checksums

    def read(self) -> np.ndarray:
        """Returns the whole array, memory-mapped."""
        # Not "r+", which would extend a truncated file.
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def missing(self) -> list[str]:
        """Returns the names of the parts that have not been written yet."""
        return [name for name in self._parts if name not in self.checksums]

    def examples(self, name: str) -> int:
        """Returns the number of examples of a part."""
        rows = self._parts[name][1]
        return rows.stop - rows.start

    def write(self, name: str, values: np.ndarray) -> None:
        """Stores a part `[n, ...]`; it counts as finished once it is on disk."""
        with self._alone():
            if name in self.checksums:  # another process was faster
                return
            array = np.lib.format.open_memmap(self.path, "r+")
            part = self._parts[name]
            array[part] = values
            array.flush()
            self.checksums[name] = _checksum(array[part])
            self._write_manifest()

    def of_file(self, digest: str | None) -> None:
        """Notes the SHA-256 of the teacher's file."""
        if self.file != digest:
            with self._alone():
                self.file = digest
                self._write_manifest()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from the manifest, after taking over what they wrote to it."""
        with files.exclusive(os.path.dirname(self.path)):
            checksums = recorded(self.manifest.removesuffix(".json")).get("checksums")
            if isinstance(checksums, dict):
                self.checksums = {**self.checksums, **checksums}
            yield

    def _write_manifest(self) -> None:
        """Writes the manifest, whole or not at all."""
        content = {**self.identity, "file": self.file, "checksums": self.checksums}
        files.write_json(self.manifest, content)


def parts_of(views: int, count: int, shard: int | None) -> dict[str, tuple[int, slice]]:
    """Returns the parts of `[R, N, ...]` in order: by name, their view and their examples.

    A view's name is its number; a shard's is that of its view, a dot, and its own.
    """
    if shard is None:
        return {str(view): (view, slice(0, count)) for view in range(views)}
    starts = range(0, count, shard)
    return {
        f"{view}.{index}": (view, slice(start, min(start + shard, count)))
        for view in range(views)
        for index, start in enumerate(starts)
    }


def write_parts(
    opened: Sequence[ViewFile],
    names: Sequence[str],
    arrays: Iterable[Sequence[np.ndarray]],
    title: str,
    progress: bool,
) -> None:
    """Stores parts as they are computed: for each name one array per file."""
    sizes = [opened[0].examples(name) for name in names]
    with tqdm(
        total=sum(sizes), desc=title, unit=" examples", ascii=" =", disable=not progress
    ) as shown:
        for name, size, values in zip(names, sizes, arrays, strict=True):
            for file, part in zip(opened, values, strict=True):
                if name in file.missing():
                    file.write(name, part)
            shown.update(size)


def recorded(stem: str) -> dict[str, Any]:
    """Returns the content of a manifest, unverified; empty if none can be read."""
    try:
        with open(f"{stem}.json", encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _reserve_space(path: str) -> None:
    """Reserves the file's size, so that a full disk is an error now instead of a later crash."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _checksum(view: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(view).tobytes()).hexdigest()
