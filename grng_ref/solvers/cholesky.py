"""Solve by Cholesky factorization of the dense damped matrix."""

from __future__ import annotations

from ..arrays import Array
from ..arrays.linalg import add_to_diagonal, cholesky, cholesky_solve, norm
from .result import SolveResult, failure, refine


def solve_cholesky(matrix: Array, v: Array, *, damping: float) -> SolveResult:
    """Solve ``(M + a I) x = v`` for a symmetric M (n, n) and v (n,); O(n^3 / 3).

    A matrix that is not numerically positive definite is a status; nothing is added to make it so.
    """
    damped = add_to_diagonal(matrix, damping)
    factor = cholesky(damped)
    if factor is None:
        return failure(v, "not_positive_definite", "cholesky")
    return refine(
        lambda x: damped @ x,
        lambda r: cholesky_solve(factor, r),
        v,
        matrix_norm=norm(matrix) + damping,
        method="cholesky",
    )
