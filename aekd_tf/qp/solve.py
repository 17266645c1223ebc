"""The capped-simplex quadratic program that turns a Gram matrix into teacher weights."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_choice, check_tolerance
from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.names import IN_GRAPH_SOLVERS, SOLVERS
from aekd_tf.qp.active_set import ActiveSet
from aekd_tf.qp.certificate import certify
from aekd_tf.qp.problem import Problem, reachable
from aekd_tf.qp.projected import projected_steps
from aekd_tf.qp.projection import project
from aekd_tf.qp.smo import smo_steps

FIRST_ORDER = {"smo": smo_steps, "projected": projected_steps}


class QPSolution(NamedTuple):
    """Contains what every solver returns, batch shape `[...]` first.

    Attributes:
        weights: `[..., M]`, the minimizer; sums to 1, each entry in `[0, C]`.
        gap: `[...]`, certified duality gap relative to the objective's scale; `inf` if the
            Gram matrix was not finite.
        iterations: `[...]` int32, steps taken by the solver.

    Example::

        import numpy as np
        from aekd_tf import solve_capped_simplex_qp

        solution = solve_capped_simplex_qp(np.float32([[1.0, 0.0], [0.0, 4.0]]))
        print(solution.weights.numpy().round(2), float(solution.gap) < 1e-6)  # [0.8 0.2] True
        weights, gap, iterations = solution
    """

    weights: tf.Tensor
    gap: tf.Tensor
    iterations: tf.Tensor

    def __repr__(self) -> str:
        return repr_of(self)


def solve_capped_simplex_qp(gram: Any, tolerance: Any = 1.0, *, solver: str = "smo") -> QPSolution:
    r"""Solves Eq. 10/13 of the paper: the minimum-norm point of a capped convex hull.

    Primal, over the weights `w` of `M` teachers with gradients `g_m` and Gram matrix
    `G[m, n] = <g_m, g_n>`::

        minimize  f(w) = 1/2 w' G w = 1/2 || sum_m w_m g_m ||^2
        subject to  sum_m w_m = 1,  0 <= w_m <= C_m

    Dual (of the linearization at `w`, tight at the optimum)::

        maximize  v  with  f(w) - gap(w) <= v <= f(w*),
        gap(w) = w' G w - min { s' G w : sum s = 1, 0 <= s <= C }

    The inner minimum fills the caps in ascending order of `G w`, so the gap is computed
    exactly from the returned weights. It bounds `f(w) - f(w*)` from above for every
    positive semi-definite `G`, whichever solver produced `w`.

    Solvers:

    - `"smo"` (default): pairwise coordinate steps. Each step moves weight from teacher j
      to teacher i. Teacher i has the smallest gradient among those below their cap, and j the
      largest second-order decrease among those above zero.
    - `"projected"`: accelerated projected gradient with adaptive restart and the exact
      projection `project_capped_simplex`.
    - `"cvxopt"`: interior point. `"libsvm"`: scikit-learn's OneClassSVM on the
      trace-normalized matrix. These references leave the graph through
      `tf.numpy_function`, so they do not compile under XLA.

    All solvers work in float64, whatever the precision of `G`, and return the weights in that of
    `G`. They scale `G` by a power of two first, which rounds nothing. Float32 would lose
    curvatures below 1e-7 of the largest, and an optimum that is smaller than that.

    Both in-graph solvers start with first-order steps, which find most of the teachers at a
    bound: `"smo"` until a step gains little, `"projected"` at most 50. An active-set method
    ends what these would creep towards. It takes Newton steps over the teachers at no bound, or
    moves one other teacher with the best response of these, whichever promises the lower
    objective. Its linear system gains or loses one teacher at a time, O(M^2). A problem is
    solved when::

        max_{w_j > 0} (G w)_j - min_{w_i < C_i} (G w)_i  <=  accuracy * scale

    with `scale = max(f(w), 0.1 f(uniform))` and an accuracy of 1e-6 for float32, 1e-10 for
    float64. The left side is an upper bound of `gap(w)`. The method also stops if no step
    promises to lower `f` by 3% of `accuracy * scale`. It stops if several steps in a row lower
    `f` by less and leave as many teachers between their bounds, which only rounding can bring
    about. It stops at `5 M + 80` iterations. The returned `gap` says what was reached.

    Rounding can make `G` indefinite, with smallest eigenvalue -e. There are then several local
    minima, and the statements about `f(w)` and `gap(w)` hold except for `e/2 ||w - w*||^2`.

    The in-graph programs contain no py_function and, at static shapes, no custom call and no
    dynamic dimension. XLA emulates their float64 arithmetic on TPUs, so they need no switch
    there: a float32 matrix is scaled before it becomes float64, because a TPU can do anything
    with a float64 except look at its bits.

    Args:
        gram: `[..., M, M]`, symmetric positive semi-definite, float32 or float64; M is
            static; tests go up to 256. Anything else is converted to float32.
        tolerance: the cap C in (0, 1], or `[..., M]`, one cap per teacher; some of these may be
            0. Caps must sum to at least 1. `C = 1/M` is the plain average, `C = 1` the
            minimum-norm point (MGDA).
        solver: one of `"smo"`, `"projected"`, `"cvxopt"`, `"libsvm"`.

    Returns:
        `QPSolution(weights, gap, iterations)`. `gap` is relative to
        `max(f(w) - gap, 0.1 f(uniform))`, a lower bound of `max(f(w*), 0.1 f(uniform))`.
        Not differentiable: gradients are stopped. A Gram matrix with a NaN or an infinity
        gives uniform weights and `gap = inf`. A zero matrix, and one below the smallest normal
        number, gives uniform weights and gap 0.

    Raises:
        ValueError: unknown solver; gram not square; a cap outside (0, 1] or not finite;
            caps that sum to less than 1 (the message names both numbers).

    Example::

        import numpy as np
        from aekd_tf import solve_capped_simplex_qp

        gradients = np.float32([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])  # of 3 teachers
        weights, gap, iterations = solve_capped_simplex_qp(gradients @ gradients.T, 0.6)
        print(weights.numpy().round(2))  # [0.6 0.4 0. ]

    References:
        Du et al., "Agree to Disagree", NeurIPS 2020, Eq. 10-16.
        Fan, Chen, Lin, "Working Set Selection Using Second Order Information for Training
        SVM", JMLR 2005 (the pair selection of `"smo"`).
        O'Donoghue, Candes, "Adaptive Restart for Accelerated Gradient Schemes", 2015.
        Nocedal, Wright, "Numerical Optimization", 2006, section 16.5 (active-set methods).
        Jaggi, "Revisiting Frank-Wolfe", ICML 2013 (the gap).
    """
    check_choice("solver", solver, SOLVERS)
    # XLA could not build the backward pass of the program's loops, so gradients stop outside.
    gram = tf.stop_gradient(_floating(gram))
    caps = _checked(tolerance, _size(gram.shape), gram.dtype)
    if solver not in IN_GRAPH_SOLVERS:
        return QPSolution(*solve(solver, gram, caps))
    shapes = (gram.shape, caps.shape)
    key = tuple(None if shape.rank is None else tuple(shape) for shape in shapes)
    return QPSolution(*compiled(solver, gram.dtype.name, key)(gram, caps))


def project_capped_simplex(point: Any, tolerance: Any = 1.0) -> tf.Tensor:
    """Projects exactly onto `{w : sum w = 1, 0 <= w <= C}`, in the Euclidean norm.

    The projection is `clip(point - shift, 0, C)` for the one shift that makes it sum to 1.
    The sum is piecewise linear in the shift with breakpoints `point` and `point - C`. The
    sum at every breakpoint tells which segment contains 1 (O(M^2), no sort). The free
    coordinates of that segment give the shift.

    Args:
        point: `[..., M]`, float32 or float64, finite.
        tolerance: the cap, scalar or `[..., M]`; as in `solve_capped_simplex_qp`.

    Returns:
        `[..., M]`, the nearest feasible point.

    Raises:
        ValueError: caps outside (0, 1] or that sum to less than 1; no static M.

    Example::

        import numpy as np
        from aekd_tf import project_capped_simplex

        nearest = project_capped_simplex(np.float32([0.9, 0.3, 0.0]), 0.6)
        print(nearest.numpy().round(2))  # [0.6  0.35 0.05]

    Reference:
        Wang, Lu, "Projection onto the capped simplex", arXiv:1503.01002.
    """
    point = _floating(point)
    size = point.shape[-1]
    if size is None:
        raise ValueError(f"point must have a static last dimension, got {point.shape}")
    caps = tf.broadcast_to(_checked(tolerance, size, point.dtype), tf.shape(point))
    return project(point, reachable(caps))


def solve(solver: str, gram: tf.Tensor, caps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Does the same for checked arguments: `gram [..., M, M]`, caps `[]` or `[..., M]`."""
    size, batch = gram.shape[-1], tf.shape(gram)[:-2]
    caps = tf.broadcast_to(caps, tf.shape(gram)[:-1])
    problem = Problem(tf.reshape(gram, [-1, size, size]), tf.reshape(caps, [-1, size]))
    if solver in FIRST_ORDER:
        weights, iterations = ActiveSet(problem).run(*FIRST_ORDER[solver](problem))
    else:
        from aekd_tf.qp import references

        weights, iterations = references.solve(problem.gram, problem.caps, solver)
    weights, gap = certify(problem, weights)
    weights = tf.ensure_shape(tf.reshape(weights, tf.shape(caps)), gram.shape[:-1])
    gap, iterations = (
        tf.ensure_shape(tf.reshape(value, batch), gram.shape[:-2]) for value in (gap, iterations)
    )
    return weights, gap, iterations


