"""The capped-simplex quadratic program that turns a Gram matrix into teacher weights.

`solve_capped_simplex_qp` is the public entry; `project_capped_simplex` is the exact
Euclidean projection it is built on. The solvers that leave the graph (CVXOPT, LIBSVM)
live in `aekd_tf.qp_references`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aekd_tf.checks import check_choice, check_tolerance
from aekd_tf.names import IN_GRAPH_SOLVERS, REFERENCE_SOLVERS, SOLVERS
from aekd_tf.qp.algebra import certify, normalized, project
from aekd_tf.qp.steps import solve_in_graph


class QPSolution(NamedTuple):
    """What every solver returns, batch shape `[...]` first.

    Attributes:
        weights: `[..., M]`, the minimizer; sums to 1, each entry in `[0, C]`.
        gap: `[...]`, certified duality gap relative to the objective's scale;
            `inf` where the Gram matrix was not finite.
        iterations: `[...]` int32, steps taken by the solver.
    """

    weights: tf.Tensor
    gap: tf.Tensor
    iterations: tf.Tensor


def solve_capped_simplex_qp(gram: Any, tolerance: Any = 1.0, *, solver: str = "smo") -> QPSolution:
    r"""Solves Eq. 10/13 of the paper: the minimum-norm point of a capped convex hull.

    Primal, over the weights `w` of `M` teachers with gradients `g_m` and Gram matrix
    `G[m, n] = <g_m, g_n>`:

        minimize  f(w) = 1/2 w' G w = 1/2 || sum_m w_m g_m ||^2
        subject to  sum_m w_m = 1,  0 <= w_m <= C_m

    Dual (of the linearization at `w`, tight at the optimum):

        maximize  v  with  f(w) - gap(w) <= v <= f(w*),
        gap(w) = w' G w - min { s' G w : sum s = 1, 0 <= s <= C }

    The inner minimum fills the caps in ascending order of `G w`, so the gap is computed
    exactly from the returned weights. It bounds `f(w) - f(w*)` from above for every
    positive semi-definite `G`, whichever solver produced `w`.

    Solvers:

    - `"smo"` (default): pairwise coordinate steps. Each step moves weight from teacher j
      to teacher i, where i has the smallest gradient among those below their cap and j the
      largest second-order decrease among those above zero.
    - `"projected"`: accelerated projected gradient with adaptive restart and the exact
      projection `project_capped_simplex`.
    - `"cvxopt"`: interior point in float64. `"libsvm"`: scikit-learn's OneClassSVM on the
      trace-normalized matrix. References: they leave the graph through
      `tf.numpy_function`, so they do not compile under XLA.

    Both in-graph solvers first scale `G` by a power of two, which rounds nothing, and take
    first-order steps, which find most of the teachers at a bound: `"smo"` until a step gains
    little, `"projected"` at most 50. An active-set method ends what these would creep towards:
    Newton steps over the teachers at no bound, and moves of one other with the best response of
    these, whichever promises the lower objective. Its linear system gains or loses a teacher at
    a time, O(M^2). A problem is solved when

        max_{w_j > 0} (G w)_j - min_{w_i < C_i} (G w)_i  <=  tol * scale

    with `scale = max(f(w), 0.1 f(uniform))` and tol = 1e-6 (float32) or 1e-10 (float64). The
    left side is an upper bound of `gap(w)`. It also stops where no step promises to lower `f` by
    3% of `tol * scale`, where none did that left as many teachers between their bounds, which
    only rounding can bring about, and at `5 M + 80` iterations (twice that in all). If `gap(w)`
    is then above 8 times `tol * scale`, the active-set method continues with a system in pairs
    of floats, which keep curvatures down to 6e-11 (float32) of the gradients' own, to the same
    end. The returned `gap` says what was reached.
    Where rounding has made `G` indefinite, with smallest eigenvalue -e, there are several local
    minima: what is said above of `f(w)` and `gap(w)` then holds but for `e/2 ||w - w*||^2`.
    The programs hold no py_function and, at static shapes, no custom call, no dynamic
    dimension and no float64 that was not asked for.

    Args:
        gram: `[..., M, M]`, symmetric positive semi-definite, float32 or float64; M is
            static, from 1 to 256. Anything else is converted to float32.
        tolerance: the cap C in (0, 1], or `[..., M]`, one cap a teacher, of which some may be
            0; caps must sum to at least 1. `C = 1/M` is the plain average, `C = 1` the
            minimum-norm point (MGDA).
        solver: one of `"smo"`, `"projected"`, `"cvxopt"`, `"libsvm"`.

    Returns:
        `QPSolution(weights, gap, iterations)`. `gap` is relative to
        `max(f(w) - gap, 0.1 f(uniform))`, a lower bound of `max(f(w*), 0.1 f(uniform))`.
        Not differentiable: gradients are stopped. A Gram matrix with a NaN or an infinity
        gives uniform weights and `gap = inf`; a zero matrix, and one below the smallest normal
        number, gives uniform weights, gap 0.

    Raises:
        ValueError: unknown solver; gram not square; a cap outside (0, 1] or not finite;
            caps that sum to less than 1 (the message names both numbers).

    References:
        Du et al., "Agree to Disagree", NeurIPS 2020, Eq. 10-16.
        Fan, Chen, Lin, "Working Set Selection Using Second Order Information for Training
        SVM", JMLR 2005 (the pair selection of `"smo"`).
        O'Donoghue, Candes, "Adaptive Restart for Accelerated Gradient Schemes", 2015.
        Nocedal, Wright, "Numerical Optimization", 2006, section 16.5 (active-set methods).
        Jaggi, "Revisiting Frank-Wolfe", ICML 2013 (the gap).
    """
    gram = tf.convert_to_tensor(gram)
    eager = tf.executing_eagerly() and not tf.config.functions_run_eagerly()
    if eager and isinstance(tolerance, float) and solver in IN_GRAPH_SOLVERS:
        # Checked and compiled once: outside a graph that would cost more than the solve.
        program, caps = _prepared(solver, gram.shape, gram.dtype, tolerance)
        return QPSolution._make(program(gram, caps))
    check_choice("solver", solver, SOLVERS)
    # Here, not in the program: XLA could not build the backward pass of its loops.
    gram = tf.stop_gradient(gram)
    if gram.dtype not in (tf.float32, tf.float64):
        gram = tf.cast(gram, tf.float32)
    caps = _checked(tolerance, _size(gram.shape), gram.dtype)
    if solver in REFERENCE_SOLVERS:
        return QPSolution(*solve(solver, gram, caps))
    return QPSolution(*COMPILED[solver](gram, caps))


def project_capped_simplex(point: Any, tolerance: Any = 1.0) -> tf.Tensor:
    """Exact Euclidean projection onto `{w : sum w = 1, 0 <= w <= C}`.

    The projection is `clip(point - shift, 0, C)` for the one shift that makes it sum to 1.
    The sum is piecewise linear in the shift with breakpoints `point` and `point - C`; the
    segment that holds 1 is found by evaluating the sum at every breakpoint (O(M^2), no
    sort), then the shift is solved on its free coordinates.

    Args:
        point: `[..., M]`, float32 or float64, finite.
        tolerance: the cap, scalar or `[..., M]`; as in `solve_capped_simplex_qp`.

    Returns:
        `[..., M]`, the nearest feasible point.

    Raises:
        ValueError: caps outside (0, 1] or that sum to less than 1.

    Reference:
        Wang, Lu, "Projection onto the capped simplex", arXiv:1503.01002.
    """
    point = tf.convert_to_tensor(point)
    if point.dtype not in (tf.float32, tf.float64):
        point = tf.cast(point, tf.float32)
    size = point.shape[-1]
    if size is None:
        raise ValueError(f"point must have a static last dimension, got {point.shape}")
    caps = _spread(_checked(tolerance, size, point.dtype), tf.shape(point))
    return project(point, caps)


def _checked(tolerance: Any, size: int, dtype: tf.DType) -> tf.Tensor:
    """`tolerance` as a tensor, checked where its values are known."""
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


def _spread(caps: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Caps `[...]` as `shape`; those that sum to 1 but for rounding are made to do so."""
    caps = tf.broadcast_to(caps, shape)
    total = tf.reduce_sum(caps, -1, keepdims=True)
    return tf.where(total < 1, caps / total, caps)


