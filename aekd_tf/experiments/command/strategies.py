"""Makes the tf.distribute strategy of an experiment, one per process."""

from __future__ import annotations

import os
from typing import Any

from aekd_tf.experiments.command.errors import UserError

_made: dict[str, Any] = {}


def strategy(name: str) -> Any:
    """Returns the strategy of that name, which the first call makes.

    `multi_worker` must be made before TensorFlow computes anything.

    Raises:
        UserError: the strategy requires a TPU or a `TF_CONFIG` that is missing or wrong.
    """
    if name not in _made:
        _made[name] = _MAKERS[name]()
    return _made[name]


def is_chief() -> bool:
    """Tells whether this process writes; true except for a cluster's workers beside the chief."""
    return all(made.extended.should_save_summary for made in _made.values())


def wait_for_all() -> None:
    """Waits until all workers of the cluster have called this."""
    import tensorflow as tf

    for made in _made.values():
        if isinstance(made, tf.distribute.MultiWorkerMirroredStrategy):
            made.reduce(tf.distribute.ReduceOp.SUM, made.run(lambda: tf.ones([])), axis=None)


def _none() -> Any:
    import tensorflow as tf

    tf.config.list_logical_devices()  # creates the devices
    return tf.distribute.get_strategy()


def _mirrored() -> Any:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker() -> Any:
    import tensorflow as tf

    if "TF_CONFIG" not in os.environ:
        raise UserError(
            "strategy=multi_worker reads the cluster's workers from the environment variable "
            "TF_CONFIG, which is not set: see docs/distributed.md, or give --strategy=mirrored for "
            "the devices of one machine"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        raise UserError(
            f"TF_CONFIG={os.environ['TF_CONFIG']} describes no cluster "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): see "
            "docs/distributed.md"
        ) from error


def _tpu() -> Any:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(
            os.environ.get("TPU_NAME", "local")
        )
    except Exception as error:
        raise UserError(
            "strategy=tpu found no TPU (TPU_NAME is "
            f"{os.environ.get('TPU_NAME', 'not set, so this machine was searched')}): run it on a "
            "TPU VM, or give --strategy=none or mirrored"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_MAKERS = {"none": _none, "mirrored": _mirrored, "multi_worker": _multi_worker, "tpu": _tpu}
