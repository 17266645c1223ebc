"""Lets ranges and batch norm stand still at the end of a training, as they will in the file."""

from __future__ import annotations

import sys
from typing import Any

import keras

from aekd_tf.export.fake_quantization import FakeQuantization
from aekd_tf.keras_private import flatten_layers


class FreezeRanges(keras.callbacks.Callback):
    """Freezes the statistics of quantization-aware layers for the last tenth of a training.

    The kernels then learn with the very ranges of the int8 file. That is one step at least, but
    never the first.
    `EnsembleDistiller.fit` adds this callback; give it to the `fit` of another model. After the
    training the statistics may move again. With `steps_per_execution` it begins with the execution
    that the last tenth begins in; a training of one execution freezes nothing, and a warning says
    so.

    If the number of steps is not known, it is counted in the first epoch. If that epoch is the
    only one, nothing is frozen, and a warning says so.

    Args:
        epochs: number of epochs of the whole training; None for that of `fit`.
        steps_per_epoch: steps of each epoch; None for those of `fit`.
        skipped: steps of the first epoch that an earlier `fit` has made.
    """

    def __init__(
        self, epochs: int | None = None, steps_per_epoch: int | None = None, skipped: int = 0
    ):
        super().__init__()
        self._given, self._skipped = (epochs, steps_per_epoch), skipped

    def on_train_begin(self, logs: Any = None) -> None:
        self._layers = [
            layer for layer in flatten_layers(self.model) if isinstance(layer, FakeQuantization)
        ]
        self._frozen: bool | None = None
        self._executed = self.model.steps_per_execution
        self._first_epoch: int | None = None
        params = self.params or {}
        self._epochs = self._given[0] or params.get("epochs", 1)
        self._steps = self._given[1] or params.get("steps")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._first_epoch is None:
            self._first_epoch = epoch
            if self._layers and self._steps is None and epoch + 1 == self._epochs:
                _warn("the number of steps is not known", "give steps_per_epoch")
            if self._layers and self._epochs == 1 and 1 < (self._steps or 0) <= self._executed:
                _warn("all steps are one execution", "give a smaller steps_per_execution")
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        frozen = False
        if self._steps is not None:
            batch += self._skipped if self._epoch == self._first_epoch else 0
            total = self._epochs * self._steps
            last = max(1, total // 10)
            begun = self._epoch * self._steps
            end = begun + min(batch + self._executed, self._steps)
            frozen = begun + batch > 0 and end > total - last
        self._freeze(frozen)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._last_batch = batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._steps is None:
            self._steps = self._last_batch + 1

    def on_train_end(self, logs: Any = None) -> None:
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        if frozen is not self._frozen:
            self._frozen = frozen
            for layer in self._layers:
                layer.frozen.assign(float(frozen))


def _warn(reason: str, remedy: str) -> None:
    text = f"warning: {reason}, so no step trains with frozen ranges: {remedy}"
    print(text, file=sys.stderr)


def freezing(student: keras.Model, given: Any) -> list[FreezeRanges]:
    """Returns the callback that a training of `student` requires, unless it is given.

    Args:
        student: the model that is trained.
        given: the callbacks of `fit`, in any form that it takes.
    """
    given = getattr(given, "callbacks", given)
    listed = given if isinstance(given, (list, tuple)) else [given]
    there = any(isinstance(callback, FreezeRanges) for callback in listed)
    aware = any(isinstance(layer, FakeQuantization) for layer in flatten_layers(student))
    return [FreezeRanges()] if aware and not there else []
