"""Reads image classification sets of TensorFlow Datasets from disk, epoch by epoch.

Training images follow ImageNet's recipe: random crops of 8 to 100% of the area, resized and
mirrored. Evaluation takes the center. As in memory, a view is a function of (seed, epoch,
number of the example) alone, so that training can go on at any epoch and views can be cached.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

from aekd_tf.data.examples import Augmentation, Examples, StreamExamples
from aekd_tf.data.images import center_view, decode, random_view
from aekd_tf.monitoring.reprs import counted

# Statistics of ImageNet's training images, per channel.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class StreamedSplit(abc.ABC):
    """Reads a split of images from disk, which are decoded epoch by epoch.

    `data.load` makes the splits of a large data set so.

    Attributes:
        size: height and width of the images that the pipelines give.
        scale: mean and standard deviation per channel that images are normalized with; None
            for values from 0 to 255.
        flip: whether random views are mirrored.
        augmented: whether training sees random views; else it sees the centers.

    Example::

        import numpy as np
        import tensorflow as tf
        from aekd_tf.data.folder import FolderSplit

        for name in ("a.png", "b.png"):
            tf.io.write_file(name, tf.io.encode_png(np.zeros((9, 12, 3), np.uint8)))

        split = FolderSplit(("a.png", "b.png"), ("", ""), np.array([0, 1]), size=8)
        images, labels = next(iter(split.evaluation_pipeline(batch_size=2)))
        print(split, images.shape)  # FolderSplit(<2 examples>, size=8) (2, 8, 8, 3)
    """

    size: int
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None
    flip: bool
    augmented: bool

    def __repr__(self) -> str:
        size = getattr(self, "size", None)
        return f"{type(self).__name__}({counted(self, 'example')}, size={size})"

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @property
    @abc.abstractmethod
    def labels(self) -> np.ndarray:
        """Returns the labels `[N]`, in order, without decoding the images."""

    @property
    def images(self) -> np.ndarray:
        """Raises AttributeError: images that are read from disk are never all in memory."""
        raise AttributeError(
            f"{type(self).__name__} has no images in memory: read batches of them by "
            "aekd_tf.data.evaluation_pipeline or training_pipeline"
        )

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """Returns what tells these examples from others, without reading the images."""

    @abc.abstractmethod
    def with_views(self, augmentation: Augmentation) -> Examples:
        """Returns the examples, whose inputs `augmentation` makes of what is read and a seed."""

    @abc.abstractmethod
    def part(self, first: int, end: int) -> StreamedSplit:
        """Returns a part of a split whose examples are the first ones, in order."""

    def encoded(self, read: Any) -> Any:
        """Returns the content of an image file, of what is read."""
        return read

    def examples(self, *, random: bool = True) -> Examples:
        """Returns the examples with random views, if there are any, or the images' centers."""
        random = random and self.augmented

        def view(read: Any, seed: Any) -> Any:
            image = decode(self.encoded(read))
            if random:
                return self._scaled(random_view(image, seed, self.size, self.flip))
            return self._scaled(center_view(image, self.size))

        return self.with_views(view)

    def _scaled(self, image: Any) -> Any:
        return image if self.scale is None else (image - self.scale[0]) / self.scale[1]

    def evaluation_pipeline(self, batch_size: int) -> Any:
        """Gives `(float32 [B, size, size, 3], int64 [B])` batches of centers, in order."""
        import tensorflow as tf

        examples = self.examples(random=False).epoch(None, 0, 0, 0)
        pipeline = examples.map(lambda number, example: example)
        return pipeline.batch(batch_size).prefetch(tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True, repr=False)
