"""Trains a network by a recipe: one resumable `fit` with a progress bar and TensorBoard logs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import random
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.checks import parse_interval
from aekd_tf.data.dataset import Dataset
from aekd_tf.data.pipeline import evaluation_pipeline, steps_per_epoch, training_pipeline
from aekd_tf.export.fake_quantization import FakeQuantization
from aekd_tf.export.freezing import FreezeRanges
from aekd_tf.keras_private import flatten_layers
from aekd_tf.monitoring.progress import ProgressBar
from aekd_tf.monitoring.tensorboard import DistillationTensorBoard
from aekd_tf.teachers.ensemble import TeacherEnsemble
from aekd_tf.training.best_epoch import BestEpoch
from aekd_tf.training.checkpoint import CheckpointError
from aekd_tf.training.heads import HEADS, Head
from aekd_tf.training.optimizer import SGDWithL2
from aekd_tf.training.resume import DivergedError, Resumable
from aekd_tf.training.stop import SIGNALS

# Numbers of one example times parameters, up to which a step takes little time. This bounds the
# multiplications for an example, and so how long a call cannot be stopped.
_TINY = 2e7
# Longer executions gain nothing.
_MOST_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of one network's training, and the place of its state.

    Attributes:
        label: title of the progress bar.
        epochs: number of epochs.
        batch_size: images per step, over all devices.
        seed: seed of the order and of the augmentation.
        learning_rate: learning rate of SGD at the start.
        milestones: shares of the epochs, each between 0 and 1, after which the learning rate
            falls to a tenth.
        l2: weight decay, as part of the gradient.
        checkpoint: file that the training's state is saved to and restored from.
        identity: what the training is; a checkpoint of another training is refused.
        checkpoint_every: steps or time between two checkpoints, see `parse_interval`.
        log_dir: directory of TensorBoard's files; None writes none.
        jit_compile: whether XLA compiles whole steps.
        steps_per_execution: steps per call of the compiled function; None for as many as divide
            an epoch if a step is tiny, since Keras then takes longer between two steps than
            for one, and else for one.
        progress: whether a bar is shown.
    """

    label: str
    epochs: int
    batch_size: int
    seed: int
    learning_rate: float
    milestones: tuple[float, ...]
    l2: float
    checkpoint: str
    identity: dict[str, Any]
    checkpoint_every: str
    log_dir: str | None = None
    jit_compile: bool = False
    steps_per_execution: int | None = None
    progress: bool = True


def start_reproducibly(seed: int, jit_compile: bool, traced: bool = False) -> None:
    """Seeds everything and, without XLA, asks for deterministic kernels.

    With `traced`, functions of an earlier training of the package's own networks serve again.
    These draw by no seed of TensorFlow's, and setting it would optimize each of them anew, which
    takes as long as fifty steps of a tiny network.
    """
    if traced:
        random.seed(seed)
        np.random.seed(seed)
    else:
        keras.utils.set_random_seed(seed)
    if not jit_compile:
        tf.config.experimental.enable_op_determinism()


