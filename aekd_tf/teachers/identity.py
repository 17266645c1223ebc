"""Tells one teacher from another, in memory or in a file that need not be loaded."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras

from aekd_tf import files
from aekd_tf.keras_private import flatten_layers
from aekd_tf.teachers.adapter import TeacherAdapter


class TeacherSource:
    """A teacher that is a model, or a file that is loaded when it is needed.

    Attributes:
        file: SHA-256 of the file; None for a model.
    """

    def __init__(self, teacher: keras.Model | str, safe_mode: bool = True):
        self._teacher, self._safe_mode = teacher, safe_mode
        self.file = files.sha256(teacher) if isinstance(teacher, str) else None

    @functools.cached_property
    def model(self) -> keras.Model:
        """Returns the model, and loads it when it is first needed."""
        if isinstance(self._teacher, str):
            return keras.models.load_model(self._teacher, compile=False, safe_mode=self._safe_mode)
        return self._teacher

    def digest(self, manifests: Sequence[dict[str, Any]]) -> str:
        """Returns `teacher_digest`, without loading a file whose digest all manifests know."""
        known = {str(content.get("teacher")) for content in manifests}
        if self.file and len(known) == 1 and all(c.get("file") == self.file for c in manifests):
            return known.pop()
        return teacher_digest(self.model)


def teacher_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights and adapters, which identifies a teacher."""
    content = hashlib.sha256()
    for part in (model, *flatten_layers(model)):
        if isinstance(part, TeacherAdapter):
            settings = {**part.get_config(), "model": None}
            content.update(json.dumps(_without_names(settings), sort_keys=True).encode())
    for weight in model.get_weights():
        content.update(repr((weight.shape, weight.dtype)).encode())
        content.update(weight.tobytes())
    return content.hexdigest()


def _without_names(config: Any) -> Any:
    """Removes names, which Keras numbers anew, and build shapes from a configuration."""
    if isinstance(config, dict):
        left_out = ("name", "build_config", "shared_object_id")
        return {key: _without_names(v) for key, v in config.items() if key not in left_out}
    return [_without_names(v) for v in config] if isinstance(config, (list, tuple)) else config
