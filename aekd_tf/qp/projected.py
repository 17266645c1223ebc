"""First-order steps: accelerated projected gradient."""

from __future__ import annotations

import tensorflow as tf

from aekd_tf.qp.problem import Problem, matvec
from aekd_tf.qp.projection import project

# The active-set method ends what more steps would creep towards.
MOST = 50


def projected_steps(problem: Problem) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(weights [N, M], iterations [N])` after FISTA with adaptive restart."""
    gram, caps = problem.gram, problem.caps
    # The trace and the largest row sum both bound the largest eigenvalue.
    trace = tf.reduce_sum(problem.diagonal, -1)
    lipschitz = tf.minimum(trace, tf.reduce_max(tf.reduce_sum(tf.abs(gram), -1), -1))
    rate = tf.math.reciprocal_no_nan(lipschitz)[:, None]

    def step(weights, ahead, momentum, iterations, active):
        moved = project(ahead - rate * matvec(gram, ahead), caps)
        change = moved - weights
        restart = tf.reduce_sum((ahead - moved) * change, -1, keepdims=True) > 0
        grown = (1 + tf.sqrt(1 + 4 * tf.square(momentum))) / 2
        ahead = tf.where(restart, moved, moved + (momentum - 1) / grown * change)
        momentum = tf.where(restart, tf.ones_like(grown), grown)
        weights = tf.where(active[:, None], moved, weights)
        iterations += tf.cast(active, tf.int32)
        active &= problem.unsolved(weights, matvec(gram, weights)) & (iterations < MOST)
        return weights, ahead, momentum, iterations, active

    start, nothing = problem.start, tf.zeros_like(problem.floor, tf.int32)
    active = problem.unsolved(start, problem.start_gradient)
    state = (start, start, tf.ones_like(rate), nothing, active)
    weights, *_, iterations, _ = tf.while_loop(lambda *state: tf.reduce_any(state[-1]), step, state)
    return weights, iterations
