"""A certificate's own numbers: each stated pair of sides must follow from the evidence.

Derived anew, in rationals; a quotient with a square root in it is compared by its square.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from proofs_check.bounds import Bound

from .certificate import Assumption, Certificate

Number = Fraction | float  # a float only where it is infinite


class Stated(NamedTuple):
    """An assumption as the theorem has it: the square of q from both sides, and what it is compared with."""

    low: Number
    high: Number
    limit: Fraction
    strict: bool = False
    needed: bool = True
    given: bool = False


def stated_numbers_hold(certificate: Certificate, n: int) -> str:
    """What fails of: the assumptions are the theorem's, and their sides follow from the evidence."""
    known = _Known(certificate, n)
    expected = _THEOREMS[certificate.theorem](known)
    if len(expected) != len(certificate.assumptions):
        return "the certificate has not the assumptions of its theorem"
    for one, stated in zip(certificate.assumptions, expected, strict=True):
        reason = _differs(one, stated)
        if reason:
            return f"{one.name}: {reason}"
    return ""


def _differs(one: Assumption, stated: Stated) -> str:
    if not math.isfinite(one.limit):
        return "it is not the theorem's assumption"
    above = math.nextafter(one.limit, math.inf)
    limit = Fraction(one.limit)
    same = limit < stated.limit <= Fraction(above) if stated.strict else limit == stated.limit
    if not same or (one.needed, one.given) != (stated.needed, stated.given):
        return "it is not the theorem's assumption"
    if not one.bound.rigorous:
        return "its bound is not rigorous"
    if one.bound.lower > 0.0 and _square(one.bound.lower) > stated.low:
        return "the evidence does not show the stated lower side"
    if one.bound.upper < 0.0 or _square(one.bound.upper) < stated.high:
        return "the evidence does not show the stated upper side"
    return ""


def _square(value: float) -> Number:
    return math.inf if math.isinf(value) else Fraction(value) ** 2


class _Known:
    """The evidence's sides, nonnegative."""

    def __init__(self, certificate: Certificate, n: int) -> None:
        self.eta, self.rho, self.lam = (Fraction(value) for value in certificate.settings)
        self.numbers = certificate.numbers
        self.changes = [one for one in certificate.evidence if one.radius is not None]
        self._bounds = {one.quantity: one.bound for one in certificate.evidence if one.radius is None}
        self.n = n

    def sides(self, quantity: str) -> tuple[Number, Number]:
        """Both sides of one bound; nothing is known of what is not there."""
        bound = self._bounds.get(quantity, Bound(0.0, math.inf, True, "not in the evidence"))
        return _number(max(bound.lower, 0.0)), _number(max(bound.upper, 0.0))


def _number(value: float) -> Number:
    return math.inf if math.isinf(value) else Fraction(value)


def _times(a: Number, b: Number) -> Number:
    return math.inf if math.inf in (a, b) else a * b


def _over(a: Number, b: Number) -> Number:
    """The quotient; without a positive denominator it is beyond every limit."""
    if a == 0:
        return Fraction(0)
    if a == math.inf or b <= 0:
        return math.inf
    return Fraction(0) if b == math.inf else a / b


def _squares(low: Number, high: Number) -> tuple[Number, Number]:
    return _times(low, low), _times(high, high)


# --- theorems ---------------------------------------------------------------------------------------------


def _kantorovich(at: _Known) -> list[Stated]:
    (g_low, g_high), (h_low, h_high) = at.sides("gram_min"), at.sides("residual_norm")
    L_low, L_high = at.sides("jacobian_lipschitz")
    taken = at.n * at.lam
    pairs = _times(L_low, h_low), _times(L_high, h_high)
    found = [
        Stated(*_squares(_over(pairs[0], g_high - taken), _over(pairs[1], g_low - taken)), Fraction(1, 2)),
        Stated(at.eta**2, at.eta**2, Fraction(1), given=True),
    ]
    if at.rho or at.lam:
        tops = zip(at.sides("gram_max"), (h_low, h_high), strict=True)
        parts = [_times(at.rho / at.n, _times(t, _times(h, h))) + taken for t, h in tops]
        damping = _squares(_over(parts[0], g_high), _over(parts[1], g_low))
        found.append(Stated(*damping, Fraction(1)))
    ratio = _squares(_over(pairs[0], g_high), _over(pairs[1], g_low))
    for limit in (Fraction(2, 25), Fraction(1, 18)):
        found.append(Stated(*ratio, limit, strict=True, needed=False))
    return found


def _in_a_ball(room: Callable[[Fraction], Fraction], limit: Fraction) -> Callable[[_Known], list[Stated]]:
    def stated(at: _Known) -> list[Stated]:
        (g_low, g_high), (h_low, h_high) = at.sides("gram_min"), at.sides("residual_norm")
        radius, bound = Fraction(at.changes[0].radius or 0.0), at.changes[0].bound
        low: Number = Fraction(0)
        if _times((radius * room(Fraction(0))) ** 2, g_high) <= h_low * h_low:
            low = _over(_square(max(bound.lower, 0.0)), g_high)
        kap = Fraction(at.numbers["kap"]) if "kap" in at.numbers else None
        high: Number = math.inf
        if kap is not None and _square(bound.upper) <= kap**2 * g_low:
            high = kap**2 if (radius * room(kap)) ** 2 * g_low >= _times(h_high, h_high) else math.inf
        found = [Stated(low, high, limit, strict=True)]
        if limit == Fraction(1, 3):
            return [*found, Stated(at.eta**2, at.eta**2, Fraction(1), given=True)]
        if kap is not None and kap < 1:
            C = 2 * kap / (1 - kap)
            most = at.eta * (1 - C) ** 2 / (1 - 2 * C) if 2 * C < 1 else math.inf
            found.append(Stated(at.eta**2, _times(most, most), Fraction(1)))
        return found

    return stated


def _condition_1(at: _Known) -> list[Stated]:
    low, high = at.sides("gram_min")
    return [
        Stated(*_squares(_over(Fraction(1), high), _over(Fraction(1), low)), Fraction(sys.float_info.max))
    ]


def _condition_2(at: _Known) -> list[Stated]:
    (g_low, g_high), (h_low, h_high) = at.sides("gram_min"), at.sides("residual_norm")
    low: Number = Fraction(0)
    high: Number = math.inf
    for one in at.changes:
        reach = Fraction(one.radius or 0.0) ** 2
        if _times(reach, g_high) <= 9 * h_low * h_low:
            low = max(low, _over(9 * _square(max(one.bound.lower, 0.0)), g_high))
        if g_low > 0 and _times(reach, g_low) >= 9 * _times(h_high, h_high):
            high = min(high, _over(9 * _square(one.bound.upper), g_low))
    return [Stated(low, high, Fraction(1, 2), strict=True)]


_THEOREMS: dict[str, Callable[[_Known], list[Stated]]] = {
    "kantorovich": _kantorovich,
    "unified": _in_a_ball(lambda kap: (1 - kap) / 2, Fraction(1, 5)),
    "linear": _in_a_ball(lambda kap: 1 - 3 * kap, Fraction(1, 3)),
    "zhang-condition-1": _condition_1,
    "zhang-condition-2": _condition_2,
}
