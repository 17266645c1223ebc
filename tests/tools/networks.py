"""Small networks."""

import keras
from keras import layers

from aekd_tf.models.layers import entrance


def classifier(seed, classes=3, width=8, inputs=4):
    """A small dense network with batch norm, from `[B, inputs]` to logits."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(width, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(classes),
        ],
        name=f"classifier_{seed}",
    )


def elementwise(seed):
    """A teacher of digits without a matrix product, from `[B, 8, 8, 1]` to 10 logits.

    A processor's matrix product may give an image other bits at another place in the batch.
    What is computed entry by entry gives the same bits anywhere.
    """
    keras.utils.set_random_seed(seed)
    options = {"gamma_initializer": "random_normal", "beta_initializer": "random_normal"}
    inputs = keras.Input((8, 8, 1))
    maps = keras.layers.BatchNormalization(**options)(inputs)
    maps = keras.layers.MaxPooling2D(2, name="stage2")(maps)
    logits = keras.layers.BatchNormalization(**options)(keras.layers.Flatten()(maps))
    return keras.Model(inputs, 10 * logits[:, :10], name=f"elementwise_{seed}")


def small_resnet(*, name, num_classes, input_shape, depth, normalization=None):
    """Takes the place of `build` in `aekd_tf.models.resnet`: its stages, of one layer each.

    A step of it is traced in a fraction of the time. For tests of what surrounds the networks.
    """
    inputs, x = entrance(input_shape, normalization, "images")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(name="stage1")(layers.BatchNormalization(name="stem_norm")(x))
    for stage in (2, 3):
        x = layers.Conv2D(6, 3, 2, "same", activation="relu", name=f"stage{stage}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32")(x), name=name)
