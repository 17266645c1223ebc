"""Distillation losses, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from aekd_tf.checks import check_choice
from aekd_tf.losses.averaged_outputs import AveragedOutputs
from aekd_tf.losses.base import DistillationLoss
from aekd_tf.losses.binary_kl import BinaryKL
from aekd_tf.losses.dkd import DKD
from aekd_tf.losses.kl import KL
from aekd_tf.losses.own import OwnLoss
from aekd_tf.losses.raw import MSE, Cosine
from aekd_tf.names import DISTILLATION_LOSSES
from aekd_tf.refusals import refusal

__all__ = [
    "AveragedOutputs",
    "BinaryKL",
    "Cosine",
    "DKD",
    "DistillationLoss",
    "KL",
    "MSE",
    "get",
]

_CLASSES = (KL, BinaryKL, MSE, Cosine, DKD, AveragedOutputs)


def get(
    identifier: str | DistillationLoss | keras.losses.Loss | Callable[[Any, Any], Any],
) -> DistillationLoss:
    """Returns a distillation loss.

    Args:
        identifier: `"kl"`, `"binary_kl"`, `"mse"`, `"cosine"`, `"dkd"` or `"averaged_outputs"`;
            a `DistillationLoss`; a `keras.losses.Loss`; or a function of one teacher's and the
            student's outputs that returns `[B, ...]`.

    Raises:
        ValueError: an unknown name (the message lists the names), or a loss of Keras whose
            targets are probabilities or classes.
        TypeError: something else.

    Example::

        import keras
        from aekd_tf import losses

        print(losses.get("dkd"))  # DKD()
        print(losses.get(keras.losses.Huber()).name)  # Huber
    """
    if isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, type):
        raise refusal("loss_is_a_class", name=identifier.__name__)
    if isinstance(identifier, keras.losses.Loss) or callable(identifier):
        return OwnLoss(identifier)
    check_choice("distillation_loss", identifier, DISTILLATION_LOSSES)
    return {kind.name: kind for kind in _CLASSES}[identifier]()
