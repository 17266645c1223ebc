"""Hints: teachers' feature maps as targets for the student's, with one regressor per teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf import losses, weightings
from aekd_tf.keras_private import flatten_layers
from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.names import AS_OUTPUTS, HINT_LOSSES
from aekd_tf.refusals import refusal


@keras.saving.register_keras_serializable("aekd_tf")
class Hints:
    """Names the feature maps that are compared, and says how.

    Maps are `[B, h, w, c]` of images, `[B, t, c]` of sequences or vectors `[B, c]`.

    Args:
        student: name of the student's layer, e.g. `"stage2"`; it may be nested.
        teachers: name of the teachers' layer, or a list with one name per teacher; by default
            the same as the student's.
        first_epoch: first epoch with the hint term, counted from 1; the authors' code starts
            with epoch 2. It takes effect in `fit`.
        pooling: side of the squares, in pixels, that both maps are averaged over before the
            comparison; steps in time for sequences. Cached maps shrink by its square. 1 leaves
            the maps as they are.
        weighting: a `Weighting` or its name; `"as_outputs"` for the weights of the teachers'
            outputs; None for the distiller's `hint_weighting`.
        loss: `"mse"` for `hint_loss` after a regressor (Eq. 5); `"attention"` for
            `attention_loss`, which requires no regressor; or another distillation loss between
            the teacher's map and the regressor's.
        activation: of the regressors: `"relu"` as the authors have it, or None for maps that
            can be negative.

    Raises:
        ValueError: an empty name, `first_epoch` or `pooling` below 1, an unknown loss or
            activation.

    Example::

        import keras
        import numpy as np
        from aekd_tf import EnsembleDistiller, Hints

        def network(width):
            hidden = keras.layers.Dense(width, activation="relu", name="hidden")
            return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3)])

        hints = {"hints": Hints("hidden"), "hint_weight": 1.0, "weighting": "average"}
        distiller = EnsembleDistiller(network(5), [network(8), network(8)], **hints)
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = np.random.rand(20, 4), np.random.randint(0, 3, 20)
        print("hint_loss" in distiller.fit(x, y, verbose=0).history)  # True
    """

    def __init__(
        self,
        student: str = "stage2",
        teachers: str | Sequence[str] | None = None,
        first_epoch: int = 1,
        pooling: int = 1,
        *,
        weighting: Any = None,
        loss: Any = "mse",
        activation: Any = "relu",
    ):
        teachers = student if teachers is None else teachers
        teachers = teachers if isinstance(teachers, str) else list(teachers)
        names = [student, *([teachers] if isinstance(teachers, str) else teachers)]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"hint layers are {names}: give layers' names, such as 'stage2'")
        if first_epoch < 1:
            raise ValueError(f"first_epoch is {first_epoch}: epochs are counted from 1")
        if pooling < 1:
            raise ValueError(f"pooling is {pooling}: give 1 for none, or more pixels")
        self.student, self.teachers, self.first_epoch = student, teachers, int(first_epoch)
        self.pooling = int(pooling)
        self.weighting = weighting if weighting in (None, AS_OUTPUTS) else weightings.get(weighting)
        named = loss in HINT_LOSSES if isinstance(loss, str) else False
        self.loss = loss if named else losses.get(loss)
        if not (activation is None or callable(activation)):
            check_activation(activation)
        self.activation = activation

    def _shown(self) -> dict[str, Any]:
        return {"teachers": None if self.teachers == self.student else self.teachers}

    __repr__ = repr_of

    @property
    def regressed(self) -> bool:
        """Whether regressors stand between the student's map and the teachers'."""
        return self.loss != "attention"

    def teacher_layers(self, num_teachers: int) -> list[str]:
        """Returns one layer name per teacher; ValueError if their number differs."""
        if isinstance(self.teachers, str):
            return [self.teachers] * num_teachers
        if len(self.teachers) != num_teachers:
            raise ValueError(
                f"hints name {len(self.teachers)} teachers' layers for {num_teachers} teachers: "
                "give one name for all, or one per teacher"
            )
        return self.teachers

    def get_config(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "teachers": self.teachers,
            "first_epoch": self.first_epoch,
            "pooling": self.pooling,
            **{
                name: _serialized(getattr(self, name))
                for name in ("weighting", "loss", "activation")
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Hints:
        config = dict(config)
        for name in ("weighting", "loss", "activation"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def check_activation(activation: str) -> None:
    """Raises ValueError unless Keras knows an activation of that name."""
    try:
        keras.activations.get(activation)
    except ValueError:
        raise ValueError(
            f"activation is {activation!r}: give 'relu', None, or another activation of Keras"
        ) from None


def _serialized(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, str)
        else keras.saving.serialize_keras_object(value)
    )


class HintStart(keras.callbacks.Callback):
    """Switches each hint term on at its first epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for term in self.model._terms.features:
            term.start.assign(float(epoch + 1 >= term.hints.first_epoch))

    def on_train_end(self, logs: Any = None) -> None:
        for term in self.model._terms.features:
            term.start.assign(1.0)


