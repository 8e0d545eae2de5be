"""A small checker of bounds: proves the sides again, by other arithmetic than what found them.

Eigenvalues and the knapsack are decided in exact integers and rationals, whose elimination has no tolerance;
slopes of activations are evaluated in balls of other formulas. What a search did leaves no trace here.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref.arrays import check_choice, to_numpy
from grng_ref.certified import gram_enclosure, residual_enclosure

from . import check_exact as exact
from .bound import Bound
from .check_network import bending_holds, changed_jacobian, knapsack_holds, lipschitz_holds, range_holds, read


@dataclass(frozen=True)
class Check:
    """Whether a bound was proved again, and if not, what failed.

    Parameters
    ----------
    holds : bool
    reason : str
        Empty if it holds.
    """

    holds: bool
    reason: str = ""


def check_witness(bound: Bound, quantity: str, *arguments: Any) -> Check:
    """Prove both sides of a bound again, from its witness and the stored floats.

    Parameters
    ----------
    bound : Bound
    quantity : str
        The name of the function of `proofs_check.bounds` that gave it.
    *arguments
        That function's arguments, in its order.

    Returns
    -------
    Check
        A witness that is damaged, lies outside its ball or attains less than the bound says does not hold;
        nor does a side that is off by one unit in the last place, if that makes it false.

    Raises
    ------
    TypeError, ValueError
        Not a bound, an unknown quantity, a wrong number of arguments.

    Notes
    -----
    A side at infinity (or zero, for a norm from below) says nothing and holds. Exact
    elimination grows like the fourth power of the size: 0.1 s at n = 32, seconds at n = 100.

    The knapsack's multipliers are checked with scalar products of integers: 0.6 s at width 2^16 and n = 8.

    Source: classical (fraction-free elimination: Bareiss 1968).
    """
    if not isinstance(bound, Bound):
        raise TypeError(f"bound must be a Bound, got {type(bound).__name__}")
    checker = CHECKERS[check_choice("quantity", quantity, CHECKERS)]
    try:
        inspect.signature(checker).bind(bound, *arguments)
    except TypeError as error:
        raise TypeError(f"arguments must be those of {quantity}: {error}") from None
    try:
        if quantity in _NORMS and bound.upper < 0.0:
            return Check(False, f"{quantity} is never negative")
        reason = checker(bound, *to_numpy(arguments))
    except _DAMAGED as error:
        reason = f"the witness cannot be read: {type(error).__name__}: {error}"
    return Check(not reason, reason)


_DAMAGED = (KeyError, IndexError, OverflowError, ZeroDivisionError, exact.DamagedError)


def _least(bound: Bound, matrix: Any) -> str:
    M = exact.floats(matrix, 2)
    if not np.array_equal(M, M.T):
        return "the matrix is not symmetric"
    return _spectrum(M, None, bound.lower, bound.upper, _vector(bound))


def _greatest(bound: Bound, matrix: Any) -> str:
    turned = Bound(-bound.upper, -bound.lower, bound.rigorous, bound.method, bound.witness)
    return _least(turned, -exact.floats(matrix, 2))


def _gram_least(bound: Bound, problem: Any, theta: Any, x: Any) -> str:
    balls = gram_enclosure(problem, theta, x)
    return _spectrum(balls.midpoint, balls.radius, bound.lower, bound.upper, _vector(bound))


def _gram_greatest(bound: Bound, problem: Any, theta: Any, x: Any) -> str:
    balls = gram_enclosure(problem, theta, x)
    return _spectrum(-balls.midpoint, balls.radius, -bound.upper, -bound.lower, _vector(bound))


def _spectrum(
    middle: np.ndarray, radius: np.ndarray | None, lower: float, upper: float, v: list[Fraction]
) -> str:
    """What fails of ``lower <= lmin <= upper``, for all matrices within ``radius`` of ``middle``."""
    M = exact.matrix(middle)
    shift = max((sum(row) for row in exact.matrix(radius)), default=Fraction(0)) if radius is not None else 0
    size = sum(entry * entry for entry in v)
    if not size:
        return "the vector is zero"
    if upper < math.inf and exact.quadratic(M, v) + shift * size > Fraction(upper) * size:
        return "the vector's Rayleigh quotient is beyond the side that it should show"
    if lower > -math.inf and not exact.semidefinite(exact.shifted(M, Fraction(lower) + shift)):
        return "elimination finds an eigenvalue beyond the other side"
    return ""


def _inverse(bound: Bound, matrix: Any, inverse: Any) -> str:
    A, X = (exact.matrix(np.asarray(part, dtype=np.float64)) for part in (matrix, inverse))
    E = exact.shifted(exact.product(A, X), Fraction(1))  # A X - I
    square = exact.product(E, exact.transposed(E))
    if bound.upper < math.inf:
        size = Fraction(bound.upper) ** 2
        if not exact.semidefinite(exact.shifted([[-entry for entry in row] for row in square], -size)):
            return "elimination finds a greater norm"
    v = _vector(bound)
    length = sum(entry * entry for entry in v)
    if not length:
        return "the vector is zero"
    if exact.quadratic(square, v) < Fraction(bound.lower) ** 2 * length:
        return "the vector does not show the lower side"
    return ""


def _residual(bound: Bound, problem: Any, theta: Any, x: Any, y: Any) -> str:
    balls = residual_enclosure(problem, theta, x, y)
    pairs = list(zip(map(abs, exact.vector(balls.midpoint)), exact.vector(balls.radius), strict=True))
    least = sum(max(m - r, Fraction(0)) ** 2 for m, r in pairs)
    most = sum((m + r) ** 2 for m, r in pairs)
    if least < Fraction(bound.lower) ** 2:
        return "the norm may be less than the lower side"
    if bound.upper < math.inf and most > Fraction(bound.upper) ** 2:
        return "the norm may be greater than the upper side"
    return ""


def _bending(bound: Bound, activation: str) -> str:
    return bending_holds(activation, bound.lower, bound.upper)


def _lipschitz(bound: Bound, problem: Any, x: Any) -> str:
    network = read(problem, x)
    if network is None:
        return "" if bound.lower <= 0.0 and bound.upper == math.inf else "no bound is known for this model"
    return lipschitz_holds(network, bound.lower, bound.upper)


def _change(bound: Bound, problem: Any, theta: Any, x: Any, radius: float) -> str:
    network = read(problem, x)
    if network is None:
        return "" if bound.lower <= 0.0 and bound.upper == math.inf else "no bound is known for this model"
    if not 0.0 <= radius < math.inf:
        return "the radius is not a number >= 0"
    weights = network.weights(theta)
    if bound.lower > 0.0:
        reason = changed_jacobian(network, weights, _witness(bound), Fraction(radius), Fraction(bound.lower))
        if reason:
            return reason
    if bound.upper == math.inf:
        return ""
    if network.activation == "relu":
        return knapsack_holds(network, weights, _witness(bound)["multipliers"], radius, bound.upper)
    if radius == 0.0:
        return ""
    reason = lipschitz_holds(network, 0.0, Fraction(bound.upper) / Fraction(radius))
    return range_holds(network, bound.upper) if reason else reason


def _witness(bound: Bound) -> Mapping[str, Any]:
    if bound.witness is None:
        raise exact.DamagedError("there is none")
    return bound.witness


def _vector(bound: Bound) -> list[Fraction]:
    return exact.vector(_witness(bound)["vector"])


_NORMS = (
    "residual_norm",
    "newton_schulz_residual",
    "jacobian_lipschitz",
    "jacobian_change",
    "slope_lipschitz",
)
CHECKERS: dict[str, Callable[..., str]] = {
    "eigenvalue_min": _least,
    "eigenvalue_max": _greatest,
    "positive_definite": _least,
    "gram_min": _gram_least,
    "gram_max": _gram_greatest,
    "residual_norm": _residual,
    "newton_schulz_residual": _inverse,
    "jacobian_lipschitz": _lipschitz,
    "jacobian_change": _change,
    "slope_lipschitz": _bending,
}
