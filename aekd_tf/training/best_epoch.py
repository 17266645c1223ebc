"""Remembers the best epoch on the validation data."""

from __future__ import annotations

from typing import Any

import keras


class BestEpoch(keras.callbacks.Callback):
    """Remembers the weights of the epoch with the best validation accuracy.

    Without validation data there is no best epoch.

    Args:
        network: the network whose weights to keep, e.g. the student of a distiller.

    Attributes:
        accuracy: validation accuracy of the best epoch, from 0 to 1; -1 before the first.
        epoch: the best epoch, counted from 1; 0 without one.
        weights: the network's weights after it; empty without one.
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        self.network = network
        self.accuracy, self.epoch = -1.0, 0
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        accuracy = float((logs or {}).get("val_accuracy", -1.0))
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, epoch + 1
            self.weights = self.network.get_weights()

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """Returns what a checkpoint stores, as content for JSON and as arrays."""
        return {"accuracy": self.accuracy, "epoch": self.epoch}, self.weights

    def restore(self, content: dict[str, Any], weights: list[Any]) -> None:
        """Restores what `state` returned."""
        self.accuracy, self.epoch = float(content["accuracy"]), int(content["epoch"])
        self.weights = weights

    def restored(self) -> keras.Model:
        """Returns a copy of the network with the weights of the best epoch."""
        best = keras.models.clone_model(self.network)
        best.set_weights(self.weights)
        return best
