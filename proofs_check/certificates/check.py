"""A small checker of certificates: bounds proved again by `check_witness`, inequalities derived anew.

It shares nothing with what made them but the stored numbers, and compares squares, so that it takes no roots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from grng_ref import Gaussian
from grng_ref.arrays import Array
from proofs_check.bounds import Check, check_witness

from .certificate import DEFAULT, Certificate, fingerprint
from .check_stated import stated_numbers_hold


class _FailedError(Exception):
    """What does not hold, in words."""


def check_certificate(certificate: Certificate, problem: Any, theta: Array, x: Array, y: Array) -> Check:
    """Prove a certificate again at the point that it is about: its bounds, its assumptions and its numbers.

    Parameters
    ----------
    certificate : Certificate
    problem, theta, x, y
        The point: for a certificate of `a_posteriori`, ``certificate.theta``.

    Returns
    -------
    Check
        Holds for "certified" and "refuted" if both the evidence and the inequalities do; "undecided" claims
        nothing.

    Raises
    ------
    TypeError
        Not a certificate.

    Notes
    -----
    The bounds are checked in exact arithmetic: seconds where n is above 50 or many neurons move.

    Source: ours.
    """
    if not isinstance(certificate, Certificate):
        raise TypeError(f"certificate must be a Certificate, got {type(certificate).__name__}")
    if certificate.verdict == "undecided":
        return Check(True)
    try:
        _check(certificate, problem, theta, x, y)
    except _FailedError as error:
        return Check(False, str(error))
    except (KeyError, IndexError, ValueError, OverflowError, ZeroDivisionError) as error:
        return Check(False, f"the certificate cannot be read: {type(error).__name__}: {error}")
    return Check(True)


def _check(certificate: Certificate, problem: Any, theta: Array, x: Array, y: Array) -> None:
    if certificate.fingerprint != fingerprint(theta, x, y):
        raise _FailedError("the certificate is about another point or other data")
    squared = type(problem.likelihood) is Gaussian and problem.likelihood.variance == 1.0
    _require(squared or certificate.theorem == "zhang-condition-1", "the theorem is about the squared loss")
    eta, rho, lam = certificate.settings
    _require(eta > 0 and rho >= 0 and lam >= 0, "the settings are out of range")
    for one in certificate.evidence:
        ball = one.quantity == "jacobian_change"
        _require((one.radius is not None) == ball, f"{one.quantity} has {'no' * ball} radius")
        found = check_witness(one.bound, one.quantity, *one.arguments(problem, theta, x, y))
        if not found.holds:
            raise _FailedError(f"{one.quantity}: {found.reason}")
    rederive = _THEOREMS.get(certificate.theorem)
    if rederive is None:
        raise _FailedError(f"no theorem of the name {certificate.theorem!r}")
    rederive(_Sides(certificate, int(x.shape[0])), certificate.verdict == "certified")
    reason = stated_numbers_hold(certificate, int(x.shape[0]))
    _require(not reason, reason)


class _Sides:
    """The squares of what was proved, as rationals, and what the certificate says beside it."""

    def __init__(self, certificate: Certificate, n: int) -> None:
        self.numbers, self.n = certificate.numbers, n
        self.eta, self.rho, self.lam = (Fraction(value) for value in certificate.settings)
        self._bounds = {one.quantity: one.bound for one in certificate.evidence if one.radius is None}
        self.changes = [one for one in certificate.evidence if one.radius is not None]

    def of(self, quantity: str, upper: bool) -> Fraction:
        """One side of a bound."""
        if quantity not in self._bounds:
            raise _FailedError(f"the evidence has no {quantity}")
        bound = self._bounds[quantity]
        return max(_finite(bound.upper if upper else bound.lower), Fraction(0))

    def of_no_optimizer(self) -> None:
        """A condition on the network states no rate, and has no settings but the default ones."""
        _require(not self.numbers, "the condition states no rate")
        default = tuple(map(Fraction, DEFAULT))
        _require((self.eta, self.rho, self.lam) == default, "the condition is about no optimizer")

    def numbers_are_safe(self, **limits: tuple[Fraction, int]) -> None:
        """Each number, to a power, is at least the limit (for s: at most)."""
        for name, (limit, power) in limits.items():
            value = Fraction(self.numbers[name])
            safe = value**power <= limit if name == "s" else value**power >= limit
            _require(value >= 0 and safe, f"the number {name} is not on the safe side")
        _require(self.numbers["n"] == self.n, "the number n is another")


def _finite(value: float) -> Fraction:
    if math.isinf(value):
        raise _FailedError("a side that is needed is not finite")
    return Fraction(value)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise _FailedError(text)


def _kantorovich(at: _Sides, certified: bool) -> None:
    """``2 L h <= s^2 - n lam``, ``rho T h^2 + n^2 lam <= n s^2``, ``0 < eta <= 1``; or one of them fails."""
    if not certified:
        lipschitz = at._bounds["jacobian_lipschitz"].lower
        if lipschitz == math.inf:
            return
    square, h = at.of("gram_min", not certified), at.of("residual_norm", certified)
    L = at.of("jacobian_lipschitz", certified)
    damped = bool(at.rho or at.lam)
    top = at.of("gram_max", certified) if damped else Fraction(0)
    met = [
        2 * L * h <= square - at.n * at.lam,
        at.rho * top * h**2 + at.n**2 * at.lam <= at.n * square,
        0 < at.eta <= 1,
        square > 0,
    ]
    if not certified:
        _require(not all(met), "no assumption is refuted by the evidence")
        return
    _require(all(met), "an assumption of the majorant is not met by the evidence")
    at.numbers_are_safe(s=(square, 2), h=(h, 1), L=(L, 1), top=(top if at.rho else Fraction(0), 1))


def _in_a_ball(room: Callable[[Fraction], Fraction], limit: Fraction) -> Callable[[_Sides, bool], None]:
    """``change(R) <= kap s``, ``R room(kap) s >= h``, ``kap < limit``, and the limit of eta."""

    def rederive(at: _Sides, certified: bool) -> None:
        square, h = at.of("gram_min", not certified), at.of("residual_norm", certified)
        _require(len(at.changes) == 1, "the evidence must have one change of the Jacobian")
        radius, bound = Fraction(at.changes[0].radius or 0.0), at.changes[0].bound
        unified = limit == Fraction(1, 5)
        if not certified:
            inside = (radius * room(Fraction(0))) ** 2 * square <= h**2
            changed = _finite(bound.lower) ** 2 >= limit**2 * square
            _require((inside and changed) or at.eta > 1, "no assumption is refuted by the evidence")
            return
        kap = Fraction(at.numbers["kap"])
        _require(0 <= kap < limit and square > 0, "kap is beyond its limit")
        _require(_finite(bound.upper) ** 2 <= kap**2 * square, "the Jacobian may change by more than kap s0")
        _require((radius * room(kap)) ** 2 * square >= h**2, "the ball is too small for kap")
        C = 2 * kap / (1 - kap)
        most = (1 - 2 * C) / (1 - C) ** 2 if unified else Fraction(1)
        _require(0 < at.eta <= most, "eta is beyond its limit")
        top = at.of("gram_max", True) if at.rho else Fraction(0)
        at.numbers_are_safe(s=(square, 2), h=(h, 1), top=(top, 1))

    return rederive


def _condition_1(at: _Sides, certified: bool) -> None:
    at.of_no_optimizer()
    bound = at._bounds["gram_min"]
    _require(
        bound.lower > 0.0 if certified else bound.upper <= 0.0,
        "the evidence does not decide the sign of lmin",
    )


def _condition_2(at: _Sides, certified: bool) -> None:
    """``6 change(R) < s``, ``R s >= 3 h``; or the change within ``3 h/s`` is at least s/6."""
    at.of_no_optimizer()
    square, h = at.of("gram_min", not certified), at.of("residual_norm", certified)
    one = at.changes[-1 if certified else 0]
    radius, change = Fraction(one.radius or 0.0), _finite(one.bound.upper if certified else one.bound.lower)
    if certified:
        _require(radius**2 * square >= 9 * h**2, "the ball is too small")
        _require(36 * change**2 < square, "the Jacobian may change too much")
    else:
        _require(radius**2 * square <= 9 * h**2, "the witness lies outside the ball of the condition")
        _require(36 * change**2 >= square, "the witness changes the Jacobian too little")


_THEOREMS: dict[str, Callable[[_Sides, bool], None]] = {
    "kantorovich": _kantorovich,
    "unified": _in_a_ball(lambda kap: (1 - kap) / 2, Fraction(1, 5)),
    "linear": _in_a_ball(lambda kap: 1 - 3 * kap, Fraction(1, 3)),
    "zhang-condition-1": _condition_1,
    "zhang-condition-2": _condition_2,
}
