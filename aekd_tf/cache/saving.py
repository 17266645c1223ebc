"""The teachers of a distiller, live or cached, as part of its configuration."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras

from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.keras_private import without_optimizer
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import untrained_config
from aekd_tf.teachers.ensemble import TeacherEnsemble


def teachers_config(teachers: TeacherEnsemble | CachedTeachers) -> dict[str, Any]:
    """Returns what a configuration says of the teachers."""
    if isinstance(teachers, CachedTeachers):
        return {"cached_teachers": dataclasses.asdict(teachers)}
    return {
        "teachers": [untrained_config(teacher) for teacher in teachers],
        "vote": teachers.vote,
        "head": teachers.head,
    }


def teachers_from_config(
    config: dict[str, Any], custom_objects: Any = None
) -> TeacherEnsemble | CachedTeachers:
    """Takes the teachers out of a configuration that `teachers_config` is part of."""
    if "cached_teachers" in config:
        return CachedTeachers(**config.pop("cached_teachers"))
    models = [
        keras.saving.deserialize_keras_object(teacher, custom_objects)
        for teacher in config.pop("teachers")
    ]
    return TeacherEnsemble(
        models, vote=config.pop("vote"), head=config.pop("head", "classes"), pending=True
    )


class SavedWithTeachers(keras.Model):
    """A model that is saved with its teachers, which Keras does not know as its own."""

    _ensemble: TeacherEnsemble | CachedTeachers

    # Not a property: Keras tracks and saves the models that it sees in properties.
    def _teacher_models(self) -> list[keras.Model]:
        return [] if isinstance(self._ensemble, CachedTeachers) else list(self._ensemble)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves student, teachers and regressors in a `.keras` file."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise refusal("h5", path=filepath)
        self.get_config()  # what it refuses must not cost a file that is there
        super().save(filepath, *args, **kwargs)

    # Keras calls the next two for a whole-model file only, never for `save_weights`.
    def save_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self._teacher_models()):
            path = os.path.join(inner_path, f"teacher_{index}.weights.h5")
            with without_optimizer(teacher):
                teacher.save_weights(path)

    def load_assets(self, inner_path: str) -> None:
        for index, teacher in enumerate(self._teacher_models()):
            teacher.load_weights(os.path.join(inner_path, f"teacher_{index}.weights.h5"))
        if isinstance(self._ensemble, TeacherEnsemble):
            self._ensemble.loaded()
