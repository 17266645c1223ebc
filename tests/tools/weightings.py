"""All weightings: which properties each has, its formula in NumPy, and one that calls them all."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aekd_tf import (
    AdaptiveWeighting,
    CAMKDWeighting,
    CrossEntropyWeighting,
    EBKDWeighting,
    MTKDWeighting,
    RandomWeighting,
    Signals,
    Smoothed,
    UniformWeighting,
    Weighting,
)
from aekd_tf.weightings.auto import AutoWeighting


@dataclasses.dataclass(frozen=True)
class Case:
    """A weighting, and which of the shared properties it has.

    Attributes:
        make: makes it.
        permutes: whether permuting the teachers permutes the weights.
        scales: whether other scales of the losses, and of the Gram matrix, change nothing.
        leaves_out: whether a teacher that is left out is as if it were not there.
    """

    make: Callable[[], Weighting]
    permutes: bool = True
    scales: bool = True
    leaves_out: bool = True


CASES = {
    "average": Case(UniformWeighting),
    "aekd": Case(AdaptiveWeighting),
    "aekd, normalized": Case(lambda: AdaptiveWeighting(0.5, normalize=True)),
    "mgda": Case(lambda: AdaptiveWeighting(1.0)),
    "anchored": Case(lambda: AdaptiveWeighting(anchor=1.0)),
    "anchored to the vote": Case(AutoWeighting),
    "halfway, per example": Case(lambda: AdaptiveWeighting(anchor=0.5, per_example=True)),
    "random": Case(lambda: RandomWeighting(5), permutes=False),  # it draws a number
    "cross_entropy": Case(CrossEntropyWeighting),
    "cross_entropy, per example": Case(lambda: CrossEntropyWeighting(per_example=True)),
    "ca_mkd": Case(CAMKDWeighting),
    "ebkd": Case(EBKDWeighting),
    "mtkd": Case(MTKDWeighting),
    "smoothed": Case(lambda: Smoothed(AdaptiveWeighting(0.5))),
    "smoothed twice": Case(lambda: Smoothed(Smoothed(CrossEntropyWeighting(), 0.5))),
    "smoothed random": Case(lambda: Smoothed(RandomWeighting(5)), permutes=False),
}


def signals(seed=0, teachers=4, examples=6, classes=5, positions=(), **fields):
    """What a step may know, with random values."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(teachers, examples, *positions, classes)) * 3
    rows = rng.normal(size=(teachers, teachers + 3)) + 0.5
    known = {
        "live": np.ones(teachers, bool),
        "gram": rows @ rows.T,
        "losses": rng.uniform(size=(teachers, examples)),
        "teacher_outputs": outputs,
        "student_outputs": rng.normal(size=(examples, *positions, classes)) * 2,
        "labels": rng.integers(0, classes, (examples, *positions)),
        "temperature": 3.0,
        **fields,
    }
    return Signals(**{name: tensor(value) for name, value in known.items()})


def tensor(value):
    """Floats become float32, as a step has them."""
    if isinstance(value, dict):
        return {name: tensor(part) for name, part in value.items()}
    if value is None or isinstance(value, str):
        return value
    value = np.asarray(value)
    return tf.constant(value, tf.float32 if value.dtype.kind == "f" else value.dtype)


# With one program per batch and one per example: compiling more takes seconds each.
TOGETHER = [
    *("anchored to the vote", "halfway, per example"),
    *("random", "cross_entropy", "cross_entropy, per example", "ca_mkd", "ebkd", "mtkd"),
    *("smoothed twice", "smoothed random"),
]


class Together(Weighting):
    """Calls those of `TOGETHER` on one step, and keeps what each said in its state.

    Its weights are the mean of theirs, so that the student depends on all of them.
    """

    needs = ("gram", "teacher_outputs", "student_outputs", "labels", "temperature")

    def __init__(self):
        self.weightings = {re.sub(r"\W+", "_", name): CASES[name].make() for name in TOGETHER}

    def attach(self, steps):
        for each in self.weightings.values():
            each.attach(steps)

    def initial_state(self, num_teachers):
        state = {}
        for name, each in self.weightings.items():
            state[f"{name}__said"] = np.zeros(num_teachers, np.float32)
            for part, value in each.initial_state(num_teachers).items():
                state[f"{name}__{part}"] = value
        return state

    def weights(self, signals):
        state, total = {}, 0.0
        for name, each in self.weightings.items():
            start = f"{name}__"
            of_each = {
                key.removeprefix(start): value
                for key, value in signals.state.items()
                if key.startswith(start) and key != f"{name}__said"
            }
            known = dataclasses.replace(signals, state=of_each).only(each.needs)
            weights, diagnostics = each(known)
            state |= {start + part: new for part, new in diagnostics.get("state", {}).items()}
            if weights.shape.rank == 1:
                weights = tf.tile(weights[:, None], [1, tf.shape(signals.student_outputs)[0]])
            total += weights / len(self.weightings)
            state[f"{name}__said"] = signals.batch_mean(weights)
        return total, {"state": state}


# The formulas, for live teachers alone: from outputs z [M, B, K], labels y [B], a student
# s [B, K] and T to weights [M, B], in float64.


def _softmax(values, axis):
    exp = np.exp(values - values.max(axis, keepdims=True))
    return exp / exp.sum(axis, keepdims=True)


def _logs(z):
    return (
        z
        - z.max(-1, keepdims=True)
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1))[..., None]
    )


def cross_entropy(z, y, s=None, t=None):
    return -np.take_along_axis(_logs(z), np.broadcast_to(y, z.shape[:-1])[..., None], -1)[..., 0]


def entropy(z, y=None, s=None, t=None):
    return -(np.exp(_logs(z)) * _logs(z)).sum(-1)


def divergence(z, y, s, t):
    return (np.exp(_logs(z / t)) * (_logs(z / t) - _logs(s / t))).sum(-1)


def ca_mkd(ce):
    return (1 - _softmax(ce, 0)) / (len(ce) - 1)


def ebkd(h):
    return (1 - h / h.sum(0)) / (len(h) - 1)


def mtkd(ce, kl):
    return ca_mkd(ce) / 2 + _softmax(kl, 0) / 2


def softmax_of_minus(ce):
    return _softmax(-ce, 0)
