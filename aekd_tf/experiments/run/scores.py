"""Scores a network on test examples, and the teachers and their votes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import data
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import family
from aekd_tf.experiments.run.teachers import Teacher
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.forwards import Forwards
from aekd_tf.teachers.votes import accuracies, errors, of_labels
from aekd_tf.training.heads import HEADS


def top_k(dataset: data.Dataset) -> int | None:
    """Returns 5 if the paper reports top-5 accuracy beside top-1, else None."""
    if dataset.content:  # a user's own
        return None
    return 5 if family(dataset.name) == "imagenet" and dataset.num_classes > 5 else None


def accuracy(
    network: keras.Model,
    dataset: data.Dataset,
    split: data.Split | data.StreamedSplit,
    forwards: Forwards | None = None,
) -> dict[str, float | None]:
    """Computes the head's metric on the split, such as `{"accuracy": a}`, from 0 to 1.

    Networks of one architecture share the graphs in `forwards`.

    With `top_k` there is also `"accuracy_top5"`, and of labels `"accuracy_auc"`, which is None if
    each label is always on or always off.
    """
    head = HEADS[dataset.head]
    ensemble = TeacherEnsemble([network], head=head.ensemble)
    if forwards is not None:
        ensemble.share(forwards)
    scores = ensemble.evaluate(data.evaluation_pipeline(dataset, split), top_k=top_k(dataset))
    return {
        name.replace("teachers", head.metric): None if np.isnan(values[0]) else values[0]
        for name, values in scores.items()
        if name.startswith("teachers")
    }


def evaluate(
    dataset: data.Dataset,
    files: list[Teacher],
    networks: list[keras.Model] | None,
    cache: TeacherCache | None,
) -> dict[str, Any]:
    """Computes the test accuracy of the teachers and of their votes, from the cache if given.

    Raises:
        UserError: outputs that are not logits.
    """
    try:
        if cache is None:
            test = data.evaluation_pipeline(dataset, dataset.test)
            ensemble = TeacherEnsemble(networks or [], head=HEADS[dataset.head].ensemble)
            return ensemble.evaluate(test, top_k=top_k(dataset))
        outputs = [(tf.convert_to_tensor(cache.logits()), dataset.test.labels, None)]
        if dataset.head == "classes":
            return accuracies(outputs, [teacher.name for teacher in files], top_k(dataset))
        return (errors if dataset.head == "regression" else of_labels)(outputs)
    except ValueError as error:
        raise UserError(str(error)) from error
