"""The output directory of a run: whose it is, and files written whole or not at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from aekd_tf.experiments.config import Config, UserError

if TYPE_CHECKING:
    import keras


def check_output_dir(config: Config) -> None:
    """Makes the output directory, and refuses one that holds a run with other settings.

    Raises:
        UserError: it cannot be written; it belongs to another configuration, whose
            differences are named.
    """
    path = os.path.join(config.output_dir, "config.json")
    if os.path.exists(path):
        try:
            with open(path, encoding="utf-8") as file:
                recorded = json.load(file)["config"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): delete it, or choose another --output_dir"
            ) from error
        asked = json.loads(json.dumps(config.recorded()))
        names = [name for name in asked if recorded.get(name) != asked[name]]
        if names:
            theirs = ", ".join(f"{name}={recorded.get(name)}" for name in names)
            ours = ", ".join(f"{name}={asked[name]}" for name in names)
            raise UserError(
                f"{config.output_dir} holds a run with {theirs}, this one asks for {ours}: choose "
                f"another --output_dir (--teachers_dir={config.teachers_dir} reuses its teachers)"
            )
    for directory in (config.output_dir, config.teachers_dir):
        try:
            os.makedirs(directory, exist_ok=True)
            probe = os.path.join(directory, f".probe-{os.getpid()}")
            with open(probe, "w"):
                pass
            os.remove(probe)
        except OSError as error:
            raise UserError(
                f"{directory} cannot be written ({error.strerror}): choose another --output_dir"
            ) from error


def save_model(network: keras.Model, path: str) -> None:
    """Writes a `.keras` file whole or not at all."""
    temporary = f"{path}.{os.getpid()}.keras"
    try:
        network.save(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def save_json(content: Any, path: str) -> None:
    """Writes a JSON file whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(temporary, path)
