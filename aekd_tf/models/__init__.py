"""Creates networks by name: `create("resnet20", num_classes=10, input_shape=(32, 32, 3))`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = ["create", "names"]

# Name -> (module, arguments of its `build`). `create` imports the module.
_REGISTRY: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet", {"depth": depth}) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{
        f"resnet{depth}x4": ("resnet", {"depth": depth, "widths": (32, 64, 128, 256)})
        for depth in (8, 32)
    },
    **{
        f"wrn_{depth}_{width}": ("wide_resnet", {"depth": depth, "width": width})
        for depth in (16, 40)
        for width in (1, 2)
    },
    **{f"vgg{depth}": ("vgg", {"depth": depth}) for depth in (8, 11, 13, 16, 19)},
    "mobilenetv2": ("mobilenet_v2", {}),
    **{f"imagenet_resnet{depth}": ("imagenet_resnet", {"depth": depth}) for depth in (18, 34, 50)},
    **{f"cnn1d_{width}": ("cnn1d", {"width": width}) for width in (4, 6, 25, 40)},
}
_OF_SIGNALS = "cnn1d"


def names() -> list[str]:
    """Returns the names that `create` takes.

    Example::

        from aekd_tf import models

        print("resnet20" in models.names())  # True
    """
    return list(_REGISTRY)


def create(
    name: str,
    num_classes: int,
    input_shape: Sequence[int],
    *,
    normalization: tuple[Any, Any] | None = None,
) -> keras.Model:
    """Creates a randomly initialized network from images, or signals, to logits.

    Args:
        name: one of `names()`.
        num_classes: K; 1 for one logit, or one value.
        input_shape: `(height, width, channels)`, height and width at least 8; of signals, for
            `cnn1d_...`, `(length, channels)`.
        normalization: mean and standard deviation per channel; a first layer then normalizes
            inputs that are not normalized, and is saved with the network.

    Returns:
        A functional Keras model `[B, ...] -> [B, K]`; the end of each stage is the layer
        `"stage1"`, `"stage2"`, ...

    Raises:
        ValueError: unknown name, no outputs, inputs that the network does not take.

    Example::

        from aekd_tf import models

        student = models.create("cnn1d_4", num_classes=10, input_shape=(40, 1))
        print(student.name, student.output_shape)  # cnn1d_4 (None, 10)
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(names())}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: a network requires at least 1")
    check_shape(name, input_shape)
    module, arguments = _REGISTRY[name]
    build = importlib.import_module(f"aekd_tf.models.{module}").build
    if normalization is not None:
        arguments = {**arguments, "normalization": normalization}
    return build(name=name, num_classes=num_classes, input_shape=tuple(input_shape), **arguments)


def check_shape(name: str, input_shape: Sequence[int]) -> None:
    """Raises ValueError, naming what the network takes, for inputs of another shape."""
    shape, of_signals = tuple(input_shape), _REGISTRY[name][0] == _OF_SIGNALS
    if len(shape) != (2 if of_signals else 3):
        taken = "signals (length, channels)" if of_signals else "images (height, width, channels)"
        raise ValueError(f"{name} takes {taken}, not inputs {shape}: choose another network")
    if min(shape[:-1]) < 8:
        least = "signals must be at least 8 long" if of_signals else "images must be at least 8x8"
        raise ValueError(f"input_shape is {shape}: {least}")
