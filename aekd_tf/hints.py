"""Hints: teachers' feature maps as targets for the student's, through one regressor a teacher."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.replicas import num_replicas


@keras.saving.register_keras_serializable("aekd_tf")
class Hints:
    """Which feature maps are compared, and from when on.

    Args:
        student: name of the student's layer, e.g. `"stage2"`, wherever it is nested.
        teachers: name of the teachers' layer, or a list with one name a teacher; by default
            the same as the student's.
        first_epoch: epochs before it (counted from 1) train without the hint term; the
            authors' code starts with epoch 2. It takes effect in `fit`.
        pooling: height and width of the squares that both maps are averaged over before they
            are compared, which makes cached maps so much smaller; 1 for the maps as they are.

    Raises:
        ValueError: an empty name, `first_epoch` or `pooling` below 1.
    """

    def __init__(
        self,
        student: str = "stage2",
        teachers: str | Sequence[str] | None = None,
        first_epoch: int = 1,
        pooling: int = 1,
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

    def teacher_layers(self, num_teachers: int) -> list[str]:
        """The layer's name of each teacher; ValueError unless there are as many as teachers."""
        if isinstance(self.teachers, str):
            return [self.teachers] * num_teachers
        if len(self.teachers) != num_teachers:
            raise ValueError(
                f"hints name {len(self.teachers)} teachers' layers for {num_teachers} teachers: "
                "give one name for all, or one each"
            )
        return self.teachers

    def get_config(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "teachers": self.teachers,
            "first_epoch": self.first_epoch,
            "pooling": self.pooling,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Hints:
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class HintLayers:
    """Layers of others, which Keras must not track as the distiller's own."""

    student: keras.layers.Layer
    teachers: list[keras.layers.Layer]


def pooled(features: tf.Tensor, pooling: int) -> tf.Tensor:
    """`features [B, h, w, c]` averaged over squares of `pooling` pixels."""
    return tf.nn.avg_pool2d(features, pooling, pooling, "VALID") if pooling > 1 else features


def pooled_shape(shape: Sequence[Any], pooling: int) -> tuple[Any, ...]:
    """The shape that `pooled` gives; ValueError where the map is smaller than a square."""
    shape = tuple(shape)
    if pooling == 1:
        return shape
    if len(shape) != 4 or None in shape[1:] or min(shape[1:3]) < pooling:
        raise ValueError(f"feature map {shape[1:]} cannot be pooled by {pooling}: pool by less")
    return shape[0], shape[1] // pooling, shape[2] // pooling, shape[3]


class HintStart(keras.callbacks.Callback):
    """Switches the hint term on at its first epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model._hint_scale.assign(float(epoch + 1 >= self.model.hints.first_epoch))

    def on_train_end(self, logs: Any = None) -> None:
        self.model._hint_scale.assign(1.0)


def hint_loss(teacher_features: tf.Tensor, regressed: tf.Tensor) -> tf.Tensor:
    """Eq. 5, `1/2 || f_t - r(f_s) ||^2`, divided by the number of entries of the map.

    So beta means the same whatever the map's size; it is half the mean squared error of the
    authors' code.

    Args:
        teacher_features: `[B, ...]`, any float dtype.
        regressed: of the same shape.

    Returns:
        `[B]` float32, one value an example.
    """
    difference = tf.cast(teacher_features, tf.float32) - tf.cast(regressed, tf.float32)
    return tf.reduce_mean(tf.square(difference), list(range(1, difference.shape.rank))) / 2


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer of that name in `model`, nested models included.

    Raises:
        ValueError: no layer or several of that name; the message lists the names there are.
    """
    layers = [layer for layer in model._flatten_layers() if layer is not model]
    found = [layer for layer in layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{model.name} has {len(found)} layers {name!r}: a hint needs one")
    kinds = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.BatchNormalization)
    names = [layer.name for layer in layers if not isinstance(layer, kinds)]
    shown = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    raise ValueError(f"{model.name} has no layer {name!r}; its layers are {shown}")


# By layer and thread, who listens to what the layer gives; the last one in hears it.
_LISTENERS: dict[int, dict[int, list[list[Any]]]] = {}
_LOCK = threading.Lock()


@contextlib.contextmanager
def captured(layer: keras.layers.Layer) -> Iterator[list[Any]]:
    """What `layer` gives while the context lasts, call by call, however its model is written.

    In this thread: under a strategy every replica is traced in a thread of its own.
    """
    outputs: list[Any] = []
    thread = threading.get_ident()
    with _LOCK:
        listeners = _LISTENERS.setdefault(id(layer), {})
        if not listeners:
            # An instance attribute that hides the method; not through Keras's tracking.
            object.__setattr__(layer, "call", _recording(layer, listeners))
        listeners.setdefault(thread, []).append(outputs)
    try:
        yield outputs
    finally:
        with _LOCK:
            listeners[thread].pop()
            if not listeners[thread]:
                del listeners[thread]
            if not listeners:
                del _LISTENERS[id(layer)]
                object.__delattr__(layer, "call")


def _recording(layer: keras.layers.Layer, listeners: dict[int, list[list[Any]]]) -> Any:
    original = type(layer).call.__get__(layer)

    def recording(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        if threading.get_ident() in listeners:
            listeners[threading.get_ident()][-1].append(output)
        return output

    return recording


def with_features(
    model: keras.Model, layer: keras.layers.Layer, inputs: Any, training: bool
) -> tuple[Any, tf.Tensor]:
    """`(outputs, what layer gave)` of one forward pass of `model`; ValueError unless once."""
    with captured(layer) as features:
        outputs = model(inputs, training=training)
    if len(features) != 1:
        raise ValueError(
            f"{model.name} calls its layer {layer.name!r} {len(features)} times a forward pass: a "
            "hint needs a layer that is called once"
        )
    return outputs, tf.convert_to_tensor(features[0])


def feature_shape(
    model: keras.Model, layer: keras.layers.Layer, input_shape: Any
) -> tuple[int | None, ...]:
    """Shape of what `layer` gives where `model` is given inputs of `input_shape`."""
    try:
        shape = tuple(layer.output.shape)
    except (AttributeError, ValueError):  # not part of a functional graph
        shape = (None, None)
    if model.built and None not in shape[1:]:
        return shape

    def spec(shape):
        return tf.TensorSpec((None, *shape[1:]), tf.float32)

    specs = keras.tree.map_shape_structure(spec, input_shape)

    def last_features(inputs):
        # A model that is not built yet may call its layers more than once.
        with captured(layer) as features:
            model(inputs, training=False)
        return features[-1]

    trace = tf.function(last_features, autograph=False)
    return tuple(trace.get_concrete_function(specs).structured_outputs.shape)


@keras.saving.register_keras_serializable("aekd_tf")
class HintRegressors(keras.layers.Layer):
    """The regressors r_m, one a teacher, from the student's feature map to the teachers'."""

    def build_for(self, student_shape: Any, teacher_shapes: Sequence[Any]) -> None:
        self.regressors = [
            Regressor(student_shape, shape, name=f"regressor_{index}", dtype=self.dtype_policy)
            for index, shape in enumerate(teacher_shapes)
        ]
        self.built = True

    def losses_and_gradients(
        self,
        student_map: tf.Tensor,
        teacher_maps: Sequence[tf.Tensor],
        example_weight: tf.Tensor,
        count: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Every teacher's hint loss, and its gradient w.r.t. the student's feature map.

        `count` is the size of the global batch, float32.
        Under an outer tape the losses also lead to the regressors and the student.

        Returns:
            `(losses [M], gradients [M, B, h, w, c])`, float32; of the latter gradients are
            stopped.
        """
        copies = [tf.identity(student_map) for _ in teacher_maps]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(copies)
            losses = [
                tf.reduce_sum(example_weight * hint_loss(target, regressor(copy, training=True)))
                for regressor, copy, target in zip(
                    self.regressors, copies, teacher_maps, strict=True
                )
            ]
            # In float16 the gradient of a mean over a map would be too small for its numbers.
            size = count * float(student_map.shape[1:].num_elements())
            scaled = [size * loss for loss in losses]
        gradients = tf.cast(tf.stack(tape.gradient(scaled, copies)), tf.float32) / size
        return tf.stack(losses), tf.stop_gradient(gradients)


class Regressor(keras.layers.Layer):
    """r_m: from the student's feature map `[B, h, w, c]` to the teacher's.

    A convolution of stride 2 where the student's map is twice as large, a transposed one
    where it is half, else one whose kernel is as large as the difference; then batch norm
    and ReLU.

    Args:
        student_shape, teacher_shape: of the maps, batch axis first.

    Raises:
        ValueError: maps that cannot be aligned so; the message names both shapes.
    """

    def __init__(
        self,
        student_shape: Sequence[int | None],
        teacher_shape: Sequence[int | None],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        student: tuple[Any, ...] = tuple(student_shape[1:])
        teacher: tuple[Any, ...] = tuple(teacher_shape[1:])
        refusal = ValueError(
            f"feature maps {student} of the student and {teacher} of a teacher cannot be aligned: "
            "choose layers that give [height, width, channels], of which the student's is half "
            "the teacher's size, twice it, or at least as large"
        )
        if len(student) != 3 or len(teacher) != 3 or None in student + teacher:
            raise refusal
        pairs = list(zip(student[:2], teacher[:2], strict=True))
        options = {"use_bias": False, "dtype": self.dtype_policy}
        channels = teacher[2]
        if all(s == 2 * t for s, t in pairs):
            layer = keras.layers.Conv2D(channels, 3, 2, padding="same", **options)
        elif all(2 * s == t for s, t in pairs):
            layer = keras.layers.Conv2DTranspose(channels, 4, 2, padding="same", **options)
        elif all(s >= t for s, t in pairs):
            kernel = tuple(1 + s - t for s, t in pairs)
            layer = keras.layers.Conv2D(channels, kernel, **options)
        else:
            raise refusal
        self.convolution = layer
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, synchronized=num_replicas() > 1, dtype=self.dtype_policy
        )
        self.convolution.build((None, *student))
        self.norm.build((None, *teacher))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.ops.relu(self.norm(self.convolution(inputs), training=training))
