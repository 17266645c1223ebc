"""The base of weightings, which turn what a step knows into teacher weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.refusals import refusal
from aekd_tf.signals import FIELDS, Signals

if TYPE_CHECKING:
    from aekd_tf.weightings.held_out import HeldOut


class Weighting:
    """Weights the teachers: the base of all weightings, whose subclasses override `weights`.

    A distiller calls it at every step with the `Signals` of the batch.

    Attributes:
        needs: names of the fields of `Signals` that `weights` reads.
        batch_gradient: `"mean"` or `"full"`, how gradients are reduced over the batch for
            `signals.gram`.
        example_gram: whether `signals.gram` is `[B, M, M]`, of each example's own gradients
            without sample weights.
        shared: whether hints take the weights of the outputs, if both have this weighting.
        leaves_graph: True if XLA cannot compile the weighting.
        reads_at: the temperature at which it softens the teachers' outputs, None if it does not.
            A top-k cache is right at one temperature alone.
        values: weights `[M]`, or `[K, M]` by class, that are the same in all steps; None otherwise.

    Example::

        import numpy as np
        import tensorflow as tf
        from aekd_tf import Signals, Weighting

        class Closest(Weighting):  # teachers that the student agrees with
            needs = ("losses",)
            def weights(self, signals):
                return tf.nn.softmax(-signals.batch_mean(signals.losses))

        signals = Signals(live=np.ones(2, bool), losses=np.array([[0.0], [2.0]]))
        weights, diagnostics = Closest()(signals)
        print(weights.numpy().round(2))  # [0.88 0.12]
    """

    needs: tuple[str, ...] = ("gram",)
    batch_gradient: str = "mean"
    example_gram: bool = False
    shared: bool = False
    leaves_graph: bool = False
    reads_at: float | None = None
    values: np.ndarray | None = None

    def weights(self, signals: Signals) -> Any:
        """Returns the weights, at least 0, that sum to 1 over the teachers.

        Args:
            signals: the fields that `needs` lists.

        Returns:
            `[M]` or `[M, B]`, or `(weights, diagnostics)`, such as `{"qp_gap": gap}`. The
            weights of teachers that are not live are ignored. A weighting with a state also
            returns `{"state": {...}}`, what `signals.state` is to be at the next step.
        """
        raise NotImplementedError

    def initial_state(self, num_teachers: int) -> dict[str, np.ndarray]:
        """Returns what the weighting keeps from step to step, as it is before the first one.

        A distiller holds it in variables, which it saves and restores, separately for each term.
        `weights` reads `signals.state` and returns the next state. Only training steps keep it:
        validation leaves it as it is.

        Returns:
            Arrays by name, equal on all replicas; empty without a state.
        """
        return {}

    def __call__(self, signals: Signals) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns weights among the live teachers, and diagnostics.

        The weight of a teacher that is not live is zero. Its weight is shared among the live
        teachers in proportion. All weights are zero if no teacher is live.

        Returns:
            `[M]` or `[M, B]` float32 without a gradient, and `{"qp_gap": []}`, which is 0
            without a program; with a state also `"state"`, the next one.

        Raises:
            ValueError: weights of another shape; the message names the class.
        """
        if not isinstance(signals, Signals):
            raise refusal("not_signals", name=type(self).__name__, kind=type(signals).__name__)
        live = tf.convert_to_tensor(signals.live)
        if signals.state is None:
            start = self.initial_state(live.shape[0])
            state = {name: tf.constant(value) for name, value in start.items()}
            signals = dataclasses.replace(signals, state=state)
        found = self.weights(signals)
        weights, diagnostics = found if isinstance(found, tuple) else (found, {})
        weights = tf.stop_gradient(tf.cast(tf.convert_to_tensor(weights), tf.float32))
        self._check_shape(weights.shape, live.shape[0], signals)
        return among_live(weights, live), {"qp_gap": tf.zeros([]), **diagnostics}

    def _check_shape(self, shape: tf.TensorShape, teachers: int, signals: Signals) -> None:
        expected = [teachers, signals.batch_size][: shape.rank or 0]
        if shape.rank not in (1, 2) or not shape.is_compatible_with(expected):
            raise refusal(
                "weights_shape",
                name=type(self).__name__,
                shape=str(tuple(shape)),
                teachers=teachers,
            )

    def check_values(self, signals: Signals) -> None:
        """Raises ValueError unless the weights of these signals are on the simplex."""
        found = self.weights(signals)
        weights = np.asarray(found[0] if isinstance(found, tuple) else found, np.float64)
        self._check_shape(tf.TensorShape(weights.shape), signals.live.shape[0], signals)
        if not np.asarray(signals.live).all():
            return
        sums = weights.sum(0)
        if not (
            np.isfinite(weights).all()
            and weights.min() >= -1e-5
            and np.allclose(sums, 1, atol=1e-3)
        ):
            raise refusal(
                "weights_off_simplex",
                name=type(self).__name__,
                least=f"{weights.min():.4g}",
                total=f"{sums.flat[np.argmax(np.abs(sums - 1))]:.4g}",
            )

    @property
    def description(self) -> str:
        """Returns the weighting's name and its settings that are not the default, for messages."""
        return repr(self)

    __repr__ = repr_of

    def attach(self, steps: Callable[[], Any]) -> None:
        """Prepares the weighting for training, in a distiller's scope.

        `steps` returns the number of optimizer steps, for schedules.
        """

    def validate(self, num_teachers: int) -> None:
        """Raises ValueError if this weighting cannot serve `num_teachers` teachers."""

    def check_temperature(self, cached: float | None) -> None:
        """Raises ValueError unless it can read outputs that are right at one temperature alone.

        `cached` is that temperature of a top-k cache; None for outputs that are right at any.
        """
        if cached is not None and self.reads_at not in (None, cached):
            raise refusal(
                "top_k_weighting",
                name=type(self).__name__,
                reads=f"{self.reads_at:g}",
                cached=f"{cached:g}",
            )

    @property
    def choice(self) -> str | None:
        """Returns in one line what it has chosen and why; None if it makes no choice."""
        return None

    def prepare(self, held_out: HeldOut) -> bool:
        """Chooses weights on `fit`'s validation data, before the first step.

        Returns:
            Whether what it computes has changed, so that the step must be traced anew.

        Raises:
            ValueError: no validation data, and the weighting cannot do without.
        """
        return False

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Weighting:
        return cls(**config)


