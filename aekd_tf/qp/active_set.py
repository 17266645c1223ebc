"""The last part of the in-graph solver: an active-set method with second-order steps."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from aekd_tf.qp.algebra import accurate_matvec
from aekd_tf.qp.pairs import Number, noise, number, sum_of, times
from aekd_tf.qp.problem import Problem
from aekd_tf.qp.sweep import at, new_table, sweep

# Of the tolerance: what no single step promises to gain is not worth one.
LEAST_GAIN = 0.03

# Steps in a row that only exchange one teacher for another, before rounding is blamed.
MOST_IDLE = 4


class State(NamedTuple):
    """What a step carries; shapes `[N, M]` but for the table's `[N, M, M]`, `[N]` from `base`.

    As little as will do: a wide step makes XLA share it out among threads, at a loss.
    """

    weights: tf.Tensor
    gradient: tf.Tensor
    table: Number
    swept: tf.Tensor
    base: tf.Tensor  # whom the table's differences are taken to
    before: tf.Tensor  # how far the swept teachers' gradients were apart at the last Newton step
    idle: tf.Tensor  # steps since one gained
    iterations: tf.Tensor
    active: tf.Tensor


class ActiveSet:
    """Steps on one batch of problems; `exact` with a table of pairs.

    Teachers at no bound are free; those of them that do not depend on the others are swept. A
    step goes Newton's way over the swept ones or moves one other, the swept ones answering,
    whichever promises the lower objective; as far as the lowest point or the first bound.
    """

    def __init__(self, problem: Problem, exact: bool):
        self.problem, self.exact = problem, exact
        self.caps, self.dtype, self.size = problem.caps, problem.dtype, problem.size
        self.zero = tf.zeros([], problem.dtype)
        # Of all iterations; each part of the solver has its share.
        self.most = (2 if exact else 1) * (5 * self.size + 80)
        self.threshold = (1.0 if exact else self.size) * noise(problem.dtype, exact)

    def run(self, weights, gradient, iterations, active):
        """`(weights, gradient, iterations)` when all are solved or no step gains."""
        blank = tf.zeros_like(self.problem.gram)
        state = State(
            weights,
            gradient,
            number(blank, self.exact),
            tf.zeros_like(weights, tf.bool),
            tf.zeros_like(iterations),
            tf.fill(tf.shape(active), self.dtype.max),
            tf.zeros_like(iterations),
            iterations,
            active,
        )

        (state,) = tf.while_loop(
            lambda state: tf.reduce_any(state.active), lambda state: (self._step(state),), (state,)
        )
        return state.weights, state.gradient, state.iterations

    def _step(self, state: State) -> State:
        weights, gradient, active = state.weights, state.gradient, state.active
        free = (weights > 0) & (weights < self.caps)
        # Without the base a table that is nearly singular no longer keeps the sum of the weights.
        is_base = tf.range(self.size) == state.base[:, None]
        needed = state.swept & is_base if self.exact else state.swept
        lost = active & ~tf.reduce_any(needed & free, -1)
        table, swept, base = tf.cond(
            tf.reduce_any(lost),
            lambda: self._begun(state, free, lost),
            lambda: (state.table, state.swept, state.base),
        )
        norms = self.problem.diagonal + at(self.problem.diagonal, base)
        table, swept = sweep(table, swept, free, active, norms, self.threshold)

        # Differences, so that what all have in common does not round.
        reference = tf.reduce_min(tf.where(swept, gradient, self.dtype.max), -1, True)
        slope = gradient - reference
        slope_swept = tf.where(swept, slope, self.zero)
        answer = sum_of(times(table, number(slope_swept[..., None], self.exact)))[0]
        by_newton = -tf.reduce_sum(slope_swept * answer, -1) / 2
        # Of the others: what is left of their slopes after that, and what each would gain.
        reduced = slope - answer
        room = tf.where(reduced > 0, weights, self.caps - weights)
        room = tf.where(swept, self.zero, room)
        curvature = tf.maximum(tf.linalg.diag_part(table[0]), self.threshold * norms)
        gains = tf.math.divide_no_nan(tf.square(reduced), 2 * curvature)
        gains = tf.minimum(gains, room * tf.abs(reduced))
        k = tf.argmax(gains, -1, output_type=tf.int32)
        alone = tf.reduce_max(gains, -1)

        scale = self.problem.tolerance * self.problem.scale(weights, gradient)
        newton = (by_newton >= alone) | (alone <= LEAST_GAIN * scale)
        # A repeated Newton step gains next to nothing, and takes the gap down all the same.
        spread = tf.reduce_max(slope_swept, -1)
        refining = newton & (spread > scale) & (spread < state.before / 2)
        active &= refining | (tf.maximum(by_newton, alone) > LEAST_GAIN * scale)

        along = tf.where(swept, -tf.gather(table[0], k, batch_dims=1), self.zero)
        along = tf.where(tf.range(self.size) == k[:, None], tf.ones_like(along), along)
        along *= -tf.sign(at(reduced, k))
        direction = tf.where(newton[:, None], tf.where(swept, answer, self.zero), along)
        # To a sum of zero, which a rounded table gives only nearly: at the base, if that is left.
        is_base = tf.range(self.size) == base[:, None]
        gives = tf.where(swept & is_base, self.dtype.max, tf.abs(direction))
        most = tf.argmax(tf.where(swept, gives, -1), -1, output_type=tf.int32)
        excess = tf.reduce_sum(direction, -1, True)
        direction -= tf.where(tf.range(self.size) == most[:, None], excess, self.zero)

        weights, gain, blocked = self._moved(weights, slope, direction, active)
        gradient = accurate_matvec(self.problem.gram, weights)
        iterations = state.iterations + tf.cast(active, tf.int32)
        gained = refining | (gain > LEAST_GAIN * scale)
        fewer = blocked & (newton | at(free, k)[:, 0])
        idle = tf.where(gained | fewer, 0, state.idle + 1)
        active &= gained | (blocked & (idle < MOST_IDLE))
        active &= self.problem.unsolved(weights, gradient) & (iterations < self.most)
        before = tf.where(newton, spread, self.dtype.max)
        return State(weights, gradient, table, swept, base, before, idle, iterations, active)

    def _begun(self, state: State, free, lost):
        """A new table, from a free base, for the problems that need one."""
        # The base is the shortest free gradient, or, at a vertex, the one to give weight away.
        highest = tf.where(state.weights > 0, state.gradient, self.dtype.min)
        shortest = tf.where(free, -self.problem.diagonal, self.dtype.min)
        at_vertex = ~tf.reduce_any(free, -1, True)
        base = tf.argmax(tf.where(at_vertex, highest, shortest), -1, output_type=tf.int32)
        fresh, is_base = new_table(self.problem.gram, base, self.exact)
        table = tuple(
            tf.where(lost[:, None, None], new, old)
            for new, old in zip(fresh, state.table, strict=True)
        )
        swept = tf.where(lost[:, None], is_base, state.swept)
        return table, swept, tf.where(lost, base, state.base)

    def _moved(self, weights, slope, direction, active):
        """`(weights, gain, blocked)`: to the lowest point along `direction` that bounds allow."""
        direction = tf.math.divide_no_nan(direction, tf.reduce_sum(tf.abs(direction), -1, True))
        descent = -tf.reduce_sum(direction * slope, -1, True)
        moves = active[:, None] & (descent > 0) & (direction != 0)
        direction = tf.where(moves, direction, self.zero)
        # The matrix' own curvature: the objective falls along a rough direction, too.
        product = accurate_matvec(self.problem.gram, direction)
        curvature = tf.reduce_sum(direction * product, -1, True)
        huge = self.dtype.max
        ideal = tf.where(curvature > 0, tf.math.divide_no_nan(descent, curvature), huge)
        room = tf.where(direction > 0, self.caps - weights, weights)
        reach = tf.where(moves, tf.math.divide_no_nan(room, tf.abs(direction)), huge)
        nearest = tf.reduce_min(reach, -1, True)
        reached = moves & (reach <= nearest) & (nearest < ideal)
        length = tf.minimum(nearest, ideal)
        moved = weights + length * direction
        moved = tf.where(reached, tf.where(direction > 0, self.caps, self.zero), moved)
        moved = tf.clip_by_value(moved, self.zero, self.caps)
        gain = tf.where(moves, length * (descent - length * curvature / 2), self.zero)
        return moved, tf.reduce_max(gain, -1), tf.reduce_any(reached, -1)
