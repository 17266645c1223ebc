"""Keeps the output directory of a run: its owner, and files written whole or not at all.

Only the chief of several workers writes; the others' calls do nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aekd_tf import files
from aekd_tf.experiments.command import strategies
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError

if TYPE_CHECKING:
    import keras

# Settings that were not recorded before there was a choice.
BEFORE = {
    "distillation_loss": "kl",
    "anchor": None,
    "anchor_temperature": 1.0,
    "anchor_to": "labels",
    "per_example": False,
    "quantize_aware": False,
    "weight_bits": 8,
}


def check_configuration(config: Config) -> None:
    """Refuses an output directory that holds a run with other settings.

    Raises:
        UserError: `config.json` there names other settings, or cannot be read.
    """
    path = os.path.join(config.output_dir, "config.json")
    if not os.path.exists(path):
        return
    recorded = read_json(path, "delete it, or choose another --output_dir").get("config")
    if not isinstance(recorded, dict):
        raise UserError(f"{path} has no configuration: delete it, or choose another --output_dir")
    for name, only in BEFORE.items():
        recorded.setdefault(name, only)
    if recorded.get("batch_gradient") == "mean" and config.batch_gradient is None:
        recorded["batch_gradient"] = None  # which is the same for AE-KD
    requested = json.loads(json.dumps(config.recorded()))
    differ = [name for name in requested if recorded.get(name) != requested[name]]
    if differ:
        old = ", ".join(f"{name}={recorded.get(name)}" for name in differ)
        new = ", ".join(f"{name}={requested[name]}" for name in differ)
        raise UserError(
            f"{config.output_dir} holds a run with {old}, this one asks for {new}: choose "
            f"another --output_dir (--teachers_dir={config.teachers_dir} reuses its teachers)"
        )


def make_directory(directory: str, flag: str) -> None:
    """Makes a directory and checks that files can be written there.

    Raises:
        UserError: no file can be written; the message names the flag to change.
    """
    if not strategies.is_chief():
        return
    try:
        os.makedirs(directory, exist_ok=True)
        probe = os.path.join(directory, f".probe-{os.getpid()}")
        with open(probe, "w"):
            pass
        os.remove(probe)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}): choose another {flag}"
        ) from error


def read_json(path: str, advice: str) -> dict[str, Any]:
    """Returns the object in a JSON file; UserError with `advice` if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {advice}") from error
    return content


def save_model(network: keras.Model, path: str) -> None:
    """Writes a `.keras` file whole or not at all, without the optimizer it was trained with."""
    if not strategies.is_chief():
        return
    if network.compiled:
        weights = network.get_weights()
        network = type(network).from_config(network.get_config())  # a clone would be compiled too
        network.set_weights(weights)
    with files.replacing(path) as temporary:
        network.save(temporary)


def save_json(path: str, content: Any, indent: int | None = 2) -> None:
    """Writes a JSON file whole or not at all."""
    if strategies.is_chief():
        files.write_json(path, content, indent)


@contextlib.contextmanager
def locked(directory: str, flag: str) -> Iterator[None]:
    """Keeps a second process out of an existing directory while the block lasts.

    Raises:
        UserError: another process holds the directory; the message names the process and the
            flag to change.
    """
    if not strategies.is_chief():
        yield
        return
    try:
        with files.locked(directory):
            yield
    except files.LockedError as error:
        raise UserError(
            f"{directory} is being written by {error.owner}: wait until it ends, or choose another "
            f"{flag}"
        ) from error
