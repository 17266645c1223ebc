"""Weightings, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aekd_tf.checks import check_choice
from aekd_tf.names import WEIGHTINGS
from aekd_tf.weightings.adaptive import AdaptiveWeighting
from aekd_tf.weightings.auto import AutoWeighting
from aekd_tf.weightings.base import Weighting, check_interface
from aekd_tf.weightings.ca_mkd import CAMKDWeighting
from aekd_tf.weightings.cross_entropy import CrossEntropyWeighting
from aekd_tf.weightings.ebkd import EBKDWeighting
from aekd_tf.weightings.fixed import FixedWeighting
from aekd_tf.weightings.mtkd import MTKDWeighting
from aekd_tf.weightings.random import RandomWeighting
from aekd_tf.weightings.smoothed import Smoothed
from aekd_tf.weightings.stacked import StackedWeighting
from aekd_tf.weightings.uniform import UniformWeighting

__all__ = [
    "AdaptiveWeighting",
    "AutoWeighting",
    "CAMKDWeighting",
    "CrossEntropyWeighting",
    "EBKDWeighting",
    "FixedWeighting",
    "MTKDWeighting",
    "RandomWeighting",
    "Smoothed",
    "StackedWeighting",
    "UniformWeighting",
    "Weighting",
    "get",
]

_MADE_BY: dict[str, Callable[[], Weighting]] = {
    "auto": AutoWeighting,
    "stacked": StackedWeighting,
    "aekd": AdaptiveWeighting,
    "anchored": functools.partial(AdaptiveWeighting, anchor=1.0),
    "average": UniformWeighting,
    "average_outputs": functools.partial(UniformWeighting, "outputs"),
    "random": RandomWeighting,
    "mgda": functools.partial(AdaptiveWeighting, tolerance=1.0),
    "cross_entropy": CrossEntropyWeighting,
    "ca_mkd": CAMKDWeighting,
    "ebkd": EBKDWeighting,
    "mtkd": MTKDWeighting,
}


def get(identifier: str | Weighting) -> Weighting:
    """Returns a weighting by name, or the one given.

    Args:
        identifier: a name of docs/weightings.md, such as `"auto"`, `"aekd"` or `"average"`; or a
            `Weighting`.

    Raises:
        ValueError: unknown name; the message lists the names. A subclass that overrides
            something else than `weights`, or needs what no step knows.

    Example::

        from aekd_tf import weightings

        print(weightings.get("mgda"))  # AdaptiveWeighting(tolerance=1.0)
    """
    if isinstance(identifier, Weighting):
        check_interface(identifier)
        return identifier
    check_choice("weighting", identifier, WEIGHTINGS)
    return _MADE_BY[identifier]()
