"""First-order steps: pairs of teachers, as in sequential minimal optimization (SMO)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aekd_tf.qp.problem import HUGE, Problem
from aekd_tf.qp.sweep import at

# Steps end when the best pair gains less than this many times the level that counts as solved.
LOOSE = 100.0


def smo_steps(problem: Problem) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(weights [N, M], iterations [N])` after steps that each move weight from j to i.

    Teacher i has the smallest gradient among those below their cap. Teacher j promises the
    largest second-order decrease. The steps work on squared distances between gradients and on
    `G w` up to a constant, so that one row per teacher serves both the choice and the update.
    """
    caps, size = problem.caps, problem.size
    index = tf.range(size)
    norms = problem.diagonal[:, :, None] + problem.diagonal[:, None, :]
    distances = tf.maximum(norms - 2 * problem.gram, float(np.finfo(np.float64).eps) * norms)
    level = LOOSE * problem.accuracy * problem.floor[:, None]

    def step(weights, gradient, iterations, active):
        i = tf.argmin(tf.where(weights < caps, gradient, HUGE), -1, output_type=tf.int32)
        distances_i = tf.gather(distances, i, batch_dims=1)
        difference = gradient - at(gradient, i)
        gain = tf.math.divide_no_nan(tf.square(difference), distances_i)
        falls = (weights > 0) & (difference > 0)
        j = tf.argmax(tf.where(falls, gain, -1), -1, output_type=tf.int32)
        difference = at(difference, j)
        full_step = tf.math.divide_no_nan(difference, at(distances_i, j))
        room = at(caps, i) - at(weights, i)
        move = tf.minimum(full_step, tf.minimum(room, at(weights, j)))
        gains = (difference * full_step > level) & (move > 0)
        active &= gains[:, 0] & (iterations < size + 10)
        move = tf.where(active[:, None], move, 0.0)
        is_i = (index == i[:, None]) & active[:, None]
        is_j = (index == j[:, None]) & active[:, None]
        risen = tf.where(move >= room, caps, weights + move)
        moved = tf.where(is_i, risen, tf.where(is_j, weights - move, weights))
        gradient += move / 2 * (tf.gather(distances, j, batch_dims=1) - distances_i)
        return moved, gradient, iterations + tf.cast(active, tf.int32), active

    start = (problem.start, problem.start_gradient)
    state = (*start, tf.zeros_like(problem.floor, tf.int32), problem.unsolved(*start))
    weights, _, iterations, _ = tf.while_loop(lambda *state: tf.reduce_any(state[-1]), step, state)
    return weights, iterations
