"""Shows a progress bar with the time left, and keeps Keras's own bar short."""

from __future__ import annotations

import re
import sys
from typing import Any

import keras
from tqdm import tqdm

# More weights than these take several lines.
_MOST_WEIGHTS = 5
_OF_TEACHERS = re.compile(r"teacher_(weight|left_out)_\d+$")


class ProgressBar(keras.callbacks.Callback):
    """One line for a whole `fit`: steps done, speed, time left, the latest figures.

    Args:
        label: name of what is trained.
        steps: steps of the whole training, all epochs together.
        done: number of these steps that were finished before.
        shown: whether there is a bar at all.
    """

    def __init__(self, label: str, steps: int, done: int = 0, shown: bool = True):
        super().__init__()
        self.label, self.steps, self.done, self.shown = label, steps, done, shown
        self._bar: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        # A terminal shows a moving bar; a log file gets one line per update.
        interval = 0.2 if sys.stderr.isatty() else 15.0
        self._bar = tqdm(
            total=self.steps,
            initial=self.done,
            desc=self.label,
            unit=" steps",
            mininterval=interval,
            maxinterval=max(10.0, 2 * interval),
            ascii=" =",
            dynamic_ncols=True,
            # Only the chief of a cluster's workers reports.
            disable=not (
                self.shown and self.model.distribute_strategy.extended.should_save_summary
            ),
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._bar.n

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Keras calls this once for all steps of an execution.
        self._bar.update(self._before + batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        shown = {name: logs[name] for name in ("loss", "val_accuracy") if name in logs}
        self._bar.set_postfix(
            {name: f"{float(value):.3f}" for name, value in shown.items()}, refresh=False
        )

    def on_train_end(self, logs: Any = None) -> None:
        self.done = self._bar.n
        self.close()

    def close(self) -> None:
        """Ends the line, also after an error."""
        if self._bar is not None:
            self._bar.close()


class ShortBar(keras.callbacks.ProgbarLogger):
    """Keras's bar without the weights of many teachers, which `History` and TensorBoard have.

    Args:
        num_teachers: number of teachers; the weights of up to five are shown.
    """

    def __init__(self, num_teachers: int):
        super().__init__()
        self._left_out = num_teachers > _MOST_WEIGHTS

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, self._short(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, self._short(logs))

    def _short(self, logs: Any) -> dict[str, Any]:
        return {
            name: value
            for name, value in (logs or {}).items()
            if not (self._left_out and _OF_TEACHERS.search(name))
        }
