"""The frozen teachers and their vote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_choice
from aekd_tf.names import VOTES
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.folding import folded_batch_norm
from aekd_tf.teachers.votes import PROBABILITIES, accuracies, vote_scores
from aekd_tf.terms.capture import with_features


class TeacherEnsemble:
    """M trained classifiers, which run in inference mode only.

    The ensemble is not a Keras layer, so that a model that holds it neither trains nor saves
    the teachers as its own.

    Args:
        teachers: Keras models from the same inputs to logits `[B, K]`.
        vote: `"majority"`, one vote per teacher and ties broken by mean probability ("Ens" in
            the paper's tables), or `"mean"`, the mean of the softmax probabilities.

    Raises:
        ValueError: no teacher, a teacher that is not a Keras model or that ends in a softmax
            or sigmoid, an unknown vote.

    Example:

        ensemble = TeacherEnsemble([teacher_a, teacher_b, teacher_c])
        classes = ensemble.predict(images).argmax(-1)
        ensemble.evaluate(images, labels)["majority_vote"]
    """

    def __init__(self, teachers: Sequence[keras.Model], vote: str = "majority"):
        teachers = list(teachers)
        if not teachers:
            raise ValueError("an ensemble requires at least one teacher, got none")
        for index, teacher in enumerate(teachers):
            if not isinstance(teacher, keras.Model):
                raise ValueError(
                    f"teacher {index} is a {type(teacher).__name__}: give keras.Model objects"
                )
            if _gives_probabilities(teacher):
                raise ValueError(PROBABILITIES.format(index, teacher.name))
        check_choice("vote", vote, VOTES)
        self.vote = vote
        self._teachers = tuple(teachers)
        self._logits = tf.function(self.logits)

    def __len__(self) -> int:
        return len(self._teachers)

    def __getitem__(self, index: int) -> keras.Model:
        return self._teachers[index]

    def __iter__(self) -> Iterator[keras.Model]:
        return iter(self._teachers)

    def logits(self, inputs: Any) -> tf.Tensor:
        """Returns every teacher's logits in inference mode, `[M, B, K]` float32.

        Raises:
            ValueError: teachers whose class counts differ; the message names each shape.
        """
        return self._stacked([frozen(teacher, inputs) for teacher in self])

    def logits_and_features(
        self, inputs: Any, layers: Sequence[keras.layers.Layer]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns `logits` and M feature maps: the outputs of each teacher's layer in `layers`."""
        pairs = []
        for teacher, layer in zip(self, layers, strict=True):
            with folded_batch_norm(teacher, keep=[layer]):
                pairs.append(with_features(teacher, layer, inputs, training=False))
        return self._stacked([outputs for outputs, _ in pairs]), [
            tf.stop_gradient(features) for _, features in pairs
        ]

    def _stacked(self, outputs: Sequence[Any]) -> tf.Tensor:
        outputs = [tf.convert_to_tensor(output) for output in outputs]
        shapes = [output.shape for output in outputs]
        classes = shapes[0][-1]
        if any(s.rank != 2 or s[-1] != classes or s[-1] in (None, 1) for s in shapes):
            named = ", ".join(f"{t.name} {tuple(s)}" for t, s in zip(self, shapes, strict=True))
            raise ValueError(f"teachers must all give logits [batch, classes], K > 1, got {named}")
        return tf.stop_gradient(tf.stack([tf.cast(output, tf.float32) for output in outputs]))

    def __call__(self, inputs: Any) -> tf.Tensor:
        """Returns the scores of the ensemble's vote, `[B, K]`; their argmax is its answer."""
        return vote_scores(self.logits(inputs))[self.vote]

    def predict(self, x: Any, batch_size: int = 128) -> np.ndarray:
        """Returns the scores of the vote, `[N, K]`, for an array or a `tf.data.Dataset`."""
        if not isinstance(x, tf.data.Dataset):
            x = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
        inputs = x.map(lambda *batch: batch[0])
        logits = [self._logits(batch) for batch in inputs]
        return np.concatenate([vote_scores(batch)[self.vote].numpy() for batch in logits])

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 128, top_k: int | None = None
    ) -> dict[str, Any]:
        """Computes the accuracy of every teacher and of both votes, in one pass.

        Args:
            x: inputs `[N, ...]`, or a `tf.data.Dataset` of `(inputs, labels)` batches.
            y: integer labels `[N]`; None with a dataset.
            batch_size: images per forward pass, for arrays.
            top_k: k of a second accuracy, which counts an answer as right if the label is among
                its k best classes; None for none.

        Returns:
            `{"teachers": [M accuracies], "majority_vote": a, "mean_probability": a}`,
            each from 0 to 1; with `top_k=5` also `"teachers_top5"` and so on.

        Raises:
            ValueError: no labels, or labels that are not one integer per example; a teacher
                whose outputs are probabilities.
        """
        if not isinstance(x, tf.data.Dataset):
            if y is None:
                raise ValueError(
                    "evaluate requires labels: give y, or a dataset of (inputs, labels)"
                )
            x = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        elif not isinstance(x.element_spec, tuple) or len(x.element_spec) < 2:
            raise ValueError("evaluate requires labels: the dataset gives inputs alone")
        batches = ((self._logits(inputs), labels) for inputs, labels, *_ in x)
        return accuracies(batches, [teacher.name for teacher in self], top_k)


def frozen(teacher: keras.Model, inputs: Any) -> Any:
    """Returns a teacher's outputs in inference mode."""
    with folded_batch_norm(teacher):
        return teacher(inputs, training=False)


def _gives_probabilities(model: keras.Model) -> bool:
    if isinstance(model, TeacherAdapter):
        inner = _gives_probabilities(model.model)
        return inner if model.outputs_kind == "logits" else False
    if not model.layers:
        return False
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        return _gives_probabilities(last)
    activation = getattr(last, "activation", None)
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    return isinstance(last, keras.layers.Softmax) or activation in squashing