def solve(solver: str, gram: tf.Tensor, caps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same on checked arguments: `gram [..., M, M]`, caps `[]` or `[..., M]`."""
    size, batch_shape = gram.shape[-1], tf.shape(gram)[:-2]
    caps = _spread(caps, tf.shape(gram)[:-1])
    flat_gram = tf.reshape(gram, [-1, size, size])
    flat_caps = tf.reshape(caps, [-1, size])
    if solver in IN_GRAPH_SOLVERS:
        scaled, _ = normalized(flat_gram)
        candidate, iterations = solve_in_graph(scaled, flat_caps, solver)
    else:
        from aekd_tf.qp import references as qp_references

        candidate, iterations = qp_references.solve(flat_gram, flat_caps, solver)
    flat_weights, flat_gap = certify(flat_gram, flat_caps, candidate)
    weights = tf.ensure_shape(tf.reshape(flat_weights, tf.shape(caps)), gram.shape[:-1])
    gap = tf.ensure_shape(tf.reshape(flat_gap, batch_shape), gram.shape[:-2])
    return weights, gap, tf.ensure_shape(tf.reshape(iterations, batch_shape), gram.shape[:-2])


# One compiled program a solver, wherever it is called from: dispatch costs as much as a
# hundred steps, and a step outside XLA as much as a whole solve.
COMPILED = {
    solver: tf.function(functools.partial(solve, solver), jit_compile=True, autograph=False)
    for solver in IN_GRAPH_SOLVERS
}


@functools.lru_cache(maxsize=256)
def _prepared(solver: str, shape: tf.TensorShape, dtype: tf.DType, tolerance: float) -> Any:
    """`(program, caps)` for eager calls: a program free of `tf.function`'s look-ups.

    No gradient tape sees an inference function's call.
    """
    kept = dtype if dtype in (tf.float32, tf.float64) else tf.float32
    caps = _checked(tolerance, _size(shape), kept)
    if kept != dtype:
        return lambda gram, caps: COMPILED[solver](
            tf.cast(tf.stop_gradient(gram), kept), caps
        ), caps
    specs = tf.TensorSpec(shape, dtype), tf.TensorSpec([], dtype)
    program = COMPILED[solver].get_concrete_function(*specs).inference_fn
    return getattr(program, "call_flat", program), caps  # without binding arguments by name