def listed(hints: Any) -> list[Hints]:
    """Returns hints as a list, of None, a layer's name, `Hints`, or a list of these.

    Raises:
        TypeError: something else.
    """
    given = [] if hints is None else hints if isinstance(hints, (list, tuple)) else [hints]
    found = [Hints(each) if isinstance(each, str) else each for each in given]
    for each in found:
        if not isinstance(each, Hints):
            raise refusal("not_hints", kind=type(each).__name__)
    return found


def hint_loss(teacher_features: tf.Tensor, regressed: tf.Tensor) -> tf.Tensor:
    """Computes Eq. 5, `1/2 || f_t - r(f_s) ||^2`, divided by the number of entries of the map.

    The division makes beta independent of the map's size. The loss is half the mean squared
    error of the authors' code.

    Args:
        teacher_features: `[B, ...]`, any float dtype.
        regressed: the regressor's output, same shape.

    Returns:
        `[B]` float32, one value per example.

    Example::

        import numpy as np
        from aekd_tf import hint_loss

        print(hint_loss(np.ones((2, 4, 4, 8)), np.zeros((2, 4, 4, 8))).numpy())  # [0.5 0.5]
    """
    difference = tf.cast(teacher_features, tf.float32) - tf.cast(regressed, tf.float32)
    return tf.reduce_mean(tf.square(difference), list(range(1, difference.shape.rank))) / 2


def attention_loss(teacher_features: tf.Tensor, student_features: tf.Tensor) -> tf.Tensor:
    """Computes the squared distance of attention maps, which say where a network looks.

    An attention map is the mean over channels of the squared features, scaled to unit length
    over the positions. The student's is resized bilinearly if the sizes differ.

    Args:
        teacher_features: `[B, h, w, c]` or `[B, t, c]`, any float dtype.
        student_features: the same rank; its sizes and channels may differ.

    Returns:
        `[B]` float32, from 0 to 2.

    Reference:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017.
    """
    teacher, student = (
        tf.reduce_mean(tf.square(tf.cast(features, tf.float32)), -1, keepdims=True)
        for features in (teacher_features, student_features)
    )
    sizes = teacher.shape[1:-1]
    if student.shape[1:-1] != sizes:
        if teacher.shape.rank == 3:
            student = tf.image.resize(student[:, :, None], [sizes[0], 1])[:, :, 0]
        else:
            student = tf.image.resize(student, sizes)
    count = sizes.num_elements()
    unit = [tf.math.l2_normalize(tf.reshape(a, [-1, count]), -1) for a in (teacher, student)]
    return tf.reduce_sum(tf.square(unit[0] - unit[1]), -1)


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """Returns the layer of that name in `model`, nested models included.

    Raises:
        ValueError: no layer or several of that name; the message lists the names.
    """
    layers = [layer for layer in flatten_layers(model) if layer is not model]
    matches = [layer for layer in layers if layer.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{model.name} has {len(matches)} layers {name!r}: a hint requires one")
    unlisted = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.BatchNormalization)
    names = [layer.name for layer in layers if not isinstance(layer, unlisted)]
    shown = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    raise ValueError(f"{model.name} has no layer {name!r}; its layers are {shown}")
