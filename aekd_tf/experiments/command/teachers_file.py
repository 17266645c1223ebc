"""Reads a file that says how each teacher's model, or its saved outputs, is to be used."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from aekd_tf.experiments.command.errors import UserError
from aekd_tf.names import TEACHER_OUTPUTS

if TYPE_CHECKING:
    import keras

_KEYS = (
    *("file", "name", "input_size", "preprocessing"),
    *("outputs", "output", "inputs", "class_map"),
)
# What saved outputs can have.
_OF_ARRAYS = ("file", "name", "outputs", "class_map")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A teacher in the file.

    Attributes:
        file: absolute path of a `.keras` file, or of a `.npy` file of outputs `[N, K]`.
        name: name in results.
        settings: the other keys.
    """

    file: str
    name: str
    settings: dict[str, Any]

    @property
    def is_array(self) -> bool:
        """Tells whether the file holds outputs instead of a model."""
        return self.file.endswith(".npy")

    def adapted(self, model: keras.Model, ending: str | None) -> keras.Model:
        """Returns the model from a run's raw inputs to logits of its classes.

        `ending` is the softmax or sigmoid that the model ends in, as far as it shows.
        """
        from aekd_tf.teachers.adapter import TeacherAdapter

        options = dict(self.settings)
        if "outputs" not in options and ending is not None:
            options["outputs"] = "probabilities"
        options["preprocessing"] = _preprocessing(self.file, options.get("preprocessing"))
        if not any(value is not None for value in options.values()):
            return model
        try:
            return TeacherAdapter(model, **options)
        except (TypeError, ValueError) as error:
            raise UserError(f"teacher file {self.file}: {error}") from error

    def outputs(self, count: int, num_outputs: int, head: str) -> np.ndarray:
        """Returns the logits `[N, K]` of the file, for all examples before they were split."""
        try:
            values = np.load(self.file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"teacher file {self.file} cannot be read ({error})") from error
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or len(values) != count or values.dtype.kind not in "fiu":
            raise UserError(
                f"teacher file {self.file} holds {values.dtype} {values.shape}: give one row of "
                f"outputs per example, {count} rows in the order of the data"
            )
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"teacher file {self.file} holds values that are not finite")
        if self.settings.get("outputs") == "probabilities":
            values = self._logits(values, head)
        values = self._mapped(values)
        if values.shape[1] != num_outputs:
            raise UserError(
                f"teacher file {self.file} has {values.shape[1]} outputs, the data {num_outputs}: "
                "give one column per class, in the order of labels.json"
            )
        return values

    def _logits(self, shares: np.ndarray, head: str) -> np.ndarray:
        if shares.min() < 0 or shares.max() > 1 + 1e-3:
            raise UserError(f"teacher file {self.file} holds no probabilities: leave outputs out")
        tiny = np.finfo(np.float32).tiny
        logits = np.log(np.maximum(shares, tiny))
        return logits if head == "classes" else logits - np.log(np.maximum(1 - shares, tiny))

    def _mapped(self, values: np.ndarray) -> np.ndarray:
        mapping = self.settings.get("class_map")
        if mapping is None:
            return values
        known = [index for index in mapping if index is not None]
        if len(set(known)) < len(known) or not set(known) <= set(range(values.shape[1])):
            raise UserError(
                f"class_map of {self.file} is {mapping}: name each of its {values.shape[1]} "
                "outputs at most once, counted from 0"
            )
        from aekd_tf.outputs import UNKNOWN

        columns = [
            np.full(len(values), UNKNOWN, np.float32) if index is None else values[:, index]
            for index in mapping
        ]
        return np.stack(columns, axis=1)


def _preprocessing(file: str, given: Any) -> Any:
    """Returns a layer or a function of a batch of inputs; None for none."""
    if given is None:
        return None
    import keras

    if isinstance(given, dict) and set(given) <= {"scale", "offset"}:
        return keras.layers.Rescaling(given.get("scale", 1.0), given.get("offset", 0.0))
    if not isinstance(given, str) or ":" not in given:
        raise UserError(
            f"preprocessing of {file} is {given!r}: give {{'scale': s, 'offset': o}}, or "
            "'module:function'"
        )
    module, _, name = given.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"preprocessing of {file}, {given!r}, is not there ({error})") from error


def read(path: str) -> list[Entry]:
    """Reads the file; paths in it are relative to its folder.

    Raises:
        UserError: no such file, other content, an unknown key.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError) as error:
        raise UserError(f"teachers_file {path} cannot be read ({error})") from error
    listed = content.get("teachers") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed or set(content) != {"teachers"}:
        raise UserError(f'teachers_file {path} must hold {{"teachers": [{{"file": ...}}, ...]}}')
    entries: list[Entry] = []
    for index, given in enumerate(listed):
        where = f"teachers_file {path}, teacher {index}"
        if not isinstance(given, dict) or not isinstance(given.get("file"), str):
            raise UserError(f"{where} has no file: give the path of a .keras or a .npy file")
        unknown = [key for key in given if key not in _KEYS]
        if unknown:
            raise UserError(f"{where}: unknown key {unknown[0]!r}, give {', '.join(_KEYS)}")
        file = os.path.join(
            os.path.dirname(os.path.abspath(path)), os.path.expanduser(given["file"])
        )
        if not file.endswith((".keras", ".npy")):
            raise UserError(f"{where}: {given['file']} is neither a .keras nor a .npy file")
        if not os.path.exists(file):
            raise UserError(f"{where}: {file} does not exist")
        wrong = [key for key in given if file.endswith(".npy") and key not in _OF_ARRAYS]
        if wrong:
            raise UserError(f"{where}: {wrong[0]} is for models, {given['file']} holds outputs")
        if given.get("outputs", "logits") not in TEACHER_OUTPUTS:
            raise UserError(f"{where}: outputs must be one of {', '.join(TEACHER_OUTPUTS)}")
        base = os.path.splitext(os.path.basename(file))[0]
        name = given.get("name") or base
        if name in {entry.name for entry in entries}:
            name = f"{name}_{index}"
        settings = {key: value for key, value in given.items() if key not in ("file", "name")}
        if isinstance(settings.get("input_size"), list):
            settings["input_size"] = tuple(settings["input_size"])
        entries.append(Entry(os.path.normpath(file), name, settings))
    return entries
