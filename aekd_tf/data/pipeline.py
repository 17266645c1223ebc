"""Gives batches of images, or other inputs, that can be replayed exactly.

No function here has control flow on tensors. Autograph would take seconds to find that out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aekd_tf.data.augmentation import augment, normalize
from aekd_tf.data.dataset import Dataset, Split
from aekd_tf.data.examples import Examples
from aekd_tf.data.streaming import StreamedSplit


def training_pipeline(
    dataset: Dataset,
    *,
    batch_size: int,
    epochs: int,
    seed: int | None,
    first_epoch: int = 0,
    first_step: int = 0,
    views: int | None = None,
    view_seed: int | None = None,
    teacher_outputs: Callable[[Any, Any], Any] | None = None,
    replicas: tuple[int, int, int] = (0, 1, 1),
) -> Any:
    """Gives shuffled, augmented `(images, labels)` batches, all epochs one after the other.

    Every epoch ends with a smaller batch if the batch size does not divide the training set.
    Use with `fit(..., steps_per_epoch=steps_per_epoch(dataset, batch_size))`.

    Args:
        dataset: data set from `load`.
        batch_size: images per step.
        epochs: the epoch to stop before.
        seed: seed of the order and, without `view_seed`, of the augmentation; None for the
            examples in order, with a `view_seed`.
        first_epoch: the epoch to begin with, to resume; its batches are the same as in a
            run from the start.
        first_step: the step of that epoch to begin with.
        views: augmented views per example; epoch e shows view e mod `views`. None shows a new
            view every epoch.
        view_seed: seed of the augmentation alone.
        teacher_outputs: `TeacherCache.read`; the batches are then
            `({"inputs": images, "teacher_logits": [B, M, K]}, labels)`, with hints also
            `"teacher_features"`.
        replicas: `(first, count, total)`, for the batch parts of `count` of `total` replicas,
            from number `first` on. The parts come one after the other. Some are empty if a
            batch has fewer images than there are replicas.

    Returns:
        `tf.data.Dataset` of `(float32 [B, ...], int64 [B])`, normalized.

    Raises:
        ValueError: neither `seed` nor `view_seed`.

    Example::

        from aekd_tf import data

        digits = data.load("digits", train_examples=200)
        batches = data.training_pipeline(digits, batch_size=64, epochs=2, seed=0)
        print([len(labels) for images, labels in batches])  # [64, 64, 64, 8, 64, 64, 64, 8]
    """
    import tensorflow as tf

    view_seed = seed if view_seed is None else view_seed
    if view_seed is None:
        raise ValueError("seed is None: give view_seed, the seed of the augmentation")
    if isinstance(dataset.train, StreamedSplit):
        return example_batches(
            dataset.train.examples(),
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            view_seed=view_seed,
            first_epoch=first_epoch,
            first_step=first_step,
            views=views,
            teacher_outputs=teacher_outputs,
            replicas=replicas,
        )
    show = _view(dataset)
    count = len(dataset.train)

    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch):
        order = tf.range(count)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed=[seed, epoch * 2])
        view = epoch if views is None else epoch % views
        draws = _draws(count, view_seed, view)
        indices = _parts(tf.data.Dataset.from_tensor_slices(order).batch(batch_size), *replicas)
        return indices.map(lambda index: (index, tf.gather(draws, index), view))

    @tf.autograph.experimental.do_not_convert
    def examples(index, draws, view):
        images, labels = show(index, draws)
        if teacher_outputs is None:
            return images, labels
        return {"inputs": images, **teacher_outputs(view, index)}, labels

    epoch_numbers = tf.data.Dataset.range(first_epoch, epochs, output_type=tf.int32)
    pipeline = epoch_numbers.flat_map(one_epoch).skip(first_step * replicas[1])
    pipeline = pipeline.map(examples, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(pipeline.prefetch(tf.data.AUTOTUNE))


def example_batches(
    examples: Examples,
    *,
    batch_size: int,
    epochs: int,
    seed: int | None,
    view_seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    views: int | None = None,
    teacher_outputs: Callable[[Any, Any], Any] | None = None,
    replicas: tuple[int, int, int] = (0, 1, 1),
) -> Any:
    """Gives batches of numbered examples, as `training_pipeline`; in order if `seed` is None."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch):
        view = epoch if views is None else epoch % views
        shown = examples.epoch(seed, epoch, view_seed, view).batch(batch_size)
        return _parts(shown, *replicas).map(lambda numbers, batch: (numbers, batch, view))

    @tf.autograph.experimental.do_not_convert
    def joined(numbers, batch, view):
        if teacher_outputs is None:
            return batch
        inputs, *others = batch
        return ({"inputs": inputs, **teacher_outputs(view, numbers)}, *others)

    epoch_numbers = tf.data.Dataset.range(first_epoch, epochs, output_type=tf.int32)
    pipeline = epoch_numbers.flat_map(one_epoch).skip(first_step * replicas[1])
    steps = max(epochs - first_epoch, 0) * -(-examples.count // batch_size) - first_step
    pipeline = pipeline.apply(tf.data.experimental.assert_cardinality(steps * replicas[1]))
    return untuned(pipeline.map(joined).prefetch(2))


def untuned(pipeline: Any) -> Any:
    """Returns the pipeline without TensorFlow's tuning thread.

    Whoever drops an iterator waits for that thread: up to a minute. Nor does it take more and more
    memory for what is read ahead.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return pipeline.with_options(options)


def _parts(batches: Any, first: int, count: int, total: int) -> Any:
    """Splits every batch into `total` parts, and gives `count` of them from `first` on.

    The sizes of the parts differ by at most one.
    """
    import tensorflow as tf

    if total == 1:
        return batches

    @tf.autograph.experimental.do_not_convert
    def parts(*batch):
        size = tf.shape(tf.nest.flatten(batch)[0])[0]

        def part(number):
            begin, end = size * number // total, size * (number + 1) // total
            cut = tf.nest.map_structure(lambda tensor: tensor[begin:end], batch)
            return cut if len(cut) > 1 else cut[0]

        return tf.data.Dataset.range(first, first + count, output_type=tf.int32).map(part)

    return batches.flat_map(parts)


def view_pipeline(dataset: Dataset, views: Sequence[int], view_seed: int, batch_size: int) -> Any:
    """Gives batches of augmented images, view by view, each view with all examples in order.

    Args:
        dataset: data set in memory, from `load`.
        views: numbers of the views, such as `range(5)`.
        view_seed: seed of the augmentation.
        batch_size: images per batch; a batch may go from one view on to the next.

    Returns:
        `tf.data.Dataset` of float32 `[B, ...]`, normalized.

    Example::

        from aekd_tf import data

        digits = data.load("digits", train_examples=200)
        batches = data.view_pipeline(digits, views=range(3), view_seed=0, batch_size=100)
        print([len(images) for images in batches])  # [100, 100, 100, 100, 100, 100]
    """
    import tensorflow as tf

    show = _view(dataset)
    count = len(dataset.train)

    @tf.autograph.experimental.do_not_convert
    def one_view(view):
        examples = tf.range(count), _draws(count, view_seed, view)
        return tf.data.Dataset.from_tensor_slices(examples).batch(batch_size)

    @tf.autograph.experimental.do_not_convert
    def images(index, draws):
        return show(index, draws)[0]

    numbers = tf.data.Dataset.from_tensor_slices(tf.constant(views, tf.int32))
    pipeline = numbers.flat_map(one_view).map(images)
    return untuned(pipeline.prefetch(tf.data.AUTOTUNE))


def _draws(count: int, view_seed: int, view: Any) -> Any:
    """Draws random numbers for all examples.

    Row i is example i's, whatever its batch and however many examples follow it. The first
    examples alone therefore have the same views, which a cache of all examples holds.
    """
    import tensorflow as tf

    return tf.random.stateless_uniform([count, 3], seed=[view_seed, view * 2 + 1])


def _view(dataset: Dataset) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Returns a function from example numbers `[B]` and draws `[B, 3]` to images and labels."""
    import tensorflow as tf

    assert isinstance(dataset.train, Split)
    with tf.device("CPU"):
        images = tf.constant(dataset.train.images)
        labels = tf.constant(dataset.train.labels)

    def show(index, draws):
        batch = augment(tf.gather(images, index), draws, dataset.crop_padding, dataset.flip)
        return normalize(batch, dataset), tf.gather(labels, index)

    return show


def evaluation_pipeline(
    dataset: Dataset, split: Split | StreamedSplit, batch_size: int = 256
) -> Any:
    """Gives normalized `(images, labels)` batches of a split, in order, not augmented.

    Args:
        dataset: data set whose statistics are used.
        split: one of its splits.
        batch_size: images per batch; the last batch may have fewer.

    Returns:
        `tf.data.Dataset` of `(float32 [B, ...], int64 [B])`.

    Example::

        from aekd_tf import data

        digits = data.load("digits")
        images, labels = next(iter(data.evaluation_pipeline(digits, digits.test)))
        print(images.shape, labels.shape)  # (256, 8, 8, 1) (256,)
    """
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def normalized(images, labels):
        return normalize(images, dataset), labels

    if isinstance(split, StreamedSplit):
        pipeline = split.evaluation_pipeline(batch_size)
    else:
        pipeline = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        pipeline = pipeline.batch(batch_size)
        pipeline = pipeline.map(normalized)
        pipeline = pipeline.cache().prefetch(tf.data.AUTOTUNE)
    # Each worker of a cluster must take its part of every batch.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return untuned(pipeline.with_options(options))


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Returns the number of batches per epoch of `training_pipeline`.

    Args:
        dataset: data set from `load`.
        batch_size: images per step, at least 1.

    Example::

        from aekd_tf import data

        digits = data.load("digits", train_examples=200)
        print(data.steps_per_epoch(digits, batch_size=64))  # 4
    """
    return -(-len(dataset.train) // batch_size)
