"""Conjugate gradients: a solve from products alone, for operators that are never formed."""

from __future__ import annotations

from dataclasses import replace

from ..arrays import Array, namespace
from ..arrays.linalg import norm
from .result import Apply, SolveResult, Status, is_more_than_roundoff, refine, scaled_residual

_POWER_STEPS = 3


def solve_conjugate_gradient(
    apply: Apply,
    v: Array,
    *,
    precondition: Apply | None = None,
    terms: float = 0.0,
    singular: bool = False,
    max_iterations: int | None = None,
) -> SolveResult:
    """Solve ``M x = v`` for a symmetric positive semidefinite M given by its products.

    Preconditioned conjugate gradients (Hestenes and Stiefel 1952), restarted from the true residual where
    the recursive one has drifted from it. Convergence is governed by the condition number of M, or of the
    preconditioned M.

    Parameters
    ----------
    apply : callable
        ``x -> M x`` (n,).
    precondition : callable, optional
        ``r -> K^{-1} r`` for a symmetric positive definite K near M.
    terms : float
        See `scaled_residual`.
    singular : bool
        Whether M may be singular (zero damping). The solution is then the one of minimum norm, without a
        preconditioner, and more than ``sqrt(n eps) |v|`` that is left of v is outside the range of M.
    max_iterations : int, optional
        Of each run between restarts; by default ``10 n``, ten times what exact arithmetic needs.

    Returns
    -------
    SolveResult
        ``iterations`` counts products of all runs. The residual is relative to a lower bound of |M| from
        power iteration, so that it is never too small. Status ``"stagnated"`` where it stayed above 30.
    """
    size = int(v.shape[0])
    limit = 10 * size if max_iterations is None else max_iterations
    matrix_norm = _norm_from_below(apply, v)
    products = 0

    def run(r: Array) -> Array:
        nonlocal products
        x, count = _descend(apply, r, precondition, matrix_norm, limit)
        products += count
        return x

    result = refine(apply, run, v, matrix_norm=matrix_norm, method="cg", terms=terms)
    status: Status = "stagnated" if result.status == "inaccurate" else result.status
    if singular and terms == 0.0 and is_more_than_roundoff(v - apply(result.x), v):
        status = "outside_range"
    return replace(result, status=status, iterations=products)


def _descend(
    apply: Apply, v: Array, precondition: Apply | None, matrix_norm: float, limit: int
) -> tuple[Array, int]:
    """One run from zero: the last iterate, and how many products it took."""
    xp = namespace(v=v)
    x, r = 0.0 * v, v
    z = r if precondition is None else precondition(r)
    direction, rz = z, float(xp.sum(r * z))
    for count in range(limit):
        if not rz > 0.0 or (count > 0 and scaled_residual(r, x, matrix_norm) <= 0.5):
            return x, count
        image = apply(direction)
        curvature = float(xp.sum(direction * image))
        if not curvature > 0.0:  # a direction of the null space, or roundoff
            return x, count + 1
        step = rz / curvature
        x, r = x + step * direction, r - step * image
        z = r if precondition is None else precondition(r)
        rz, before = float(xp.sum(r * z)), rz
        direction = z + (rz / before) * direction
    return x, limit


def _norm_from_below(apply: Apply, v: Array) -> float:
    """``|M u|`` of a unit vector u after a few power steps: a lower bound of |M|."""
    u = v
    for _ in range(_POWER_STEPS):
        length = norm(u)
        if length == 0.0:
            return 0.0
        u = apply(u / length)
    return norm(u)
