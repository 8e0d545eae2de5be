"""Newton-Schulz iteration: an inverse from matrix products alone, the paper's route."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..arrays import Array, epsilon, namespace
from ..arrays.linalg import add_to_diagonal, identity, norm, symmetrize
from .result import SolveResult, Status, refine


@dataclass(frozen=True)
class InverseResult:
    """An approximate inverse X of M, or inverse p-th root, and how good it is.

    Attributes
    ----------
    inverse : array (n, n)
        The last iterate X; an answer only if ``success``.
    status : str
        ``"converged"``: the residual is at most the square root of eps; otherwise ``"stagnated"``,
        ``"not_positive_definite"`` or ``"not_finite"``.
    iterations : int
        Steps taken.
    residual : float
        ``|I - M X|_F``, for a root ``|I - M X^p|_F``.
    """

    inverse: Array
    status: Status
    iterations: int
    residual: float

    @property
    def success(self) -> bool:
        """Whether X is an answer."""
        return self.status == "converged"


def newton_schulz_inverse(
    matrix: Array, *, start: Array | None = None, max_iterations: int | None = None
) -> InverseResult:
    """Invert a symmetric positive definite M (n, n) by ``X <- X (2 I - M X)``.

    The error ``E = I - M X`` is squared by every step. X is kept symmetric: a non-symmetric approximate
    inverse can turn a descent step into a divergent one.

    Parameters
    ----------
    start : array (n, n), optional
        A symmetric first X, used if ``|I - M X|_F < 1``; otherwise ``I / |M|_inf``, from which the
        iteration always converges.
    max_iterations : int, optional
        By default as many as the worst condition number of the dtype, 1/eps, needs.

    Returns
    -------
    InverseResult
        Status ``"converged"`` if the residual is at most the square root of eps, ``"stagnated"`` if it
        stopped falling before (M too ill-conditioned, or not positive definite). Where the eigenvalues are
        spread out, the last residual of a symmetric X grows like ``eps cond(M)^2``, since the errors of its
        large entries reach the small ones: solves get through up to about cond(M) = 1/sqrt(eps).

    Notes
    -----
    From ``I / t`` the residual is at most q after ``ceil(log2(ln(1/q) / -ln(1 - lmin/t)))`` iterations.
    Source: classical (Schulz 1933; Pan and Schreiber 1991).
    """
    xp = namespace(matrix=matrix)
    n, eps = matrix.shape[0], epsilon(matrix)
    if max_iterations is None:
        max_iterations = math.ceil(math.log2(math.log(1.0 / eps) / eps)) + 2
    unit = identity(n, matrix)

    def error_of(x: Array) -> tuple[Array, float]:
        error = unit - matrix @ x
        return error, norm(error)

    bound = row_sum_norm(matrix)
    if bound == 0.0:
        return InverseResult(matrix, "not_positive_definite", 0, math.sqrt(n))
    x = unit / bound
    error, residual = error_of(x)
    if start is not None:
        start_error, start_residual = error_of(start)
        if start_residual < 1.0:
            x, error, residual = start, start_error, start_residual
    iterations = 0
    while residual > n * eps and iterations < max_iterations:
        candidate = symmetrize(x + x @ error)
        candidate_error, candidate_residual = error_of(candidate)
        # Far from the end the residual falls slowly, one small eigenvalue at a time, and only a rise is
        # roundoff. Below one half it is at least halved by its own square, or roundoff has been reached.
        slowest = 0.5 if residual < 0.5 else 1.0 + n * eps
        if not candidate_residual < slowest * residual:
            break
        x, error, residual = candidate, candidate_error, candidate_residual
        iterations += 1
    status: Status = "converged" if residual <= math.sqrt(eps) else "stagnated"
    if not bool(xp.all(xp.isfinite(x))):
        status = "not_finite"
    return InverseResult(x, status, iterations, residual)


def solve_newton_schulz(
    matrix: Array, v: Array, *, damping: float, terms: float = 0.0, start: Array | None = None
) -> SolveResult:
    """Solve ``(M + a I) x = v`` through the Newton-Schulz inverse, with refinement steps.

    Refinement contracts as soon as ``|I - (M + a I) X| < 1``, so a solve can be accurate where the inverse
    is not; what counts is the scaled residual. A singular matrix (at a = 0, or a below roundoff) that only
    roundoff makes definite is a status, as it is for Cholesky. ``terms``: see `scaled_residual`.
    """
    damped = add_to_diagonal(matrix, damping)
    found = newton_schulz_inverse(damped, start=start)
    roundoff = matrix.shape[0] * epsilon(matrix) * norm(matrix)
    result = refine(
        lambda x: damped @ x,
        lambda r: found.inverse @ r,
        v,
        matrix_norm=norm(matrix) + damping,
        method="newton_schulz",
        iterations=found.iterations,
        terms=terms,
    )
    if damping <= roundoff and found.residual < 1.0 and norm(found.inverse) * roundoff >= 1.0:
        return replace(result, status="not_positive_definite")
    if damping == 0.0 and not found.residual < 1.0:
        # M is singular: in its null space X only doubles at every step, and an x that is large enough passes
        # any test of its residual.
        return replace(result, status="not_finite" if found.status == "not_finite" else "stagnated")
    if result.status == "inaccurate":
        return replace(result, status=found.status if found.status != "converged" else "inaccurate")
    return result


def row_sum_norm(matrix: Array) -> float:
    """``|M|_inf``: the largest absolute row sum, an upper bound of the largest eigenvalue."""
    xp = namespace(matrix=matrix)
    return float(xp.max(xp.sum(xp.abs(matrix), axis=1)))