@functools.cache
def compiled(solver: str, dtype: str, shapes: tuple[tuple[int | None, ...] | None, ...]) -> Any:
    """Returns the compiled program for Gram matrices and caps of a dtype and of these shapes.

    There is one wherever the call comes from: dispatch costs as much as a hundred steps, and a
    step outside XLA as much as a whole solve. TensorFlow warns if one function has many shapes.
    """
    return tf.function(functools.partial(solve, solver), jit_compile=True, autograph=False)


def _floating(value: Any) -> tf.Tensor:
    value = tf.convert_to_tensor(value)
    return value if value.dtype in (tf.float32, tf.float64) else tf.cast(value, tf.float32)


def _checked(tolerance: Any, size: int, dtype: tf.DType) -> tf.Tensor:
    """Returns `tolerance` as a tensor, checked if its values are known."""
    if not tf.is_tensor(tolerance):
        check_tolerance(tolerance, size)
        return tf.constant(np.asarray(tolerance, dtype.as_numpy_dtype))
    value = tf.get_static_value(tolerance)
    if value is not None:
        check_tolerance(value, size)
    return tf.stop_gradient(tf.cast(tolerance, dtype))


def _size(shape: tf.TensorShape) -> int:
    size = shape[-1] if shape.rank else None
    if shape.rank is None or shape.rank < 2 or size is None or shape[-2] != size:
        raise ValueError(f"gram must have shape [..., M, M] with static M, got {shape}")
    return size
