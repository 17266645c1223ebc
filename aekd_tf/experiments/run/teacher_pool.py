"""Prepares the teachers of a run: their files, models or cached outputs, and scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from aekd_tf import data
from aekd_tf.cache.batches import CachedTeachers
from aekd_tf.cache.teacher_cache import TeacherCache
from aekd_tf.cache.teacher_source import TeacherSource
from aekd_tf.cache.views import Views
from aekd_tf.experiments.command import output, strategies
from aekd_tf.experiments.command.config import Config
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.run import scores, teachers
from aekd_tf.experiments.run.dataset import load_own
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.experiments.run.teachers import Teacher, Trainer
from aekd_tf.files import sha256
from aekd_tf.teachers.forwards import Forwards
from aekd_tf.teachers.identity import teacher_digest
from aekd_tf.terms.hints import Hints
from aekd_tf.training.heads import HEADS


@dataclasses.dataclass(frozen=True)
class Caches:
    """The teachers' outputs on disk, for views of the training images and for other images.

    `validation` is None if no method chooses weights on validation images, or if there are none.
    """

    training: TeacherCache
    test: TeacherCache
    validation: TeacherCache | None = None


@dataclasses.dataclass(frozen=True)
class TeacherPool:
    """The teachers of a run.

    Attributes:
        files: place and settings of each teacher.
        models: the teachers; None if their cached outputs replace them.
        caches: the cached outputs; None without a cache.
        digests: one SHA-256 per teacher, which identifies it.
        scores: test accuracy of the teachers and of their votes.
        forwards: graphs that networks of one architecture share.
        sources: what `fill` computes missing outputs from; empty once it has.
    """

    files: list[Teacher]
    models: list[keras.Model] | None
    caches: Caches | None
    digests: list[str]
    scores: dict[str, Any]
    forwards: Forwards
    sources: list[Any]

    @property
    def teachers(self) -> list[keras.Model] | CachedTeachers:
        """Returns what a distiller takes as teachers; without models the cache must be filled."""
        if self.models is not None:
            return self.models
        assert self.caches is not None
        return self.caches.training.teachers

    def fill(self, config: Config, dataset: data.Dataset) -> None:
        """Computes the missing outputs for the training images; once, since it drops models.

        Graphs that students can share stay, unless each would keep a teacher of its own alive.
        """
        if self.caches is not None:
            for cache in (self.caches.training, self.caches.validation):
                if cache is not None:
                    fill(config, dataset, self.files, cache, self.sources)
            self.sources.clear()
            if self.forwards.architectures > 1:
                self.forwards.clear()


def caches_of(config: Config, dataset: data.Dataset) -> Caches | None:
    """Returns the caches of a configuration; None if it has none."""
    if not config.cache_views:
        return None
    views = Views(
        config.cache_views,
        config.view_seed or 0,
        config.cache_dtype,
        config.cache_top_k,
        config.temperature,
    )
    if config.retrains and isinstance(dataset.train, data.StreamedSplit):
        # Another part of a set on disk is read in another order.
        raise UserError(
            f"the hint weight is chosen on a part of {dataset.name}, which the cache does not "
            "know: give --validation_examples, or --cache_views=0"
        )
    directory, size = config.cache_dir, config.batch_size
    stored = hints_of(config) if config.cache_hints else None
    chosen = any(METHODS[method].held_out for method in config.methods)

    head = HEADS[dataset.head].ensemble

    def whole(split: str) -> TeacherCache:
        return TeacherCache(
            directory, dataset, Views(1, dtype="float32"), size, split=split, head=head
        )

    try:
        return Caches(
            TeacherCache(directory, dataset, views, size, stored, head=head),
            whole("test"),
            whole("validation") if chosen and len(dataset.validation) else None,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def hints_of(config: Config) -> Hints:
    """Returns the hints of a configuration."""
    student, *teacher_layers = config.hint_layers
    return Hints(student, teacher_layers or student, config.hint_first_epoch, config.hint_pooling)


def cache_name(dataset: str, teacher: Teacher) -> str:
    """Returns the name of a teacher's files in a cache of a data set of this name."""
    return f"{dataset.replace('/', '_')}_{teacher.name}"


