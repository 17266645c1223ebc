"""EnsembleDistiller: a keras.Model that learns from several frozen teachers at once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import losses, weightings
from aekd_tf.cache.batches import CachedTeachers, check_epochs, split_batch
from aekd_tf.cache.saving import SavedWithTeachers, teachers_config, teachers_from_config
from aekd_tf.checks import check_choice
from aekd_tf.data.user_data import peek
from aekd_tf.export.freezing import freezing
from aekd_tf.keras_private import (
    VALIDATION,
    compiled_loss,
    flatten_layers,
)
from aekd_tf.monitoring.callbacks import has_bar, with_callbacks
from aekd_tf.monitoring.left_out import LeftOutTeachers
from aekd_tf.monitoring.progress import ShortBar
from aekd_tf.monitoring.reprs import Words, counted, repr_of, text
from aekd_tf.names import GRADIENT_SPACES
from aekd_tf.outputs import known_key
from aekd_tf.refusals import refusal
from aekd_tf.settings import LossSettings
from aekd_tf.step import DistillationStep
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.readiness import check_separate, known_input_shape
from aekd_tf.terms.build import MakesTerms
from aekd_tf.terms.heads import ensemble_of, loss_of
from aekd_tf.terms.hints import Hints, HintStart, listed
from aekd_tf.training.before_training import ChecksBeforeTraining
from aekd_tf.training.global_batch import signed_as
from aekd_tf.weightings.base import Weighting, check_space

# What the terms are made of.
FIXED = ("weighting", "hints", "hint_weighting", "gradient_space")


@keras.saving.register_keras_serializable("aekd_tf")
class EnsembleDistiller(
    LossSettings, MakesTerms, ChecksBeforeTraining, SavedWithTeachers, DistillationStep
):
    r"""Distills M frozen teachers into one student, by weights that know good from bad teachers.

    The training loss is Eq. 7 of the paper::

        student_loss_weight * compiled loss + kd_weight * sum_m w_m kd_m
            + hint_weight * sum_m v_m hint_m + regularization

    `kd_m` is the distillation loss from teacher m, by default the softened KL divergence. The
    weighting gives the weights `w`. With `weighting="aekd"`, the paper's method, they solve a
    small quadratic program over the teachers' gradients w.r.t. the student's outputs (Eq.
    13-15) at every step. The default solves one on held-out examples, by class.

    With `hints`, `hint_m` is the distance between the regressed feature map and teacher m's
    (`hint_loss`, Eq. 5). Then AE-KD* finds `v` by a second program, over the gradients w.r.t.
    the student's feature map (Eq. 16). Weights that do not come from gradients serve hints, too.
    With `weighting="average"` this is FitNets. Each of several hints adds such a term.

    One step costs one forward pass per teacher, and one forward and one backward pass of the
    student. The per-teacher gradients stop at the student's outputs and feature maps.

    The distiller is an ordinary Keras model: `compile(optimizer, loss, metrics)` with a loss that
    fits the outputs, *from logits* for classes and labels, then `fit`. `evaluate` and `predict`
    are the student's own, without teachers. Teachers are never trained or updated. Deliver
    `distiller.student`.

    `save_weights` holds the student and, with hints, the regressors, never the teachers. So do
    `BackupAndRestore` and `ModelCheckpoint(save_weights_only=True)`. `save` also stores the
    teachers, so that a loaded distiller can train on. `load_model` requires `import aekd_tf`.

    Batches `({"inputs": x, "teacher_logits": [B, M, ..., K]}, y)` bring the teachers' outputs
    along, from a `TeacherCache`; with `"teacher_features"` they also bring feature maps. The
    teachers then do not run and need not be loaded: give `cache.teachers` in their place.

    A teacher whose outputs are not finite on a batch is left out of it, with weight 0. The cap
    of the others rises to at least one over their number. If none is left, the labels alone
    teach.

    `sample_weight` and `class_weight` scale an example's part in the distillation loss and
    in the teachers' gradients just as in the compiled loss. Sample weights `[B, ...]` of dense
    outputs only tell which positions count: those that are not zero.

    Args:
        student: Keras model from inputs to outputs `[B, K]` or, dense, `[B, ..., K]`: logits of
            classes or of independent labels, or values.
        teachers: a `TeacherEnsemble`, Keras models from the same inputs to such outputs, or
            `CachedTeachers` if all batches bring the outputs.
        weighting: how the teachers are weighted. `"auto"`: by the stacked program on the
            validation data of `fit`, else anchored to the teachers' vote. `"aekd"` is the paper's
            method. Others are in docs/weightings.md. Or a `Weighting`, e.g.
            `AdaptiveWeighting(tolerance=0.3)`.
        temperature: T > 0 of the softened outputs.
        student_loss_weight: weight of the compiled loss, at least 0.
        kd_weight: the paper's lambda, at least 0.
        hint_weight: the paper's beta, at least 0; above 0 it requires `hints`. With several
            hints, one number for all or a list with one per hint.
        hints: `Hints`, or the name of the layer whose feature maps are compared, e.g.
            `"stage2"`, or a list of these. The regressors in between belong to the distiller,
            not the student.
        hint_weighting: weighting of the hints' losses, unless `Hints` has its own; by default the
            same as `weighting`. The authors use `AdaptiveWeighting(normalize=True)` here.
        distillation_loss: `"kl"`, `"binary_kl"` (independent labels, one logit), `"mse"`,
            `"cosine"`, `"dkd"` or `"averaged_outputs"`; a `DistillationLoss`, a Keras loss, or a
            function of one teacher's and the student's outputs. docs/losses_and_heads.md.
        output: name or index of the student's output that is distilled; None if it has one.
        gradient_space: `"logits"`, or `"parameters"` for the gradients w.r.t. all of the
            student's parameters (Eq. 10), which costs M more backward passes, for study with
            `weighting="aekd"`. Hints keep to the feature map.
        **kwargs: `name` and other arguments of `keras.Model`. The dtype policy is the
            student's.

    Training logs, besides the compiled metrics:

    - `loss`, `student_loss`, `kd_loss`;
    - `teacher_weight_0` to `teacher_weight_{M-1}`;
    - `effective_teachers`: 1 / sum w^2, from 1 to M;
    - `qp_gap`: certified, relative;
    - `gradient_conflict`: share of teacher pairs with a negative cosine;
    - `teacher_left_out_0` and so on: steps without that teacher;
    - with hints `hint_loss` and the same for the hints' weights, `hint_teacher_weight_0` and
      so on; with several `hint_0_loss`, `hint_0_teacher_weight_0` and so on.

    Raises:
        ValueError: a temperature or a weight that is out of range or NaN; a tolerance below
            1/M; no teacher; an unknown distillation loss, or a `TeacherEnsemble` whose head does
            not fit it; another number of hint weights than hints; hints without a layer of that
            name (the message lists the layers) or whose maps cannot be aligned;
            `jit_compile=True` with a solver that leaves the graph.

    Example::

        import keras
        import numpy as np
        from aekd_tf import EnsembleDistiller

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(60, 4), np.random.randint(0, 3, 60)
        student, teachers = network(), [network(), network()]  # teachers that are trained already
        distiller = EnsembleDistiller(student, teachers)
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        distiller.fit(x[:40], y[:40], validation_data=(x[40:], y[40:]), verbose=0)
        student.save("student.keras")
        print(student.predict(x, verbose=0).shape)  # (60, 3)

    Reference:
        Du et al., "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient
        Space", NeurIPS 2020.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: TeacherEnsemble | CachedTeachers | Sequence[keras.Model],
        *,
        weighting: str | Weighting = "auto",
        temperature: float = 4.0,
        student_loss_weight: float = 1.0,
        kd_weight: float = 0.9,
        hint_weight: float | Sequence[float] = 0.0,
        hints: str | Hints | Sequence[str | Hints] | None = None,
        hint_weighting: str | Weighting | None = None,
        distillation_loss: Any = "kl",
        output: str | int | None = None,
        gradient_space: str = "logits",
        **kwargs: Any,
    ):
        if not isinstance(student, keras.Model):
            raise refusal("not_a_student", kind=type(student).__name__)
        # A float32 wrapper around a float16 student would get no loss scaling.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # the wrapper must not change the student's inputs
        check_choice("gradient_space", gradient_space, GRADIENT_SPACES)
        self.gradient_space, self._output_name = gradient_space, output
        self.weighting = weightings.get(weighting)
        self.distillation_loss = losses.get(distillation_loss)
        loss = loss_of(self.distillation_loss, self.weighting)
        # A plain Python object, so that Keras neither tracks, trains nor saves the teachers.
        self._ensemble: TeacherEnsemble | CachedTeachers = ensemble_of(teachers, loss)
        self._own_compute_loss = type(self).compute_loss is not EnsembleDistiller.compute_loss
        if any(teacher is student for teacher in self._teacher_models()):
            raise ValueError("the student is one of its own teachers: give it separate weights")
        check_separate(student, self._teacher_models())
        known_key("student", student, output)
        self.student = student
        self.hints = hints if hints is None or isinstance(hints, Hints) else listed(hints)
        self.hints = Hints(hints) if isinstance(hints, str) else self.hints
        self._settings = self._loss_settings(
            getattr(teachers, "temperature", None), len(listed(hints))
        )
        if not listed(hints) and np.any(np.asarray(hint_weight, object) != 0):
            raise ValueError(f"hint_weight is {hint_weight} without hints: give hints='stage2'")
        self.temperature = temperature
        self.student_loss_weight = student_loss_weight
        self.kd_weight = kd_weight
        self.hint_weight = hint_weight
        self.hint_weighting = weightings.get(
            self.weighting if hint_weighting is None else hint_weighting
        )
        self._student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self._terms = self._make_terms(loss)
        for used in self._weightings():
            used.check_temperature(getattr(teachers, "temperature", None))
            check_space(used, gradient_space)
            used.validate(len(self._ensemble))
            used.attach(self._steps)
        self._settings.steps = self._steps
        self._settings.make_variables()
        layers = [layer for teacher in self._teacher_models() for layer in flatten_layers(teacher)]
        self.supports_jit = self._weighting_outside_graph is None and all(
            layer.supports_jit for layer in layers
        )
        self._checked_outputs: tuple[Any, str, bool] | None = None
        self._test_functions: dict[bool, Any] = {}
        if student.built and (shape := known_input_shape(student)) is not None:
            self.build(shape)  # for callbacks that want a built model, and for load_weights

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and "_terms" in self.__dict__:
            raise refusal("fixed_attribute", name=name)
        super().__setattr__(name, value)

    def _shown(self) -> dict[str, Any]:
        shared, given = self.hint_weighting is self.weighting, self._settings.given()
        beta = [value for name, value in given.items() if name.startswith("hint_weight")]
        return {
            **given,
            "student": Words(f"<{self.student.name}>"),
            "teachers": counted(self._ensemble, "teacher"),
            "temperature": Words(text(given["temperature"])),
            "hint_weight": beta if len(beta) > 1 else beta[0],
            "hint_weighting": None if shared else self.hint_weighting,
            "distillation_loss": "kl"
            if type(self.distillation_loss) is losses.KL
            else self.distillation_loss,
            "output": self._output_name,
        }

    __repr__ = repr_of

    def _weightings(self) -> list[Weighting]:
        """Returns the weightings in use, each once."""
        terms = [self._outputs_term, *self._feature_terms]
        return list(
            {id(t.weighting): t.weighting for t in terms if t.weighting is not None}.values()
        )

    def build(self, input_shape: Any) -> None:
        input_shape = split_batch(input_shape)[0]
        cached, count = self._cached_shapes, len(self._ensemble)
        for index, term in enumerate(self._feature_terms):
            if not term.regressors.built:
                shapes = cached and cached[index * count : (index + 1) * count]
                term.build(self.student, self._teacher_models(), shapes, input_shape)
        super().build(input_shape)

    def _steps(self) -> Any:
        return self.optimizer.iterations if self.compiled and self.optimizer else 0

    @property
    def distilled_output(self) -> str | int | None:
        """Returns the name or index of the student's output that is distilled; None for one."""
        return self._output_name

    @property
    def _cached_shapes(self) -> list[Any] | None:
        """Returns the shapes of the feature maps in the batches; None unless they are cached."""
        shapes = getattr(self._ensemble, "feature_shapes", None)
        return shapes and [(None, *shape) for shape in shapes]

    @property
    def _weighting_outside_graph(self) -> Weighting | None:
        """Returns the first weighting that XLA cannot compile, if there is one."""
        return next((each for each in self._weightings() if each.leaves_graph), None)

    @property
    def teachers(self) -> TeacherEnsemble | CachedTeachers:
        """Returns the frozen teachers, or the `CachedTeachers` in their place.

        Raises:
            ValueError: the distiller was made from its configuration alone.
        """
        if getattr(self._ensemble, "pending", False):
            raise refusal("teachers_without_weights")
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
        """Returns the student's outputs, whether or not the batch brings teachers' outputs."""
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
        return loss + self._regularization_share()

    @signed_as(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`; hints take part from their `first_epoch` on.

        The ranges of a student of `quantize_aware` stand still for the last tenth of the steps.
        What would train wrongly is refused before the first step. A teacher that is left out
        because its outputs are not finite is named once on stderr.
        """
        bound = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        given = bound.arguments
        names = ("y", "sample_weight", "batch_size")
        given["x"], batch = peek(given.get("x"), *(given.get(name) for name in names))
        check_epochs(given["x"], given)
        if isinstance(given["x"], tf.data.Dataset):
            given.setdefault("shuffle", False)  # Keras shuffles none, and warns if it is asked to
        self._check_before_training(batch)
        self._choose_weights(given)
        own: list[keras.callbacks.Callback] = [
            LeftOutTeachers(),
            *([HintStart()] if self._feature_terms else []),
            *freezing(self.student, given.get("callbacks")),
        ]
        if given.get("verbose", "auto") and not has_bar(given.get("callbacks")):
            own.append(ShortBar(len(self.teachers)))
        given["callbacks"] = with_callbacks(self, given.get("callbacks"), own)
        return super().fit(*bound.args[1:], **bound.kwargs)

    @signed_as(keras.Model.train_on_batch)
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Makes one step as `keras.Model.train_on_batch`, after the checks of `fit`."""
        self._check_before_training((x, y, sample_weight))
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    @signed_as(keras.Model.evaluate)
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the student as `keras.Model.evaluate`, without the teachers.

        Data without labels are evaluated by the distillation losses. So is the validation
        in the course of `fit`, beside the student's own loss.
        """
        self._validating = bool(kwargs.get(VALIDATION))
        if self.test_function is None:  # newly compiled
            self._test_functions.clear()
        self.test_function: Any = self._test_functions.get(self._validating)
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._test_functions[self._validating] = self.test_function
            self._validating = False

    def gradient_cosines(self) -> np.ndarray:
        """Returns `[M, M]`: cosines between the teachers' gradients w.r.t. the student's logits.

        They are the mean over the steps of the latest epoch; an evaluation resets them.
        """
        return keras.ops.convert_to_numpy(self._weights_tracker.cosines())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            **teachers_config(self._ensemble),
            "weighting": keras.saving.serialize_keras_object(self.weighting),
            "temperature": self._settings.config("temperature"),
            "student_loss_weight": self._settings.config("student_loss_weight"),
            "kd_weight": self._settings.config("kd_weight"),
            "hint_weight": self._hint_weight_config(),
            "hints": self.hints and keras.saving.serialize_keras_object(self.hints),
            "hint_weighting": keras.saving.serialize_keras_object(self.hint_weighting),
            "distillation_loss": keras.saving.serialize_keras_object(self.distillation_loss),
            "output": self._output_name,
            "gradient_space": self.gradient_space,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EnsembleDistiller:
        """Returns a distiller from what `get_config` gave, with new weights."""
        config = dict(config)
        for name in ("student", "weighting", "hints", "hint_weighting", "distillation_loss"):
            if config.get(name):
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(teachers=teachers_from_config(config, custom_objects), **config)

    def _other_variables(self) -> dict[str, list[Any]]:
        return {f"teacher {i}": t.variables for i, t in enumerate(self._teacher_models())}
