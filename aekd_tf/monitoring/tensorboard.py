"""Writes a distillation run to TensorBoard."""

from __future__ import annotations

import os
import re
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar

from aekd_tf.monitoring.reprs import repr_of

# Starts the names of what belongs to a hint, numbered if there are several.
HINT = r"(hint_(?:\d+_)?)"


class DistillationTensorBoard(keras.callbacks.Callback):
    """Writes a distillation run to TensorBoard, in sections by topic.

    The sections, each for training and validation:

    - `teacher_weights`: each teacher's mean weight;
    - `teachers`: effective number of teachers, gradient conflict, QP gap;
    - `hint_teacher_weights`, `hint_teachers`: the same for the second QP, with hints;
    - `teachers_left_out`: steps without each teacher;
    - `loss`: total and components;
    - `accuracy`, and every other compiled metric.

    The custom scalars page shows all teacher weights in one chart and all losses in another.
    Images show the teachers' weights over training and the cosines between their gradients.
    They are drawn after every tenth epoch and the last. Weights that never change, such as those
    of the stacked program, are a table of classes and teachers.

    Args:
        log_dir: directory of this run alone.
        update_freq: number of steps after which the running values are also written; 0 writes
            them per epoch only.

    Example::

        import keras
        import numpy as np
        from aekd_tf import DistillationTensorBoard, EnsembleDistiller

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        distiller = EnsembleDistiller(network(), [network(), network()], weighting="average")
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = np.random.rand(20, 4), np.random.randint(0, 3, 20)
        distiller.fit(x, y, callbacks=[DistillationTensorBoard("logs")], verbose=0)
        # tensorboard --logdir=logs
    """

    def __init__(self, log_dir: str | os.PathLike[str], update_freq: int = 0):
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self.update_freq = update_freq
        self._writers: dict[str, Any] = {}

    __repr__ = repr_of

    def on_train_begin(self, logs: Any = None) -> None:
        self._step = 0
        self._weights: list[list[float]] = []
        self._cosines: Any = None
        charts = [
            ("Teacher weights", "^teacher_weights/.*"),
            ("Teacher weights of the hints", rf"^{HINT}teacher_weights/.*"),
            ("Effective number of teachers", rf"{HINT}?teachers/effective_teachers$"),
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
        values = getattr(getattr(self.model, "weighting", None), "values", None)
        with self._writer("train").as_default(step=0):
            if values is not None:
                from aekd_tf.monitoring import figures

                tf.summary.image("teacher_weights/fixed", figures.pixels(figures.table(values)))
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
            self._keep_cosines()
            if len(self._weights) % 10 == 0:
                self._draw()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._cosines = epoch, None

    def on_test_begin(self, logs: Any = None) -> None:
        # Validation during training: Keras is about to reset the metrics.
        if hasattr(self.model, "gradient_cosines"):
            self._keep_cosines()

    def _keep_cosines(self) -> None:
        if self._cosines is None:
            self._cosines = self.model.gradient_cosines()

    def _draw(self) -> None:
        from aekd_tf.monitoring import figures

        with self._writer("train").as_default(step=self._epoch + 1):
            for name, figure in {
                "teacher_weights/over_training": figures.heat_map(self._weights),
                "teachers/gradient_cosines": figures.cosines(self._cosines),
            }.items():
                tf.summary.image(name, figures.pixels(figure))

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
            return tf.summary.create_noop_writer()  # only the chief of a cluster writes
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(os.path.join(self.log_dir, run))
        return self._writers[run]


def _tag(name: str) -> str:
    if match := re.fullmatch(rf"{HINT}?teacher_(weight|left_out)_(\d+)(_per_step)?", name):
        section = "teacher_weights" if match[2] == "weight" else "teachers_left_out"
        return f"{match[1] or ''}{section}/teacher_{match[3]}{match[4] or ''}"
    if match := re.fullmatch(
        rf"{HINT}?((effective_teachers|qp_gap|gradient_conflict)(_per_step)?)", name
    ):
        return f"{match[1] or ''}teachers/{match[2]}"
    stem = name.removesuffix("_per_step")
    if stem.endswith("loss"):
        return f"loss/{'total' + name[4:] if stem == 'loss' else name}"
    return f"{stem}/{name}"
