"""The frozen teachers and their vote."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_choice
from aekd_tf.data.user_data import batches
from aekd_tf.monitoring.reprs import Words, counted, repr_of
from aekd_tf.names import HEAD_TITLES, HEADS, VOTES
from aekd_tf.outputs import squashing
from aekd_tf.refusals import refusal
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.forwards import Forwards, own
from aekd_tf.teachers.readiness import check_built, check_models
from aekd_tf.teachers.votes import accuracies, errors, of_labels, vote_scores


class TeacherEnsemble:
    """Runs M trained models in inference mode, and counts their votes.

    The ensemble is not a Keras layer, so that a model that holds it neither trains nor saves
    the teachers as its own.

    Args:
        teachers: Keras models from the same inputs to logits or values `[B, ..., K]`; one need
            not be in a list.
        vote: `"majority"`, one vote per teacher and ties broken by mean probability ("Ens" in
            the paper's tables), or `"mean"`, the mean of the probabilities. For regression
            both are the mean.
        head: what the outputs are: `"classes"`, `"labels"` (logits of independent labels; one
            logit `[B, 1]`, too) or `"regression"`.
        pending: whether the teachers' weights are yet to be loaded.

    Raises:
        TypeError: teachers that are no models at all.
        ValueError: no teacher; a teacher that is not a Keras model, that was never built, or
            that ends in a softmax or sigmoid; an unknown vote.

    Example::

        import keras
        import numpy as np
        from aekd_tf import TeacherEnsemble

        def network():
            return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

        x, y = np.random.rand(20, 4), np.random.randint(0, 3, 20)
        ensemble = TeacherEnsemble([network(), network(), network()])
        print(ensemble.predict(x).argmax(-1).shape)  # (20,)
        print(sorted(ensemble.evaluate(x, y)))  # ['majority_vote', 'mean_probability', 'teachers']
    """

    def __init__(
        self,
        teachers: keras.Model | Iterable[keras.Model],
        vote: str = "majority",
        *,
        head: str = "classes",
        pending: bool = False,
    ):
        check_choice("head", head, (*HEADS, "any"))
        self.head = head
        models = check_models(teachers)
        for index, teacher in enumerate(models):
            if not pending:
                check_built(index, teacher)
            _check_ending(index, teacher, head)
        check_choice("vote", vote, VOTES)
        self.vote = vote
        self._teachers = tuple(models)
        # Whether the weights are yet to be loaded: a configuration has none.
        self._pending = pending and any(model.variables for model in models)
        self._forwards, self._among_others = Forwards(), False
        self.traced_logits = tf.function(self.logits, autograph=False)

    def _shown(self) -> dict[str, Any]:
        vote, head = Words(repr(self.vote)), Words(repr(self.head))
        return {"teachers": counted(self, "model"), "vote": vote, "head": head}

    __repr__ = repr_of

    @property
    def pending(self) -> bool:
        """Whether the teachers' weights are yet to be loaded."""
        return self._pending

    def share(self, forwards: Forwards) -> None:
        """Traces with other ensembles: their teachers of one architecture share a graph."""
        self._forwards, self._among_others = forwards, True

    def loaded(self) -> None:
        """Notes that the teachers' weights are loaded."""
        self._pending = False

    @property
    def specialists(self) -> bool:
        """Whether a teacher does not know some of the classes."""
        return any(getattr(teacher, "specialist", False) for teacher in self)

    def settle(self, loss: str, head: str) -> None:
        """Takes the head that a loss and the first labels show, if none was given.

        Raises:
            ValueError: another head was given.
        """
        if self.head == "any":
            self.head = head
        if self.head != head:
            raise refusal("head_mismatch", loss=loss, expected=HEAD_TITLES[head], head=self.head)

    def __len__(self) -> int:
        return len(self._teachers)

    def __getitem__(self, index: int) -> keras.Model:
        return self._teachers[index]

    def __iter__(self) -> Iterator[keras.Model]:
        return iter(self._teachers)

    def logits(self, inputs: Any) -> tf.Tensor:
        """Returns every teacher's outputs in inference mode, `[M, B, ..., K]` float32.

        Raises:
            ValueError: teachers whose class counts differ; the message names each shape.
        """
        return self._stacked([self._run(teacher, inputs)[0] for teacher in self])

    def logits_and_features(
        self, inputs: Any, layers: Sequence[Sequence[keras.layers.Layer]]
    ) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
        """Returns `logits` and feature maps, from one forward pass per teacher.

        Args:
            inputs: the batch.
            layers: per hint, one layer of each of the M teachers.

        Returns:
            `logits`, and M feature maps per hint.
        """
        outputs, maps = [], []
        for index, teacher in enumerate(self):
            output, features = self._run(teacher, inputs, [each[index] for each in layers])
            outputs.append(output)
            maps.append([tf.stop_gradient(part) for part in features])
        return self._stacked(outputs), [list(each) for each in zip(*maps, strict=True)]

    @tf.autograph.experimental.do_not_convert
    def _run(
        self, teacher: keras.Model, inputs: Any, layers: Sequence[keras.layers.Layer] = ()
    ) -> tuple[Any, list[tf.Tensor]]:
        """Returns a teacher's outputs in inference mode and those of its layers."""
        if tf.executing_eagerly() and not self._among_others:
            return own(teacher, inputs, layers)
        run = self._forwards.shared if self._alike(teacher) else own
        return run(teacher, inputs, layers)

    def raw_outputs(self, index: int, inputs: Any) -> Any:
        """Returns what a model gives, before a `TeacherAdapter` makes logits of it."""
        run = self._forwards.shared if self._alike(self[index]) else own
        return run(self[index], inputs, raw=True)[0]

    def _alike(self, teacher: keras.Model) -> bool:
        """Returns whether another teacher can share a graph with this one."""
        if self._among_others:
            return True
        kinds = [self._forwards.kind(each) for each in self]
        return kinds.count(self._forwards.kind(teacher)) > 1

    def _stacked(self, outputs: Sequence[Any]) -> tf.Tensor:
        outputs = [tf.convert_to_tensor(output) for output in outputs]
        shapes = [output.shape for output in outputs]
        if self.head == "classes" and any(s.rank and s[-1] == 1 for s in shapes):
            raise refusal("one_class", loss="kl")
        least = 2 if self.head == "classes" else 1
        known = all(s.rank >= 2 and s[-1] is not None and s[-1] >= least for s in shapes)
        if not known or not all(s[1:].is_compatible_with(shapes[0][1:]) for s in shapes):
            named = ", ".join(f"{t.name} {tuple(s)}" for t, s in zip(self, shapes, strict=True))
            raise ValueError(
                f"teachers must all give logits [batch, classes], K > 1, got {named}"
                if self.head == "classes"
                else f"teachers must all give outputs [batch, ..., K] of one shape, got {named}"
            )
        return tf.stop_gradient(tf.stack([tf.cast(output, tf.float32) for output in outputs]))

    def __call__(self, inputs: Any) -> tf.Tensor:
        """Returns the scores of the ensemble's vote, `[B, ..., K]`, as `vote_scores` has them."""
        return vote_scores(self.logits(inputs), self.head)[self.vote]

    def predict(self, x: Any, batch_size: int = 128) -> np.ndarray:
        """Returns the vote's scores, `[N, ..., K]`, for inputs in any form that `fit` takes."""
        logits = (self.traced_logits(inputs) for inputs, _, _ in batches(x, batch_size=batch_size))
        return np.concatenate(
            [vote_scores(batch, self.head)[self.vote].numpy() for batch in logits]
        )

    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 128, top_k: int | None = None
    ) -> dict[str, Any]:
        """Computes how good every teacher and both votes are, in one pass.

        Args:
            x: inputs in any form that `fit` takes: arrays, also in a list or dict, or batches
                `(inputs, labels)` of a `tf.data.Dataset`, a `PyDataset` or a generator. Positions
                of dense outputs whose sample weight is zero do not count.
            y: None if the batches bring them. For classes, labels `[N, ...]` integer or
                `[N, ..., K]` one-hot; for labels, `[N, K]` of 0 and 1; for regression, `[N, K]`.
            batch_size: images per forward pass, for arrays.
            top_k: k of a second accuracy, which counts an answer as right if the label is among
                its k best classes; None for none.

        Returns:
            For classes `{"teachers": [M accuracies], "majority_vote": a,
            "mean_probability": a}`, each from 0 to 1; with `top_k=5` also `"teachers_top5"` and
            so on. For independent labels the same, as means over the labels, and
            `"teachers_auc"` and so on; `"per_label"` and `"per_label_auc"` hold K figures each.
            For regression `{"teachers": [M root mean squared errors], "mean": r}`.

        Raises:
            ValueError: no labels, or labels that do not fit the head; a teacher whose outputs
                are probabilities.
        """

        # Graphs that are shared with other ensembles are traced already.
        traced = self._among_others and None not in map(self._forwards.kind, self)
        run = self.logits if traced else self.traced_logits

        def outputs_and_labels() -> Iterator[Any]:
            for inputs, labels, weight in batches(x, y, batch_size):
                if labels is None:
                    raise ValueError(
                        "evaluate requires labels: give y, or a dataset of (inputs, labels)"
                    )
                outputs = run(inputs)
                if self.head == "any":
                    classes = np.asarray(labels).dtype.kind in "iu" and outputs.shape[-1] > 1
                    self.head = "classes" if classes else "regression"
                yield outputs, labels, weight

        names = [teacher.name for teacher in self]
        found = outputs_and_labels()
        first = next(found, None)  # a head that was not given shows in the labels
        found = itertools.chain([] if first is None else [first], found)
        if self.head in ("classes", "any"):
            return accuracies(found, names, top_k)
        return (of_labels if self.head == "labels" else errors)(found)


def _check_ending(index: int, teacher: keras.Model, head: str) -> None:
    """Refuses a teacher whose graph shows that its outputs are no logits."""
    if head not in ("classes", "labels"):
        return
    adapted = isinstance(teacher, TeacherAdapter)
    declared = teacher.outputs_kind if adapted else "logits"
    model = teacher.model if adapted else teacher
    kind = teacher.ending if adapted else squashing(model)
    if kind == "sigmoid" and head == "classes":
        classes = getattr(model, "output_shape", (None,))[-1]
        raise refusal("teacher_sigmoid", index=index, name=teacher.name, classes=classes)
    if kind == "softmax" and head == "labels":
        raise refusal("teacher_softmax_of_labels", index=index, name=teacher.name)
    if kind is not None and declared == "logits":
        raise refusal("teacher_probabilities", index=index, name=teacher.name)
