"""The table of weightings, each with the way to make it from held-out outputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from aekd_tf.experiments.compare.settings import Setting

AVERAGE, ORACLE, AUTO = "average", "oracle", "auto"
# Stopping points of the search for a tolerance, above 1/M.
_TOLERANCES, _FOLDS = (0.15, 0.2, 0.3, 0.4, 0.6, 1.0), 5
_TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The outputs that a weighting may be chosen on.

    Attributes:
        outputs: the teachers' for the validation examples, `[M, N, K]`.
        labels: `[N]`; None without labels.
        training_outputs, training_labels: the same for the training examples.
        spoilt: how many teachers, the first ones, are spoilt; only the oracle may look.
    """

    outputs: np.ndarray
    labels: np.ndarray | None
    training_outputs: np.ndarray
    training_labels: np.ndarray
    spoilt: int


@dataclasses.dataclass(frozen=True)
class Row:
    """A weighting in the comparison.

    Attributes:
        name: name in flags, files and results.
        title: name in tables.
        make: returns the weighting.
        labels: whether it requires labels.
    """

    name: str
    title: str
    make: Callable[[HeldOut], Any]
    labels: bool = False


def _named(name: str) -> Callable[[HeldOut], Any]:
    def make(held_out: HeldOut) -> Any:
        from aekd_tf import weightings

        return weightings.get(name)

    return make


def _adaptive(**options: Any) -> Callable[[HeldOut], Any]:
    def make(held_out: HeldOut) -> Any:
        from aekd_tf import AdaptiveWeighting

        return AdaptiveWeighting(**options)

    return make


def _stacked(anchor_to: str) -> Callable[[HeldOut], Any]:
    def make(held_out: HeldOut) -> Any:
        from aekd_tf import FixedWeighting

        labels = None if anchor_to == "vote" else held_out.labels
        return FixedWeighting.stacked(held_out.outputs, labels, anchor_to=anchor_to)

    return make


def _chosen_tolerance(held_out: HeldOut) -> Any:
    """Stacks with the C whose mixtures are closest to the labels of folds left out (Brier)."""
    from aekd_tf import FixedWeighting

    outputs, labels = held_out.outputs, held_out.labels
    assert labels is not None
    stacked = functools.partial(FixedWeighting.stacked, anchor_to="agreed")
    candidates = [1 / len(outputs), *(c for c in _TOLERANCES if c > 1 / len(outputs))]
    truth = np.eye(outputs.shape[-1])[labels]
    probabilities = special.softmax(outputs.astype(np.float64) / _TEMPERATURE, -1)
    folds = np.arange(len(labels)) % _FOLDS
    distances = dict.fromkeys(candidates, 0.0)
    for tolerance in candidates:
        for fold in range(_FOLDS):
            out, rest = folds == fold, folds != fold
            values = stacked(outputs[:, rest], labels[rest], tolerance=tolerance).values
            mixture = np.einsum("nm,mnk->nk", values[labels[out]], probabilities[:, out])
            distances[tolerance] += float(np.square(mixture - truth[out]).sum())
    return stacked(outputs, labels, tolerance=min(distances, key=distances.__getitem__))


def _stacked_on_training(held_out: HeldOut) -> Any:
    from aekd_tf import FixedWeighting

    return FixedWeighting.stacked(held_out.training_outputs, held_out.training_labels)


def _from_accuracy(held_out: HeldOut) -> Any:
    from aekd_tf import FixedWeighting

    return FixedWeighting.from_accuracy(held_out.outputs, held_out.labels)


def _per_example(held_out: HeldOut) -> Any:
    from aekd_tf import weightings

    kind: Any = type(weightings.get("cross_entropy"))
    return kind(per_example=True)


def _oracle(held_out: HeldOut) -> Any:
    from aekd_tf import FixedWeighting

    good = np.arange(len(held_out.outputs)) >= held_out.spoilt
    return FixedWeighting(good / good.sum())


WEIGHTINGS = {
    row.name: row
    for row in (
        Row(AVERAGE, "average (AVER)", _named("average")),
        Row("aekd", "AE-KD", _named("aekd")),
        Row("aekd_full", "AE-KD, full batch gradient", _adaptive(batch_gradient="full")),
        Row("anchored", "anchored to the labels", _adaptive(anchor=1.0), labels=True),
        Row("anchored_vote", "anchored to the vote", _adaptive(anchor=1.0, anchor_to="vote")),
        Row("stacked", "stacked on held-out labels", _stacked("labels"), labels=True),
        Row("agreed", "stacked on agreed labels (auto)", _stacked("agreed"), labels=True),
        Row("stacked_vote", "stacked on the held-out vote", _stacked("vote")),
        Row("tolerance", "the same, C chosen by folds", _chosen_tolerance, labels=True),
        Row("training", "stacked on training labels", _stacked_on_training, labels=True),
        Row("accuracy", "held-out accuracy^4 per class", _from_accuracy, labels=True),
        Row("cross_entropy", "softmax of -CE", _named("cross_entropy"), labels=True),
        Row("cross_entropy_example", "softmax of -CE per example", _per_example, labels=True),
        Row("ca_mkd", "CA-MKD", _named("ca_mkd"), labels=True),
        Row("ebkd", "EBKD", _named("ebkd")),
        Row("mtkd", "MTKD-RL, closed form", _named("mtkd"), labels=True),
        Row("random", "one at random", _named("random")),
        Row("mgda", "MGDA", _named("mgda")),
        Row(ORACLE, "the good ones alone (oracle)", _oracle),
    )
}
# `auto` is no row of its own: it stands for one of the others.
NAMES = (*WEIGHTINGS, AUTO)


def resolved(name: str, setting: Setting) -> str:
    """Returns the weighting that a name stands for in a setting."""
    if name != AUTO:
        return name
    return "agreed" if setting.labels else "stacked_vote"


def fits(name: str, setting: Setting, size: int) -> bool:
    """Tells whether a weighting can be used in a setting of `size` teachers."""
    if name == ORACLE:
        return 0 < setting.spoilt_count(size) < size
    return setting.labels or not WEIGHTINGS[resolved(name, setting)].labels
