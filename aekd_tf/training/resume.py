"""Saves a training while it runs, stops it cleanly, and restores it to the very step."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.training import checkpoint
from aekd_tf.training.stop import SIGNALS, Stopped


class DivergedError(RuntimeError):
    """A training whose loss is no longer a number."""


class Resumable(keras.callbacks.Callback):
    """Saves everything a training needs to go on, and puts it back.

    A training that goes on ends with the same weights, bit for bit, as one that was never
    stopped. The checkpoint holds all variables of the model (weights, batch norm statistics,
    seed generators, metrics) and of the optimizer. It also holds the best epoch so far, the
    history and the position in the data.

    Args:
        path: path of the checkpoint.
        identity: what the training is; a checkpoint of another training is refused.
        best: a `BestEpoch` callback, whose state is part of the training's.
        steps_per_epoch, epochs: length of the training.
        every: `(steps, None)` or `(None, seconds)` between two checkpoints.

    Attributes:
        epoch, step: position in the training, from 0.
        history: lists of figures by name, one entry per epoch.

    Raises:
        CheckpointError: the checkpoint there is damaged, or of another training; the message
            names the difference.
    """

    def __init__(
        self,
        path: str,
        identity: dict[str, Any],
        best: Any,
        steps_per_epoch: int,
        epochs: int,
        every: tuple[int | None, float | None],
    ):
        super().__init__()
        self.path, self.best = path, best
        self.identity = json.loads(json.dumps(identity))
        self.steps_per_epoch, self.total_steps = steps_per_epoch, epochs * steps_per_epoch
        self._steps, self._seconds = every
        self.epoch = self.step = 0
        self.history: dict[str, list[float]] = {}
        self._arrays: list[np.ndarray] | None = None
        self._offset = 0
        saved = checkpoint.load(path)
        if saved is not None:
            content, self._arrays, warnings = saved
            self._check(content.get("identity"))
            self.epoch, self.step = int(content["epoch"]), int(content["step"])
            self.history, self._best = content["history"], content["best"]
            self._count = content["variables"]
            for warning in warnings:
                print(f"warning: {warning}; going on from the one before", file=sys.stderr)
        self._last = self.position

    @property
    def position(self) -> int:
        """Returns the number of finished steps."""
        return self.epoch * self.steps_per_epoch + self.step

    def _check(self, recorded: Any) -> None:
        recorded = recorded if isinstance(recorded, dict) else {}
        differ = [name for name in {**self.identity, **recorded} if self._differs(name, recorded)]
        if differ:
            named = ", ".join(
                f"{name}={recorded.get(name)} (now {self.identity.get(name)})" for name in differ
            )
            raise checkpoint.CheckpointError(
                f"checkpoint {self.path} is of a training with {named}: delete it to train from "
                "the start, or ask for the same again"
            )

    def _differs(self, name: str, recorded: dict[str, Any]) -> bool:
        return recorded.get(name) != self.identity.get(name)

    def on_train_begin(self, logs: Any = None) -> None:
        self._saved_at = time.monotonic()
        self._offset = self.step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        if self._arrays is None:
            self.step = self._offset = 0
            return
        # Not before the epoch begins: Keras resets the metrics, which are restored too.
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        variables = self._variables()
        expected = [(tuple(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in variables]
        stored = [(array.shape, str(array.dtype)) for array in self._arrays[: len(variables)]]
        if stored != expected or self._count != len(variables):
            raise checkpoint.CheckpointError(
                f"checkpoint {self.path} holds other variables than this model: delete it to "
                "train from the start"
            )
        for variable, array in zip(variables, self._arrays, strict=False):
            variable.assign(array)
        if self.step == 0:
            self.model.reset_metrics()
        self.best.restore(self._best, self._arrays[len(variables) :])
        self._arrays = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step = self._offset + batch + 1
        self._check_loss(logs or {})
        if self.step < self.steps_per_epoch:  # else `on_epoch_end` saves
            self._save_if_due()

    def _save_if_due(self) -> None:
        if SIGNALS.received is not None:
            if self._clustered:  # saving requires all workers, and the others go on
                place = f" at step {self.position} of {self.total_steps}, which is not saved"
                raise Stopped(SIGNALS.received, place)
            self.save()
            raise Stopped(
                SIGNALS.received,
                f" at step {self.position} of {self.total_steps}, saved in {self.path}",
            )
        steps = self.position - self._last
        due = self._seconds is not None and time.monotonic() - self._saved_at >= self._seconds
        if due or (self._steps is not None and steps >= self._steps):
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch, self.step, self._offset = epoch + 1, 0, 0
        if self.position < self.total_steps:
            self._save_if_due()

    def _check_loss(self, logs: dict[str, Any]) -> None:
        if math.isfinite(float(logs["loss"])):
            return
        scale = getattr(self.model.optimizer, "dynamic_scale", None)
        if scale is not None and float(keras.ops.convert_to_numpy(scale)) >= 1:
            return  # an overflow of float16, whose update the optimizer has skipped
        parts = [name for name in ("student_loss", "kd_loss", "hint_loss") if name in logs]
        bad = [name for name in parts if not math.isfinite(float(logs[name]))]
        saved = f"the last checkpoint is {self.path}" if self._last else "no checkpoint was made"
        raise DivergedError(
            f"not finite at step {self.position} (epoch {self.epoch + 1}): "
            f"{', '.join(bad) or 'loss'}; give a smaller learning_rate; {saved}"
        )

    def save(self) -> None:
        """Writes the checkpoint."""
        best, arrays = self.best.state()
        content = {
            "identity": self.identity,
            "variables": len(self._variables()),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "best": best,
        }
        # All workers must read, because metrics are summed over them; only the chief writes.
        values = [np.asarray(keras.ops.convert_to_numpy(v)) for v in self._variables()]
        if self.model.distribute_strategy.extended.should_checkpoint:
            checkpoint.save(self.path, content, [*values, *arrays])
        self._last, self._saved_at = self.position, time.monotonic()

    @property
    def _clustered(self) -> bool:
        """Tells whether workers in other processes take part."""
        return isinstance(self.model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _variables(self) -> list[Any]:
        model = self.model
        return [*model.variables, *model.metrics_variables, *model.optimizer.variables]
