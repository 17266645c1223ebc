"""Checks names and numbers, without importing TensorFlow."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

# A cap that is below 1/M by rounding alone still means "the plain average".
_CAP_SLACK = 1e-6


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises ValueError, listing the choices, unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")


def check_number(name: str, value: float, *, above_zero: bool = False) -> float:
    """Returns `value` as a float; ValueError unless it is finite and at least (or above) 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (0 < number < float("inf") or (number == 0 and not above_zero)):
        bound = "above 0" if above_zero else "at least 0"
        raise ValueError(f"{name} is {value}: give a finite number {bound}")
    return number


def check_weight_bits(value: Any) -> None:
    """Raises ValueError unless `value` is a number of bits that kernels can be rounded to."""
    if value not in range(2, 9):
        raise ValueError(f"weight_bits is {value}: give a whole number from 2 to 8")


def check_tolerance(tolerance: Any, size: int | None = None) -> None:
    """Raises ValueError, naming the numbers, unless `tolerance` is a usable cap.

    Args:
        tolerance: the cap C, or one cap per teacher (last axis).
        size: the number of teachers M; None checks the range alone.
    """
    caps = np.asarray(tolerance, np.float64)
    low = caps < 0 if caps.ndim else caps <= 0  # one cap of several may exclude its teacher
    if not np.all(np.isfinite(caps)) or np.any(low) or np.any(caps > 1):
        raise ValueError(
            f"tolerance C={tolerance} is outside (0, 1]: give a cap between 1/M (the plain "
            "average) and 1 (no cap)"
        )
    if size is None:
        return
    if caps.ndim and caps.shape[-1] != size:
        raise ValueError(f"tolerance has {caps.shape[-1]} caps for {size} teachers: give one each")
    total = float(np.min(np.sum(np.broadcast_to(caps, (*caps.shape[:-1], size)), -1)))
    if total < 1.0 - _CAP_SLACK:
        given = f"tolerance C={tolerance}" if caps.ndim == 0 else "tolerance"
        raise ValueError(
            f"{given} is too small for {size} teachers: the caps sum to {total:.6g}, below 1; "
            f"the smallest usable cap is C = 1/M = {1 / size:.6g}, which is the plain average"
        )


def parse_interval(text: str) -> tuple[int | None, float | None]:
    """Parses `--checkpoint_every`, e.g. "500", "10min" or "30s".

    Returns:
        `(steps, None)` or `(None, seconds)`.

    Raises:
        ValueError: the text is neither a number of steps nor a time.
    """
    match = re.fullmatch(r"(\d+)(min|s)?", text)
    if match is None or int(match[1]) < 1:
        raise ValueError(
            f"checkpoint_every is {text}: give a number of steps, or a time such as 10min or 30s"
        )
    number = int(match[1])
    return (
        (number, None)
        if match[2] is None
        else (None, number * (60.0 if match[2] == "min" else 1.0))
    )
