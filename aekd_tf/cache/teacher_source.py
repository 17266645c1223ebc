"""A teacher as a cache sees it: a model, a file that is loaded when needed, or its outputs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf import files
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.teachers.forwards import Forwards
from aekd_tf.teachers.identity import teacher_digest, value_digest
from aekd_tf.terms.hints import Hints, find_layer
from aekd_tf.terms.pooling import pooled


class TeacherSource:
    """A teacher that is a model, or a file that is loaded when it is needed.

    Args:
        teacher: the model, or the path of its `.keras` file.
        forwards: graphs that teachers of one architecture share.
        safe_mode: whether to refuse a file with Python code in it.
        model: the model in the file, if it is in memory already.
    """

    def __init__(
        self,
        teacher: keras.Model | str,
        forwards: Forwards,
        safe_mode: bool = True,
        model: keras.Model | None = None,
    ):
        self._teacher, self._safe_mode, self._forwards = teacher, safe_mode, forwards
        self._given = model if isinstance(teacher, str) else teacher

    @functools.cached_property
    def file(self) -> str | None:
        """SHA-256 of the file; None without one. Another worker may write it after this is made."""
        return files.sha256(self._teacher) if isinstance(self._teacher, str) else None

    @functools.cached_property
    def model(self) -> keras.Model:
        """The model, which is loaded here if it is in a file."""
        if self._given is not None:
            return self._given
        return keras.models.load_model(self._teacher, compile=False, safe_mode=self._safe_mode)

    def release(self) -> None:
        """Drops a model that was loaded here: one teacher's memory, however many there are."""
        if self._given is None:
            self.__dict__.pop("model", None)

    def digest(self, manifests: Sequence[dict[str, Any]]) -> str:
        """Returns the teacher's digest, without loading a file that the manifests know."""
        known = {str(content.get("teacher")) for content in manifests}
        if self.file and len(known) == 1 and all(c.get("file") == self.file for c in manifests):
            return known.pop()
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return teacher_digest(self.model)

    def forward(self, head: str, layers: Sequence[str] = (), hints: Sequence[Hints] = ()) -> Any:
        """Returns a traced function of a batch's inputs: outputs, then a pooled map per hint."""
        ensemble = TeacherEnsemble([self.model], head=head)
        ensemble.share(self._forwards)
        found = [[find_layer(self.model, layer)] for layer in layers]

        def forward(inputs: Any) -> list[tf.Tensor]:
            if not layers:
                return [ensemble.logits(inputs)[0]]
            logits, maps = ensemble.logits_and_features(inputs, found)
            pairs = zip(maps, hints, strict=True)
            pooled_maps = [pooled(features[0], each.pooling) for features, each in pairs]
            return [logits[0], *(tf.cast(features, tf.float32) for features in pooled_maps)]

        alike = self._forwards.kind(self.model) is not None  # and so traced already
        return forward if alike else tf.function(forward, autograph=False)


class OutputsSource:
    """A teacher of another library, of which there are only outputs `[N, ..., K]`."""

    file = None

    def __init__(self, outputs: np.ndarray):
        self.outputs = outputs

    def release(self) -> None:
        """Does nothing: the outputs are the caller's."""

    def digest(self, manifests: Sequence[dict[str, Any]]) -> str:
        """Returns the outputs' digest."""
        return hashlib.sha256(value_digest(self.outputs).encode()).hexdigest()


def as_source(teacher: Any, forwards: Forwards, safe_mode: bool) -> TeacherSource | OutputsSource:
    """Returns a model, a path, or outputs as a source; a source as it is."""
    if isinstance(teacher, (TeacherSource, OutputsSource)):
        return teacher
    if isinstance(teacher, np.ndarray):
        return OutputsSource(teacher)
    return TeacherSource(teacher, forwards, safe_mode)
