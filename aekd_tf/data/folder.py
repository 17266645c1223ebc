"""Reads a folder of images: one folder per class, or train/validation/test folders of these."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from aekd_tf.data.dataset import DataError
from aekd_tf.data.examples import ArrayExamples, Augmentation, Examples
from aekd_tf.data.images import decode
from aekd_tf.data.streaming import StreamedSplit

# Names that folders of splits have, by split.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
# Images of one size up to this side are held in memory.
SMALL = 64


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file that can be read.

    Attributes:
        path: its path.
        label: name of its class.
        split: its split, or `"all"`.
        digest: SHA-256 of its content.
        shape: height, width, 3.
        pixels: `uint8 [H, W, 3]` if it is small, else None.
    """

    path: str
    label: str
    split: str
    digest: str
    shape: tuple[int, ...]
    pixels: np.ndarray | None


@dataclasses.dataclass(frozen=True, repr=False)
class FolderSplit(StreamedSplit):
    """A split of image files.

    Attributes:
        paths, digests: of each file.
        classes: the labels, `[N]` int64.
        size, scale, flip, augmented: as in `StreamedSplit`.
    """

    paths: tuple[str, ...]
    digests: tuple[str, ...]
    classes: np.ndarray
    size: int
    flip: bool = False
    augmented: bool = True
    scale: Any = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labels(self) -> np.ndarray:
        return self.classes

    def encoded(self, read: Any) -> Any:
        import tensorflow as tf

        return tf.io.read_file(read)

    @property
    def identity(self) -> dict[str, Any]:
        content = "".join(self.digests).encode() + self.classes.tobytes()
        return {"name": "folder", "sha256": hashlib.sha256(content).hexdigest()}

    def part(self, first: int, end: int) -> FolderSplit:
        return self.chosen(np.arange(first, end))

    def chosen(self, places: np.ndarray) -> FolderSplit:
        """Returns the examples at some places."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[place] for place in places),
            digests=tuple(self.digests[place] for place in places),
            classes=self.classes[places],
        )

    def with_views(self, augmentation: Augmentation) -> Examples:
        return ArrayExamples((np.array(self.paths, object), self.classes), augmentation)


def scan(directory: str, progress: bool = True) -> tuple[list[ImageFile], list[str]]:
    """Reads every image file below a folder.

    Returns:
        The images, by class and name, and what must be said of the others.

    Raises:
        DataError: no folders of classes, or no image at all.
    """
    listed, notes = _listed(directory)
    if not listed:
        raise DataError(
            f"{directory} has no folders of images: give one folder per class, or train, "
            "validation and test folders of these"
        )
    found: list[ImageFile] = []
    skipped: list[str] = []
    for entry, image in zip(listed, _read_all(listed, progress), strict=True):
        if image is None:
            skipped.append(entry[2])
        else:
            found.append(image)
    if skipped:
        notes.append(
            f"skipped {len(skipped)} {'file' if len(skipped) == 1 else 'files'} that are no "
            f"images, such as {skipped[0]}"
        )
    for label in sorted({label for _, label, _ in listed} - {image.label for image in found}):
        notes.append(f"left out the class {label}, which has no images")
    if not found:
        raise DataError(f"{directory} has no image that can be read, such as {skipped[0]}")
    return found, notes


def _listed(directory: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Returns the split, the class and the path of every file, and notes."""
    folders = _folders(directory)
    splits = {
        split: name for name in folders for split, known in _SPLITS.items() if name.lower() in known
    }
    roots = {"all": directory}
    # A single one may be the name of a class.
    if ("train" in splits and len(splits) > 1) or set(folders) == {splits.get("train")}:
        roots = {split: folders[name] for split, name in splits.items()}
    found: dict[tuple[str, str], list[str]] = {}
    seen = {os.path.realpath(root) for root in (directory, *roots.values())}
    # Links last: a folder that lies in the data belongs to the class where it lies.
    for links in (False, True):
        for split, root in roots.items():
            for label, folder in sorted(_folders(root).items()):
                files = found.setdefault((split, label), [])
                files += _files(folder, seen, links)
    notes = [
        f"left out the class {label}, which has no files"
        for (_, label), f in found.items()
        if not f
    ]
    listed = [(*key, path) for key, paths in found.items() for path in sorted(paths)]
    return listed, notes


def _files(folder: str, seen: set[str], links: bool) -> list[str]:
    """Returns the files below a folder, in folders that were not seen before."""
    files, top = [], os.path.realpath(folder)
    for parent, below, names in os.walk(folder, followlinks=links):
        below.sort()
        real = os.path.realpath(parent)
        by_link = real != os.path.normpath(os.path.join(top, os.path.relpath(parent, folder)))
        if real not in seen:
            seen.add(real)
            files += [os.path.join(parent, name) for name in names if name[0] != "."]
        elif by_link:
            below.clear()
    return files


def _folders(directory: str) -> dict[str, str]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    return {name: os.path.join(directory, name) for name in names}


def _read_all(listed: Sequence[tuple[str, str, str]], progress: bool) -> list[ImageFile | None]:
    from tqdm import tqdm

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(_read, listed, chunksize=16)
        shown = tqdm(
            images,
            "reading images",
            len(listed),
            unit=" files",
            ascii=" =",
            delay=1,
            disable=not progress,
        )
        return list(shown)


def _read(entry: tuple[str, str, str]) -> ImageFile | None:
    split, label, path = entry
    import tensorflow as tf

    try:
        with open(path, "rb") as file:
            content = file.read()
        pixels = decode(tf.constant(content)).numpy()
    except (OSError, tf.errors.OpError):
        return None
    if not pixels.size:
        return None
    digest = hashlib.sha256(content).hexdigest()
    small = max(pixels.shape[:2]) <= SMALL
    return ImageFile(path, label, split, digest, pixels.shape, pixels if small else None)
