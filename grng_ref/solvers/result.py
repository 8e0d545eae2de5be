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
        ``|v - (C + a I) x| / (((|C|_F + a) |x| + |B|_F |c|) n eps)``, eps of the dtype, n the size; the term
        with c where ``v = B^T c`` was given by its coefficients.
    rank : int or None
        Numerical rank, where the method finds it: by eigenvalues, of C or of the Gram matrix.
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


def scaled_residual(remainder: Array, x: Array, matrix_norm: float, terms: float = 0.0) -> float:
    """``|remainder| / ((matrix_norm |x| + terms) n eps)``; zero for a zero remainder.

    ``terms`` is the size of the terms that the right-hand side was summed from, where it is known: what
    cancelled between them left its roundoff behind, and no solver can be better than that.
    """
    top = norm(remainder)
    if top == 0.0:
        return 0.0
    # Divided first: the product |C| |x| can overflow where the quotient does not.
    ratio = matrix_norm / top * norm(x) + terms / top
    return float("inf") if ratio == 0.0 else 1.0 / (ratio * math.prod(x.shape) * epsilon(x))


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
    terms: float = 0.0,
    outside: Array | None = None,
) -> SolveResult:
    """Solve ``apply(x) = v`` from an approximate solver, by fixed-precision iterative refinement.

    ``x <- x + approximate(v - apply(x))``, at most three times, while the scaled residual exceeds 1 and
    falls; the best iterate is kept and judged.

    Parameters
    ----------
    terms : float
        ``|B|_F |c|`` where ``v = B^T c`` is known; see `scaled_residual`.
    outside : array, optional
        For a minimum-norm solution: the part of v outside the numerical range. At most ``sqrt(n eps) |v|`` of
        it is taken for roundoff (eigenvalues below n eps count as zero), unless c shows that v is in the
        range.
    """
    xp = namespace(v=v)
    x = approximate(v) if start is None else start
    remainder = v - apply(x)
    residual = scaled_residual(remainder, x, matrix_norm, terms)
    steps = 0
    while residual > _GOAL and steps < _MAX_REFINEMENTS:
        better = x + approximate(remainder)
        next_remainder = v - apply(better)
        next_residual = scaled_residual(next_remainder, better, matrix_norm, terms)
        if not next_residual < residual:
            break
        x, remainder, residual, steps = better, next_remainder, next_residual, steps + 1
    status: Status = "converged"
    if not bool(xp.all(xp.isfinite(x))):
        status = "not_finite"
    elif not residual <= ACCEPTED_RESIDUAL:
        status = "inaccurate" if outside is None else "outside_range"
    elif outside is not None and terms == 0.0 and is_more_than_roundoff(outside, v):
        status = "outside_range"
    return SolveResult(x, status, steps if iterations is None else iterations, residual, rank, method)


def is_more_than_roundoff(part: Array, v: Array) -> bool:
    """Whether a part of v exceeds ``sqrt(n eps) |v|``."""
    return norm(part) > math.sqrt(math.prod(v.shape) * epsilon(v)) * norm(v)


def failure(v: Array, status: Status, method: str, iterations: int = 0) -> SolveResult:
    """A result without an answer: x is zero and the residual infinite."""
    return SolveResult(0.0 * v, status, iterations, float("inf"), None, method)


def check_row_coefficients(name: str, v: Array, product: Array, *, size: int, terms: float) -> None:
    """Raise a ValueError unless v is ``B^T c``, up to what an accepted residual may hide.

    Two roundings of one product, by a network's backward pass and from its score rows, are apart by more than
    the roundoff of either.

    Parameters
    ----------
    name : str
        What v is called.
    v, product : array (P,)
        The vector, and ``B^T c``.
    size : int
        The longer side of B.
    terms : float
        ``|B|_F |c|``.
    """
    distance = norm(v - product)
    roundoff = ACCEPTED_RESIDUAL * size * epsilon(v) * terms
    if distance > roundoff:
        raise ValueError(
            f"coefficients must satisfy {name} = B^T c, got |{name} - B^T c| = {distance:.3g} where roundoff "
            f"explains {roundoff:.3g}"
        )
