"""The teachers of a distiller, live or cached, as part of its configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.teachers.adapter import untrained_config
from aekd_tf.teachers.ensemble import TeacherEnsemble


def teachers_config(teachers: TeacherEnsemble | CachedTeachers) -> dict[str, Any]:
    """Returns what a configuration says of the teachers."""
    if isinstance(teachers, CachedTeachers):
        return {"cached_teachers": dataclasses.asdict(teachers)}
    return {"teachers": [untrained_config(teacher) for teacher in teachers], "vote": teachers.vote}


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
    return TeacherEnsemble(models, vote=config.pop("vote"), pending=True)