def fill(
    config: Config,
    dataset: data.Dataset,
    files: list[Teacher],
    cache: TeacherCache,
    sources: list[Any],
) -> list[str]:
    """Computes the missing outputs of a cache and returns the teachers' digests.

    `sources` are the teachers in the form that the cache takes; a user's own are read anew,
    since outputs that were saved belong to a split.

    Raises:
        UserError: a teacher that does not fit the cache.
        CacheError: a file of the cache that must not be used.
    """
    output.make_directory(config.cache_dir, "--cache_dir")
    names = [cache_name(cache.dataset_name, teacher) for teacher in files]
    try:
        with output.locked(config.cache_dir, "--cache_dir"):
            # The chief computes the missing outputs first, so that the others find them.
            if not strategies.is_chief():
                strategies.wait_for_all()
            given = sources
            if config.data:  # they may have to be adapted
                given = [_own_teacher(t, dataset, config, cache.split) for t in files]
            cache.fill(given, names)
            if strategies.is_chief():
                strategies.wait_for_all()
    except ValueError as error:
        raise UserError(str(error)) from error
    return cache.digests


def _own_teacher(teacher: Teacher, dataset: data.Dataset, config: Config, split: str) -> Any:
    """Returns a model, or its outputs for a split."""
    if teacher.entry is None or not teacher.entry.is_array:
        return teachers.load(teacher, dataset, config)
    places = load_own(config).places
    count = sum(len(each) for each in places.values())
    return teacher.entry.outputs(count, dataset.num_classes, dataset.head)[places[split]]


def prepare(
    config: Config,
    dataset: data.Dataset,
    files: list[Teacher],
    total: int,
    *,
    with_models: bool,
    trainer: Trainer = teachers.train,
) -> TeacherPool:
    """Trains the teachers that are missing and scores all of them.

    Args:
        config: configuration of the run.
        dataset: data set of the run.
        files: the teachers.
        total: number of trainings, for the labels of progress bars.
        with_models: whether the models are needed even with a cache.
        trainer: function that trains one teacher.
    """
    caches, models, forwards = caches_of(config, dataset), None, Forwards()
    sources: list[Any] = []
    if caches is not None:
        trained = teachers.train_missing(config, dataset, files, total, trainer)
        if config.data or strategies.strategy(config.strategy).num_replicas_in_sync > 1:
            trained = {}  # are read anew; their variables are spread over the replicas
        trust = config.trust_teachers
        if not config.data:
            sources = [
                TeacherSource(t.path, forwards, not trust, trained.get(t.path)) for t in files
            ]
        digests = fill(config, dataset, files, caches.test, sources)
        arrays = [t.entry is not None and t.entry.is_array for t in files]
        digests = [  # of all rows of saved outputs, not of the test's alone
            sha256(t.path) if array else digest
            for t, array, digest in zip(files, arrays, digests, strict=True)
        ]
    if caches is None or with_models:
        models = teachers.train_or_load(config, dataset, files, total, trainer)
        digests = [teacher_digest(model) for model in models]
    accuracies = scores.evaluate(dataset, files, models, caches.test if caches else None)
    return TeacherPool(files, models, caches, digests, accuracies, forwards, sources)


def announce(config: Config, dataset: data.Dataset, pool: TeacherPool) -> None:
    """Prints how much disk the teachers' outputs take, and of a set on disk how much time."""
    assert pool.caches is not None
    cache = pool.caches.training
    streamed = isinstance(dataset.train, data.StreamedSplit)
    first = None
    models = [t for t in pool.files if t.entry is None or not t.entry.is_array]
    if (config.cache_hints or streamed) and models:
        first = teachers.load(models[0], dataset, config)
    selection = "" if config.cache_top_k is None else f", the {config.cache_top_k} largest logits"
    time = ""
    missing = sum(
        not cache.holds(each.path, cache_name(dataset.name, each), index, len(pool.files))
        for index, each in enumerate(pool.files)
    )
    if first is not None and streamed and missing:
        time = f", about {duration(missing * cache.seconds_each(first))} to compute"
    print(
        f"teachers' outputs: {len(pool.files)} x {cache.bytes_each(first) / 1e6:.1f} MB in "
        f"{config.cache_dir} ({config.cache_views} views of {len(dataset.train)} examples, "
        f"{config.cache_dtype}{selection}){time}",
        flush=True,
    )


def duration(seconds: float) -> str:
    """Returns a time in words, to two digits at most."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
