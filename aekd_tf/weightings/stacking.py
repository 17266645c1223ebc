"""The stacked program: weights chosen once, on the teachers' outputs for held-out examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_choice, check_number, check_tolerance
from aekd_tf.names import HELD_OUT_ANCHORS
from aekd_tf.qp.solve import solve
from aekd_tf.refusals import refusal
from aekd_tf.signals import Signals
from aekd_tf.teachers.votes import as_classes
from aekd_tf.weightings.held_out import HeldOut
from aekd_tf.weightings.reference import residuals, truth_of


def stacked_weights(
    held_out: HeldOut,
    tolerance: float,
    temperature: float,
    anchor_to: str | None,
    per_class: bool,
    prior: float,
) -> np.ndarray:
    """Returns the weights of the stacked program, `[M]`, or `[K, M]` by class.

    See `FixedWeighting.stacked`. A teacher whose outputs are not all finite has weight 0.
    """
    check_tolerance(tolerance, held_out.num_teachers if held_out.num_teachers > 1 else None)
    check_number("temperature", temperature, above_zero=True)
    check_number("prior", prior)
    if anchor_to is not None:
        check_choice("anchor_to", anchor_to, HELD_OUT_ANCHORS)
    teachers = held_out.num_teachers
    if teachers == 1:
        return np.ones(1)
    sums = np.zeros((1, teachers, teachers))  # per class, or one for all
    count, agreed, live = 0.0, 0.0, np.ones(teachers, bool)
    for outputs, labels, weight in held_out.read():
        reference = anchor_to or ("vote" if labels is None else "labels")
        weighted = reference == "agreed" and held_out.head == "classes"
        reference = "labels" if reference == "agreed" else reference
        finite = np.isfinite(outputs).all(tuple(range(1, outputs.ndim)))
        live &= finite
        mask = finite.reshape(-1, *[1] * (outputs.ndim - 1))
        signals = Signals(
            live=tf.constant(finite),
            teacher_outputs=tf.constant(np.where(mask, outputs, 0), tf.float32),
            labels=labels,
            sample_weight=None if weight is None else tf.cast(weight, tf.float32),
            head=held_out.head,
        )
        name = "weighting 'stacked'"
        found = residuals(signals, 1.0, temperature, reference, name).numpy().astype(np.float64)
        examples = signals.example_weight
        examples = np.ones(found.shape[1]) if examples is None else examples.numpy()
        count += examples.sum()
        if weighted:
            examples = examples * _agreement(outputs[finite], labels)
        agreed += examples.sum()
        found = found.reshape(teachers, found.shape[1], -1) * np.sqrt(examples)[None, :, None]
        if not (per_class and held_out.head == "classes" and outputs.ndim == 3):
            rows = found.reshape(teachers, -1)
            sums[0] += rows @ rows.T
            continue
        truth = truth_of(signals, reference, name).numpy().argmax(-1)
        if len(sums) == 1:
            sums = np.zeros((outputs.shape[-1], teachers, teachers))
        for each in np.unique(truth):
            rows = found[:, truth == each].reshape(teachers, -1)
            sums[each] += rows @ rows.T
    if not count:
        raise refusal("stacked_without_validation", why="there are no held-out examples")
    sums *= count / agreed
    if len(sums) > 1:
        sums += prior * sums.sum(0) / count
    if not live.any():
        live[:] = True
    caps = np.where(live, max(tolerance, 1 / live.sum()), 0.0)
    # Once, and so not compiled, which takes ten times as long as this.
    weights = solve("smo", tf.constant(sums), tf.constant(caps))[0].numpy()
    return weights if len(weights) > 1 else weights[0]


def _agreement(outputs: np.ndarray, labels: Any) -> np.ndarray:
    """Returns the share of the teachers that give each example's label, above 0: `[N]`."""
    classes = as_classes(labels, outputs.shape[1:])
    votes = (outputs.argmax(-1) == classes).sum(0)
    shares = (votes + 0.5) / (len(outputs) + 1)
    return shares.reshape(len(shares), -1).mean(1)


def accuracy_weights(held_out: HeldOut, power: float, per_class: bool) -> np.ndarray:
    """Returns weights in proportion to held-out accuracy to a power, `[M]`, or `[K, M]` by class.

    Raises:
        ValueError: no labels of classes.
    """
    check_number("power", power)
    hits: Any = 0.0
    counts: Any = 0.0
    dense = False
    for outputs, labels, weight in held_out.read():
        if labels is None or held_out.head != "classes":
            raise refusal("accuracy_without_labels")
        dense = outputs.ndim > 3
        classes = as_classes(labels, outputs.shape[1:])
        counted = np.ones(classes.shape) if weight is None else np.asarray(weight, np.float64)
        counted = counted.reshape(*counted.shape, *[1] * (classes.ndim - counted.ndim))
        counted = np.broadcast_to(counted, classes.shape)
        right = counted * (outputs.argmax(-1) == classes) * np.isfinite(outputs).all(-1)
        of_class = np.eye(outputs.shape[-1])[classes.reshape(-1)]  # [N, K]
        hits = hits + of_class.T @ right.reshape(len(outputs), -1).T
        counts = counts + of_class.T @ counted.reshape(-1)
    if not np.sum(counts):
        raise refusal("accuracy_without_labels")
    if per_class and not dense:
        accuracy = (hits + 0.5) / (counts[:, None] + 5)
    else:
        accuracy = hits.sum(0) / counts.sum()
        accuracy = accuracy if accuracy.any() else np.ones_like(accuracy)
    # Divided first: a small accuracy to a high power may be too small for a float.
    weights = (accuracy / accuracy.max(-1, keepdims=True)) ** power
    return weights / weights.sum(-1, keepdims=True)
