"""Refusals of data, caches and backends."""

from __future__ import annotations

from aekd_tf.refusals.base import BackendError, Refusal

DATA = {
    "not_a_dataset": Refusal(
        "TeacherCache takes a data.Dataset, as data.load returns it, not a {kind}: make one of "
        "your arrays with data.Dataset(name, num_classes, train=data.Split(images, labels), ...)",
        "The cache must know every example's number, and how it is augmented.",
        TypeError,
    ),
    "same_name": Refusal(
        "names holds {name!r} twice: each teacher requires a name of its own",
        "The files of one teacher would be read for the other.",
    ),
    "labels_not_zero_one": Refusal(
        "labels of shape {shape} are not all 0 or 1: give one of both per example and label",
        "Independent labels are on or off.",
    ),
    "targets_shape": Refusal(
        "labels have shape {shape}, outputs {outputs}: give one value per output",
        "Other shapes would be compared with another output.",
    ),
    "labels_not_classes": Refusal(
        "labels are {dtype} {shape}: give one integer per example, or one-hot rows over {classes} "
        "classes",
        "Accuracy compares the best class with a label.",
    ),
    "backend": Refusal(
        "aekd_tf requires Keras on TensorFlow, but the backend is {backend}: set "
        "KERAS_BACKEND=tensorflow before Python starts",
        "The training step and the solver are written in TensorFlow.",
        BackendError,
    ),
}
