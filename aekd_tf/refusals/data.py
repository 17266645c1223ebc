"""Refusals of data, caches and backends."""

from __future__ import annotations

from aekd_tf.refusals.base import BackendError, Refusal

DATA = {
    "not_a_dataset": Refusal(
        "TeacherCache takes arrays (inputs, labels), a tf.data.Dataset, a PyDataset or a "
        "data.Dataset, not a {kind}: make one of these of your data",
        "The cache must know every example's number, and how it is augmented.",
        TypeError,
    ),
    "data_without_name": Refusal(
        "a {kind} has no name: give TeacherCache(..., name='photos') one",
        "Its content is not read to tell it from another one, so its name stands for it.",
    ),
    "data_name": Refusal(
        "name is {name!r}: give a name that a file can begin with, without / and outer spaces",
        "The cache's files begin with it.",
    ),
    "unequal_lengths": Refusal(
        "the arrays have {lengths} examples: give all of them the same number",
        "Inputs and labels would not belong together.",
    ),
    "no_examples": Refusal(
        "{name} has no examples: give at least one",
        "There is nothing to compute or to train on.",
    ),
    "endless_data": Refusal(
        "{name} has no end: give it without repeat(); cache.dataset(..., epochs=40) repeats it",
        "The cache stores something per example, so their number must be known.",
    ),
    "batched_data": Refusal(
        "{name} gives batches: give single examples, without batch(); cache.dataset makes batches",
        "An augmentation and a cached output belong to one example.",
    ),
    "sparse_data": Refusal(
        "{name} gives sparse or ragged tensors: give dense ones",
        "They cannot be stored and compared example by example.",
    ),
    "augmentation_kind": Refusal(
        "augmentation is a {kind}: give a function of one example's inputs and a seed",
        "A cache compares its code, to know outputs for other views from its own.",
        TypeError,
    ),
    "augmentation_random": Refusal(
        "{name} gives something else each time for one seed: use TensorFlow's stateless functions, "
        "such as tf.image.stateless_random_flip_left_right(image, seed)",
        "The student would see other views than those that the teachers' outputs belong to.",
    ),
    "augmentation_twice": Refusal(
        "{name} brings its own augmentation: leave augmentation out, or give its arrays instead",
        "Only one of the two would be applied.",
    ),
    "views_alike": Refusal(
        "views are {count}, without an augmentation: give Views(1), or an augmentation",
        "All views would be the same, and as many forward passes wasted.",
    ),
    "split_of_own_data": Refusal(
        "split is {split!r}: give these examples a cache of their own",
        "Only a data.Dataset has splits.",
    ),
    "cache_part": Refusal(
        "part is {part}: give (i, n) with 0 <= i < n, the i-th of n shares",
        "A share that does not exist would leave outputs out.",
    ),
    "cache_empty": Refusal(
        "the cache is empty: call fill first, without part, to compute what is missing",
        "There are no outputs to read, or only a share of them.",
    ),
    "cached_shapes": Refusal(
        "teacher {name} gives outputs {shape}, the first one {other}: give teachers of one shape",
        "Their outputs could not be compared.",
    ),
    "cached_classes": Refusal(
        "teacher {name} gives outputs {shape}, but {data} has {classes} classes: give a teacher of "
        "these classes, or wrap it in TeacherAdapter(class_map=...)",
        "Outputs are compared class by class.",
    ),
    "outputs_of_views": Refusal(
        "teacher {name} is an array of outputs, but the cache has views or hints: give Views(1) "
        "without augmentation and hints",
        "The outputs belong to the inputs as they are.",
    ),
    "outputs_count": Refusal(
        "teacher {name} has {given} rows of outputs for {count} examples: give one per example",
        "Rows would belong to other examples.",
    ),
    "cached_range": Refusal(
        "teacher {name} gives values up to {value}, beyond float16: give Views(dtype='float32')",
        "Greater values would be cut off in the file.",
    ),
    "not_arrays": Refusal(
        "the data set is a tuple of {kinds}: give arrays (inputs, labels), or with sample weights",
        "Lists of numbers have no dtype, and weights without labels have no meaning.",
        TypeError,
    ),
    "labels_missing": Refusal(
        "{name} has sample weights without labels: give labels, too",
        "The weights would be taken for labels.",
    ),
    "batches_differ": Refusal(
        "batch {index} of {name} is {found}, the first one {first}: give all batches one dtype",
        "Its values would be converted to the first batch's dtype, and cut.",
    ),
    "arrays_changed": Refusal(
        "the arrays of {name} have changed since fill: make a new TeacherCache of them",
        "The teachers' outputs belong to other inputs.",
    ),
    "epochs_begin_anew": Refusal(
        "the data hold {held} epochs of cache.dataset, and epochs={epochs} would begin them anew "
        "each time: give cache.dataset(..., epochs={epochs}) and fit(..., steps_per_epoch=...)",
        "Every epoch would have the first one's order and views.",
    ),
    "same_name": Refusal(
        "names holds {name!r} twice: each teacher requires a name of its own",
        "The files of one teacher would be read for the other.",
    ),
    "labels_not_zero_one": Refusal(
        "labels of shape {shape} are not all 0 or 1: give one of both per example and label",
        "Independent labels are on or off.",
    ),
    "targets_shape": Refusal(
        "labels have shape {shape}, outputs {outputs}: give one value per output",
        "Other shapes would be compared with another output.",
    ),
    "labels_not_classes": Refusal(
        "labels are {dtype} {shape}: give one integer per example, or one-hot rows over {classes} "
        "classes",
        "Accuracy compares the best class with a label.",
    ),
    "backend": Refusal(
        "aekd_tf requires Keras on TensorFlow, but the backend is {backend}: set "
        "KERAS_BACKEND=tensorflow before Python starts",
        "The training step and the solver are written in TensorFlow.",
        BackendError,
    ),
}