def train(
    model: keras.Model,
    network: keras.Model,
    dataset: Dataset,
    training: Training,
    views: dict[str, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[dict[str, list[float]], BestEpoch]:
    """Trains `model` and returns the history of all epochs and the best epoch.

    Args:
        model: the model to fit: `network` itself, or a distiller around it. A compiled model
            starts anew from its current weights and with a fresh optimizer state. Its traces
            are reused, so the settings must be those of the first time.
        network: the network that is trained.
        dataset: data set from `data.load`.
        training: settings of the training.
        views: further arguments of `data.training_pipeline`.
        callbacks: more callbacks for `fit`.

    Returns:
        Lists of figures by name, one entry per epoch, and the best epoch on the validation
        split. Without validation examples there are no validation figures and no best epoch.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another training.
        DivergedError: the loss is not finite.
    """
    steps = steps_per_epoch(dataset, training.batch_size)
    head = HEADS[dataset.head]
    best = BestEpoch(network, head.metric, head.sign)
    every = parse_interval(training.checkpoint_every)
    try:
        resumable = Resumable(
            training.checkpoint, training.identity, best, steps, training.epochs, every
        )
        # A checkpoint may be of any step of an epoch, whose rest must be whole executions.
        execution = math.gcd(_execution(model, network, dataset, training), steps - resumable.step)
        _compile(model, training, steps, head, execution)
        _build(model, dataset)
        _fit(model, dataset, training, views or {}, resumable, callbacks)
    except (CheckpointError, DivergedError) as error:
        raise type(error)(f"{training.label}: {error}") from error
    return resumable.history, best


def execution(steps: int, most: int = _MOST_STEPS) -> int:
    """Returns the most steps per execution, up to `most`, that divide an epoch."""
    return max(n for n in range(1, min(steps, most) + 1) if steps % n == 0)


def _execution(
    model: keras.Model, network: keras.Model, dataset: Dataset, training: Training
) -> int:
    """Returns the steps per execution that were asked for, or that suit a training."""
    if training.steps_per_execution is not None:
        return training.steps_per_execution
    several = model.distribute_strategy.num_replicas_in_sync > 1  # see `GlobalBatch`
    # Ranges stand still from one execution on, see `FreezeRanges`.
    ranges = any(isinstance(layer, FakeQuantization) for layer in flatten_layers(model))
    teachers = getattr(model, "teachers", None)
    networks = [network, *(teachers if isinstance(teachers, TeacherEnsemble) else ())]
    parameters = sum(math.prod(v.shape) for each in networks for v in each.variables)
    if several or ranges or math.prod(dataset.image_shape) * parameters > _TINY:
        return 1
    between, _ = parse_interval(training.checkpoint_every)
    steps = steps_per_epoch(dataset, training.batch_size)
    return execution(steps, min(between or _MOST_STEPS, _MOST_STEPS))


def _compile(
    model: keras.Model, training: Training, steps: int, head: Head, execution: int
) -> None:
    if model.compiled:
        if model.steps_per_execution != execution:
            model.steps_per_execution = execution
            model.train_function = model.test_function = None
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        return
    epochs = training.epochs
    boundaries = sorted({max(1, round(share * epochs)) * steps for share in training.milestones})
    rates = [training.learning_rate * 0.1**power for power in range(len(boundaries) + 1)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    with model.distribute_strategy.scope():
        model.compile(
            optimizer=SGDWithL2(schedule, momentum=0.9, nesterov=True, l2=training.l2),
            loss=head.loss(),
            metrics=[head.make_metric()],
            jit_compile=training.jit_compile,
            steps_per_execution=execution,
        )


def _build(model: keras.Model, dataset: Dataset) -> None:
    if not model.built:
        with model.distribute_strategy.scope():
            model.build((None, *dataset.image_shape))
    if model.distribute_strategy is tf.distribute.get_strategy():  # none, or Keras builds them
        # Metrics and optimizer create their variables, which a checkpoint may hold, on first use.
        # A first step that creates variables is traced twice.
        outputs = tf.zeros([1, dataset.num_classes])
        labels = tf.zeros([1], tf.int64) if dataset.head == "classes" else outputs
        model.compute_metrics(None, labels, outputs)
        model.optimizer.build(model.trainable_variables)


def _fit(
    model: keras.Model,
    dataset: Dataset,
    training: Training,
    views: dict[str, Any],
    resumable: Resumable,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    steps, epochs, log_dir = resumable.steps_per_epoch, training.epochs, training.log_dir
    held_out = dataset.validation
    writes = model.distribute_strategy.extended.should_save_summary  # in a cluster only the chief
    if log_dir and not resumable.position and writes:
        # Logs without a checkpoint are left from a training that was interrupted early.
        shutil.rmtree(log_dir, ignore_errors=True)
    bar = ProgressBar(training.label, steps * epochs, resumable.position, training.progress)
    logs = [DistillationTensorBoard(log_dir)] if log_dir else []
    with SIGNALS.held(), contextlib.closing(bar):
        # One `fit` finishes an interrupted epoch, which has fewer steps; one does the others.
        for until in sorted({min(resumable.epoch + (resumable.step > 0), epochs), epochs}):
            if resumable.epoch >= until:
                continue
            pipeline = functools.partial(
                training_pipeline,
                dataset,
                batch_size=training.batch_size,
                epochs=until,
                seed=training.seed,
                first_epoch=resumable.epoch,
                first_step=resumable.step,
                **views,
            )
            freezing = FreezeRanges(epochs, steps, resumable.step)
            model.fit(
                _distributed(pipeline, model.distribute_strategy),
                initial_epoch=resumable.epoch,
                epochs=until,
                steps_per_epoch=steps - resumable.step,
                shuffle=False,
                validation_data=evaluation_pipeline(dataset, held_out) if len(held_out) else None,
                callbacks=[resumable.best, bar, *logs, *callbacks, freezing, resumable],
                verbose=0,
            )


def _distributed(pipeline: Callable[..., Any], strategy: tf.distribute.Strategy) -> Any:
    """Returns the batches of `pipeline`, split among the replicas."""
    total = strategy.num_replicas_in_sync
    if total == 1:
        return pipeline()

    def of_worker(context: tf.distribute.InputContext) -> Any:
        count = total // context.num_input_pipelines
        return pipeline(replicas=(context.input_pipeline_id * count, count, total))

    return strategy.distribute_datasets_from_function(of_worker)
