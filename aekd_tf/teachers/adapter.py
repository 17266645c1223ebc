"""TeacherAdapter: a trained model made to fit an ensemble it was not trained for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from aekd_tf.checks import check_choice
from aekd_tf.names import TEACHER_OUTPUTS


@keras.saving.register_keras_serializable("aekd_tf")
class TeacherAdapter(keras.Model):
    """A teacher with an input size, a preprocessing, an output or a class order of its own.

    The ensemble sees a model from the student's inputs to logits in the student's class order.
    Layers of the adapted model can be hints.

    Args:
        model: the trained classifier.
        input_size: `(height, width)` of its inputs; the student's images are resized to it,
            bilinearly. None leaves them.
        preprocessing: a Keras layer, or a function of a batch of images, from the student's
            inputs (resized) to the model's, e.g. `keras.layers.Rescaling(1 / 127.5, -1)`. To
            save the distiller, a function must be registered with Keras.
        outputs: `"logits"`, or `"probabilities"` if the model ends in a softmax; their
            logarithms then serve as logits.
        class_map: the index of the teacher's output for each of the student's classes; None
            if both have the same class order.

    Raises:
        ValueError: unknown `outputs`; a class map with a repeated or negative index, or one
            beyond the model's outputs; a `model` that is not a Keras model.

    Example:

        backbone = keras.applications.MobileNetV2(weights=None, classes=10)
        teacher = TeacherAdapter(
            backbone,
            input_size=(224, 224),
            preprocessing=keras.layers.Rescaling(2.0, -1.0),
            outputs="probabilities",
        )
        distiller = EnsembleDistiller(student, [teacher, another_teacher])
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        input_size: tuple[int, int] | None = None,
        preprocessing: Callable[[Any], Any] | None = None,
        outputs: str = "logits",
        class_map: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(model, keras.Model):
            raise ValueError(f"model is a {type(model).__name__}: give a keras.Model")
        kwargs.setdefault("name", f"{model.name}_adapted")
        super().__init__(**kwargs)
        self.autocast = False
        check_choice("outputs", outputs, TEACHER_OUTPUTS)
        if class_map is not None:
            class_map = [int(index) for index in class_map]
            if len(set(class_map)) < len(class_map) or min(class_map, default=-1) < 0:
                raise ValueError(
                    f"class_map {class_map} must name each of the teacher's classes at most once"
                )
        self.model = model
        self.input_size = tuple(input_size) if input_size else None
        self.preprocessing = preprocessing
        self.outputs_kind = outputs
        self.class_map = class_map
        if self.input_size:
            self.resizing = keras.layers.Resizing(*self.input_size)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns logits `[B, K]` in the student's class order."""
        x = self.resizing(inputs) if self.input_size else inputs
        if self.preprocessing is not None:
            x = self.preprocessing(x)
        outputs = keras.ops.cast(self.model(x, training=training), "float32")
        if self.outputs_kind == "probabilities":
            outputs = keras.ops.log(keras.ops.maximum(outputs, float(np.finfo(np.float32).tiny)))
        if self.class_map is None:
            return outputs
        if max(self.class_map) >= outputs.shape[-1]:
            raise ValueError(
                f"class_map names output {max(self.class_map)} of {self.model.name}, which has "
                f"{outputs.shape[-1]}: count its outputs from 0"
            )
        return keras.ops.take(outputs, self.class_map, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "input_size": self.input_size,
            "preprocessing": self.preprocessing
            and keras.saving.serialize_keras_object(self.preprocessing),
            "outputs": self.outputs_kind,
            "class_map": None if self.class_map is None else list(self.class_map),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TeacherAdapter:
        config = dict(config)
        for name in ("model", "preprocessing"):
            config[name] = config[name] and keras.saving.deserialize_keras_object(
                config[name], custom_objects
            )
        return cls(**config)
