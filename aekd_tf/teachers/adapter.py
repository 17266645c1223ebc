"""TeacherAdapter: a trained model made to fit an ensemble it was not trained for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from aekd_tf.checks import check_choice
from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.names import TEACHER_OUTPUTS
from aekd_tf.outputs import UNKNOWN, known_key, output_key, picked, squashing
from aekd_tf.refusals import refusal


@keras.saving.register_keras_serializable("aekd_tf")
class TeacherAdapter(keras.Model):
    """Fits a teacher to an ensemble: its input size, preprocessing, output or class order.

    The ensemble sees a model from the student's inputs to logits in the student's class order.
    Layers of the adapted model can be hints.

    Args:
        model: the trained classifier.
        input_size: `(height, width)` of its inputs; the student's images are resized to it,
            bilinearly. None leaves them.
        preprocessing: a Keras layer, or a function of a batch of images, from the student's
            inputs (resized) to the model's, e.g. `keras.layers.Rescaling(1 / 127.5, -1)`. To
            save the distiller, a function must be registered with Keras.
        outputs: `"logits"`, or `"probabilities"` if the model ends in a softmax, whose
            logarithms then serve as logits, or in a sigmoid, whose log-odds do.
        class_map: the index of the teacher's output for each of the student's classes; None
            if both have the same class order. In it, None stands for a class that the teacher
            does not know: it then teaches the other classes alone.
        output: name or index of the output that is distilled; None if the model has only one.
        inputs: key of the model's inputs among the student's; None if it takes all of them.

    Raises:
        ValueError: unknown `outputs`; a class map with a repeated or negative index, with None
            alone, or with an index beyond the model's outputs; a `model` that is not a Keras
            model; no such output or input.

    Example::

        import keras
        import numpy as np
        from aekd_tf import TeacherAdapter

        layers = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
        teacher = TeacherAdapter(
            keras.Sequential([keras.Input((32, 32, 1)), *layers]),
            input_size=(32, 32),
            preprocessing=keras.layers.Rescaling(1 / 127.5, -1),
            outputs="probabilities",
            class_map=[2, 0, 1],
        )
        print(teacher(np.zeros((5, 8, 8, 1))).shape)  # (5, 3)
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        input_size: tuple[int, int] | None = None,
        preprocessing: Callable[[Any], Any] | None = None,
        outputs: str = "logits",
        class_map: Sequence[Any] | np.ndarray | None = None,
        output: str | int | None = None,
        inputs: str | int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(model, keras.Model):
            raise ValueError(f"model is a {type(model).__name__}: give a keras.Model")
        kwargs.setdefault("name", f"{model.name}_adapted")
        super().__init__(**kwargs)
        self.autocast = False
        check_choice("outputs", outputs, TEACHER_OUTPUTS)
        if class_map is not None:
            class_map = [None if index is None else int(index) for index in class_map]
            known = [index for index in class_map if index is not None]
            if len(set(known)) < len(known) or min(known, default=-1) < 0:
                raise ValueError(
                    f"class_map {class_map} must name each of the teacher's classes at most once"
                )
        self.model = model
        self.input_size = tuple(input_size) if input_size else None
        self.preprocessing = preprocessing
        self.outputs_kind = outputs
        self.class_map = class_map
        self.output_name, self.inputs_key = output, inputs
        if self.input_size:
            self.resizing = keras.layers.Resizing(*self.input_size)

    def _shown(self) -> dict[str, Any]:
        own = {"output": self.output_name, "inputs": self.inputs_key}
        return {"outputs": self.outputs_kind, **own}

    __repr__ = repr_of

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns logits `[B, K]` in the student's class order."""
        outputs = keras.ops.cast(self.model_outputs(inputs, training), "float32")
        if self.outputs_kind == "probabilities":
            tiny = float(np.finfo(np.float32).tiny)
            log = keras.ops.log(keras.ops.maximum(outputs, tiny))
            if self.ending == "sigmoid":
                log -= keras.ops.log(keras.ops.maximum(1.0 - outputs, tiny))
            outputs = log
        if self.class_map is None:
            return outputs
        known = [index is not None for index in self.class_map]
        indices = [index or 0 for index in self.class_map]
        if max(indices) >= outputs.shape[-1]:
            raise ValueError(
                f"class_map names output {max(indices)} of {self.model.name}, which has "
                f"{outputs.shape[-1]}: count its outputs from 0"
            )
        outputs = keras.ops.take(outputs, indices, axis=-1)
        return outputs if all(known) else keras.ops.where(known, outputs, UNKNOWN)

    @property
    def ending(self) -> str | None:
        """The model's last operation if it is a `"softmax"` or `"sigmoid"`, as far as it shows."""
        return squashing(self.model, known_key("teacher", self.model, self.output_name))

    @property
    def specialist(self) -> bool:
        """Whether the teacher does not know some of the student's classes."""
        return self.class_map is not None and None in self.class_map

    def model_outputs(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns what the adapted model gives for the student's inputs."""
        x = inputs
        if self.inputs_key is not None:
            given = list(range(len(x))) if isinstance(x, (list, tuple)) else list(x)
            if isinstance(x, (dict, list, tuple)) and self.inputs_key not in given:
                raise refusal(
                    "no_such_input", name=self.name, inputs=given, key=repr(self.inputs_key)
                )
            x = x[self.inputs_key]
        if self.input_size:
            x = self.resizing(x)
        if self.preprocessing is not None:
            x = self.preprocessing(_as_the_model_would(x))
        outputs = self.model(x, training=training)
        return picked(outputs, output_key("teacher", self.model, outputs, self.output_name))

    def get_config(self) -> dict[str, Any]:
        preprocessing = self.preprocessing
        if _describing:
            preprocessing = None  # its code is looked at
        elif not can_be_found_again(preprocessing):
            function = getattr(self.preprocessing, "__qualname__", repr(self.preprocessing))
            raise refusal("preprocessing_unsaveable", name=self.name, function=function)
        return {
            **super().get_config(),
            "model": untrained_config(self.model),
            "input_size": self.input_size,
            "preprocessing": preprocessing and keras.saving.serialize_keras_object(preprocessing),
            "outputs": self.outputs_kind,
            "class_map": None if self.class_map is None else list(self.class_map),
            "output": self.output_name,
            "inputs": self.inputs_key,
        }

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves adapter and model as `keras.Model.save`."""
        self.get_config()  # what it refuses must not cost a file that is there
        super().save(filepath, *args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TeacherAdapter:
        """Returns an adapter from what `get_config` gave."""
        config = dict(config)
        for name in ("model", "preprocessing"):
            config[name] = config[name] and keras.saving.deserialize_keras_object(
                config[name], custom_objects
            )
        return cls(**config)


_describing = False


@contextlib.contextmanager
def described() -> Iterator[None]:
    """Lets configurations be made of adapters that cannot be saved, to tell them apart."""
    global _describing
    _describing = True
    try:
        yield
    finally:
        _describing = False


def untrained_config(model: keras.Model) -> dict[str, Any]:
    """Returns a model's serialized configuration, without how it was compiled."""
    config = keras.saving.serialize_keras_object(model)
    return {name: value for name, value in config.items() if name != "compile_config"}


def _as_the_model_would(x: Any) -> Any:
    """Casts small integers, such as uint8 pixels, to float; they would wrap around."""

    def cast(part: Any) -> Any:
        small = keras.backend.standardize_dtype(part.dtype) in _SMALL_INTEGERS
        return keras.ops.cast(part, keras.backend.floatx()) if small else part

    return keras.tree.map_structure(cast, x)


_SMALL_INTEGERS = ("uint8", "int8", "uint16", "int16")


def can_be_found_again(preprocessing: Any) -> bool:
    """Returns whether Keras would find a function or object when it loads a file."""
    if preprocessing is None or isinstance(preprocessing, keras.layers.Layer):
        return True
    try:
        config = keras.saving.serialize_keras_object(preprocessing)
        return keras.saving.deserialize_keras_object(config) is preprocessing
    except Exception:  # Keras has many ways to say no
        return False
