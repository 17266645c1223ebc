"""The in-graph solver of the capped-simplex QP: first-order steps, then an active-set method."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.qp.active_set import ActiveSet
from aekd_tf.qp.algebra import accurate_matvec, matvec, project
from aekd_tf.qp.problem import Problem

# Times the tolerance: where the active-set method takes over ...
LOOSE = 100.0
# ... and what is near enough where float32 gets no further.
NEARLY = 8.0


def solve_in_graph(gram: tf.Tensor, caps: tf.Tensor, solver: str) -> tuple[tf.Tensor, tf.Tensor]:
    """`(weights, iterations)` of normalized problems, `gram [N, M, M]` and `caps [N, M]`."""
    problem = Problem(gram, caps)
    first_order = {"smo": smo_steps, "projected": projected_steps}[solver]
    weights, iterations = first_order(problem)
    # The steps' own gradient has drifted.
    gradient = accurate_matvec(gram, weights)

    def follow(exact, weights, gradient, iterations, active):
        return tf.cond(
            tf.reduce_any(active),
            lambda: ActiveSet(problem, exact).run(weights, gradient, iterations, active),
            lambda: (weights, gradient, iterations),
        )

    active = problem.unsolved(weights, gradient)
    weights, gradient, iterations = follow(False, weights, gradient, iterations, active)
    active = problem.far(weights, gradient, NEARLY)
    weights, _, iterations = follow(True, weights, gradient, iterations, active)
    return weights, iterations


def smo_steps(problem: Problem) -> tuple[tf.Tensor, tf.Tensor]:
    """Pairwise coordinate steps with second-order selection of the pair.

    Works on squared distances of gradients and on `G w` up to a constant: one row a teacher
    serves both the selection and the update.
    """
    caps, dtype, size = problem.caps, problem.dtype, problem.size
    zero, index = tf.zeros([], dtype), tf.range(size)
    norms = problem.diagonal[:, :, None] + problem.diagonal[:, None, :]
    rounding = float(np.finfo(dtype.as_numpy_dtype).eps)
    distances = tf.maximum(norms - 2 * problem.gram, rounding * norms)
    level = LOOSE * problem.tolerance * problem.floor

    def at(value, position):
        return tf.gather(value, position, batch_dims=1)

    def step(weights, gradient, iterations, active):
        i = tf.argmin(tf.where(weights < caps, gradient, dtype.max), -1, output_type=tf.int32)
        distances_i = at(distances, i)
        difference = gradient - at(gradient, i)[:, None]
        gain = tf.math.divide_no_nan(tf.square(difference), distances_i)
        falls = (weights > 0) & (difference > 0)
        j = tf.argmax(tf.where(falls, gain, -1), -1, output_type=tf.int32)
        difference, distance = at(gradient, j) - at(gradient, i), at(distances_i, j)
        full_step = tf.math.divide_no_nan(difference, distance)
        room = at(caps, i) - at(weights, i)
        move = tf.minimum(full_step, tf.minimum(room, at(weights, j)))
        active &= (difference * full_step > level) & (move > 0) & (iterations < size + 10)
        move = tf.where(active, move, zero)
        is_i = (index == i[:, None]) & active[:, None]
        is_j = (index == j[:, None]) & active[:, None]
        risen = tf.where((move >= room)[:, None], caps, weights + move[:, None])
        moved = tf.where(is_i, risen, tf.where(is_j, weights - move[:, None], weights))
        gradient += move[:, None] / 2 * (at(distances, j) - distances_i)
        return moved, gradient, iterations + tf.cast(active, tf.int32), active

    start = (problem.start, problem.start_gradient)
    state = (*start, tf.zeros_like(problem.floor, tf.int32), problem.unsolved(*start))
    weights, _, iterations, _ = tf.while_loop(lambda *state: tf.reduce_any(state[-1]), step, state)
    return weights, iterations


def projected_steps(problem: Problem) -> tuple[tf.Tensor, tf.Tensor]:
    """Accelerated projected gradient (FISTA) with adaptive restart."""
    gram, caps = problem.gram, problem.caps
    # Two upper bounds of the largest eigenvalue: the trace and the largest row sum.
    lipschitz = tf.minimum(
        tf.reduce_sum(problem.diagonal, -1), tf.reduce_max(tf.reduce_sum(tf.abs(gram), -1), -1)
    )
    rate = tf.math.divide_no_nan(tf.ones([], problem.dtype), lipschitz)[:, None]

    def step(weights, ahead, momentum, iterations, active):
        moved = project(ahead - rate * matvec(gram, ahead), caps)
        change = moved - weights
        restart = tf.reduce_sum((ahead - moved) * change, -1, keepdims=True) > 0
        grown = (1 + tf.sqrt(1 + 4 * tf.square(momentum))) / 2
        ahead = tf.where(restart, moved, moved + (momentum - 1) / grown * change)
        momentum = tf.where(restart, tf.ones_like(grown), grown)
        weights = tf.where(active[:, None], moved, weights)
        iterations += tf.cast(active, tf.int32)
        active &= problem.unsolved(weights, matvec(gram, weights)) & (iterations < 50)
        return weights, ahead, momentum, iterations, active

    begun, nothing = problem.start, tf.zeros_like(problem.floor, tf.int32)
    active = problem.unsolved(begun, problem.start_gradient)
    state = (begun, begun, tf.ones_like(rate), nothing, active)
    weights, *_, iterations, _ = tf.while_loop(lambda *state: tf.reduce_any(state[-1]), step, state)
    return weights, iterations
