"""Computes the votes of an ensemble and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

PROBABILITIES = (
    "teacher {} ({}) ends in a softmax or sigmoid: give a model whose outputs are logits, or wrap "
    "it in TeacherAdapter(..., outputs='probabilities')"
)


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
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.size != len(labels):
            raise ValueError(
                f"labels are {labels.dtype} {labels.shape}: give one integer per example"
            )
        labels = labels.reshape(-1)
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


def _check_logits(logits: np.ndarray, names: Sequence[str]) -> None:
    """Raises ValueError if a subclassed model hides a softmax in its `call`."""
    for index, outputs in enumerate(logits):
        if outputs.min() >= 0 and np.abs(outputs.sum(-1) - 1).max() < 1e-4:
            raise ValueError(PROBABILITIES.format(index, names[index]))
