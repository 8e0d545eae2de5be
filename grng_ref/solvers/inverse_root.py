"""Coupled Newton iteration: an inverse p-th root from matrix products alone."""

from __future__ import annotations

import math

from ..arrays import Array, check_integer, epsilon, namespace
from ..arrays.linalg import identity, norm, quiet, symmetrize
from .newton_schulz import InverseResult, row_sum_norm
from .result import Status


def coupled_newton_inverse_root(
    matrix: Array, *, order: int, max_iterations: int | None = None
) -> InverseResult:
    """The inverse root ``M^{-1/p}`` of a symmetric positive definite M (n, n), p = ``order``.

    ``T = ((p + 1) I - N) / p``, ``X <- X T``, ``N <- T^p N``, from ``X = t^{-1/p} I`` and ``N = M / t`` with
    ``t = |M|_inf``; always ``N = M X^p``, in exact arithmetic. An eigenvalue 1 - e of N, with e in [0, 1),
    becomes at least 1 - e^2: the error is at least squared by every step. X and N are kept symmetric.

    Parameters
    ----------
    order : int
        p >= 1. At 1 this is the Newton-Schulz iteration.
    max_iterations : int, optional
        By default as many as the worst condition number of the dtype, 1/eps, needs at p = 1, the slowest.

    Returns
    -------
    InverseResult
        ``inverse`` is X, ``residual`` is ``|I - M X^p|_F``, computed from M and X and not read off N, which
        roundoff lets drift away from ``M X^p``. Status ``"converged"`` if it is at most the square root of
        eps, ``"stagnated"`` if it stopped falling before (M too ill-conditioned, or not positive definite).

    Raises
    ------
    TypeError, ValueError
        An order that is not an integer of at least 1.

    Notes
    -----
    Shampoo preconditions with such roots (Anil and others 2020). Source: classical (Guo and Higham 2006;
    Iannazzo 2006).
    """
    p = check_integer("order", order, minimum=1)
    xp = namespace(matrix=matrix)
    n, eps = matrix.shape[0], epsilon(matrix)
    if max_iterations is None:
        max_iterations = math.ceil(math.log2(math.log(1.0 / eps) / eps)) + 2
    unit = identity(n, matrix)

    def residual_of(x: Array) -> float:
        return norm(unit - matrix @ xp.linalg.matrix_power(x, p))

    bound = row_sum_norm(matrix)
    if bound == 0.0:
        return InverseResult(matrix, "not_positive_definite", 0, math.sqrt(n))
    with quiet():
        x, coupled = unit * bound ** (-1.0 / p), matrix / bound
        residual = residual_of(x)
        iterations = 0
        while residual > n * eps and iterations < max_iterations:
            step = ((p + 1) * unit - coupled) / p
            candidate = symmetrize(x @ step)
            candidate_residual = residual_of(candidate)
            # As for Newton-Schulz: above one half only a rise is roundoff, below it the residual is at least
            # halved by its own square, or roundoff has been reached.
            slowest = 0.5 if residual < 0.5 else 1.0 + n * eps
            if not candidate_residual < slowest * residual:
                break
            x, residual = candidate, candidate_residual
            coupled = symmetrize(xp.linalg.matrix_power(step, p) @ coupled)
            iterations += 1
    status: Status = "converged" if residual <= math.sqrt(eps) else "stagnated"
    if not bool(xp.all(xp.isfinite(x))):
        status = "not_finite"
    return InverseResult(x, status, iterations, residual)
