"""Small students of several kinds to export, and data for them."""

import keras
import numpy as np

CLASSES = 3


def images(name="pupil"):
    """A convolution with batch norm whose statistics are not the initial ones, and dropout."""
    keras.utils.set_random_seed(0)
    norm = keras.layers.BatchNormalization()
    layers = [
        *(keras.Input((8, 8, 1), name="image"), keras.layers.Conv2D(8, 3, activation="relu")),
        *(norm, keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5)),
        keras.layers.Dense(CLASSES),
    ]
    student = keras.Sequential(layers, name=name)
    _move(norm)
    return student


def two_inputs():
    """An image and a vector, in a dictionary."""
    keras.utils.set_random_seed(1)
    image, facts = keras.Input((8, 8, 1), name="image"), keras.Input((4,), name="facts")
    norm = keras.layers.BatchNormalization()
    x = norm(keras.layers.Conv2D(4, 3, activation="relu")(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Concatenate()([x, keras.layers.Dense(4)(facts)])
    x = keras.layers.Dense(CLASSES)(keras.layers.Dropout(0.5)(x))
    _move(norm)
    return keras.Model({"image": image, "facts": facts}, x, name="two_inputs")


def text():
    """Token sequences of any length."""
    keras.utils.set_random_seed(2)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 8)(tokens))
    return keras.Model(tokens, keras.layers.Dense(CLASSES)(x), name="text")


def vectors(classes=CLASSES, name="vectors", **options):
    """One dense layer."""
    keras.utils.set_random_seed(3)
    layers = [keras.Input((4,), name="x"), keras.layers.Dense(classes, **options)]
    return keras.Sequential(layers, name=name)


def two_outputs():
    """Two outputs in a dictionary."""
    keras.utils.set_random_seed(4)
    x = keras.Input((4,), name="x")
    outputs = {"main": keras.layers.Dense(CLASSES)(x), "aside": keras.layers.Dense(2)(x)}
    return keras.Model(x, outputs, name="two_outputs")


@keras.saving.register_keras_serializable("aekd_tf_tests")
class Subclassed(keras.Model):
    """A student without a graph, of token sequences."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embedding, self.dense = keras.layers.Embedding(50, 4), keras.layers.Dense(CLASSES)
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, tokens, training=False):
        x = keras.ops.mean(self.embedding(tokens), axis=1)
        return self.dense(self.dropout(x, training=training))


@keras.saving.register_keras_serializable("aekd_tf_tests")
class SubclassedOfTwo(Subclassed):
    """The same, of tokens and a vector in a dictionary."""

    def call(self, inputs, training=False):
        return super().call(inputs["tokens"], training) + inputs["facts"][:, :CLASSES]


def _move(norm):
    generator = np.random.default_rng(5)
    norm.moving_mean.assign(generator.normal(size=norm.moving_mean.shape) / 10)
    norm.moving_variance.assign(generator.uniform(0.5, 2, norm.moving_mean.shape))


def data(student, count=20):
    """Inputs in the structure of a functional student, and labels."""
    generator = np.random.default_rng(6)

    def array(tensor):
        shape = [count, *(7 if size is None else size for size in tensor.shape[1:])]
        if tensor.dtype.startswith("int"):
            return generator.integers(0, 50, shape)
        return generator.normal(size=shape).astype(np.float32)

    own = student.inputs[0] if isinstance(student, keras.Sequential) else student.input
    return keras.tree.map_structure(array, own), generator.integers(0, CLASSES, count)
