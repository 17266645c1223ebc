"""Computes the votes of an ensemble and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aekd_tf.outputs import UNKNOWN, are_probabilities
from aekd_tf.refusals import refusal


def vote_scores(
    outputs: tf.Tensor, head: str = "classes", live: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Returns scores `[B, ..., K]` of both votes over `outputs [M, B, ..., K]`.

    Of classes the argmax is the answer; a label is on above 1/2; a value is the answer itself.
    Teachers that are not in `live [M]` have no vote; None counts all.
    """
    voting = tf.ones(outputs.shape[:1]) if live is None else tf.cast(live, tf.float32)
    voting = tf.reshape(voting, [-1] + [1] * (outputs.shape.rank - 1))
    count = tf.maximum(tf.reduce_sum(voting), 1.0)
    if head == "regression":
        mean = tf.reduce_sum(voting * outputs, 0) / count
        return {"majority": mean, "mean": mean}
    # Mean probability is at most 1, so this fraction of it can only break a tie.
    room = 2 * outputs.shape[0] + 1
    if head == "labels":
        # A teacher has no vote on a label that it does not know.
        known = voting * tf.cast(outputs > UNKNOWN / 2, tf.float32)
        voters = tf.maximum(tf.reduce_sum(known, 0), 1.0)
        mean = tf.reduce_sum(known * tf.sigmoid(outputs), 0) / voters
        on = tf.reduce_sum(known * tf.cast(outputs > 0, tf.float32), 0) / voters
        shares = on + (mean - 0.5) / room
        return {"majority": shares, "mean": mean}
    mean = tf.reduce_sum(voting * tf.nn.softmax(outputs), 0) / count
    ballots = tf.reduce_sum(voting * tf.one_hot(tf.argmax(outputs, -1), outputs.shape[-1]), 0)
    return {"majority": ballots / count + mean / room, "mean": mean}


