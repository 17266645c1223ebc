"""Image data sets as uint8 in memory, and tf.data pipelines that can be replayed exactly.

An augmented view is a function of (seed, epoch, example index) alone: a run repeats, and
resumes at any epoch, whatever the batch size.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aekd_tf import streaming
from aekd_tf.streaming import StreamedSplit

IN_MEMORY = ("digits", "cifar10", "cifar100")


class DataError(RuntimeError):
    """A data set that cannot be had; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Split:
    """`images [N, H, W, C]` uint8 and `labels [N]` int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set and how its images are normalised and augmented.

    Attributes:
        mean, std: per channel, in units of the stored images.
        crop_padding: pixels of zero padding a random crop may shift by; 0 for no crop.
        flip: whether mirror images keep their label.
    """

    name: str
    num_classes: int
    train: Split | StreamedSplit
    validation: Split | StreamedSplit
    test: Split | StreamedSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        if isinstance(self.train, StreamedSplit):
            return self.train.size, self.train.size, 3
        return self.train.images.shape[1:]


# Per-channel statistics of the training images, as the authors' code has them.
_CIFAR = {
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
}
_VALIDATION_EXAMPLES = {"digits": 237, "cifar10": 5000, "cifar100": 5000}
_DIGITS_TEST_EXAMPLES = 360


