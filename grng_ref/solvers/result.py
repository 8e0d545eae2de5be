"""What a solve returns, how it is judged, and the refinement that all solvers share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..arrays import Array, epsilon, namespace
from ..arrays.linalg import norm

Status = Literal[
    "converged",
    "inaccurate",
    "not_positive_definite",
    "outside_range",
    "stagnated",
    "not_finite",
]

ACCEPTED_RESIDUAL = 30.0
"""LAPACK's own threshold for the scaled residual of a linear solve."""

_GOAL = 1.0  # refinement stops below this scaled residual
_MAX_REFINEMENTS = 3

Apply = Callable[[Array], Array]


@dataclass(frozen=True)
class SolveResult:
    """The outcome of solving ``(C + a I) x = v``.

    Attributes
    ----------
    x : array
        The last iterate; an answer only if ``success``.
    status : str
        ``"converged"``: scaled residual at most 30. ``"inaccurate"``: larger. ``"not_positive_definite"``:
        the damped matrix is not, numerically. ``"outside_range"``: a = 0 and v is not in the range of C.
        ``"stagnated"``: an iteration stopped short. ``"not_finite"``: NaN or infinity.
    iterations : int
        Newton-Schulz iterations; for the direct methods, refinement steps taken.
    residual : float
        ``|v - (C + a I) x| / ((|C|_F + a) |x| n eps)``, eps of the dtype, n the size.
    rank : int or None
        Numerical rank, where the method finds it (eigenbasis, and the Gram form at a = 0).
    method : str
        The method that ran, after ``"auto"`` was resolved.
    """

    x: Array
    status: Status
    iterations: int
    residual: float
    rank: int | None
    method: str

    @property
    def success(self) -> bool:
        """Whether x is an answer."""
        return self.status == "converged"


def scaled_residual(remainder: Array, x: Array, matrix_norm: float) -> float:
    """``|remainder| / (matrix_norm |x| n eps)``; zero for a zero remainder."""
    top = norm(remainder)
    if top == 0.0:
        return 0.0
    length = norm(x)
    if matrix_norm == 0.0 or length == 0.0:
        return float("inf")
    # One division at a time: the product |C| |x| can overflow where the quotient does not.
    return top / matrix_norm / length / (math.prod(x.shape) * epsilon(x))


def refine(
    apply: Apply,
    approximate: Apply,
    v: Array,
    *,
    matrix_norm: float,
    method: str,
    start: Array | None = None,
    rank: int | None = None,
    iterations: int | None = None,
    unsolved: Status = "inaccurate",
) -> SolveResult:
    """Solve ``apply(x) = v`` from an approximate solver, by fixed-precision iterative refinement.

    ``x <- x + approximate(v - apply(x))``, at most three times, while the scaled residual exceeds 1 and
    falls; the best iterate is kept and judged. ``unsolved`` is the status of a residual above 30: at zero
    damping the reason is a v outside the range.
    """
    xp = namespace(v=v)
    x = approximate(v) if start is None else start
    remainder = v - apply(x)
    residual = scaled_residual(remainder, x, matrix_norm)
    steps = 0
    while residual > _GOAL and steps < _MAX_REFINEMENTS:
        better = x + approximate(remainder)
        next_remainder = v - apply(better)
        next_residual = scaled_residual(next_remainder, better, matrix_norm)
        if not next_residual < residual:
            break
        x, remainder, residual, steps = better, next_remainder, next_residual, steps + 1
    if not bool(xp.all(xp.isfinite(x))):
        status: Status = "not_finite"
    else:
        status = "converged" if residual <= ACCEPTED_RESIDUAL else unsolved
    return SolveResult(x, status, steps if iterations is None else iterations, residual, rank, method)


def failure(v: Array, status: Status, method: str, iterations: int = 0) -> SolveResult:
    """A result without an answer: x is zero and the residual infinite."""
    return SolveResult(0.0 * v, status, iterations, float("inf"), None, method)
