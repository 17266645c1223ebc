"""Keras callbacks: what the teachers agree on in TensorBoard, and a bar with the time left."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tqdm import tqdm


class DistillationTensorBoard(keras.callbacks.Callback):
    """Writes a distillation run to TensorBoard, sorted by what is asked of it.

    The sections: `teacher_weights` (each teacher's mean weight), `teachers` (effective
    number of teachers, gradient conflict, QP gap), with hints `hint_teacher_weights` and
    `hint_teachers` (the same of the second QP), `teachers_left_out` (steps without each),
    `loss` (total and components), `accuracy` and whatever else was compiled, each for training
    and validation. The custom scalars page shows all teacher weights in one chart, and all
    losses in another. The images are the teachers' weights over training and the cosines
    between their gradients, after every tenth epoch and the last.

    Args:
        log_dir: a directory of its own a run.
        update_freq: also write the running values every so many steps; 0 for epochs only.
    """

    def __init__(self, log_dir: str, update_freq: int = 0):
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self.update_freq = update_freq
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self._step = 0
        self._weights: list[list[float]] = []
        self._cosines: Any = None
        charts = [
            ("Teacher weights", "^teacher_weights/.*"),
            ("Teacher weights of the hints", "^hint_teacher_weights/.*"),
            ("Effective number of teachers", "(hint_)?teachers/effective_teachers$"),
            ("Losses", "loss/.*"),
            ("Accuracy", "accuracy/.*"),
        ]
        layout = layout_pb2.Layout(
            category=[
                layout_pb2.Category(
                    title="Distillation",
                    chart=[
                        layout_pb2.Chart(
                            title=title, multiline=layout_pb2.MultilineChartContent(tag=[tag])
                        )
                        for title, tag in charts
                    ],
                )
            ]
        )
        summary = custom_scalar.pb(layout)
        with self._writer("train").as_default(step=0):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self.update_freq and self._step % self.update_freq == 0:
            self._write({f"{name}_per_step": value for name, value in (logs or {}).items()})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        learning_rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        self._write({**(logs or {}), "learning_rate": learning_rate}, epoch + 1)
        names = [name for name in logs or {} if re.fullmatch(r"teacher_weight_\d+", name)]
        if names and hasattr(self.model, "gradient_cosines"):
            self._weights.append([float((logs or {})[name]) for name in names])
            self._see_cosines()
            if len(self._weights) % 10 == 0:
                self._draw()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._cosines = epoch, None

    def on_test_begin(self, logs: Any = None) -> None:
        # Validation in the course of training: Keras is about to reset the metrics.
        if hasattr(self.model, "gradient_cosines"):
            self._see_cosines()

    def _see_cosines(self) -> None:
        if self._cosines is None:
            self._cosines = self.model.gradient_cosines()

    def _draw(self) -> None:
        from aekd_tf import pictures

        with self._writer("train").as_default(step=self._epoch + 1):
            for name, figure in {
                "teacher_weights/over_training": pictures.heat_map(self._weights),
                "teachers/gradient_cosines": pictures.cosines(self._cosines),
            }.items():
                tf.summary.image(name, pictures.pixels(figure))

    def on_train_end(self, logs: Any = None) -> None:
        if len(self._weights) % 10:
            self._draw()
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, logs: dict[str, Any], step: int | None = None) -> None:
        for name, value in logs.items():
            run = "validation" if name.startswith("val_") else "train"
            with self._writer(run).as_default(step=self._step if step is None else step):
                tf.summary.scalar(_tag(name.removeprefix("val_")), float(value))

    def _writer(self, run: str) -> Any:
        if not self.model.distribute_strategy.extended.should_save_summary:
            return tf.summary.create_noop_writer()  # of a cluster's workers the chief writes
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(os.path.join(self.log_dir, run))
        return self._writers[run]


def _tag(name: str) -> str:
    if match := re.fullmatch(r"(hint_)?teacher_(weight|left_out)_(\d+)(_per_step)?", name):
        section = "teacher_weights" if match[2] == "weight" else "teachers_left_out"
        return f"{match[1] or ''}{section}/teacher_{match[3]}{match[4] or ''}"
    if match := re.fullmatch(
        r"(hint_)?((effective_teachers|qp_gap|gradient_conflict)(_per_step)?)", name
    ):
        return f"{match[1] or ''}teachers/{match[2]}"
    stem = name.removesuffix("_per_step")
    if stem.endswith("loss"):
        return f"loss/{'total' + name[4:] if stem == 'loss' else name}"
    return f"{stem}/{name}"


class ProgressBar(keras.callbacks.Callback):
    """One line for a whole `fit`: steps done, speed, time left, the latest figures.

    Args:
        label: what is being trained.
        steps: of the whole fit, all epochs together.
        done: of these, before the fit.
        shown: whether there is a bar at all.
    """

    def __init__(self, label: str, steps: int, done: int = 0, shown: bool = True):
        super().__init__()
        self.label, self.steps, self.done, self.shown = label, steps, done, shown
        self._bar: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        # A log file wants a line now and then, a terminal a moving bar.
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
            # Of a cluster's workers the chief reports.
            disable=not (
                self.shown and self.model.distribute_strategy.extended.should_save_summary
            ),
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._bar.n

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # One call for all steps of an execution.
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
