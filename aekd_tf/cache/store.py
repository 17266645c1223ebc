"""Stores one array on disk, view by view, with a manifest that describes it."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np

from aekd_tf import files

FORMAT = 3


class CacheError(RuntimeError):
    """A cache file that must not be used; the message names the file and the remedy."""


class ViewFile:
    """An array `[R, N, ...]` in `<stem>.npy`, memory-mapped, with a manifest in `<stem>.json`.

    The manifest holds what the file depends on and a checksum per finished view. A view without
    a checksum counts as missing. Nothing is ever pickled.

    Args:
        stem: path without ending.
        shape: `(R, N, ...)`.
        dtype: dtype of the array, structured or not.
        identity: everything that the content depends on, for JSON; it must equal the
            manifest's.

    Attributes:
        file: SHA-256 of the teacher's file, if there is one.

    Raises:
        CacheError: the file is damaged or has another identity; no part of it is used.
    """

    def __init__(self, stem: str, shape: tuple[int, ...], dtype: np.dtype, identity: dict):
        self.path, self.manifest = f"{stem}.npy", f"{stem}.json"
        self.shape, self.dtype = shape, dtype
        self.identity = json.loads(
            json.dumps({"format": FORMAT, **identity, "shape": shape, "dtype": str(dtype)})
        )
        self.checksums: dict[str, str] = {}
        self.file: str | None = None
        self._advice = f"delete {self.path} and {self.manifest} to have it computed again"
        if os.path.exists(self.manifest):
            self._verify()
        else:
            # A file without a manifest was interrupted in its first view: nothing in it counts.
            np.lib.format.open_memmap(self.path, "w+", dtype, shape)
            _reserve_space(self.path)

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
        for view, checksum in checksums.items():
            valid = view.isdecimal() and int(view) < self.shape[0]
            if not valid or _checksum(array[int(view)]) != checksum:
                raise CacheError(
                    f"cache file {self.path} is damaged in view {view}: {self._advice}"
                )
        self.checksums = checksums

    def read(self) -> np.ndarray:
        """Returns the whole array, memory-mapped."""
        # Not "r+", which would extend a truncated file.
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def missing(self) -> list[int]:
        """Returns the views that have not been written yet."""
        return [view for view in range(self.shape[0]) if str(view) not in self.checksums]

    def write(self, view: int, values: np.ndarray) -> None:
        """Stores a view `[N, ...]`; it counts as finished once it is on disk."""
        array = np.lib.format.open_memmap(self.path, "r+")
        array[view] = values
        array.flush()
        self.checksums[str(view)] = _checksum(array[view])
        self.write_manifest()

    def write_manifest(self) -> None:
        """Writes the manifest, whole or not at all."""
        content = {**self.identity, "file": self.file, "checksums": self.checksums}
        files.write_json(self.manifest, content)


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