def vote(outputs: tf.Tensor, head: str, live: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the teachers' majority vote, `[B, ..., K]` float32: one-hot, 0 and 1, or values.

    Ties of classes are broken by the mean probability, those of a label by whether that is above
    1/2. Of regression it is the mean. Arguments as for `vote_scores`.
    """
    scores = vote_scores(outputs, head, live)["majority"]
    if head == "classes":
        return tf.one_hot(tf.argmax(scores, -1), outputs.shape[-1])
    return tf.cast(scores > 0.5, tf.float32) if head == "labels" else scores


def accuracies(
    batches: Iterable[tuple[Any, Any, Any]], names: Sequence[str], top_k: int | None = None
) -> dict[str, Any]:
    """Computes `TeacherEnsemble.evaluate` of classes.

    Args:
        batches: `(logits [M, B, ..., K], labels, sample_weight)`.
        names: of the M teachers, for messages.
        top_k: k of a second accuracy.
    """
    # Not `in_top_k`: it calls every label right if a constant answer ties them all.
    ranks = [1] if top_k is None else [1, top_k]
    hits = np.zeros((len(ranks), len(names) + 2))
    count = 0
    for logits, labels, weight in batches:
        labels = as_classes(labels, logits.shape[1:])
        logits = tf.convert_to_tensor(logits)
        _check_logits(logits.numpy(), names)
        counted = counted_positions(weight, labels.shape)
        votes = vote_scores(logits)
        answers = [*logits, votes["majority"], votes["mean"]]
        for row, k in zip(hits, ranks, strict=True):
            best = [tf.math.top_k(answer, k).indices.numpy() for answer in answers]
            row += [np.sum((indices == labels[..., None]) & counted[..., None]) for indices in best]
        count += int(counted.sum())
    results: dict[str, Any] = {}
    suffixes = ["", f"_top{top_k}"][: len(ranks)]
    for row, suffix in zip(hits / max(count, 1), suffixes, strict=True):
        results[f"teachers{suffix}"] = row[:-2].tolist()
        results[f"majority_vote{suffix}"] = float(row[-2])
        results[f"mean_probability{suffix}"] = float(row[-1])
    return results


def of_labels(batches: Iterable[tuple[Any, Any, Any]]) -> dict[str, Any]:
    """Computes `TeacherEnsemble.evaluate` of independent labels."""
    scores, truths = [], []
    for logits, labels, weight in batches:
        votes = vote_scores(logits, "labels")
        each = [*(tf.sigmoid(part) for part in logits), votes["majority"], votes["mean"]]
        truth = as_zero_one(labels, logits.shape[1:])
        counted = counted_positions(weight, truth.shape[:-1])
        scores.append(np.stack(each)[:, counted])
        truths.append(truth[counted] > 0.5)
    found, truth = np.concatenate(scores, 1), np.concatenate(truths)
    right = ((found > 0.5) == truth).mean(1)
    areas = np.array([[auc(s, t) for s, t in zip(f.T, truth.T, strict=True)] for f in found])
    results: dict[str, Any] = {}
    # A label that is always on or off has no AUC.
    for figures, suffix in ((right, ""), (areas, "_auc")):
        known = figures[:, ~np.isnan(figures).any(0)]
        means = known.mean(1) if known.size else np.full(len(figures), np.nan)
        results |= {
            f"teachers{suffix}": means[:-2].tolist(),
            f"majority_vote{suffix}": float(means[-2]),
            f"mean_probability{suffix}": float(means[-1]),
            f"per_label{suffix}": {
                "teachers": figures[:-2].tolist(),
                "majority_vote": figures[-2].tolist(),
                "mean_probability": figures[-1].tolist(),
            },
        }
    return results


def errors(batches: Iterable[tuple[Any, Any, Any]]) -> dict[str, Any]:
    """Computes `TeacherEnsemble.evaluate` of regression: root mean squared errors."""
    squares, count = 0.0, 0
    for outputs, targets, weight in batches:
        truth = as_targets(targets, outputs.shape[1:])
        counted = counted_positions(weight, truth.shape[:-1])
        each = [*outputs, vote_scores(outputs, "regression")["mean"]]
        difference = np.stack(each)[:, counted].astype(np.float64) - truth[counted]
        squares = squares + (difference**2).sum((1, 2))
        count += difference[0].size
    roots = np.sqrt(np.asarray(squares) / max(count, 1))
    return {"teachers": roots[:-1].tolist(), "mean": float(roots[-1])}


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Returns the area under the ROC curve; NaN if all are on, or all off."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else float("nan")


def as_classes(labels: Any, outputs: Any) -> np.ndarray:
    """Returns integer labels `[N, ...]` for outputs `[N, ..., K]` of one model.

    They are given as such, as `[N, ..., 1]` or as one-hot rows `[N, ..., K]`.
    """
    labels, classes = np.asarray(labels), outputs[-1]
    positions = tuple(outputs[1:-1])
    if labels.dtype.kind in "iu" and labels.shape[1:] in (positions, (*positions, 1)):
        return labels.reshape(len(labels), *positions)
    one_hot = labels.shape[1:] == (*positions, classes) and np.isin(labels, (0, 1)).all()
    if one_hot and (labels.sum(-1) == 1).all():
        return labels.argmax(-1)
    raise refusal(
        "labels_not_classes", dtype=labels.dtype, shape=str(labels.shape), classes=classes
    )


def as_zero_one(labels: Any, outputs: Any) -> np.ndarray:
    """Returns independent labels in the shape of one model's outputs, all 0 or 1."""
    truth = as_targets(labels, outputs)
    if not np.isin(truth, (0, 1)).all():
        raise refusal("labels_not_zero_one", shape=str(np.shape(labels)))
    return truth


def as_targets(labels: Any, outputs: Any) -> np.ndarray:
    """Returns labels or values in the shape of one model's outputs, float64."""
    labels = np.asarray(labels, np.float64)
    shape = (len(labels), *outputs[1:])
    if labels.size != np.prod(shape):
        raise refusal("targets_shape", shape=str(labels.shape), outputs=str(tuple(outputs)))
    return labels.reshape(shape)


def counted_positions(weight: Any, positions: tuple[int, ...]) -> np.ndarray:
    """Returns which positions count, bool: all, or those of a nonzero weight."""
    if weight is None or len(positions) < 2 or np.ndim(weight) < len(positions):
        return np.ones(positions, bool)
    return np.asarray(weight).reshape(positions) != 0


def _check_logits(logits: np.ndarray, names: Sequence[str]) -> None:
    """Finds the softmax that a subclassed model hides in its `call`."""
    for index, outputs in enumerate(logits):
        if are_probabilities(outputs):
            raise refusal("teacher_probabilities", index=index, name=names[index])
