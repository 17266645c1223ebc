"""Stores a training's whole state in one file, from which the training can go on exactly."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from aekd_tf import files

_MAGIC = b"aekd_tf checkpoint 1\n"


class CheckpointError(RuntimeError):
    """A checkpoint that must not be used; the message names it and the remedy."""


def save(path: str, content: dict[str, Any], arrays: Sequence[np.ndarray]) -> None:
    """Writes a checkpoint whole or not at all, and keeps the one before as `<path>.previous`.

    Args:
        path: path of the file.
        content: content for JSON.
        arrays: arrays of numbers, read back in the same order.

    Raises:
        OSError: the file cannot be written; an earlier checkpoint is untouched.
    """
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    named: dict[str, Any] = {f"array_{index}": array for index, array in enumerate(arrays)}
    np.savez(buffer, content=text, **named)
    payload = buffer.getvalue()
    with files.replacing(path, previous(path)) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)


def load(path: str) -> tuple[dict[str, Any], list[np.ndarray], list[str]] | None:
    """Reads the newest checkpoint that is whole; a warning names each damaged one.

    Returns:
        `(content, arrays, warnings)`, or None if there is no checkpoint.

    Raises:
        CheckpointError: all checkpoints are damaged.
    """
    warnings: list[str] = []
    for candidate in (path, previous(path)):
        if not os.path.exists(candidate):
            continue
        try:
            content, arrays = _read(candidate)
            return content, arrays, warnings
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            warnings.append(f"checkpoint {candidate} is damaged ({error})")
    if warnings:
        raise CheckpointError(f"{'; '.join(warnings)}: delete it to train from the start")
    return None


def _read(path: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    with open(path, "rb") as file:
        head = file.read(len(_MAGIC))
        digest, payload = file.read(hashlib.sha256().digest_size), file.read()
    if head != _MAGIC:
        raise ValueError("not a checkpoint")
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its checksum differs")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        content = json.loads(archive["content"].tobytes())
        arrays = [archive[f"array_{index}"] for index in range(len(archive.files) - 1)]
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content, arrays


def remove(path: str) -> None:
    """Deletes a checkpoint that is no longer needed, and the one before it."""
    for file in (path, previous(path)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)


def previous(path: str) -> str:
    """Returns the path of the checkpoint before the newest."""
    return f"{path}.previous"
