"""Computes the test accuracy of a network, and of the teachers and their votes."""

from __future__ import annotations

from typing import Any

import keras

from aekd_tf import data
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.presets import family
from aekd_tf.experiments.run.teachers import Teacher
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.votes import accuracies


def top_k(dataset: data.Dataset) -> int | None:
    """Returns 5 if the paper reports top-5 accuracy beside top-1, else None."""
    return 5 if family(dataset.name) == "imagenet" and dataset.num_classes > 5 else None


def accuracy(
    network: keras.Model, dataset: data.Dataset, split: data.Split | data.StreamedSplit
) -> dict[str, float]:
    """Computes `{"accuracy": a}` on the split, from 0 to 1; with `top_k` also `"accuracy_top5"`."""
    scores = TeacherEnsemble([network]).evaluate(
        data.evaluation_pipeline(dataset, split), top_k=top_k(dataset)
    )
    return {
        name.replace("teachers", "accuracy"): values[0]
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
            return TeacherEnsemble(networks or []).evaluate(test, top_k=top_k(dataset))
        names = [teacher.name for teacher in files]
        return accuracies([(cache.logits(), dataset.test.labels, None)], names, top_k(dataset))
    except ValueError as error:
        raise UserError(str(error)) from error
