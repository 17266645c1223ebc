"""Distill two teachers of other input sizes and outputs into a subclassed student.

python examples/foreign_teachers.py

The student is a subclassed `keras.Model` on 8x8 gray digits. One teacher has the first
blocks of a MobileNet from keras.applications: it takes 32x32 color images and ends in a softmax.
The other counts the classes backwards. `TeacherAdapter` declares both once.
"""

from __future__ import annotations

import keras
import numpy as np

from aekd_tf import EnsembleDistiller, TeacherAdapter, data, models


class SmallStudent(keras.Model):
    """Two convolutions and a dense layer."""

    def __init__(self):
        super().__init__()
        self.convolutions = [
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="deep"),
        ]
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.logits = keras.layers.Dense(10)

    def call(self, inputs):
        x = inputs
        for convolution in self.convolutions:
            x = convolution(x)
        return self.logits(self.pool(x))


def application_teacher() -> keras.Model:
    """Gray images to three channels, then part of keras.applications' MobileNet, to probabilities.

    Its first five blocks leave 4x4 maps of so small an image; the others would leave one pixel.
    """
    inputs = keras.Input((32, 32, 1))
    whole = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, include_top=False)
    backbone = keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # its 0.99 is for more steps than these
    color = keras.layers.Concatenate()([inputs, inputs, inputs])
    maps = keras.layers.GlobalAveragePooling2D()(backbone(color))
    probabilities = keras.layers.Dense(10, activation="softmax")(maps)
    return keras.Model(inputs, probabilities, name="application")


def main(epochs: int = 4) -> dict[str, float]:
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    images = digits.train.images.astype("float32") / 16
    labels = digits.train.labels

    application = application_teacher()
    application.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    larger = keras.ops.image.resize(2 * images - 1, (32, 32))
    application.fit(np.asarray(larger), labels, epochs=epochs, verbose=0)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    backwards = models.create("resnet8", 10, (8, 8, 1))
    backwards.compile("adam", loss)
    backwards.fit(images, 9 - labels, epochs=epochs // 2, verbose=0)

    teachers = [
        TeacherAdapter(
            application,
            input_size=(32, 32),
            preprocessing=keras.layers.Rescaling(2.0, -1.0),
            outputs="probabilities",
        ),
        TeacherAdapter(backwards, class_map=range(9, -1, -1)),
    ]
    student = SmallStudent()
    distiller = EnsembleDistiller(student, teachers)
    distiller.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    distiller.fit(images, labels, epochs=2 * epochs, verbose=0)
    test = digits.test.images.astype("float32") / 16
    accuracy = distiller.evaluate(test, digits.test.labels, verbose=0, return_dict=True)["accuracy"]
    scores = distiller.teachers.evaluate(test, digits.test.labels)["teachers"]
    print(f"teachers {scores[0]:.3f} and {scores[1]:.3f}, student {accuracy:.3f}")
    return {"student": accuracy, "application": scores[0], "backwards": scores[1]}


if __name__ == "__main__":
    main()