def check_interface(weighting: Weighting) -> None:
    """Raises ValueError for a subclass that does not fit `Weighting`."""
    kind = type(weighting)
    for name in ("__call__", "among"):
        if getattr(kind, name, None) is not getattr(Weighting, name, None):
            raise refusal("old_weighting", name=kind.__name__, method=name)
    if kind.weights is Weighting.weights:
        raise refusal("weighting_without_weights", name=kind.__name__)
    needs = weighting.needs
    unknown = [name for name in needs if name not in FIELDS]
    if isinstance(needs, str) or unknown:
        given = needs if isinstance(needs, str) else unknown[0]
        raise refusal("weighting_needs", name=kind.__name__, given=given, fields=", ".join(FIELDS))


def check_space(weighting: Weighting, gradient_space: str) -> None:
    """Raises ValueError if gradients w.r.t. parameters are asked for, but not read."""
    unread = weighting.needs and "gram" not in weighting.needs
    if gradient_space == "parameters" and (unread or weighting.example_gram):
        raise refusal("space_not_used", name=type(weighting).__name__)


def among_live(weights: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
    """Returns `weights [M]` or `[M, B]` with those of teachers that are not live shared."""
    mask, uniform = live, uniform_among(live)
    if weights.shape.rank == 2:
        mask, uniform = live[:, None], uniform[:, None]
    kept = tf.where(mask, weights, 0.0)
    total = tf.reduce_sum(kept, 0)
    shared = tf.where(total > 0, tf.math.divide_no_nan(kept, total), uniform)
    return tf.where(tf.reduce_all(live), weights, shared)


def uniform_among(live: tf.Tensor) -> tf.Tensor:
    """Returns `[M]` float32: 1 / (number of live teachers) for those, zero for the others."""
    mask = tf.cast(live, tf.float32)
    return mask / tf.maximum(tf.reduce_sum(mask), 1.0)