def load(
    name: str,
    *,
    data_dir: str | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads a small data set into memory, or opens a large one.

    The validation split is the same whatever the other arguments: the last examples of the
    training set. The test split serves the final report only.

    Args:
        name: `"digits"` (1,797 handwritten 8x8 digits that come with scikit-learn),
            `"cifar10"` or `"cifar100"` (through TensorFlow Datasets): in memory, uint8. Any
            other image classification set of TensorFlow Datasets, e.g. `"imagenette"` or
            `"imagenet2012"`: read from disk while training, see `aekd_tf.streaming`.
        data_dir: where TensorFlow Datasets keeps its data; by default `TFDS_DATA_DIR`, else
            its own `~/tensorflow_datasets`.
        train_examples: use only the first so many training images.
        validation_examples: size of the validation split; 237 of digits, 5,000 of CIFAR, a
            tenth of others and at most 10,000.
        image_size: height and width that images read from disk are cropped to; 224.

    Raises:
        ValueError: more examples asked for than there are; no image classification set.
        DataError: unknown name; the data set is not on disk and cannot be downloaded.
    """
    if name not in IN_MEMORY:
        builder = _prepared_builder(name, data_dir)
        fields = streaming.load(
            name,
            builder,
            image_size=image_size or 224,
            train_examples=train_examples,
            validation_examples=validation_examples,
        )
        return Dataset(name=name, **fields)
    if validation_examples is None:
        validation_examples = _VALIDATION_EXAMPLES[name]
    if name == "digits":
        training, test, details = _load_digits()
    else:
        training, test, details = _load_cifar(name, data_dir)
    available = len(training) - validation_examples
    train_examples = available if train_examples is None else train_examples
    if not (0 < train_examples <= available and validation_examples > 0):
        raise ValueError(
            f"{name} has {len(training)} training images: {train_examples} for training and "
            f"{validation_examples} for validation do not fit; both must be at least 1"
        )
    train = Split(training.images[:train_examples], training.labels[:train_examples])
    validation = Split(training.images[available:], training.labels[available:])
    return Dataset(name=name, train=train, validation=validation, test=test, **details)


def _load_digits() -> tuple[Split, Split, dict[str, Any]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=_DIGITS_TEST_EXAMPLES, random_state=0, stratify=labels
    )
    details = {"num_classes": 10, "mean": (4.884,), "std": (6.017,), "crop_padding": 1}
    training, test = Split(train_images, train_labels), Split(test_images, test_labels)
    return training, test, {**details, "flip": False}


def _load_cifar(name: str, data_dir: str | None) -> tuple[Split, Split, dict[str, Any]]:
    builder = _prepared_builder(name, data_dir)
    splits = []
    for split in ("train", "test"):
        try:
            content = builder.as_dataset(split=split, batch_size=-1)
        except Exception as error:
            raise DataError(
                f"{name} in {builder.data_path} cannot be read ({_first_line(error)}): delete that "
                "folder to have it downloaded again, or give another --data_dir"
            ) from error
        splits.append(Split(content["image"].numpy(), content["label"].numpy().astype(np.int64)))
    scale = {key: tuple(255 * v for v in values) for key, values in _CIFAR[name].items()}
    details = {"num_classes": builder.info.features["label"].num_classes, **scale}
    return splits[0], splits[1], {**details, "crop_padding": 4, "flip": True}


def _prepared_builder(name: str, data_dir: str | None) -> Any:
    """A TensorFlow Datasets builder whose data is on disk, downloaded if need be."""
    import tensorflow_datasets as tfds
    from absl import logging

    logging.set_verbosity(logging.ERROR)  # it warns of folders that are about to be made
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    advice = (
        "give --data_dir (or TFDS_DATA_DIR), a folder where it is prepared; --dataset=digits "
        "needs no download"
    )
    try:
        builder = tfds.builder(name, data_dir=directory)
        if builder.is_prepared():
            return builder
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"unknown dataset {name!r}: choose one of {', '.join(IN_MEMORY)}, or a name from "
            "https://www.tensorflow.org/datasets/catalog"
        ) from error
    except Exception as error:
        raise DataError(
            f"{name} in {directory} cannot be read ({_first_line(error)}): {advice}"
        ) from error
    place = os.path.expanduser(directory or tfds.core.constants.DATA_DIR)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        manual = os.path.join(place, "downloads", "manual")
        files = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        if not (os.path.isdir(manual) and os.listdir(manual)):
            raise DataError(
                f"{name} is not in {place} and must be downloaded by hand into {manual}: {files}"
            )
    # Ask before downloading: without a network, TensorFlow Datasets tries for minutes.
    elif not urllib.request.getproxies() and not _reachable("storage.googleapis.com"):
        raise DataError(f"{name} is not in {place} and there is no network: {advice}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        reason = _first_line(error)
        raise DataError(
            f"{name} could not be downloaded to {place} ({reason}): {advice}"
        ) from error
    return builder


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _reachable(host: str, seconds: float = 3.0) -> bool:
    try:
        socket.create_connection((host, 443), timeout=seconds).close()
    except OSError:
        return False
    return True


def training_pipeline(
    dataset: Dataset,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    views: int | None = None,
    view_seed: int | None = None,
    teacher_outputs: Callable[[Any, Any], Any] | None = None,
    replicas: tuple[int, int, int] = (0, 1, 1),
) -> Any:
    """Shuffled, augmented `(images, labels)` batches, all epochs one after the other.

    Every epoch ends with a smaller batch where the batch size does not divide the training
    set. Use with `fit(..., steps_per_epoch=steps_per_epoch(dataset, batch_size))`.

    Args:
        dataset: from `load`.
        batch_size: images a step.
        epochs: the epoch to stop before.
        seed: of the order and, without `view_seed`, of the augmentation.
        first_epoch: the epoch to begin with, to resume; its batches are the same as in a
            run from the start.
        first_step: of that epoch, to begin with.
        views: augmented views an example; epoch e shows view e mod `views`. None for a new
            one every epoch.
        view_seed: of the augmentation alone.
        teacher_outputs: `TeacherCache.read`; the batches are then
            `({"inputs": images, "teacher_logits": [B, M, K]}, labels)`, with hints also
            `"teacher_features"`.
        replicas: `(first, count, total)` gives the parts of every batch that `count` of `total`
            replicas train on, from number `first` on, one part after the other; some are empty
            where a batch has fewer images than there are replicas.

    Returns:
        `tf.data.Dataset` of `(float32 [B, H, W, C], int64 [B])`, normalised.

    Raises:
        ValueError: views or teachers' outputs of a data set that is read from disk.
    """
    import tensorflow as tf

    view_seed = seed if view_seed is None else view_seed
    if isinstance(dataset.train, StreamedSplit):
        if views is not None or teacher_outputs is not None:
            raise ValueError(f"{dataset.name} is read from disk: its views are not repeated")
        batches = dataset.train.training_pipeline(batch_size, epochs, seed, first_epoch, view_seed)
        return _parts(batches.skip(first_step), *replicas)
    show = _view(dataset)
    count = len(dataset.train)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=[seed, epoch * 2])
        view = epoch if views is None else epoch % views
        draws = _draws(count, view_seed, view)
        indices = _parts(tf.data.Dataset.from_tensor_slices(order).batch(batch_size), *replicas)
        return indices.map(lambda index: (index, tf.gather(draws, index), view))

    def examples(index, draws, view):
        images, labels = show(index, draws)
        if teacher_outputs is None:
            return images, labels
        return {"inputs": images, **teacher_outputs(view, index)}, labels

    epoch_numbers = tf.data.Dataset.range(first_epoch, epochs, output_type=tf.int32)
    pipeline = epoch_numbers.flat_map(one_epoch).skip(first_step * replicas[1])
    return pipeline.map(examples, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _parts(batches: Any, first: int, count: int, total: int) -> Any:
    """Of every batch the parts of `count` of `total` replicas, in turn; sizes differ by one."""
    import tensorflow as tf

    if total == 1:
        return batches

    def parts(*batch):
        size = tf.shape(tf.nest.flatten(batch)[0])[0]

        def part(number):
            begin, end = size * number // total, size * (number + 1) // total
            cut = tf.nest.map_structure(lambda tensor: tensor[begin:end], batch)
            return cut if len(cut) > 1 else cut[0]

        return tf.data.Dataset.range(first, first + count, output_type=tf.int32).map(part)

    return batches.flat_map(parts)


def view_pipeline(dataset: Dataset, views: Sequence[int], view_seed: int, batch_size: int) -> Any:
    """Batches of images of augmented views, view by view, each with all examples in order."""
    import tensorflow as tf

    show = _view(dataset)
    count = len(dataset.train)

    def one_view(view):
        examples = tf.range(count), _draws(count, view_seed, view)
        return tf.data.Dataset.from_tensor_slices(examples).batch(batch_size)

    numbers = tf.data.Dataset.from_tensor_slices(tf.constant(views, tf.int32))
    pipeline = numbers.flat_map(one_view).map(lambda index, draw: show(index, draw)[0])
    return pipeline.prefetch(tf.data.AUTOTUNE)


def _draws(count: int, view_seed: int, view: Any) -> Any:
    """One draw for all examples: row i is example i's, in whatever batch it falls."""
    import tensorflow as tf

    return tf.random.stateless_uniform([count, 3], seed=[view_seed, view * 2 + 1])


def _view(dataset: Dataset) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Maps example numbers `[B]` and their draws `[B, 3]` to images and labels."""
    import tensorflow as tf

    assert isinstance(dataset.train, Split)
    with tf.device("CPU"):
        images = tf.constant(dataset.train.images)
        labels = tf.constant(dataset.train.labels)

    def show(index, draws):
        batch = augment(tf.gather(images, index), draws, dataset.crop_padding, dataset.flip)
        return normalise(batch, dataset), tf.gather(labels, index)

    return show


def evaluation_pipeline(
    dataset: Dataset, split: Split | StreamedSplit, batch_size: int = 256
) -> Any:
    """Normalised `(images, labels)` batches of a split, in order, not augmented."""
    import tensorflow as tf

    if isinstance(split, StreamedSplit):
        pipeline = split.evaluation_pipeline(batch_size)
    else:
        pipeline = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        pipeline = pipeline.batch(batch_size)
        pipeline = pipeline.map(lambda images, labels: (normalise(images, dataset), labels))
        pipeline = pipeline.cache().prefetch(tf.data.AUTOTUNE)
    # Workers of a cluster each take their part of every batch.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return pipeline.with_options(options)


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Batches in one epoch of `training_pipeline`."""
    return -(-len(dataset.train) // batch_size)


def normalise(images: Any, dataset: Dataset) -> Any:
    """uint8 images to float32 with zero mean and unit variance a channel."""
    import tensorflow as tf

    return (tf.cast(images, tf.float32) - dataset.mean) / dataset.std


def augment(images: Any, draws: Any, crop_padding: int, flip: bool) -> Any:
    """The paper's augmentation: a random crop of the zero-padded image, a random flip.

    Args:
        images: `[B, H, W, C]`, any dtype.
        draws: `[B, 3]` in [0, 1): vertical shift, horizontal shift, flip.
        crop_padding: p; shifts are uniform over -p to p.
        flip: mirror left to right where the third draw is below 1/2.

    Returns:
        `[B, H, W, C]`, one view of each image.
    """
    import tensorflow as tf

    height, width = images.shape[1:3]
    padding = [[0, 0], [crop_padding, crop_padding], [crop_padding, crop_padding], [0, 0]]
    padded = tf.pad(images, padding)
    shifts = tf.cast(draws[:, :2] * (2 * crop_padding + 1), tf.int32)
    rows = shifts[:, :1] + tf.range(height)
    columns = shifts[:, 1:] + tf.range(width)
    if flip:
        columns = tf.where(draws[:, 2:] < 0.5, tf.reverse(columns, [1]), columns)
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)
