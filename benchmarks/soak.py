"""Does a long training keep its memory? 20,000 steps of a small distillation.

    python benchmarks/soak.py

prints the resident memory after every 1,000 steps, and the ratio of the last to the first.
"""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from aekd_tf import DistillationTensorBoard, EnsembleDistiller, TeacherCache, Views, data, models

EPOCHS, STEPS, BATCH = 20, 1000, 8


class Memory(keras.callbacks.Callback):
    """Resident megabytes at the end of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.megabytes: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # What tracing leaves behind, Python and the C library would give back some time later.
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        print(f"after {(epoch + 1) * STEPS:>6} steps: {self.megabytes[-1]:.1f} MB", flush=True)


def main() -> None:
    dataset = data.load("digits", train_examples=STEPS * BATCH // 10)
    teachers = [models.create("resnet8", 10, (8, 8, 1)) for _ in range(5)]
    with tempfile.TemporaryDirectory() as directory:
        cache = TeacherCache(directory, dataset, Views(2))
        cache.fill(teachers, [str(index) for index in range(5)])
        student = models.create("resnet8", 10, (8, 8, 1))
        distiller = EnsembleDistiller(student, cache.teachers, weighting="aekd")
        distiller.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        memory = Memory()
        batches = data.training_pipeline(
            dataset,
            batch_size=BATCH,
            epochs=10 * EPOCHS,
            seed=0,
            views=2,
            teacher_outputs=cache.read,
        )
        distiller.fit(
            batches,
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            validation_data=data.evaluation_pipeline(dataset, dataset.validation),
            callbacks=[memory, DistillationTensorBoard(f"{directory}/logs", update_freq=100)],
            shuffle=False,
            verbose=0,
        )
    print(f"last / first: {memory.megabytes[-1] / memory.megabytes[0]:.3f}")


if __name__ == "__main__":
    main()
