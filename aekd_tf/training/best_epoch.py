"""Remembers the best epoch on the validation data."""

from __future__ import annotations

import math
from typing import Any

import keras


class BestEpoch(keras.callbacks.Callback):
    """Remembers the weights of the epoch that is best on the validation data.

    Without validation data there is no best epoch.

    Args:
        network: the network whose weights to keep, e.g. the student of a distiller.
        metric: name of the metric.
        sign: 1 if a larger metric is better, -1 if a smaller one is.

    Attributes:
        score: the metric of the best epoch, times `sign`; minus infinity before the first.
        epoch: the best epoch, counted from 1; 0 without one.
        weights: the network's weights after it; empty without one.
    """

    def __init__(self, network: keras.Model, metric: str = "accuracy", sign: int = 1):
        super().__init__()
        self.network, self.metric, self.sign = network, metric, sign
        self.score, self.epoch = -math.inf, 0
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = (logs or {}).get(f"val_{self.metric}")
        if value is not None and self.sign * float(value) > self.score:
            self.score, self.epoch = self.sign * float(value), epoch + 1
            self.weights = self.network.get_weights()

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """Returns what a checkpoint stores, as content for JSON and as arrays."""
        score = self.score if self.epoch else None  # JSON has no infinity
        return {"score": score, "epoch": self.epoch}, self.weights

    def restore(self, content: dict[str, Any], weights: list[Any]) -> None:
        """Restores what `state` returned."""
        self.score = -math.inf if content["score"] is None else float(content["score"])
        self.epoch = int(content["epoch"])
        self.weights = weights

    def restored(self) -> keras.Model:
        """Returns a copy of the network with the weights of the best epoch."""
        best = keras.models.clone_model(self.network)
        best.set_weights(self.weights)
        return best
