"""What a head is trained and scored with: its loss, and the metric that is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True)
class Head:
    """A row of the table of heads.

    Attributes:
        ensemble: the head of `TeacherEnsemble`.
        distillation_loss: the usual loss.
        loss: makes the loss with the labels.
        metric: name of the metric.
        make_metric: makes it.
        sign: 1 if a larger metric is better, -1 if a smaller one is.
    """

    ensemble: str
    distillation_loss: str
    loss: Callable[[], keras.losses.Loss]
    metric: str
    make_metric: Callable[[], keras.metrics.Metric | str]
    sign: int = 1


def _accuracy() -> keras.metrics.Metric:
    return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)


def _binary() -> keras.losses.Loss:
    return keras.losses.BinaryCrossentropy(from_logits=True)


HEADS = {
    "classes": Head(
        "classes",
        "kl",
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "accuracy",
        lambda: "accuracy",
    ),
    "logit": Head("labels", "binary_kl", _binary, "accuracy", _accuracy),
    "labels": Head("labels", "binary_kl", _binary, "accuracy", _accuracy),
    "regression": Head(
        "regression",
        "mse",
        keras.losses.MeanSquaredError,
        "rmse",
        lambda: keras.metrics.RootMeanSquaredError(name="rmse"),
        -1,
    ),
}
