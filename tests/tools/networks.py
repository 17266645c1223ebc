"""Small networks."""

import keras


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
