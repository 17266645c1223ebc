"""Weightings, by name."""

from __future__ import annotations

from aekd_tf.checks import check_choice
from aekd_tf.names import WEIGHTINGS
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.base import Weighting, check_interface
from aekd_tf.weightings.uniform import UniformWeighting


def get(identifier: str | Weighting) -> Weighting:
    """Returns a weighting by name (`"aekd"`, `"average"`, `"average_outputs"`), or the one given.

    Raises:
        ValueError: unknown name; the message lists the names. A subclass that overrides
            something else than `weights`, or needs what no step knows.
    """
    if isinstance(identifier, Weighting):
        check_interface(identifier)
        return identifier
    check_choice("weighting", identifier, WEIGHTINGS)
    if identifier == "aekd":
        return AdaptiveWeighting()
    return UniformWeighting("outputs" if identifier == "average_outputs" else "losses")
