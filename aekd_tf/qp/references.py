"""CVXOPT and LIBSVM as references for the capped-simplex QP, in float64 outside the graph.

Both are imported only when their solver is chosen. CVXOPT is licensed under the GPL-3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def solve(gram: tf.Tensor, caps: tf.Tensor, solver: str) -> tuple[tf.Tensor, tf.Tensor]:
    """`(weights [N, M], iterations [N])` of `gram [N, M, M]` under `caps [N, M]`."""
    solve_one = {"cvxopt": solve_cvxopt, "libsvm": solve_libsvm}[solver]

    def solve_all(gram: np.ndarray, caps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [solve_scaled(solve_one, g, c) for g, c in zip(gram, caps, strict=True)]
        weights = np.reshape([pair[0] for pair in pairs], caps.shape)
        return weights, np.array([pair[1] for pair in pairs], np.int32)

    weights, iterations = tf.numpy_function(solve_all, [gram, caps], [tf.float64, tf.int32])
    weights.set_shape(caps.shape)
    iterations.set_shape(caps.shape[:1])
    return weights, iterations


def solve_scaled(
    solve_one: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, int]],
    gram: np.ndarray,
    caps: np.ndarray,
) -> tuple[np.ndarray, int]:
    gram, caps = gram.astype(np.float64), caps.astype(np.float64)
    start = caps / caps.sum()
    trace = np.trace(gram) / 2 if np.isfinite(gram).all() else 0.0
    if not trace > 0 or caps.sum() <= 1 + 1e-9:  # nothing to choose
        return start, 0
    free = np.flatnonzero(caps > 0)  # interior points need room
    weights, iterations = solve_one(gram[np.ix_(free, free)] / (2 * trace), caps[free])
    start[:] = 0
    start[free] = weights
    return start, iterations


_TIGHT = {"abstol": 1e-14, "reltol": 1e-12, "feastol": 1e-12, "maxiters": 100}


def solve_cvxopt(gram: np.ndarray, caps: np.ndarray, tight: bool = True) -> tuple[np.ndarray, int]:
    """Interior point on one float64 problem `[M, M]`, `[M]`, at tight or default tolerances."""
    try:
        from cvxopt import matrix, solvers
    except ImportError as error:
        raise ImportError("solver='cvxopt' needs the package cvxopt: pip install cvxopt") from error
    size = len(caps)
    result = solvers.qp(
        P=matrix(gram),
        q=matrix(np.zeros(size)),
        G=matrix(np.vstack([-np.eye(size), np.eye(size)])),
        h=matrix(np.concatenate([np.zeros(size), caps])),
        A=matrix(np.ones((1, size))),
        b=matrix(1.0),
        options={"show_progress": False, **(_TIGHT if tight else {})},
    )
    return np.asarray(result["x"]).ravel(), int(result["iterations"])


def solve_libsvm(gram: np.ndarray, caps: np.ndarray) -> tuple[np.ndarray, int]:
    """scikit-learn's OneClassSVM on one float64 problem; one cap for all teachers."""
    from sklearn.svm import OneClassSVM

    if np.ptp(caps) > 1e-12:
        raise ValueError("solver='libsvm' takes one cap for all teachers: use 'smo' or 'cvxopt'")
    # nu = 1 / (C M); the dual coefficients sum to nu * M and are capped at 1.
    nu = min(1.0, 1 / (caps[0] * len(caps)))
    machine = OneClassSVM(kernel="precomputed", nu=nu, tol=1e-10).fit(gram)
    weights = np.zeros(len(caps))
    weights[machine.support_] = machine.dual_coef_[0]
    return weights / weights.sum(), int(machine.n_iter_)
