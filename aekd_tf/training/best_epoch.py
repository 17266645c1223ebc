"""The best epoch on the validation data."""

from __future__ import annotations

from typing import Any

import keras


class BestEpoch(keras.callbacks.Callback):
    """Remembers the weights of the epoch with the best validation accuracy.

    Args:
        model: the network whose weights to keep (the student of a distiller).
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        self.network = network
        self.accuracy, self.epoch = -1.0, 0
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        accuracy = float((logs or {})["val_accuracy"])
        if accuracy > self.accuracy:
            self.accuracy, self.epoch = accuracy, epoch + 1
            self.weights = self.network.get_weights()

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """What a checkpoint keeps of it, as JSON and as arrays."""
        return {"accuracy": self.accuracy, "epoch": self.epoch}, self.weights

    def restore(self, content: dict[str, Any], weights: list[Any]) -> None:
        """Takes up a state again."""
        self.accuracy, self.epoch = float(content["accuracy"]), int(content["epoch"])
        self.weights = weights

    def restored(self) -> keras.Model:
        """A copy of the network as it was at the best epoch."""
        best = keras.models.clone_model(self.network)
        best.set_weights(self.weights)
        return best
