"""The format in which a teacher's outputs are stored, and their conversion to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aekd_tf.cache.top_k import expand, keep_top_k
from aekd_tf.cache.views import Views


def logits_type(views: Views, outputs: tuple[int, ...]) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and dtype in which one example's outputs `[..., K]` are stored."""
    number, k = np.dtype(views.dtype), views.top_k
    if k is None:
        return outputs, number
    classes = np.dtype(np.uint16 if outputs[-1] <= 2**16 else np.uint32)
    fields = [("logits", number, (k,)), ("classes", classes, (k,)), ("others", number)]
    return (), np.dtype(fields)


def stored(views: Views, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Converts outputs `[N, ..., K]` and feature maps, if any, to the stored format."""
    logits, *features = outputs
    if views.top_k is None:
        kept = _clipped(logits, views)
    else:
        kept = np.empty(len(logits), logits_type(views, logits.shape[1:])[1])
        values, classes, others = keep_top_k(logits, views.top_k, views.temperature)
        kept["logits"], kept["classes"] = _clipped(values, views), classes
        kept["others"] = _clipped(others, views)
    return [kept, *(_clipped(values, views) for values in features)]


def gather_logits(
    logits: Sequence[np.ndarray], classes: int | None, view: Any, indices: np.ndarray
) -> np.ndarray:
    """Reads outputs `[B, M, ..., K]` float32 of some examples from M files.

    `classes` is K of files that hold the largest logits alone, else None.
    """
    parts = [array[int(view)][indices] for array in logits]
    if classes is not None:
        parts = [expand(part, classes) for part in parts]
    return np.stack(parts, axis=1).astype(np.float32)


def gather_features(
    features: Sequence[np.ndarray], view: Any, indices: np.ndarray
) -> list[np.ndarray]:
    """Reads feature maps `[B, ...]` float32 of some examples from each file."""
    return [array[int(view)][indices].astype(np.float32) for array in features]


def _clipped(values: np.ndarray, views: Views) -> np.ndarray:
    """Converts values to the stored dtype; a value beyond its range becomes its limit."""
    limit = np.finfo(views.dtype).max
    return np.clip(values, -limit, limit).astype(views.dtype)