class TfdsSplit(StreamedSplit):
    """Part of a split of TensorFlow Datasets.

    Attributes:
        builder: the data set's builder, with its data on disk.
        instruction: the part, e.g. `"train[:90%]"`.
        count: number of examples of the part.
        size, scale, flip, augmented: as in `StreamedSplit`.
        image_key, label_key: names of the builder's features.
        chosen: which examples of the part belong to the split, bool; None for all.
    """

    builder: Any
    instruction: str
    count: int
    size: int
    image_key: str
    label_key: str
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None = (MEAN, STD)
    flip: bool = True
    augmented: bool = True
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count if self.chosen is None else int(self.chosen.sum())

    def read(self) -> Any:
        """Gives `(encoded image, label)`, one example after the other."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        # TensorFlow Datasets refuses a part without examples.
        part = self.instruction if self.count else self.instruction.partition("[")[0]
        pipeline = self.builder.as_dataset(
            split=part,
            decoders={self.image_key: tfds.decode.SkipDecoding()},
            shuffle_files=False,
            # It would keep sets of up to 250 MB in memory, and read 8 MB ahead of each file.
            read_config=tfds.ReadConfig(
                try_autocache=False, skip_prefetch=True, override_buffer_size=2**20
            ),
        )
        pipeline = pipeline if self.count else pipeline.take(0)
        if self.chosen is not None:
            kept = tf.data.Dataset.from_tensor_slices(self.chosen)
            pipeline = tf.data.Dataset.zip(pipeline, kept).filter(lambda example, keep: keep)
            pipeline = pipeline.map(lambda example, keep: example)
        return pipeline.map(
            lambda example: (example[self.image_key], tf.cast(example[self.label_key], tf.int64))
        )

    @functools.cached_property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        labels = self.read().map(lambda image, label: label).batch(1024)
        return np.concatenate([np.zeros(0, np.int64), *labels.as_numpy_iterator()])

    @property
    def identity(self) -> dict[str, Any]:
        split = self.builder.info.splits[self.instruction.partition("[")[0]]
        chosen = None if self.chosen is None else hashlib.sha256(self.chosen.tobytes()).hexdigest()
        return {
            "name": self.builder.info.full_name,
            "split": self.instruction,
            "shards": list(split.shard_lengths),
            "bytes": split.num_bytes,
            "chosen": chosen,
        }

    def part(self, first: int, end: int) -> TfdsSplit:
        if self.chosen is None:
            instruction = f"{self.instruction.partition('[')[0]}[{first}:{end}]"
            return dataclasses.replace(self, instruction=instruction, count=end - first)
        chosen = self.chosen.copy()
        places = np.flatnonzero(chosen)
        chosen[places[:first]] = chosen[places[end:]] = False
        return dataclasses.replace(self, chosen=chosen)

    def with_views(self, augmentation: Augmentation) -> Examples:
        name = f"{self.builder.info.full_name} {self.instruction}"
        return StreamExamples(name, self.read, len(self), augmentation)


def load(
    name: str,
    builder: Any,
    *,
    image_size: int,
    train_examples: int | None,
    validation_examples: int | None,
) -> dict[str, Any]:
    """Returns the fields of a `data.Dataset` whose splits are streamed.

    The validation split is the end of the training split, and may be empty. The test split is
    the set's own `test`, or else its `validation`, which the paper reports for ImageNet.

    Raises:
        ValueError: no image and label to classify, no labeled test split, or more examples
            than the data set has.
    """
    info = builder.info
    features, keys = image_features(name, builder)
    # ImageNet's own test split has no labels.
    test = "validation" if name.startswith("imagenet") or "test" not in info.splits else "test"
    missing = [split for split in ("train", test) if split not in info.splits]
    if missing:
        raise ValueError(f"{name} has no split {missing[0]!r}, only {', '.join(info.splits)}")
    total = info.splits["train"].num_examples
    if validation_examples is None:
        validation_examples = max(1, min(10_000, total // 10))
    train_examples, available = training_share(name, total, train_examples, validation_examples)

    def split(instruction, count):
        return TfdsSplit(builder, instruction, count, image_size, *keys)

    return {
        "num_classes": features[1].num_classes,
        "train": split(f"train[:{train_examples}]", train_examples),
        "validation": split(f"train[{available}:]", validation_examples),
        "test": split(test, info.splits[test].num_examples),
        "mean": MEAN,
        "std": STD,
        "crop_padding": 0,
        "flip": True,
    }


def image_features(name: str, builder: Any) -> tuple[list[Any], tuple[str, str]]:
    """Returns the features of image and label of a builder, and their keys.

    Raises:
        ValueError: no image and label to classify.
    """
    import tensorflow_datasets as tfds

    info = builder.info
    keys = info.supervised_keys or ("image", "label")
    known = info.features if isinstance(info.features, tfds.features.FeaturesDict) else {}
    features = [known[key] for key in keys if key in known]
    kinds = [tfds.features.Image, tfds.features.ClassLabel]
    if len(features) != 2 or not all(map(isinstance, features, kinds)):
        raise ValueError(
            f"{name} is no image classification set: it has {', '.join(known)}, and no Image with "
            "a ClassLabel"
        )
    return features, keys


def training_share(
    name: str, total: int, train_examples: int | None, validation_examples: int
) -> tuple[int, int]:
    """Returns the training examples in use, and how many are left beside the validation's.

    Raises:
        ValueError: there are not enough; the message names all three numbers.
    """
    available = total - validation_examples
    train_examples = available if train_examples is None else train_examples
    if not (0 < train_examples <= available and validation_examples >= 0):
        raise ValueError(
            f"{name} has {total} training images: {train_examples} for training and "
            f"{validation_examples} for validation do not fit; training requires at least 1"
        )
    return train_examples, available
