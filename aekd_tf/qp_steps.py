"""The in-graph solver of the capped-simplex QP: first-order rounds and Newton steps."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from aekd_tf.qp_algebra import (
    UNIFORM_SHARE,
    accurate_matvec,
    anywhere,
    largest_of,
    matvec,
    project,
    smallest_of,
    start,
    total,
)
from aekd_tf.qp_pairs import minus, newton_direction, noise, pair, plus

# What these leave unsolved is nearly degenerate: few steps a round, Newton's in pairs of floats.
FIRST_ROUNDS = 3
# Times the tolerance: near enough where float32 gets no further.
NEARLY = 8.0


def stop_tolerance(dtype: tf.DType) -> float:
    return 1e-10 if dtype == tf.float64 else 1e-6


class CappedSimplexSolver:
    """One batch of normalised problems, `gram [N, M, M]` and `caps [N, M]`.

    Rounds of first-order steps (SMO or projected gradient), which find the teachers at a
    bound, followed by Newton steps on the free ones, which end what first-order steps would
    creep towards where gradients are nearly dependent.
    """

    def __init__(self, gram: tf.Tensor, caps: tf.Tensor):
        self.gram, self.caps = gram, caps
        self.dtype = gram.dtype
        self.size = caps.shape[-1]
        self.index = tf.range(self.size)
        self.zero = tf.zeros([], self.dtype)
        self.epsilon = float(np.finfo(self.dtype.as_numpy_dtype).eps)
        self.diagonal = tf.linalg.diag_part(gram)
        self.start = start(caps)
        self.start_gradient = accurate_matvec(gram, self.start)
        self.floor = UNIFORM_SHARE / 2 * total(self.start * self.start_gradient, -1)

    def run(self, solver: str) -> tuple[tf.Tensor, tf.Tensor]:
        """`(weights, iterations)` when every problem is solved or has stopped moving."""

        def round_(weights, gradient, iterations, active, rounds):
            before = total(weights * gradient, -1) / 2
            # Later rounds free few teachers at a time, as an active-set method does: what is left
            # is decided by curvatures that first-order steps do not feel.
            many = tf.where(rounds < FIRST_ROUNDS, 2 * self.size + 10, 1)
            if solver == "projected":
                many = tf.where(rounds < FIRST_ROUNDS, 1, self.size)
                weights, iterations = tf.cond(
                    rounds < FIRST_ROUNDS,
                    lambda: self._projected_steps(weights, iterations, active),
                    lambda: (weights, iterations),
                )
                gradient = accurate_matvec(self.gram, weights)
            weights, iterations = self._smo_steps(weights, gradient, iterations, active, many)
            # Asked of a fresh gradient: the steps' own one has drifted.
            gradient = accurate_matvec(self.gram, weights)
            active &= self._unsolved(weights, gradient)

            def newton():
                first, later = (
                    functools.partial(
                        self._newton_steps, weights, gradient, iterations, active, exact
                    )
                    for exact in (False, True)
                )
                moved, fresh, steps = tf.cond(rounds < FIRST_ROUNDS, first, later)
                after = total(moved * fresh, -1) / 2
                gain = 0.01 * stop_tolerance(self.dtype) * tf.maximum(after, self.floor)
                # A round without a decrease: rounding, which in later rounds no step will undo.
                moving = before - after > gain
                hopeful = (rounds < FIRST_ROUNDS) & self._unsolved(moved, fresh, NEARLY)
                unsolved = active & self._unsolved(moved, fresh) & (moving | hopeful)
                onward = tf.where(anywhere(unsolved & moving), rounds, FIRST_ROUNDS - 1)
                return moved, fresh, steps, unsolved, tf.maximum(rounds, onward) + 1

            return tf.cond(
                anywhere(active), newton, lambda: (weights, gradient, iterations, active, rounds)
            )

        def unfinished(weights, gradient, iterations, active, rounds):
            return anywhere(active) & (rounds < 4 * self.size + 20)

        state = (
            self.start,
            self.start_gradient,
            tf.zeros_like(self.floor, tf.int32),
            self._unsolved(self.start, self.start_gradient),
            tf.constant(0),
        )
        weights, _, iterations, *_ = tf.while_loop(unfinished, round_, state)
        return weights, iterations

    def _unsolved(self, weights: tf.Tensor, gradient: tf.Tensor, times: float = 1.0) -> tf.Tensor:
        low = smallest_of(tf.where(weights < self.caps, gradient, self.dtype.max), -1)
        high = largest_of(tf.where(weights > 0, gradient, self.dtype.min), -1)
        objective = total(weights * gradient, -1) / 2
        return high - low > times * stop_tolerance(self.dtype) * tf.maximum(objective, self.floor)

    def _pick(self, mask: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        return total(tf.where(mask, value, self.zero), -1, keepdims=True)

    def _smo_steps(self, weights, gradient, iterations, active, most):
        """Pairwise coordinate steps with second-order selection of the pair.

        Works on squared distances of gradients and on `G w` up to a constant: one row a
        teacher serves both the selection and the update.
        """
        dtype, tiny = self.dtype, self.epsilon
        norms = self.diagonal[:, :, None] + self.diagonal[:, None, :]
        distances = tf.maximum(norms - 2 * self.gram, tiny * norms)
        objective = total(weights * gradient, -1) / 2

        def at(value, position):
            return tf.gather(value, position, batch_dims=1)

        def step(weights, gradient, objective, iterations, active, count):
            rising = tf.where(weights < self.caps, gradient, dtype.max)
            i = tf.argmin(rising, -1, output_type=tf.int32)
            distances_i = at(distances, i)
            can_fall = weights > 0
            difference = tf.where(can_fall, gradient - at(rising, i)[:, None], self.zero)
            violation = largest_of(difference, -1)
            level = stop_tolerance(dtype) * tf.maximum(objective, self.floor)
            gain = tf.math.divide_no_nan(tf.square(difference), distances_i)
            j = tf.argmax(tf.where(difference > 0, gain, -1), -1, output_type=tf.int32)
            difference, curvature = at(difference, j), at(distances_i, j)
            room = at(self.caps, i) - at(weights, i)
            full_step = tf.math.divide_no_nan(difference, curvature)
            move = tf.minimum(full_step, tf.minimum(room, at(weights, j)))
            # A step below the spacing of floats can never finish: leave it to Newton.
            active &= (violation > level) & (move > 0)
            move = tf.where(active, move, self.zero)
            is_i = (self.index == i[:, None]) & active[:, None]
            is_j = (self.index == j[:, None]) & active[:, None]
            risen = tf.where((move >= room)[:, None], self.caps, weights + move[:, None])
            moved = tf.where(is_i, risen, tf.where(is_j, weights - move[:, None], weights))
            gradient += move[:, None] / 2 * (at(distances, j) - distances_i)
            objective -= move * (difference - curvature * move / 2)
            iterations += tf.cast(active, tf.int32)
            return moved, gradient, objective, iterations, active, count + 1

        def unfinished(weights, gradient, objective, iterations, active, count):
            return anywhere(active) & (count < most)

        state = (weights, gradient, objective, iterations, active, tf.constant(0))
        weights, _, _, iterations, *_ = tf.while_loop(unfinished, step, state)
        return weights, iterations

    def _projected_steps(self, weights, iterations, active):
        """Accelerated projected gradient (FISTA) with adaptive restart."""
        # Two upper bounds of the largest eigenvalue: the trace and the largest row sum.
        lipschitz = tf.minimum(
            total(self.diagonal, -1),
            largest_of(total(tf.abs(self.gram), -1), -1),
        )
        rate = tf.math.divide_no_nan(tf.ones([], self.dtype), lipschitz)[:, None]

        def step(weights, ahead, momentum, iterations, active, count):
            moved = project(ahead - rate * matvec(self.gram, ahead), self.caps)
            change = moved - weights
            restart = total((ahead - moved) * change, -1, keepdims=True) > 0
            grown = (1 + tf.sqrt(1 + 4 * tf.square(momentum))) / 2
            ahead = tf.where(restart, moved, moved + (momentum - 1) / grown * change)
            momentum = tf.where(restart, tf.ones_like(grown), grown)
            weights = tf.where(active[:, None], moved, weights)
            iterations += tf.cast(active, tf.int32)
            active &= self._unsolved(weights, matvec(self.gram, weights))
            return weights, ahead, momentum, iterations, active, count + 1

        def unfinished(weights, ahead, momentum, iterations, active, count):
            return anywhere(active) & (count < 50)

        state = (
            weights,
            weights,
            tf.ones_like(rate),
            iterations,
            active,
            tf.constant(0),
        )
        weights, _, _, iterations, *_ = tf.while_loop(unfinished, step, state)
        return weights, iterations

    def _newton_steps(self, weights, gradient, iterations, active, exact):
        """To the minimum over the free teachers, fixing those that reach a bound on the way."""

        def step(weights, gradient, iterations, active, count):
            weights, blocked = self._newton_step(weights, gradient, active, exact)
            iterations += tf.cast(active, tf.int32)
            gradient = accurate_matvec(self.gram, weights)
            return weights, gradient, iterations, active & blocked, count + 1

        def unfinished(weights, gradient, iterations, active, count):
            return anywhere(active) & (count < self.size)

        state = (weights, gradient, iterations, active, tf.constant(0))
        return tf.while_loop(unfinished, step, state)[:3]

    def _newton_step(self, weights, gradient, active, exact):
        """`(weights, blocked)`: one step over the free teachers, as far as bounds allow."""
        free = (weights > 0) & (weights < self.caps) & active[:, None]
        # Differences to one free teacher, the shortest, take the constraint sum w = 1 away.
        base = tf.argmin(tf.where(free, self.diagonal, self.dtype.max), -1, output_type=tf.int32)
        is_base = self.index == base[:, None]
        row = tf.gather(self.gram, base, batch_dims=1)
        number = pair if exact else lambda value: (value,)
        hessian = minus(number(self.gram), number(row[:, :, None]))
        hessian = minus(hessian, number(row[:, None, :]))
        hessian = plus(hessian, number(self._pick(is_base, self.diagonal)[..., None]))
        solved = free & ~is_base
        slope = tf.where(solved, gradient - self._pick(is_base, gradient), self.zero)
        both = solved[:, :, None] & solved[:, None, :]
        hessian = tuple(tf.where(both, part, self.zero) for part in hessian)
        norms = tf.where(solved, self.diagonal + self._pick(is_base, self.diagonal), self.zero)
        direction = newton_direction(hessian, -slope, noise(self.dtype, exact) * norms)
        direction = tf.where(is_base, -total(direction, -1, keepdims=True), direction)
        length = total(tf.abs(direction), -1, keepdims=True)
        direction = tf.math.divide_no_nan(direction, length)
        descent = -total(direction * slope, -1, keepdims=True)
        moves = free & (descent > 0) & (direction != 0)
        direction = tf.where(moves, direction, self.zero)
        # Exact line search: the solve is rough where gradients are nearly dependent.
        curvature = total(direction * accurate_matvec(self.gram, direction), -1, keepdims=True)
        ideal = tf.where(curvature > 0, tf.math.divide_no_nan(descent, curvature), self.dtype.max)

        room = tf.where(direction > 0, self.caps - weights, weights)
        reach = tf.where(moves, tf.math.divide_no_nan(room, tf.abs(direction)), self.dtype.max)
        nearest = smallest_of(reach, -1, keepdims=True)
        reached = moves & (reach <= nearest) & (nearest < ideal)
        moved = weights + tf.minimum(nearest, ideal) * direction
        moved = tf.where(reached, tf.where(direction > 0, self.caps, self.zero), moved)
        return tf.clip_by_value(moved, self.zero, self.caps), anywhere(reached, -1)
