"""Solve by Cholesky factorization of the dense damped matrix."""

from __future__ import annotations

from ..arrays import Array, epsilon
from ..arrays.linalg import cholesky, cholesky_solve, is_singular, norm, symmetric_times
from .result import SolveResult, failure, refine


def solve_cholesky(matrix: Array, v: Array, *, damping: float, terms: float = 0.0) -> SolveResult:
    """Solve ``(M + a I) x = v`` for a symmetric M (n, n) and v (n,); O(n^3 / 3).

    A matrix that is not numerically positive definite is a status, and so is a singular one (at a = 0, or
    a below roundoff) whose factorization only roundoff lets succeed; nothing is added to make it definite.
    ``terms``: see `scaled_residual`.
    """
    factor = cholesky(matrix, shift=damping)
    matrix_norm = norm(matrix)
    negligible = damping <= matrix.shape[0] * epsilon(matrix) * matrix_norm
    if factor is None or (negligible and is_singular(factor, matrix_norm)):
        return failure(v, "not_positive_definite", "cholesky")
    return refine(
        lambda x: symmetric_times(matrix, x) + damping * x,
        lambda r: cholesky_solve(factor, r),
        v,
        matrix_norm=matrix_norm + damping,
        method="cholesky",
        terms=terms,
    )
