"""Trajectories of the teachers' weights over a training, and the file that stores them."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import keras

from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.paper.cells import Cell


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The teachers' weights and cosines in one training.

    Attributes:
        weights: `[epochs, M]`.
        cosines: `[M, M]`, between the teachers' gradients, mean over the last epoch.
    """

    weights: list[list[float]]
    cosines: list[list[float]]


def read_trajectories(path: str) -> dict[Cell, Trajectory]:
    """Reads the trajectories in a file, by cell; none if the file is missing.

    Raises:
        UserError: the file cannot be read.
    """
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return {Cell(**entry.pop("cell")): Trajectory(**entry) for entry in json.load(file)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it") from error


class LastCosines(keras.callbacks.Callback):
    """Keeps the cosines between the teachers' gradients of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._kept = False

    def on_test_begin(self, logs: Any = None) -> None:
        self._keep()  # Keras is about to reset the metrics for the validation

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._keep()

    def _keep(self) -> None:
        if not self._kept and hasattr(self.model, "gradient_cosines"):
            self.matrix, self._kept = self.model.gradient_cosines(), True
