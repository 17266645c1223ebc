"""Shrinks the logits of many classes to the k largest and one number for all others."""

from __future__ import annotations

import numpy as np


def keep_top_k(logits: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, ...]:
    """Selects the k largest of `logits [N, K]`, and one logit that stands for each other class.

    With that logit the other classes together keep the probability they had at `temperature`.

    Returns:
        The logits `[N, k]`, their classes `[N, k]`, and the others' logit `[N]`.
    """
    order = np.argpartition(-logits, k - 1, axis=-1)
    best, rest = order[:, :k], order[:, k:]
    others = np.take_along_axis(logits, rest, -1).astype(np.float64) / temperature
    shift = others.max(-1, keepdims=True)
    mean = np.log(np.exp(others - shift).mean(-1)) + shift[:, 0]
    return np.take_along_axis(logits, best, -1), best, temperature * mean


def expand(records: np.ndarray, num_classes: int) -> np.ndarray:
    """Restores all logits `[B, K]` from the records of `keep_top_k`."""
    logits = np.repeat(records["others"][:, None].astype(np.float32), num_classes, axis=1)
    np.put_along_axis(logits, records["classes"].astype(np.int64), records["logits"], axis=1)
    return logits
