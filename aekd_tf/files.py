"""Files written whole or not at all, directories with one owner, and digests of files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Any


class LockedError(RuntimeError):
    """A directory that another process writes; `owner` says which."""

    def __init__(self, owner: str):
        super().__init__(owner)
        self.owner = owner


@contextlib.contextmanager
def replacing(path: str, previous: str | None = None) -> Iterator[str]:
    """Yields a path to write to, and puts what was written in the place of `path` at the end.

    After an error what was there before is untouched, and nothing else is left. With `previous`
    what was there before is kept under that path.
    """
    temporary = f"{path}.{os.getpid()}.tmp{os.path.splitext(path)[1]}"
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if previous is not None and os.path.exists(path):
            os.replace(path, previous)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def replacing_folder(path: str) -> Iterator[str]:
    """Yields a folder to write to, and puts it in the place of `path` at the end.

    After an error what was there before is untouched, and nothing else is left.
    """
    temporary, previous = (f"{path}.{os.getpid()}.{ending}" for ending in ("tmp", "old"))
    try:
        yield temporary
        if os.path.exists(path):
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError:
        if os.path.exists(previous):
            os.replace(previous, path)
        raise
    finally:
        for left in (temporary, previous):
            shutil.rmtree(left, ignore_errors=True)


def write_text(path: str, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_json(path: str, content: Any, indent: int | None = 2) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Keeps a second process out of an existing directory while the block lasts.

    The system frees the lock of a process that dies, so none is ever stale.

    Raises:
        LockedError: another process has it.
    """
    with open(os.path.join(directory, ".lock"), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise LockedError(file.read().strip() or "another process") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def exclusive(directory: str) -> Iterator[None]:
    """Waits until no other process is in such a block for the directory, which must exist."""
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
