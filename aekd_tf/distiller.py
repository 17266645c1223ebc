"""EnsembleDistiller: a keras.Model that learns from several frozen teachers at once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import weightings
from aekd_tf.cache.batches import CachedTeachers, split_batch, teacher_outputs
from aekd_tf.cache.saving import teachers_config, teachers_from_config
from aekd_tf.checks import check_choice, check_number
from aekd_tf.gradients import example_shares, gram_matrix, parameter_gram, teacher_gradients
from aekd_tf.keras_private import compiled_loss, flatten_layers, loss_tracker
from aekd_tf.losses.averaged_outputs import averaged_outputs_loss
from aekd_tf.losses.kl import check_classes, distillation_loss
from aekd_tf.monitoring.callbacks import with_callbacks
from aekd_tf.monitoring.left_out import LeftOutTeachers
from aekd_tf.monitoring.metrics import TeacherWeights
from aekd_tf.names import GRADIENT_SPACES
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.finite import zero_unless_live
from aekd_tf.terms.capture import feature_shape, with_features
from aekd_tf.terms.hints import HintLayers, Hints, HintStart, find_layer, pooled, pooled_shape
from aekd_tf.terms.regressors import HintRegressors
from aekd_tf.training.global_batch import GlobalBatch
from aekd_tf.training.replicas import batch_size, summed
from aekd_tf.weightings.base import Weighting, uniform_among


@keras.saving.register_keras_serializable("aekd_tf")
class EnsembleDistiller(GlobalBatch):
    r"""Distills M frozen teachers into one student, weighting the teachers anew every step.

    The training loss is Eq. 7 of the paper,

        student_loss_weight * compiled loss + kd_weight * sum_m w_m kd_m
            + hint_weight * sum_m w'_m hint_m + regularization

    `kd_m` is the softened KL divergence from teacher m (`distillation_loss`). The weights `w`
    solve a small quadratic program over the teachers' gradients w.r.t. the student's logits
    (Eq. 13-15).

    With `hints` (AE-KD*), `hint_m` is the distance between the regressed feature map and
    teacher m's (`hint_loss`, Eq. 5). Then `w'` solves a second program, over the gradients
    w.r.t. the student's feature map (Eq. 16). With `weighting="average"` this is FitNets.

    One step costs one forward pass per teacher, and one forward and one backward pass of the
    student. The per-teacher gradients stop at the student's logits and feature map.

    The distiller is an ordinary Keras model: `compile(optimizer, loss, metrics)` with a loss
    *from logits*, then `fit`. `evaluate` and `predict` are the student's own, without teachers.
    Teachers are never trained or updated. Deliver `distiller.student`.

    `save_weights` holds the student and, with hints, the regressors, never the teachers. So do
    `BackupAndRestore` and `ModelCheckpoint(save_weights_only=True)`. `save` also stores the
    teachers, so that a loaded distiller can train on. `load_model` requires `import aekd_tf`.

    Batches `({"inputs": x, "teacher_logits": [B, M, K]}, y)` bring the teachers' logits along,
    from a `TeacherCache`; with `"teacher_features"` they also bring feature maps. The teachers
    then do not run and need not be loaded: give `cache.teachers` in their place.

    A teacher whose outputs are not finite on a batch is left out of it, with weight 0. The cap
    of the others rises to at least one over their number. If none is left, the labels alone
    teach.

    `sample_weight` and `class_weight` scale an example's part in the distillation loss and
    in the teachers' gradients just as in the compiled loss.

    Args:
        student: Keras model from inputs to logits `[B, K]`.
        teachers: a `TeacherEnsemble`, Keras models from the same inputs to logits, or
            `CachedTeachers` if all batches bring the outputs.
        weighting: `"aekd"`, `"average"`, `"average_outputs"`, or a `Weighting`, e.g.
            `AdaptiveWeighting(tolerance=0.3)`.
        temperature: T > 0 of the softened outputs.
        student_loss_weight: weight of the compiled loss, at least 0.
        kd_weight: the paper's lambda, at least 0.
        hint_weight: the paper's beta, at least 0; above 0 it requires `hints`.
        hints: `Hints`, or the name of the layer whose feature maps are compared, e.g.
            `"stage2"`. The regressors in between belong to the distiller, not the student.
        hint_weighting: weighting of the hints' losses; by default the same as `weighting`. The
            authors use `AdaptiveWeighting(normalize=True)` here.
        gradient_space: `"logits"`, or `"parameters"` for the gradients w.r.t. all of the
            student's parameters (Eq. 10), which costs M more backward passes, for study. Hints
            keep to the feature map.
        **kwargs: `name` and other arguments of `keras.Model`. The dtype policy is the
            student's.

    Training logs, besides the compiled metrics:
        `loss`, `student_loss`, `kd_loss`;
        `teacher_weight_0` to `teacher_weight_{M-1}`;
        `effective_teachers`: 1 / sum w^2, from 1 to M;
        `qp_gap`: certified, relative;
        `gradient_conflict`: share of teacher pairs with a negative cosine;
        `teacher_left_out_0` and so on: steps without that teacher;
        with hints `hint_loss` and the same for the hints' weights, `hint_teacher_weight_0` and
        so on.

    Raises:
        ValueError: a temperature or a weight that is out of range or NaN; a tolerance below
            1/M; no teacher; hints without a layer of that name (the message lists the layers)
            or whose maps cannot be aligned; `jit_compile=True` with a solver that leaves the
            graph.

    Example:

        distiller = EnsembleDistiller(student, teachers, weighting="aekd")
        distiller.compile(
            optimizer="sgd",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        distiller.fit(images, labels, epochs=10)
        distiller.student.save("student.keras")

    Reference:
        Du et al., "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient
        Space", NeurIPS 2020.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: TeacherEnsemble | CachedTeachers | Sequence[keras.Model],
        *,
        weighting: str | Weighting = "aekd",
        temperature: float = 4.0,
        student_loss_weight: float = 1.0,
        kd_weight: float = 0.9,
        hint_weight: float = 0.0,
        hints: str | Hints | None = None,
        hint_weighting: str | Weighting | None = None,
        gradient_space: str = "logits",
        **kwargs: Any,
    ):
        # A float32 wrapper around a float16 student would get no loss scaling.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # the wrapper must not change the student's inputs
        if not isinstance(teachers, (TeacherEnsemble, CachedTeachers)):
            teachers = TeacherEnsemble(teachers)
        # A plain Python object, so that Keras neither tracks, trains nor saves the teachers.
        self._ensemble: TeacherEnsemble | CachedTeachers = teachers
        if any(teacher is student for teacher in self._teacher_models()):
            raise ValueError("the student is one of its own teachers: give it separate weights")
        self.student = student
        self.weighting = weightings.get(weighting)
        self.weighting.validate(len(teachers))
        self.temperature = check_number("temperature", temperature, above_zero=True)
        self.student_loss_weight = check_number("student_loss_weight", student_loss_weight)
        self.kd_weight = check_number("kd_weight", kd_weight)
        self.hint_weight = check_number("hint_weight", hint_weight)
        check_choice("gradient_space", gradient_space, GRADIENT_SPACES)
        self.gradient_space = gradient_space
        if hints is None and self.hint_weight > 0:
            raise ValueError(f"hint_weight is {hint_weight} without hints: give hints='stage2'")
        self.hints = Hints(hints) if isinstance(hints, str) else hints
        self.hint_weighting = weightings.get(
            self.weighting if hint_weighting is None else hint_weighting
        )
        self.hint_weighting.validate(len(teachers))
        layers = [layer for teacher in self._teacher_models() for layer in flatten_layers(teacher)]
        self.supports_jit = self._weighting_outside_graph is None and all(
            layer.supports_jit for layer in layers
        )
        self._student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self._kd_loss_tracker = keras.metrics.Mean(name="kd_loss")
        self._weights_tracker = TeacherWeights(len(teachers))
        if self.hints is not None:
            if not self._teacher_models() and self._cached_shapes is None:
                raise ValueError("hints need cached feature maps: give the TeacherCache hints=...")
            names = self.hints.teacher_layers(len(teachers))
            self._hint_layers = HintLayers(
                find_layer(student, self.hints.student),
                [find_layer(*pair) for pair in zip(self._teacher_models(), names, strict=False)],
            )
            self.regressors = HintRegressors(name="regressors", dtype=self.dtype_policy)
            self._hint_scale = self.add_weight(
                shape=(), initializer="ones", trainable=False, dtype="float32", name="hint_scale"
            )
            self._hint_loss_tracker = keras.metrics.Mean(name="hint_loss")
            self._hint_weights_tracker = TeacherWeights(len(teachers), prefix="hint_")

    def build(self, input_shape: Any) -> None:
        input_shape = split_batch(input_shape)[0]
        if self.hints is not None and not self.regressors.built:
            pooling = self.hints.pooling
            shape = feature_shape(self.student, self._hint_layers.student, input_shape)
            shapes = self._cached_shapes or [
                pooled_shape(feature_shape(teacher, layer, input_shape), pooling)
                for teacher, layer in zip(
                    self._teacher_models(), self._hint_layers.teachers, strict=True
                )
            ]
            self.regressors.build_for(pooled_shape(shape, pooling), shapes)
        super().build(input_shape)

    @property
    def _cached_shapes(self) -> list[Any] | None:
        """Returns the shapes of the feature maps in the batches; None unless they are cached."""
        shapes = getattr(self._ensemble, "feature_shapes", None)
        return shapes and [(None, *shape) for shape in shapes]

    @property
    def _weighting_outside_graph(self) -> Weighting | None:
        """Returns the first weighting that XLA cannot compile, if there is one."""
        used = [self.weighting] if self.hints is None else [self.weighting, self.hint_weighting]
        return next((weighting for weighting in used if weighting.leaves_graph), None)

    @property
    def teachers(self) -> TeacherEnsemble | CachedTeachers:
        """Returns the frozen teachers, or the `CachedTeachers` in their place."""
        return self._ensemble

    @property
    def jit_compile(self) -> bool:
        return keras.Model.jit_compile.fget(self)

    @jit_compile.setter
    def jit_compile(self, value: bool) -> None:
        outside = self._weighting_outside_graph if value else None
        if outside is not None:
            raise ValueError(
                f"jit_compile=True cannot compile {outside.description}, which leaves the "
                "graph for Python: use solver='smo' or jit_compile=False"
            )
        keras.Model.jit_compile.fset(self, value)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the student's logits, whether or not the batch brings teachers' outputs."""
        return self.student(split_batch(inputs)[0], training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the student's own loss, compiled plus regularization, as `evaluate` reports."""
        loss = tf.zeros([])
        compiled = None if y is None else compiled_loss(self, y, y_pred, sample_weight)
        if compiled is not None:
            loss += tf.cast(compiled, tf.float32)
        return loss + self.regularization_share()

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, given = split_batch(x)
        if self.hints is not None and not self.regressors.built:
            self.build(keras.tree.map_structure(lambda tensor: (None, *tensor.shape[1:]), x))
        layers, pooling = (
            (self._hint_layers.teachers, self.hints.pooling) if self.hints else ((), None)
        )
        teacher_logits, teacher_maps = teacher_outputs(self.teachers, x, given, layers, pooling)
        groups = [tf.unstack(teacher_logits), *([teacher_maps] if self.hints else [])]
        (teacher_logits, live), *of_hints = zero_unless_live(groups)
        teacher_logits = tf.stack(teacher_logits)
        examples = tf.cast(batch_size(x), tf.float32)
        count = summed(examples)
        with tf.GradientTape(persistent=self.gradient_space == "parameters") as tape:
            logits, student_map = self._student_outputs(x)
            check_classes(self.student.name, logits, teacher_logits)
            student_loss = self.compiled_share(y, logits, sample_weight, examples / count)
            example_weight = example_shares(logits, sample_weight, count)
            losses = distillation_loss(teacher_logits, logits, self.temperature)
            losses = tf.reduce_sum(example_weight * losses, -1)
            if self.gradient_space == "parameters":
                gram = parameter_gram(tape, losses, self.student.trainable_variables)
            else:
                gram = self._logit_gram(teacher_logits, logits, example_weight)
            kd_loss = self._weighted_loss(losses, gram, live, self.weighting, self._weights_tracker)
            if self.weighting.average == "outputs":
                weights = uniform_among(live)
                outputs_loss = averaged_outputs_loss(
                    teacher_logits, logits, self.temperature, weights
                )
                kd_loss = tf.reduce_sum(example_weight * outputs_loss)
            loss = self.student_loss_weight * student_loss + self.kd_weight * kd_loss
            for teacher_maps, maps_live in of_hints:
                hint_losses, gradients = self.regressors.losses_and_gradients(
                    student_map, teacher_maps, example_weight, count
                )
                gram = gram_matrix(gradients, self.hint_weighting.batch_gradient)
                hint_loss = self._weighted_loss(
                    hint_losses, gram, maps_live, self.hint_weighting, self._hint_weights_tracker
                )
                loss += self.hint_weight * tf.convert_to_tensor(self._hint_scale) * hint_loss
            loss += self.regularization_share()
            scaled_loss = self.optimizer.scale_loss(loss)
        self.apply_summed(tape.gradient(scaled_loss, self.trainable_variables))

        self.track(loss_tracker(self), loss, count)
        self.track(self._student_loss_tracker, student_loss, count)
        self.track(self._kd_loss_tracker, kd_loss, count)
        if self.hints is not None:
            self.track(self._hint_loss_tracker, hint_loss, count)
        return self.reduced_logs(self.compute_metrics(x, y, logits, sample_weight))

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`; hints take part from their `first_epoch` on.

        A teacher that is left out because its outputs are not finite is named once on stderr.
        """
        bound = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        own = [LeftOutTeachers(), *([HintStart()] if self.hints is not None else [])]
        callbacks = bound.arguments.get("callbacks")
        bound.arguments["callbacks"] = with_callbacks(self, callbacks, own)
        return super().fit(*bound.args[1:], **bound.kwargs)

    def gradient_cosines(self) -> np.ndarray:
        """Returns `[M, M]`: cosines between the teachers' gradients w.r.t. the student's logits.

        They are the mean over the steps of the latest epoch; an evaluation resets them.
        """
        return keras.ops.convert_to_numpy(self._weights_tracker.cosines())

    def unused_in_evaluation(self) -> set[str]:
        names = {"student_loss", "kd_loss", "hint_loss", *self._weights_tracker.result()}
        return names | set(self._hint_weights_tracker.result() if self.hints is not None else ())

    def _student_outputs(self, x: Any) -> tuple[tf.Tensor, Any]:
        if self.hints is None:
            return self(x, training=True), None
        logits, features = with_features(self, self._hint_layers.student, x, training=True)
        return logits, pooled(features, self.hints.pooling)

    def _logit_gram(
        self, teacher_logits: tf.Tensor, logits: tf.Tensor, example_weight: tf.Tensor
    ) -> tf.Tensor:
        """Returns the Gram matrix of the gradients w.r.t. the student's logits (Eq. 15)."""
        _, gradients = teacher_gradients(
            lambda student: distillation_loss(teacher_logits, student, self.temperature),
            logits,
            len(self.teachers),
            example_weight,
        )
        return gram_matrix(gradients, self.weighting.batch_gradient)

    def _weighted_loss(
        self,
        losses: tf.Tensor,
        gram: tf.Tensor,
        live: tf.Tensor,
        weighting: Weighting,
        tracker: TeacherWeights,
    ) -> tf.Tensor:
        """Returns the teachers' losses `[M]` summed with the weights that follow from `gram`."""
        weights, gap = weighting.among(gram, live)
        weights = tf.stop_gradient(weights)
        tracker.update_state(weights, gap, gram, live)
        return tf.tensordot(weights, losses, 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            **teachers_config(self.teachers),
            "weighting": keras.saving.serialize_keras_object(self.weighting),
            "temperature": self.temperature,
            "student_loss_weight": self.student_loss_weight,
            "kd_weight": self.kd_weight,
            "hint_weight": self.hint_weight,
            "hints": self.hints and keras.saving.serialize_keras_object(self.hints),
            "hint_weighting": keras.saving.serialize_keras_object(self.hint_weighting),
            "gradient_space": self.gradient_space,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EnsembleDistiller:
        config = dict(config)
        for name in ("student", "weighting", "hints", "hint_weighting"):
            config[name] = config[name] and keras.saving.deserialize_keras_object(
                config[name], custom_objects
            )
        return cls(teachers=teachers_from_config(config, custom_objects), **config)

    def other_variables(self) -> dict[str, list[Any]]:
        return {f"teacher {i}": t.variables for i, t in enumerate(self._teacher_models())}

    # Not a property: Keras tracks and saves the models that it sees in properties.
    def _teacher_models(self) -> list[keras.Model]:
        return [] if isinstance(self.teachers, CachedTeachers) else list(self.teachers)

    # Keras calls the next two for a whole-model file only, never for `save_weights`.
    def save_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self._teacher_models()):
            teacher.save_weights(os.path.join(inner_path, f"teacher_{index}.weights.h5"))

    def load_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self._teacher_models()):
            teacher.load_weights(os.path.join(inner_path, f"teacher_{index}.weights.h5"))
