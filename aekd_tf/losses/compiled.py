"""Refuses compiled losses that do not fit a student that gives logits of classes."""

from __future__ import annotations

import functools
from typing import Any

import keras

from aekd_tf.refusals import refusal

_CLASSES = (
    "SparseCategoricalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
)
_PROBABILITIES = ("KLDivergence", "Poisson")
_LABELS = ("BinaryCrossentropy", "BinaryFocalCrossentropy")
_REGRESSION = (
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError"),
    *("MeanSquaredLogarithmicError", "LogCosh", "Huber", "CosineSimilarity"),
)


def _functions() -> dict[Any, str]:
    """Returns the loss functions of Keras and the class that each belongs to."""
    names = {
        "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
        "categorical_crossentropy": "CategoricalCrossentropy",
        "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
        "kl_divergence": "KLDivergence",
        "poisson": "Poisson",
        "binary_crossentropy": "BinaryCrossentropy",
        "binary_focal_crossentropy": "BinaryFocalCrossentropy",
        "mean_squared_error": "MeanSquaredError",
        "mean_absolute_error": "MeanAbsoluteError",
        "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
        "mean_squared_logarithmic_error": "MeanSquaredLogarithmicError",
        "log_cosh": "LogCosh",
        "huber": "Huber",
        "cosine_similarity": "CosineSimilarity",
    }
    return {keras.losses.get(name): kind for name, kind in names.items()}


def loss_name(loss: Any) -> str:
    """Returns what a message calls a compiled loss."""
    if isinstance(loss, str):
        return repr(loss)
    return getattr(loss, "__name__", None) or type(loss).__name__


def check_compiled_losses(losses: Any, student: str, head: str, logits: bool) -> None:
    """Refuses losses that do not fit the head of what is distilled.

    Args:
        losses: what was compiled: one, or a structure of them; own losses pass.
        student: its name, for the message.
        head: `"classes"`, `"labels"` or `"regression"`, which any loss fits.
        logits: whether the student gives logits.

    Raises:
        ValueError: a loss does not fit; the message names it.
    """
    for loss in keras.tree.flatten(losses):
        kind, from_logits = _kind(loss)
        named = {"loss": loss_name(loss), "student": student, "name": student}
        if head == "labels" and kind in (*_CLASSES, *_REGRESSION):
            raise refusal("loss_not_of_labels", **named)
        if not logits or head == "regression":
            continue
        if head == "classes" and kind in _LABELS:
            raise refusal("loss_of_labels", **named)
        if head == "classes" and kind in _REGRESSION:
            raise refusal("loss_of_regression", **named)
        if kind in _PROBABILITIES or (kind in (*_CLASSES, *_LABELS) and not from_logits):
            raise refusal("loss_of_probabilities", **named)


def _kind(loss: Any) -> tuple[str | None, bool]:
    """Returns the class of Keras that a loss is, if any, and whether it takes logits."""
    if isinstance(loss, keras.losses.Loss):
        mro = [base.__name__ for base in type(loss).__mro__ if base.__module__.startswith("keras")]
        if type(loss).call is not keras.losses.SparseCategoricalCrossentropy.call:
            return None, True  # a loss of the user's own
        return (mro[0] if mro else None), bool(loss.get_config().get("from_logits", False))
    options: dict[str, Any] = {}
    if isinstance(loss, functools.partial):
        loss, options = loss.func, loss.keywords
    try:
        function = keras.losses.get(loss) if isinstance(loss, str) else loss
        if isinstance(function, keras.losses.Loss):
            return _kind(function)
        return _functions().get(function), bool(options.get("from_logits", False))
    except (TypeError, ValueError):
        return None, True
