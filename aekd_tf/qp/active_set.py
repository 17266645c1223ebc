"""The last part of the in-graph solver: an active-set method with second-order steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aekd_tf.qp.problem import HUGE, Problem, diagonal, matvec
from aekd_tf.qp.sweep import at, new_table, sweep

# A step must promise this share of the level that counts as solved.
LEAST_GAIN = 0.03

# Rounding is blamed after this many steps in a row that only exchange one teacher for another.
MOST_IDLE = 4


class State(NamedTuple):
    """Holds what a step carries: `[N, M]`, the table `[N, M, M]`, and `[N]` from `before`.

    The state is as small as possible: XLA shares a wide step out among threads, at a loss.
    """

    weights: tf.Tensor
    gradient: tf.Tensor
    table: tf.Tensor
    swept: tf.Tensor
    norms: tf.Tensor  # what the diagonal of the table was computed from
    before: tf.Tensor  # how far the swept teachers' gradients were apart at the last Newton step
    idle: tf.Tensor  # steps since one gained
    iterations: tf.Tensor
    active: tf.Tensor


class ActiveSet:
    """Takes steps on one batch of problems until all are solved.

    Teachers at no bound are free. The free teachers that do not depend on others are swept. A
    step moves the swept ones along Newton's direction, or moves one other teacher while the swept
    ones answer: whichever promises the lower objective. It goes to the lowest point or to the
    first bound.
    """

    def __init__(self, problem: Problem):
        self.problem, self.caps, self.size = problem, problem.caps, problem.size
        # Counts the first-order steps, too.
        self.most = 5 * self.size + 80
        self.threshold = self.size * float(np.finfo(np.float64).eps)

    def run(self, weights: tf.Tensor, iterations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(weights, iterations)` when all are solved or no step gains."""
        gradient = matvec(self.problem.gram, weights)
        state = State(
            weights,
            gradient,
            tf.zeros_like(self.problem.gram),
            tf.zeros_like(weights, tf.bool),
            tf.zeros_like(weights),
            tf.fill(tf.shape(iterations), tf.constant(HUGE, tf.float64)),
            tf.zeros_like(iterations),
            iterations,
            self.problem.unsolved(weights, gradient),
        )
        (state,) = tf.while_loop(
            lambda state: tf.reduce_any(state.active), lambda state: (self._step(state),), (state,)
        )
        return state.weights, state.iterations

    def _step(self, state: State) -> State:
        weights, gradient, active = state.weights, state.gradient, state.active
        free = (weights > 0) & (weights < self.caps)
        lost = active & ~tf.reduce_any(state.swept & free, -1)
        table, swept, norms = tf.cond(
            tf.reduce_any(lost),
            lambda: self._begun(state, free, lost),
            lambda: (state.table, state.swept, state.norms),
        )
        table, swept = sweep(table, swept, free, active, norms, self.threshold)

        # Differences do not round what all gradients have in common.
        reference = tf.reduce_min(tf.where(swept, gradient, HUGE), -1, keepdims=True)
        slope = gradient - reference
        slope_swept = tf.where(swept, slope, 0.0)
        answer = matvec(table, slope_swept)
        by_newton = -tf.reduce_sum(slope_swept * answer, -1) / 2
        # The others: the slopes that remain after that, and what each would gain.
        reduced = slope - answer
        room = tf.where(reduced > 0, weights, self.caps - weights)
        room = tf.where(swept, tf.zeros_like(room), room)
        curvature = tf.maximum(diagonal(table), self.threshold * norms)
        gains = tf.math.divide_no_nan(tf.square(reduced), 2 * curvature)
        gains = tf.minimum(gains, room * tf.abs(reduced))
        k = tf.argmax(gains, -1, output_type=tf.int32)
        alone = tf.reduce_max(gains, -1)

        level = self.problem.level(weights, gradient)
        newton = (by_newton >= alone) | (alone <= LEAST_GAIN * level)
        # A repeated Newton step gains next to nothing, and lowers the gap all the same.
        spread = tf.reduce_max(slope_swept, -1)
        refining = newton & (spread > level) & (spread < state.before / 2)
        active &= refining | (tf.maximum(by_newton, alone) > LEAST_GAIN * level)

        along = tf.where(swept, -tf.gather(table, k, batch_dims=1), 0.0)
        along = tf.where(tf.range(self.size) == k[:, None], tf.ones_like(along), along)
        along *= -tf.sign(at(reduced, k))
        direction = tf.where(newton[:, None], tf.where(swept, answer, 0.0), along)

        weights, gain, blocked = self._moved(weights, slope, direction, active)
        gradient = matvec(self.problem.gram, weights)
        iterations = state.iterations + tf.cast(active, tf.int32)
        gained = refining | (gain > LEAST_GAIN * level)
        fewer = blocked & (newton | at(free, k)[:, 0])
        idle = tf.where(gained | fewer, 0, state.idle + 1)
        active &= gained | (blocked & (idle < MOST_IDLE))
        active &= self.problem.unsolved(weights, gradient) & (iterations < self.most)
        before = tf.where(newton, spread, HUGE)
        return State(weights, gradient, table, swept, norms, before, idle, iterations, active)

    def _begun(self, state: State, free, lost):
        """Returns a new table from a free base, for the problems that need one."""
        # The base is the shortest free gradient, or, at a vertex, the one to give weight away.
        highest = tf.where(state.weights > 0, state.gradient, -HUGE)
        shortest = tf.where(free, -self.problem.diagonal, -HUGE)
        at_vertex = ~tf.reduce_any(free, -1, keepdims=True)
        base = tf.argmax(tf.where(at_vertex, highest, shortest), -1, output_type=tf.int32)
        table, is_base = new_table(self.problem.gram, base)
        table = tf.where(lost[:, None, None], table, state.table)
        swept = tf.where(lost[:, None], is_base, state.swept)
        norms = self.problem.diagonal + at(self.problem.diagonal, base)
        return table, swept, tf.where(lost[:, None], norms, state.norms)

    def _moved(self, weights, slope, direction, active):
        """Returns `(weights, gain, blocked)` at the lowest point along `direction` in bounds."""
        descent = -tf.reduce_sum(direction * slope, -1, keepdims=True)
        moves = active[:, None] & (descent > 0) & (direction != 0)
        direction = tf.where(moves, direction, 0.0)
        # The matrix' own curvature: the objective falls along a rough direction, too.
        product = matvec(self.problem.gram, direction)
        curvature = tf.reduce_sum(direction * product, -1, keepdims=True)
        ideal = tf.where(curvature > 0, tf.math.divide_no_nan(descent, curvature), HUGE)
        room = tf.where(direction > 0, self.caps - weights, weights)
        reach = tf.where(moves, tf.math.divide_no_nan(room, tf.abs(direction)), HUGE)
        nearest = tf.reduce_min(reach, -1, keepdims=True)
        reached = moves & (reach <= nearest) & (nearest < ideal)
        length = tf.minimum(nearest, ideal)
        bound = tf.where(direction > 0, self.caps, 0.0)
        moved = tf.where(reached, bound, weights + length * direction)
        moved = tf.clip_by_value(moved, tf.zeros([], tf.float64), self.caps)
        gain = tf.where(moves, length * (descent - length * curvature / 2), 0.0)
        return moved, tf.reduce_max(gain, -1), tf.reduce_any(reached, -1)
