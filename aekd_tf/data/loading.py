"""Loads a data set by its name."""

from __future__ import annotations

from aekd_tf.data import streaming
from aekd_tf.data.cifar import load_cifar
from aekd_tf.data.dataset import Dataset, Split
from aekd_tf.data.digits import load_digits
from aekd_tf.data.tfds import prepared_builder
from aekd_tf.names import DATASETS_IN_MEMORY

_VALIDATION_EXAMPLES = {"digits": 237, "cifar10": 5000, "cifar100": 5000}


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
    if name not in DATASETS_IN_MEMORY:
        builder = prepared_builder(name, data_dir)
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
        training, test, details = load_digits()
    else:
        training, test, details = load_cifar(name, data_dir)
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
