"""Reports the teachers that were left out of batches."""

from __future__ import annotations

import re
import sys
from typing import Any

import keras


class LeftOutTeachers(keras.callbacks.Callback):
    """Names each teacher on stderr at the end of the first epoch that it was left out in."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._named: set[str] = set()
        teachers = getattr(self.model, "teachers", ())
        # `CachedTeachers` have a number, but no models.
        self._models = list(teachers) if hasattr(teachers, "__iter__") else []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in (logs or {}).items():
            match = re.fullmatch(r"(hint_(?:\d+_)?)?teacher_left_out_(\d+)", name)
            if match is None or not float(value) or name in self._named:
                continue
            self._named.add(name)
            outputs = "feature maps" if match[1] else "logits"
            model = self._models[int(match[2])].name if self._models else "it"
            print(
                f"warning: teacher {match[2]} gave {outputs} that are not finite on "
                f"{float(value):.0f} batches of epoch {epoch + 1}: {model} was left out of them",
                file=sys.stderr,
            )
