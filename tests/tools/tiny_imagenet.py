"""Small sets in TensorFlow Datasets' own format: awkward JPEGs, and a few images as CIFAR-10."""

from __future__ import annotations

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

MODES = ("RGB", "L", "CMYK")


def encoded(rng, label, index):
    """A JPEG of any size and mode, whose brightness tells its class."""
    height, width = rng.integers(20, 90, 2)
    pixels = rng.normal(20 + 30 * label, 20, (height, width, 3)).clip(0, 255).astype(np.uint8)
    mode = MODES[index % len(MODES)]
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), mode, pixels


class TinyImages(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    COUNTS = (("train", 60), ("validation", 24))
    CLASSES = 8

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=self.CLASSES),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split, _ in self.COUNTS}

    def _generate_examples(self, split):
        rng = np.random.default_rng(len(split))
        for index in range(dict(self.COUNTS)[split]):
            image, _, _ = encoded(rng, index % self.CLASSES, index)
            yield index, {"image": io.BytesIO(image), "label": index % self.CLASSES}


with tfds.core.registered.skip_registration():

    class Cifar10(tfds.core.GeneratorBasedBuilder):
        """Read by the real builder of that name: 32x32 images whose brightness tells the class."""

        VERSION = tfds.core.Version("3.0.2")
        COUNTS = (("train", 120), ("test", 40))

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self, features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split, _ in self.COUNTS}

        def _generate_examples(self, split):
            rng = np.random.default_rng(len(split))
            for index in range(dict(self.COUNTS)[split]):
                label = index % 10
                image = rng.normal(20 + 24 * label, 10, (32, 32, 3)).clip(0, 255)
                yield index, {"id": str(index), "image": image.astype(np.uint8), "label": label}


def prepare_cifar10(directory):
    Cifar10(data_dir=directory, file_format="tfrecord").download_and_prepare()


def prepare(directory):
    """Writes the set below `directory`, whence it loads by the name `tiny_images`."""
    builder = TinyImages(data_dir=directory, file_format="tfrecord")
    builder.download_and_prepare()
    return builder.name
