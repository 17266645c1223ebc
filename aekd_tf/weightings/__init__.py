"""Weightings, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aekd_tf.checks import check_choice
from aekd_tf.names import WEIGHTINGS
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.auto import AutoWeighting
from aekd_tf.weightings.base import Weighting, check_interface
from aekd_tf.weightings.stacked import StackedWeighting
from aekd_tf.weightings.uniform import UniformWeighting

MAKERS: dict[str, Callable[[], Weighting]] = {
    "auto": AutoWeighting,
    "stacked": StackedWeighting,
    "aekd": AdaptiveWeighting,
    "anchored": functools.partial(AdaptiveWeighting, anchor=1.0),
    "average": UniformWeighting,
    "average_outputs": functools.partial(UniformWeighting, "outputs"),
}


def get(identifier: str | Weighting) -> Weighting:
    """Returns a weighting by name, one of `names.WEIGHTINGS`, or the one given.

    Raises:
        ValueError: unknown name; the message lists the names. A subclass that overrides
            something else than `weights`, or needs what no step knows.
    """
    if isinstance(identifier, Weighting):
        check_interface(identifier)
        return identifier
    check_choice("weighting", identifier, WEIGHTINGS)
    return MAKERS[identifier]()
