"""Adds callbacks of ours to those that a `fit` is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def has_bar(given: Any) -> bool:
    """Tells whether the callbacks that `fit` takes settle by themselves what is printed."""
    listed = given if isinstance(given, (list, tuple)) else [given]
    kinds = (keras.callbacks.CallbackList, keras.callbacks.ProgbarLogger)
    return any(isinstance(callback, kinds) for callback in listed)


def with_callbacks(model: keras.Model, given: Any, own: Sequence[keras.callbacks.Callback]) -> Any:
    """Returns the callbacks given, in whatever form `fit` takes them, followed by ours."""
    if isinstance(given, keras.callbacks.CallbackList):
        for callback in own:
            callback.set_model(model)
            callback.set_params(given.params)
        given.callbacks.extend(own)
        return given
    listed = given if isinstance(given, (list, tuple)) else [given]
    return [*(callback for callback in listed if callback is not None), *own]
