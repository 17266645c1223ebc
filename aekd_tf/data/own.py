"""Loads a user's own data: a folder of images, a table, arrays, or a set of TensorFlow Datasets."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from aekd_tf.data import folder, head, splitting, streaming, table
from aekd_tf.data.dataset import DataError, Dataset, Split
from aekd_tf.data.own_reading import Read, read_folder, read_table, read_tfds

SPLITS = table.SPLITS
# Images from disk whose statistics normalize.
_SAMPLE = 500


@dataclasses.dataclass(frozen=True)
class OwnData:
    """A user's data, and what a run says of them.

    Attributes:
        dataset: the data, as they are stored: images from 0 to 255, float32.
        names: names of the classes, labels or values.
        notes: sentences for the plan.
        augment: the augmentation: none, crop, crop_flip or resized_crop.
        places: by split, which of all examples in their order belong to it.
    """

    dataset: Dataset
    names: tuple[str, ...]
    notes: tuple[str, ...]
    augment: str
    places: dict[str, np.ndarray]


def name_of(source: str) -> str:
    """Returns the name of data, for files and tables."""
    if source.startswith("tfds:"):
        return source.removeprefix("tfds:")
    base = os.path.basename(os.path.normpath(source))
    return os.path.splitext(base)[0] if base.endswith((".csv", ".npz")) else base


def load_own(
    source: str,
    *,
    label: Sequence[str] = (),
    head_name: str = "auto",
    one_output: bool = False,
    augment: str = "auto",
    image_size: int | None = None,
    data_dir: str | None = None,
) -> OwnData:
    """Loads data, and splits what has no test split.

    Args:
        source: a folder, `tfds:NAME`, or a `.npz` or `.csv` file.
        label: label columns of a table.
        head_name: what labels are, see `head.targets_of`.
        one_output: whether the models are known to have one output.
        augment: one of `AUGMENTATIONS`.
        image_size: side of `resized_crop`; 224 by default.
        data_dir: directory of TensorFlow Datasets.

    Raises:
        DataError: data that cannot be read or learned from.
    """
    size = image_size or 224
    if source.startswith("tfds:"):
        read = read_tfds(source.removeprefix("tfds:"), data_dir, size)
    elif source.endswith((".csv", ".npz")):
        if not os.path.isfile(source):
            raise DataError(f"{source} does not exist: give a .csv or .npz file")
        read = read_table(source, label)
    elif os.path.isdir(source):
        read = read_folder(source, augment, size)
    else:
        raise DataError(
            f"{source} is no folder: give a folder of images, tfds:NAME, or a .csv or .npz file"
        )
    every = np.concatenate([read.labels[split] for split in read.labels])
    if read.classes is None:
        targets = head.targets_of(every, head_name, read.columns, one_output)
    else:
        if head_name not in ("auto", "classes"):
            raise DataError(
                f"head={head_name} requires numbers, but {source} has classes of images"
            )
        targets = head.Targets("classes", read.classes, every)
    if targets.head == "classes" and len(np.unique(every)) < 2:
        raise DataError(f"all examples of {source} are of one class: give at least two classes")
    starts = np.cumsum([0, *(len(labels) for labels in read.labels.values())])
    values = {
        split: targets.values[start:end]
        for split, start, end in zip(read.labels, starts[:-1], starts[1:], strict=True)
    }
    places = {
        split: np.arange(start, end)
        for split, start, end in zip(read.labels, starts[:-1], starts[1:], strict=True)
    }
    _check_classes(targets, values)
    inputs, values, digests, notes = _split(read, values, places, targets.head)
    notes += _duplicates(digests)
    kind, crop = _augmentation(augment, inputs["train"])
    if isinstance(inputs["train"], (streaming.TfdsSplit, folder.FolderSplit)):
        inputs["train"] = dataclasses.replace(inputs["train"], augmented=kind != "none")
    shape = "x".join(map(str, _shape(inputs["train"])))
    notes.append(f"inputs have the shape {shape}" + (", not augmented" if kind == "none" else ""))
    if targets.head == "labels" and head_name == "auto" and (targets.values.sum(1) == 1).all():
        notes.append(
            "each example has one label that is on: give --head=classes if only one can be"
        )
    return OwnData(
        _dataset(name_of(source), targets, inputs, values, kind, crop, _content(digests, targets)),
        targets.names,
        (*read.notes, *notes),
        kind,
        places,
    )


def _split(
    read: Read, values: dict[str, np.ndarray], order: dict[str, np.ndarray], kind: str
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, list[str]], list[str]]:
    """Makes the splits that are missing, of the examples that are not for the test.

    The places in `order` are split likewise.
    """
    inputs, digests = dict(read.inputs), dict(read.digests)
    notes: list[str] = []
    values = dict(values)
    source = "all" if "all" in inputs else "train"
    wanted = [split for split in ("test", "validation") if split not in inputs]
    if not wanted:
        return inputs, values, digests, notes
    known = values[source]
    # The rows of independent labels are too many kinds to share out each.
    classes = np.zeros(len(known), np.int64)
    if kind in ("classes", "logit"):
        classes = known.reshape(-1).astype(np.int64)
    options = {split: split in wanted for split in ("test", "validation")}
    masks = dict(zip(SPLITS, splitting.split(classes, digests[source], **options), strict=True))
    whole = inputs.pop(source), values.pop(source), digests.pop(source), order.pop(source)
    for split in ("train", *wanted):
        places = np.flatnonzero(masks[split])
        inputs[split] = _taken(whole[0], places)
        values[split] = whole[1][places]
        digests[split] = [whole[2][place] for place in places]
        order[split] = whole[3][places]
    if not len(values["train"]) or not len(values["test"]):
        raise DataError(f"{len(known)} examples are too few to split: give more")
    made = " and ".join(f"{len(values[split])} for {split}" for split in wanted)
    notes.append(f"held out {made}, by the examples' digests")
    return inputs, values, digests, notes


def _check_classes(targets: head.Targets, values: dict[str, np.ndarray]) -> None:
    """Refuses classes that no training example has."""
    known = values.get("train", values.get("all"))
    if targets.head != "classes" or known is None:
        return
    missing = sorted(set(range(targets.outputs)) - set(known.tolist()))
    if missing:
        names = ", ".join(targets.names[index] for index in missing[:5])
        raise DataError(f"no training example is of the class {names}: give some, or correct names")


def _taken(inputs: Any, places: np.ndarray) -> Any:
    if isinstance(inputs, streaming.TfdsSplit):
        chosen = np.zeros(inputs.count, bool)
        chosen[places] = True
        return dataclasses.replace(inputs, chosen=chosen)
    return inputs.chosen(places) if isinstance(inputs, folder.FolderSplit) else inputs[places]


def _taken_of(inputs: streaming.StreamedSplit, places: np.ndarray) -> streaming.StreamedSplit:
    """Returns examples of a split at some of its own places."""
    if isinstance(inputs, streaming.TfdsSplit) and inputs.chosen is not None:
        places = np.flatnonzero(inputs.chosen)[places]
    return _taken(inputs, places)


def _duplicates(digests: dict[str, list[str]]) -> list[str]:
    notes = []
    every = Counter(digest for each in digests.values() for digest in each)
    again = sum(count - 1 for count in every.values())
    if again:
        notes.append(f"{again} examples are copies of others")
    shared = set(digests["train"]) & set(digests["test"])
    if shared:
        notes.append(f"warning: {len(shared)} test examples are among the training examples, too")
    return notes


def _augmentation(augment: str, inputs: Any) -> tuple[str, int]:
    """Returns the augmentation's name, and the largest shift of a crop in pixels."""
    if isinstance(inputs, streaming.StreamedSplit):
        if augment in ("crop", "crop_flip"):
            raise DataError(
                f"augment={augment} requires images of one size of at most {folder.SMALL} pixels: "
                "use resized_crop"
            )
        return ("none" if augment == "none" else "resized_crop"), 0
    images = inputs.ndim == 4
    if augment == "resized_crop":
        raise DataError("augment=resized_crop is for images that are read from disk: use crop")
    if not images:
        if augment in ("crop", "crop_flip"):
            raise DataError(f"augment={augment} is for images, not inputs {inputs.shape[1:]}")
        return "none", 0
    kind = "crop" if augment == "auto" else augment
    return kind, 0 if kind == "none" else max(1, min(inputs.shape[1:3]) // 8)


def _dataset(
    name: str,
    targets: head.Targets,
    inputs: dict[str, Any],
    values: dict[str, np.ndarray],
    kind: str,
    crop: int,
    content: str,
) -> Dataset:
    if isinstance(inputs["train"], streaming.StreamedSplit):
        splits = {split: inputs[split] for split in SPLITS}
    else:
        splits = {split: Split(inputs[split], values[split]) for split in SPLITS}
    train = inputs["train"]
    return Dataset(
        name=name,
        num_classes=targets.outputs,
        mean=(0.0,),
        std=(1.0,),
        crop_padding=crop,
        flip=kind == "crop_flip",
        head=targets.head,
        normalization=_statistics(train),
        content=content,
        **splits,
    )


def _shape(inputs: Any) -> tuple[int, ...]:
    if isinstance(inputs, streaming.StreamedSplit):
        return inputs.size, inputs.size, 3
    return inputs.shape[1:]


def _statistics(inputs: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation per channel of training inputs, or of some images."""
    if isinstance(inputs, streaming.StreamedSplit):
        places = np.unique(np.linspace(0, len(inputs) - 1, _SAMPLE).round().astype(int))
        images = _taken_of(inputs, places).evaluation_pipeline(1)
        inputs = np.concatenate([image.numpy() for image, _ in images])
    axes = tuple(range(inputs.ndim - 1))
    mean, std = inputs.mean(axes, np.float64), inputs.std(axes, np.float64)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _content(digests: dict[str, list[str]], targets: head.Targets) -> str:
    """Returns a digest of all examples, of their splits and of what their labels mean."""
    whole = hashlib.sha256(repr((targets.head, targets.names)).encode())
    for split in SPLITS:
        whole.update(f"\n{split}\n".encode() + "".join(digests[split]).encode())
    return whole.hexdigest()
