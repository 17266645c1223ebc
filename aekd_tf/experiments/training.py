"""The recipe of section 4.1: optimizer, learning rate schedule, one `fit`."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf import data
from aekd_tf.callbacks import BestEpoch, DistillationTensorBoard, ProgressBar
from aekd_tf.checkpoint import CheckpointError
from aekd_tf.checks import parse_interval
from aekd_tf.ensemble import TeacherEnsemble
from aekd_tf.experiments import strategies
from aekd_tf.experiments.config import Config, UserError, family, recipe
from aekd_tf.resume import SIGNALS, DivergedError, Resumable


@keras.saving.register_keras_serializable("aekd_tf")
class SGDWithL2(keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient, and so of the momentum.

    The recipe's 5e-4 means this. Keras's own `weight_decay` is decoupled: with momentum
    0.9 it would be about ten times weaker.

    Args:
        l2: coefficient of the variable in its gradient.
        **kwargs: of `keras.optimizers.SGD`.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        variable_value = keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient + self.l2 * variable_value, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


def start_reproducibly(seed: int, jit_compile: bool) -> None:
    """Seeds everything and asks for deterministic kernels, which XLA does not take orders on."""
    keras.utils.set_random_seed(seed)
    if not jit_compile:
        tf.config.experimental.enable_op_determinism()


def load_data(config: Config) -> data.Dataset:
    """The data set that `config` asks for.

    Raises:
        UserError: more examples are asked for than there are.
        DataError: the data set cannot be had.
    """
    # The chief prepares a set that is not there yet, for the others to find.
    if not strategies.is_chief():
        strategies.wait_for_all()
    try:
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            train_examples=config.train_examples,
            validation_examples=config.validation_examples,
            image_size=config.image_size,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if strategies.is_chief():
        strategies.wait_for_all()
    return dataset


def check_steps(config: Config, dataset: data.Dataset) -> None:
    """Refuses executions that would run across the end of an epoch, with UserError."""
    steps = data.steps_per_epoch(dataset, config.batch_size)
    if steps % config.steps_per_execution:
        divisors = [str(number) for number in range(1, steps + 1) if steps % number == 0]
        raise UserError(
            f"steps_per_execution is {config.steps_per_execution} but an epoch has {steps} steps: "
            f"give one of {', '.join(divisors)}"
        )


def train(
    model: keras.Model,
    network: keras.Model,
    dataset: data.Dataset,
    *,
    label: str,
    epochs: int,
    teacher: bool,
    batch_size: int,
    learning_rate: float,
    seed: int,
    log_dir: str | None,
    jit_compile: bool = False,
    steps_per_execution: int = 1,
    checkpoint: str,
    identity: dict[str, Any],
    checkpoint_every: str,
    views: dict[str, Any] | None = None,
    progress: bool = True,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[dict[str, list[float]], BestEpoch]:
    """Trains `model` by the recipe, with a progress bar and TensorBoard logs.

    Args:
        model: what is fitted: `network` itself, or a distiller around it. One that is compiled
            starts anew with the weights it has, and its optimizer with none of its past: what
            was traced serves again, so the settings must be those of the first time.
        network: the classifier that is trained.
        label: what the progress bar calls it.
        log_dir: of TensorBoard's files; none are written without.
        views: further arguments of `data.training_pipeline`.
        progress: whether a bar is shown.
        more_callbacks: of the `fit`.
        checkpoint: file that the training's state is saved to, and taken up from.
        identity: what the training is, for the checkpoint.
        checkpoint_every: see `parse_interval`.
        teacher: whether the teachers' recipe holds, or the students'.

    Returns:
        The history of all epochs by name, and the best epoch on the validation split.
    """
    steps = data.steps_per_epoch(dataset, batch_size)
    settings = recipe(dataset.name, network.name, teacher)
    boundaries = sorted({max(1, round(share * epochs)) * steps for share in settings["milestones"]})
    rates = [learning_rate * 0.1**power for power in range(len(boundaries) + 1)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    if model.compiled:
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
    else:
        with model.distribute_strategy.scope():
            model.compile(
                optimizer=SGDWithL2(schedule, momentum=0.9, nesterov=True, l2=settings["l2"]),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
                jit_compile=jit_compile,
                steps_per_execution=steps_per_execution,
            )
    if not model.built:
        with model.distribute_strategy.scope():
            model.build((None, *dataset.image_shape))
    if model.distribute_strategy is tf.distribute.get_strategy():  # none, or Keras builds them
        # Metrics have variables, which a checkpoint may hold, from their first use on.
        model.compute_metrics(None, tf.zeros([1], tf.int64), tf.zeros([1, dataset.num_classes]))
    best = BestEpoch(network)
    try:
        every = parse_interval(checkpoint_every)
        resumable = Resumable(checkpoint, identity, best, steps, epochs, every)
        done = resumable.position
        if log_dir and not done and strategies.is_chief():  # of a training that was interrupted
            shutil.rmtree(log_dir, ignore_errors=True)
        bar = ProgressBar(label, steps * epochs, done, progress)
        logs = [DistillationTensorBoard(log_dir)] if log_dir else []
        callbacks = [best, bar, *logs, *more_callbacks, resumable]
        with SIGNALS.held(), contextlib.closing(bar):
            # Of an epoch that was begun the rest, then the epochs to come.
            for until in sorted({min(resumable.epoch + (resumable.step > 0), epochs), epochs}):
                if resumable.epoch < until:
                    pipeline = functools.partial(
                        data.training_pipeline,
                        dataset,
                        batch_size=batch_size,
                        epochs=until,
                        seed=seed,
                        first_epoch=resumable.epoch,
                        first_step=resumable.step,
                        **(views or {}),
                    )
                    model.fit(
                        _distributed(pipeline, model.distribute_strategy),
                        initial_epoch=resumable.epoch,
                        epochs=until,
                        steps_per_epoch=steps - resumable.step,
                        shuffle=False,
                        validation_data=data.evaluation_pipeline(dataset, dataset.validation),
                        callbacks=callbacks,
                        verbose=0,
                    )
    except (CheckpointError, DivergedError) as error:
        raise UserError(f"{label}: {error}") from error
    return resumable.history, best


def _distributed(pipeline: Callable[..., Any], strategy: tf.distribute.Strategy) -> Any:
    """The batches of `pipeline`, of which each replica gets its part."""
    total = strategy.num_replicas_in_sync
    if total == 1:
        return pipeline()

    def of_worker(context: tf.distribute.InputContext) -> Any:
        count = total // context.num_input_pipelines
        return pipeline(replicas=(context.input_pipeline_id * count, count, total))

    return strategy.distribute_datasets_from_function(of_worker)


def top_k(dataset: data.Dataset) -> int | None:
    """5 where the paper reports top-5 accuracy beside top-1, else None."""
    return 5 if family(dataset.name) == "imagenet" and dataset.num_classes > 5 else None


def accuracy(
    network: keras.Model, dataset: data.Dataset, split: data.Split | data.StreamedSplit
) -> dict[str, float]:
    """`{"accuracy"}` on the split, from 0 to 1, with `top_k` also `{"accuracy_top5"}`."""
    scores = TeacherEnsemble([network]).evaluate(
        data.evaluation_pipeline(dataset, split), top_k=top_k(dataset)
    )
    return {
        name.replace("teachers", "accuracy"): values[0]
        for name, values in scores.items()
        if name.startswith("teachers")
    }
