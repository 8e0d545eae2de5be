"""Coupled Newton iteration: an inverse p-th root from matrix products alone."""

from __future__ import annotations

import math

from ..arrays import Array, check_finite, check_integer, check_real, check_shape, epsilon, namespace
from ..arrays.linalg import identity, norm, quiet, symmetrize
from .newton_schulz import InverseResult, row_sum_norm
from .result import Status


def inverse_root(matrix: Array, *, order: int, max_iterations: int | None = None) -> InverseResult:
    """The inverse p-th root ``M^{-1/p}`` of a symmetric positive definite M, by coupled Newton iteration.

    ``X <- X T`` and ``N <- T^p N`` with ``T = I + (I - N) / p``, from ``X = I`` and ``N = M / t``,
    ``t = |M|_inf``; the root is ``R = t^{-1/p} X``. In exact arithmetic always ``N = M R^p``. An eigenvalue
    1 - e of N, e in [0, 1), becomes 1 - e' with ``0 <= e' <= e^2``: every step at least squares the error.

    Parameters
    ----------
    matrix : array (n, n)
        M, symmetric.
    order : int
        p >= 1; 1 gives the inverse.
    max_iterations : int, optional
        By default as many as the worst condition number of the dtype, 1/eps, needs.

    Returns
    -------
    InverseResult
        ``inverse`` is R, symmetric. ``residual`` is ``|I - M R^p|_F``, computed from M and the root, since
        roundoff lets N drift away from them. Status ``"converged"``: it is at most the square root of
        eps. ``"stagnated"``: it stopped falling before, or the iterations ran out; M is not positive
        definite, not symmetric, or too ill-conditioned. ``"not_positive_definite"``: M is zero.
        ``"not_finite"``: the root or ``|M|_inf`` overflows. Nothing is raised for these.

    Raises
    ------
    TypeError, ValueError
        Not a square, finite matrix, an order below 1, a negative number of iterations.

    Notes
    -----
    The residual ends near ``eps cond(M)``, as for a root from the eigendecomposition: roots get through up to
    about cond(M) = 1/sqrt(eps). A step multiplies a small eigenvalue of N by about ``(1 + 1/p)^p``: 2 to e.
    There is no warm start: the coupling needs an X that commutes with M, and an old root does not. Shampoo
    preconditions with such roots (Anil and others 2020). Source: classical (Guo and Higham 2006;
    Iannazzo 2006).
    """
    xp = namespace(matrix=matrix)
    check_shape("matrix", matrix, (None, None), "(n, n)")
    n = matrix.shape[0]
    check_shape("matrix", matrix, (n, n), "(n, n)")
    check_finite(matrix=matrix)
    p, eps = check_integer("order", order, minimum=1), epsilon(matrix)
    check_real("order", p)  # an integer may lie beyond float64
    if max_iterations is None:
        # Small eigenvalues at least double; the second logarithm is the squaring at the end.
        max_iterations = math.ceil(math.log2(math.log(1.0 / eps) / eps)) + 2
    check_integer("max_iterations", max_iterations, minimum=0)

    with quiet():
        bound = row_sum_norm(matrix)
        if not 0.0 < bound < math.inf:
            why: Status = "not_positive_definite" if bound == 0.0 else "not_finite"
            return InverseResult(matrix, why, 0, math.sqrt(n))
        unit = identity(n, matrix)
        # The iteration sees M / t, so that no power of X overflows where the root itself does not.
        scaled = matrix / bound

        def residual_of(x: Array) -> float:
            return norm(unit - scaled @ xp.linalg.matrix_power(x, p))

        x, coupled = unit, scaled
        residual = residual_of(x)
        iterations = 0
        while residual > n * eps and iterations < max_iterations:
            step = unit + (unit - coupled) / p
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
        root = x / bound ** (1.0 / p)
    status: Status = "converged" if residual <= math.sqrt(eps) else "stagnated"
    if not math.isfinite(residual) or not bool(xp.all(xp.isfinite(root))):
        status = "not_finite"
    return InverseResult(root, status, iterations, residual)
