"""The quadratic program of the paper: its solvers, and the projection they use."""

from aekd_tf.qp.solve import QPSolution, project_capped_simplex, solve_capped_simplex_qp

__all__ = ["QPSolution", "project_capped_simplex", "solve_capped_simplex_qp"]
