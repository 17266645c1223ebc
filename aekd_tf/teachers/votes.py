"""Computes the votes of an ensemble and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aekd_tf.outputs import are_probabilities
from aekd_tf.refusals import refusal


def vote_scores(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns scores `[B, K]` of both votes over `logits [M, B, K]`; the argmax is the answer."""
    mean = tf.reduce_mean(tf.nn.softmax(logits), 0)
    ballots = tf.one_hot(tf.argmax(logits, -1), logits.shape[-1])
    # Mean probability is at most 1, so this fraction of it can only break a tie.
    shares = tf.reduce_mean(ballots, 0) + mean / (2 * logits.shape[0] + 1)
    return {"majority": shares, "mean": mean}


def accuracies(
    batches: Iterable[tuple[Any, Any]], names: Sequence[str], top_k: int | None = None
) -> dict[str, Any]:
    """Computes `TeacherEnsemble.evaluate` from batches of `(logits [M, B, K], labels)`."""
    # Not `in_top_k`: it calls every label right if a constant answer ties them all.
    ranks = [1] if top_k is None else [1, top_k]
    hits = np.zeros((len(ranks), len(names) + 2))
    count = 0
    for logits, labels in batches:
        labels = as_classes(labels, logits.shape[-1])
        logits = tf.convert_to_tensor(logits)
        _check_logits(logits.numpy(), names)
        votes = vote_scores(logits)
        answers = [*logits, votes["majority"], votes["mean"]]
        for row, k in zip(hits, ranks, strict=True):
            best = [tf.math.top_k(answer, k).indices.numpy() for answer in answers]
            row += [np.sum(indices == labels[:, None]) for indices in best]
        count += len(labels)
    results: dict[str, Any] = {}
    suffixes = ["", f"_top{top_k}"][: len(ranks)]
    for row, suffix in zip(hits / max(count, 1), suffixes, strict=True):
        results[f"teachers{suffix}"] = row[:-2].tolist()
        results[f"majority_vote{suffix}"] = float(row[-2])
        results[f"mean_probability{suffix}"] = float(row[-1])
    return results


def as_classes(labels: Any, classes: int) -> np.ndarray:
    """Returns integer labels `[N]`, from integers `[N]` or `[N, 1]` or one-hot rows `[N, K]`."""
    labels = np.asarray(labels)
    if labels.dtype.kind in "iu" and labels.size == len(labels):
        return labels.reshape(-1)
    one_hot = labels.ndim == 2 and labels.shape[-1] == classes and np.isin(labels, (0, 1)).all()
    if one_hot and (labels.sum(-1) == 1).all():
        return labels.argmax(-1)
    raise refusal("labels_not_classes", dtype=labels.dtype, shape=labels.shape, classes=classes)


def _check_logits(logits: np.ndarray, names: Sequence[str]) -> None:
    """Finds the softmax that a subclassed model hides in its `call`."""
    for index, outputs in enumerate(logits):
        if are_probabilities(outputs):
            raise refusal("teacher_probabilities", index=index, name=names[index])
