"""Reads image classification sets of TensorFlow Datasets from disk, epoch by epoch.

Training images follow ImageNet's recipe: random crops of 8 to 100% of the area, resized and
mirrored. Evaluation takes the center. As in memory, a view is a function of (seed, epoch,
number of the example) alone, so that training can go on at any epoch and views can be cached.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from aekd_tf.data.examples import StreamExamples

# Statistics of ImageNet's training images, per channel.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
# Side of the square center that evaluation sees, as a share of the shorter side.
_CENTER = 224 / 256


@dataclasses.dataclass(frozen=True)
class StreamedSplit:
    """Part of a TensorFlow Datasets split, decoded as it is read.

    Attributes:
        builder: the data set's builder, with its data on disk.
        instruction: the part, e.g. `"train[:90%]"`.
        count: number of examples.
        size: height and width of the images that the pipelines give.
        image_key, label_key: names of the builder's features.
    """

    builder: Any
    instruction: str
    count: int
    size: int
    image_key: str
    label_key: str

    def __len__(self) -> int:
        return self.count

    def _encoded(self) -> Any:
        import tensorflow as tf
        import tensorflow_datasets as tfds

        # TensorFlow Datasets refuses a part without examples.
        part = self.instruction if self.count else self.instruction.partition("[")[0]
        pipeline = self.builder.as_dataset(
            split=part,
            decoders={self.image_key: tfds.decode.SkipDecoding()},
            shuffle_files=False,
            # It would keep sets of up to 250 MB in memory.
            read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
        )
        pipeline = pipeline if self.count else pipeline.take(0)
        return pipeline.map(
            lambda example: (example[self.image_key], tf.cast(example[self.label_key], tf.int64))
        )

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Returns the labels `[N]`, in order, which are read without decoding the images."""
        labels = self._encoded().map(lambda image, label: label).batch(1024)
        return np.concatenate([np.zeros(0, np.int64), *labels.as_numpy_iterator()])

    @property
    def identity(self) -> dict[str, Any]:
        """Returns what tells these examples from others, without reading them."""
        split = self.builder.info.splits[self.instruction.partition("[")[0]]
        return {
            "name": self.builder.info.full_name,
            "split": self.instruction,
            "shards": list(split.shard_lengths),
            "bytes": split.num_bytes,
        }

    def examples(self, *, random: bool = True) -> StreamExamples:
        """Returns the examples `(encoded image, label)` with random views, or their centers."""

        def view(encoded: Any, seed: Any) -> Any:
            image = decode(encoded)
            return random_view(image, seed, self.size) if random else center_view(image, self.size)

        name = f"{self.builder.info.full_name} {self.instruction}"
        return StreamExamples(name, self._encoded, self.count, view)

    def evaluation_pipeline(self, batch_size: int) -> Any:
        """Gives `(float32 [B, size, size, 3], int64 [B])` batches of centers, in order."""
        import tensorflow as tf

        def view(image, label):
            return center_view(decode(image), self.size), label

        pipeline = self._encoded().map(view, num_parallel_calls=tf.data.AUTOTUNE)
        return pipeline.batch(batch_size).prefetch(tf.data.AUTOTUNE)


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
        return StreamedSplit(builder, instruction, count, image_size, *keys)

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


def decode(image: Any) -> Any:
    """Decodes JPEG, PNG, BMP or GIF to `uint8 [H, W, 3]`, also gray and CMYK images."""
    import tensorflow as tf

    image = tf.io.decode_image(image, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def random_view(image: Any, key: Any, size: int) -> Any:
    """Crops at random 8 to 100% of the area, from 3:4 to 4:3, resizes and mirrors at random.

    Args:
        image: `uint8 [H, W, 3]`.
        key: two integers, which random view.
        size: height and width of the result.

    Returns:
        Normalized `float32 [size, size, 3]`.
    """
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seed=key,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    cropped = tf.slice(image, begin, tf.concat([extent[:2], [3]], 0))
    view = tf.image.resize(cropped, (size, size), antialias=True)
    view = tf.image.stateless_random_flip_left_right(view, seed=tf.convert_to_tensor(key) + 1)
    return _normalized(view, size)


def center_view(image: Any, size: int) -> Any:
    """Crops the central square, 7/8 of the shorter side, resizes and normalizes it."""
    import tensorflow as tf

    shape = tf.shape(image)[:2]
    shorter = tf.cast(tf.reduce_min(shape), tf.float32)
    side = tf.maximum(tf.cast(tf.round(_CENTER * shorter), tf.int32), 1)
    top, left = tf.unstack((shape - side) // 2)
    cropped = tf.image.crop_to_bounding_box(image, top, left, side, side)
    return _normalized(tf.image.resize(cropped, (size, size), antialias=True), size)


def _normalized(image: Any, size: int) -> Any:
    import tensorflow as tf

    image = tf.clip_by_value(image, 0.0, 255.0)
    return tf.ensure_shape((image - MEAN) / STD, [size, size, 3])
