"""Makes a distiller's terms, and the attributes in which Keras finds what it saves of them."""

from __future__ import annotations

from typing import Any

import keras

from aekd_tf.losses.base import DistillationLoss
from aekd_tf.names import AS_OUTPUTS
from aekd_tf.refusals import refusal
from aekd_tf.terms.base import Terms
from aekd_tf.terms.features import FeatureTerm, HintLayers
from aekd_tf.terms.hints import Hints, listed
from aekd_tf.terms.outputs import OutputsTerm
from aekd_tf.terms.regressors import HintRegressors


class MakesTerms(keras.Model):
    """Makes the terms of an `EnsembleDistiller`, from its settings."""

    _ensemble: Any
    weighting: Any
    hint_weighting: Any
    student: keras.Model
    hints: Any
    gradient_space: str

    def _make_terms(self, loss: DistillationLoss) -> Terms:
        """Returns the terms of a distiller: one on outputs, and one per hint.

        Raises:
            ValueError: hints for cached teachers without feature maps, or without such a layer.
        """
        specialists = getattr(self._ensemble, "specialists", False)
        if specialists and not loss.masks:
            raise refusal("specialists", loss=loss.name)
        outputs = OutputsTerm(
            loss,
            self.weighting,
            len(self._ensemble),
            self.gradient_space,
            specialists,
        )
        outputs.make_state(self)
        self._kd_loss_tracker = outputs.loss_tracker
        self._weights_tracker = outputs.weights_tracker
        hints = listed(self.hints)
        if hints and not self._teacher_models() and self._cached_shapes is None:
            raise ValueError("hints need cached feature maps: give the TeacherCache hints=...")
        numbers = [f"_{index}" for index in range(len(hints))] if len(hints) > 1 else [""]
        pairs = zip(hints, numbers, strict=False)
        return Terms(outputs, tuple(self._feature_term(each, number) for each, number in pairs))

    def _feature_term(self, hints: Hints, number: str) -> FeatureTerm:
        count, teachers = len(self._ensemble), self._teacher_models()
        regressors = HintRegressors(name=f"regressors{number}", dtype=self.dtype_policy)
        start = self.add_weight(
            shape=(),
            initializer="ones",
            trainable=False,
            dtype="float32",
            name=f"hint_scale{number}",
        )
        weighting = self.hint_weighting if hints.weighting is None else hints.weighting
        if weighting is self.weighting and self.weighting.shared:
            weighting = AS_OUTPUTS
        term = FeatureTerm(
            hints,
            None if isinstance(weighting, str) and weighting == AS_OUTPUTS else weighting,
            count,
            HintLayers.of(hints, self.student, teachers, count),
            regressors,
            start,
            number,
        )
        term.make_state(self)
        setattr(self, f"regressors{number}", regressors)
        setattr(self, f"_hint_scale{number}", start)
        setattr(self, f"_hint_loss_tracker{number}", term.loss_tracker)
        setattr(self, f"_hint_weights_tracker{number}", term.weights_tracker)
        return term
