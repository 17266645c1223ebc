"""Trains small distillers under one strategy and writes what came out, for test_replicas.py.

Two replicas, on two logical CPU devices or in two worker processes (TF_CONFIG), see the
batches that one device sees. A process of its own, as a strategy wants one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import aekd_tf
from tools.commands import main as experiment
from tools.small_runs import small_runs
from tools.weightings import Together

CLASSES = 5
# Each: settings of the distiller, of the optimizer, examples, with sample weights.
# 27 = 3 * 8 + 3 and 28 leave the second replica without examples, 29 = 3 * 8 + 5 with one.
CASES = {
    "full_hints": (
        {
            "weighting": "full",
            "hints": [aekd_tf.Hints("stage2"), aekd_tf.Hints("stage1", weighting="as_outputs")],
            "hint_weight": [2.0, 0.5],
        },
        *({}, 27, False),
    ),
    # Ranges are those of the global batch.
    "quantize_aware": ({"weighting": "mean", "hints": "stage2", "hint_weight": 2.0}, {}, 27, True),
    "parameters": (
        {"weighting": "mean", "gradient_space": "parameters"},
        {"global_clipnorm": 0.05, "weight_decay": 0.01},
        *(29, True),
    ),
    "averaged": (
        {"weighting": "outputs"},
        {"use_ema": True, "clipnorm": 0.05, "loss_scale_factor": 64.0},
        *(29, True),
    ),
    # Weights per example.
    "labels": (
        {
            "weighting": "per_example",
            "distillation_loss": "binary_kl",
            "student_loss_weight": 0.1,
        },
        {"reduction": "sum"},
        *(29, True),
    ),
    "dense": ({"weighting": "mean"}, {}, 27, True),
    # Several at once; each keeps what it said among the variables.
    "weightings": ({"weighting": "together"}, {}, 28, True),
    # Chosen on validation data, which every worker reads whole.
    "stacked": ({"weighting": "stacked"}, {}, 27, True),
    "overflow": ({"weighting": "mean"}, {"loss_scaled": True}, 29, True),
    "overflow_clipped": (
        {"weighting": "mean"},
        {"loss_scaled": True, "clipvalue": 0.5},
        *(29, True),
    ),
}
# What differs between two worker processes and two devices: data, chief, logs, evaluation.
OF_WORKERS = ("stacked", "overflow_clipped")
# The step is what differs between the others.
EVALUATED = ("stacked", "full_hints")
# On images, with convolutions; the others have dense networks, which are traced in less time.
ON_MAPS = ("full_hints", "dense", "quantize_aware")
# So large a sample weight overflows when the loss is scaled, on the second replica alone.
OVERFLOWING = 8 + 6, 1e37


class PerExample(aekd_tf.Weighting):
    """Weights of its own per example, and a mean over all replicas' examples."""

    needs = ("losses",)

    def weights(self, signals):
        mean = signals.batch_mean(signals.losses)
        return tf.nn.softmax(-signals.losses - mean[:, None], 0)


def network(seed: int, width: int, case: str = "") -> keras.Model:
    """Makes a student of a case, with batch norm and a loss of its own."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    if case not in ON_MAPS:
        x = layers.Dense(width, use_bias=False, kernel_regularizer="l2")(layers.Flatten()(inputs))
        x = layers.BatchNormalization(synchronized=True, momentum=0.9)(x)
        return keras.Model(inputs, layers.Dense(CLASSES)(x))
    x = layers.Conv2D(width, 3, 2, use_bias=False, name="stage1")(inputs)
    x = layers.BatchNormalization(synchronized=True, momentum=0.9)(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(width, 3, padding="same", kernel_regularizer="l2", name="stage2")(x)
    if case != "dense":
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def teacher(seed: int, width: int, case: str) -> keras.Model:
    """Makes a teacher of a case, of few layers, since a step traces all teachers."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    if case not in ON_MAPS:
        return keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(inputs)))
    x = layers.Conv2D(width, 3, 2, activation="relu", name="stage1")(inputs)
    x = layers.Conv2D(width, 3, padding="same", name="stage2")(x)
    if case != "dense":
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def batches(name: str, examples: int, weighted: bool) -> tf.data.Dataset:
    rng = np.random.default_rng(7)
    content = [
        rng.normal(size=(examples, 8, 8, 1)).astype(np.float32),
        rng.integers(0, CLASSES, examples),
    ]
    overflow = name.startswith("overflow")
    if name == "labels":
        content[1] = rng.integers(0, 2, (examples, CLASSES)).astype(np.float32)
    if name == "dense":
        content[1] = rng.integers(0, CLASSES, (examples, 3, 3))
        content.append(rng.integers(0, 2, (examples, 3, 3)).astype(np.float32))
    elif weighted:
        weights = rng.uniform(0.5, 2, examples).astype(np.float32)
        if overflow:
            weights[OVERFLOWING[0]] = OVERFLOWING[1]
        content.append(weights)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(tuple(content)).batch(8).with_options(options)


