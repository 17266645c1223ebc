"""Loads a data set by its name."""

from __future__ import annotations

from aekd_tf.data import streaming
from aekd_tf.data.cifar import load_cifar
from aekd_tf.data.dataset import Dataset, Split
from aekd_tf.data.digits import load_digits
from aekd_tf.data.mnist1d import load_mnist1d
from aekd_tf.data.tfds import prepared_builder
from aekd_tf.names import DATASETS_IN_MEMORY

VALIDATION_EXAMPLES = {"digits": 237, "mnist1d": 500, "cifar10": 5000, "cifar100": 5000}


def load(
    name: str,
    *,
    data_dir: str | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads a small data set into memory, or opens a large one.

    The validation split is always the last examples of the training set, whatever
    `train_examples` is. The test split serves the final report only.

    Args:
        name: `"digits"` (1,797 handwritten 8x8 digits that come with scikit-learn),
            `"mnist1d"` (signals of length 40, generated), or `"cifar10"` or `"cifar100"`
            (through TensorFlow Datasets); these are held in memory. Any
            other image classification set of TensorFlow Datasets, e.g. `"imagenette"` or
            `"imagenet2012"`, is read from disk during training, see `aekd_tf.data.streaming`.
        data_dir: directory of TensorFlow Datasets; by default `TFDS_DATA_DIR`, else
            `~/tensorflow_datasets`.
        train_examples: number of training images, the first ones; None for all.
        validation_examples: size of the validation split, which may be 0; by default 237 of
            digits, 500 of MNIST-1D, 5,000 of CIFAR, and a tenth of others but at most 10,000.
        image_size: height and width that images read from disk are cropped to; by default
            224.

    Raises:
        ValueError: more examples than the data set has; not an image classification set.
        DataError: unknown name; the data set is not on disk and cannot be downloaded; a package
            that generates it is missing.

    Example::

        from aekd_tf import data

        digits = data.load("digits", train_examples=200)
        print(len(digits.train), len(digits.validation), len(digits.test))  # 200 237 360
        print(digits.image_shape, digits.num_classes)  # (8, 8, 1) 10
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
        validation_examples = VALIDATION_EXAMPLES[name]
    if name == "digits":
        training, test, details = load_digits()
    elif name == "mnist1d":
        training, test, details = load_mnist1d()
    else:
        training, test, details = load_cifar(name, data_dir)
    train_examples, available = streaming.training_share(
        name, len(training), train_examples, validation_examples
    )
    train = Split(training.images[:train_examples], training.labels[:train_examples])
    validation = Split(training.images[available:], training.labels[available:])
    return Dataset(name=name, train=train, validation=validation, test=test, **details)
