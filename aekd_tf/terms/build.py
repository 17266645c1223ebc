"""Makes a distiller's terms, and the attributes in which Keras finds what it saves of them."""

from __future__ import annotations

from typing import Any

from aekd_tf.losses.base import DistillationLoss
from aekd_tf.names import AS_OUTPUTS
from aekd_tf.terms.base import Terms
from aekd_tf.terms.features import FeatureTerm, HintLayers
from aekd_tf.terms.hints import Hints, listed
from aekd_tf.terms.outputs import OutputsTerm
from aekd_tf.terms.regressors import HintRegressors


def make_terms(model: Any, loss: DistillationLoss) -> Terms:
    """Returns the terms of an `EnsembleDistiller`: one on outputs, and one per hint.

    Raises:
        ValueError: hints for cached teachers without feature maps, or without such a layer.
    """
    outputs = OutputsTerm(
        loss,
        model.weighting,
        len(model._ensemble),
        model.gradient_space,
        getattr(model._ensemble, "specialists", False),
    )
    model._kd_loss_tracker = outputs.loss_tracker
    model._weights_tracker = outputs.weights_tracker
    hints = listed(model.hints)
    if hints and not model._teacher_models() and model._cached_shapes is None:
        raise ValueError("hints need cached feature maps: give the TeacherCache hints=...")
    numbers = [f"_{index}" for index in range(len(hints))] if len(hints) > 1 else [""]
    pairs = zip(hints, numbers, strict=False)
    return Terms(outputs, tuple(_feature_term(model, each, number) for each, number in pairs))


def _feature_term(model: Any, hints: Hints, number: str) -> FeatureTerm:
    count, teachers = len(model._ensemble), model._teacher_models()
    regressors = HintRegressors(name=f"regressors{number}", dtype=model.dtype_policy)
    start = model.add_weight(
        shape=(), initializer="ones", trainable=False, dtype="float32", name=f"hint_scale{number}"
    )
    weighting = model.hint_weighting if hints.weighting is None else hints.weighting
    term = FeatureTerm(
        hints,
        None if isinstance(weighting, str) and weighting == AS_OUTPUTS else weighting,
        count,
        HintLayers.of(hints, model.student, teachers, count),
        regressors,
        start,
        number,
    )
    setattr(model, f"regressors{number}", regressors)
    setattr(model, f"_hint_scale{number}", start)
    setattr(model, f"_hint_loss_tracker{number}", term.loss_tracker)
    setattr(model, f"_hint_weights_tracker{number}", term.weights_tracker)
    return term