def distiller(settings: dict, optimizer: dict, case: str = "") -> aekd_tf.EnsembleDistiller:
    settings = dict(settings)
    kind = settings.pop("weighting")
    if kind == "per_example":
        weighting = PerExample()
    elif kind == "together":
        weighting = Together()
    elif kind == "outputs":
        weighting = aekd_tf.UniformWeighting(kind)
    elif kind == "stacked":
        weighting = kind
    else:
        weighting = aekd_tf.AdaptiveWeighting(0.7, batch_gradient=kind)
    student = network(0, 4, case)
    if case == "quantize_aware":
        student = aekd_tf.quantize_aware(student)
    teachers = [teacher(1 + index, 4 + index, case) for index in range(2)]
    keras.utils.set_random_seed(11)  # of the regressors
    model = aekd_tf.EnsembleDistiller(student, teachers, weighting=weighting, **settings)
    optimizer = dict(optimizer)
    scaled = optimizer.pop("loss_scaled", False)
    reduction = optimizer.pop("reduction", "sum_over_batch_size")
    compile_options = optimizer.pop("compile", {})
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.02])
    sgd = keras.optimizers.SGD(schedule, momentum=0.9, **optimizer)
    model.compile(
        optimizer=keras.optimizers.LossScaleOptimizer(sgd) if scaled else sgd,
        loss=(
            keras.losses.BinaryCrossentropy(from_logits=True, reduction=reduction)
            if settings.get("distillation_loss") == "binary_kl"
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        ),
        metrics=["accuracy"],
        **compile_options,
    )
    return model


REFUSED = {
    "jit_compile": {"compile": {"jit_compile": True}},
    "steps_per_execution": {"compile": {"steps_per_execution": 2}},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "ema_overwrite_frequency": {"use_ema": True, "ema_overwrite_frequency": 2},
    "mean_with_sample_weight": {"reduction": "mean_with_sample_weight"},
}


def refusals(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """What is said to each thing that several replicas cannot do."""
    found = {}
    for name, optimizer in REFUSED.items():
        with strategy.scope():
            model = distiller({"weighting": "mean"}, optimizer)
        try:
            model.fit(batches("refused", 8, False), verbose=0)
        except ValueError as error:
            found[f"refused/{name}"] = np.array(str(error))
    return found


def train(strategy: tf.distribute.Strategy, name: str) -> dict[str, np.ndarray]:
    """By name: final weights, the history, of some also what evaluations and predictions say."""
    settings, optimizer, examples, weighted = CASES[name]
    with strategy.scope():
        model = distiller(settings, optimizer, name)
    data = batches(name, examples, weighted)
    validation = data if name in EVALUATED else None
    history = model.fit(
        data, epochs=2, validation_data=validation, verbose=0, shuffle=False
    ).history
    found = {f"history/{key}": np.asarray(value) for key, value in history.items()}
    for index, variable in enumerate(model.variables):
        found[f"weight/{index}"] = keras.ops.convert_to_numpy(variable)
    found["iterations"] = keras.ops.convert_to_numpy(model.optimizer.iterations)
    if optimizer.get("loss_scaled"):
        found["scale"] = keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)
    if name in EVALUATED:
        for key, value in model.evaluate(data, verbose=0, return_dict=True).items():
            found[f"evaluate/{key}"] = np.asarray(value)
        found["predict"] = model.predict(data.map(lambda *batch: batch[0]), verbose=0)
    return found


def trained(strategy: tf.distribute.Strategy, cases: Iterable[str]) -> dict[str, np.ndarray]:
    """By case and name: what `train` returns."""
    return {
        f"{case}/{key}": value for case in cases for key, value in train(strategy, case).items()
    }


def two_devices() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def command(arguments: list[str]) -> int:
    """Runs the digits experiment; its exit code."""
    if "--strategy=mirrored" in arguments:
        two_devices()
    with small_runs():
        return experiment("digits", arguments)


def main(kind: str, directory: Path) -> None:
    """Trains the cases of a strategy and writes `PID.npz`."""
    if kind == "mirrored":
        two_devices()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert strategy.num_replicas_in_sync == 2
    found = trained(strategy, CASES if kind == "mirrored" else OF_WORKERS)
    if kind == "mirrored":
        found |= refusals(strategy)
    np.savez(directory / f"{os.getpid()}.npz", **found)
