"""Does what README and the guide do, as a user writes it; `test_typed.py` checks its types."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import aekd_tf
from aekd_tf import (
    AdaptiveWeighting,
    DistillationLoss,
    DistillationTensorBoard,
    EnsembleDistiller,
    FixedWeighting,
    Hints,
    Signals,
    Smoothed,
    TeacherAdapter,
    TeacherCache,
    TeacherEnsemble,
    Views,
    Weighting,
    data,
    export_student,
    losses,
    models,
    quantize_aware,
    solve_capped_simplex_qp,
    weightings,
)

digits = data.load("digits", train_examples=200)
images, labels = digits.train.images / 16, digits.train.labels
held_out = digits.validation.images / 16, digits.validation.labels
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
teachers = [models.create("resnet8", 10, (8, 8, 1)) for _ in range(3)]
student = models.create(models.names()[0], 10, (8, 8, 1))
distiller = EnsembleDistiller(student, teachers, temperature=4.0)
distiller.compile("adam", loss, metrics=["accuracy"])
callbacks = [DistillationTensorBoard("logs", update_freq=10)]
history = distiller.fit(images, labels, epochs=1, validation_data=held_out, callbacks=callbacks)
last: float = history.history["loss"][-1]
student.save("student.keras")


def cropped(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.image.stateless_random_crop(tf.pad(image, [[1, 1], [1, 1], [0, 0]]), (8, 8, 1), seed)


cache = TeacherCache("runs/cache", (images, labels), Views(2), augmentation=cropped)
computed: int = cache.fill(teachers, ["a", "b", "c"])
outputs: np.ndarray = cache.logits()
stacked = FixedWeighting.stacked(outputs, labels, anchor_to="agreed")
distiller = EnsembleDistiller(student, cache.teachers, weighting=stacked)
distiller.compile("adam", loss)
distiller.fit(cache.dataset(64, seed=1, epochs=2), epochs=2, steps_per_epoch=4)

hints = Hints("stage2", first_epoch=2)
distiller = EnsembleDistiller(student, teachers, hints=hints, hint_weight=1.0)
distiller = EnsembleDistiller(student, teachers, hints=["stage1", hints], hint_weight=[1.0, 2.0])
adapter = TeacherAdapter(
    teachers[0],
    input_size=(8, 8),
    preprocessing=keras.layers.Rescaling(2.0, -1.0),
    outputs="logits",
    class_map=[1, 0, *range(2, 10)],
)
ensemble = TeacherEnsemble([adapter, *teachers], "mean")
scores: np.ndarray = ensemble.predict(images)
accuracy: float = ensemble.evaluate(images, labels)["mean_probability"]


class Closest(Weighting):
    needs = ("losses",)

    def weights(self, signals: Signals) -> tf.Tensor:
        return tf.nn.softmax(-signals.batch_mean(signals.losses))


class Huber(DistillationLoss):
    def call(self, teacher_outputs: Any, student_outputs: Any) -> Any:
        return keras.losses.huber(teacher_outputs, student_outputs)


gram = np.eye(3, dtype=np.float32)
signals = Signals(live=np.ones(3, bool), gram=gram, losses=np.ones((3, 4)))
for weighting in ("aekd", Closest(), Smoothed(AdaptiveWeighting(0.5), decay=0.5)):
    weights, diagnostics = weightings.get(weighting)(signals)
    EnsembleDistiller(student, teachers, weighting=weighting, distillation_loss=Huber())
EnsembleDistiller(student, teachers, distillation_loss=losses.get("dkd"))
solution = solve_capped_simplex_qp(gram, 0.6)
found, gap, iterations = solution
print(solution.weights, found, gap, iterations, aekd_tf.__version__)

aware = quantize_aware(student, weight_bits=8)
report: dict[str, Any] = export_student(
    student, "student.tflite", format="litert", quantize="dynamic", check_with=held_out
)
