"""The theorems of convergence as certificates: their assumptions from public bounds, compared in rationals."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from typing import Any

from grng_ref import Gaussian, Problem
from grng_ref.arrays import Array, check_real
from proofs_check.bounds import Bound, gram_max, gram_min, jacobian_change, jacobian_lipschitz, residual_norm
from proofs_check.bounds.balls import downward, root_downward, root_upward, upward

from .certificate import Assumption, Certificate, Evidence, Settings, fingerprint

_SHARES = (Fraction(1, 4), Fraction(1, 6))  # kap to try: best for a change like R^{1/3} (flips), and like R
NOT_SQUARED = (
    "no theorem here: the likelihood is {}, and they are about the squared loss, Gaussian(variance=1.0)"
)


class Point:
    """The bounds of one point, each computed when it is first asked for and kept as evidence."""

    def __init__(self, problem: Problem, theta: Array, x: Array, y: Array) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem must be a gr.Problem, got {type(problem).__name__}")
        self.arguments = problem, theta, x, y
        self._found: dict[tuple[str, float | None], Bound] = {}

    def bound(self, quantity: str, radius: float | None = None) -> Bound:
        """Of a quantity, on the ball of a radius where it has one."""
        key = quantity, radius
        if key not in self._found:
            self._found[key] = _BOUNDS[quantity](
                *Evidence(quantity, _NOTHING, radius).arguments(*self.arguments)
            )
        return self._found[key]

    def evidence(self, *keys: tuple[str, float | None]) -> tuple[Evidence, ...]:
        """Those bounds as evidence."""
        return tuple(Evidence(quantity, self.bound(quantity, radius), radius) for quantity, radius in keys)

    @property
    def unfit(self) -> str:
        """Why no theorem here is about this problem; empty if one may be."""
        likelihood = self.arguments[0].likelihood
        if type(likelihood) is Gaussian and likelihood.variance == 1.0:
            return ""
        return NOT_SQUARED.format(likelihood)

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.arguments[2].shape[0])

    def squared(self, quantity: str) -> tuple[Fraction, Fraction]:
        """Both sides of lmin or lmax of ``J J^T``, not negative."""
        found = self.bound(quantity)
        return max(Fraction(found.lower), Fraction(0)), max(Fraction(found.upper), Fraction(0))

    @property
    def s0(self) -> tuple[float, float]:
        """Both sides of the least singular value of J."""
        low, high = self.squared("gram_min")
        return root_downward(low), root_upward(high)

    def numbers(self, rho: float, **more: float) -> dict[str, float]:
        """What a guarantee needs, on the safe side."""
        top = max(self.bound("gram_max").upper, 0.0) if rho else 0.0
        return {
            "s": self.s0[0],
            "h": self.bound("residual_norm").upper,
            "top": top,
            "n": self.num_examples,
            **more,
        }

    def undecided(self, theorem: str, settings: Settings, detail: str) -> Certificate:
        """A certificate of nothing, with the reason."""
        return Certificate(theorem, (), detail, settings)

    def certificate(
        self,
        theorem: str,
        settings: Settings,
        assumptions: list[Assumption],
        keys: list[tuple[str, float | None]],
        detail: str,
        numbers: dict[str, float] | None = None,
    ) -> Certificate:
        """A certificate at this point."""
        _, theta, x, y = self.arguments
        model = self.arguments[0].model
        text = f"{getattr(model, 'activation', '')}, sizes {tuple(model.sizes)}, n = {self.num_examples}; {detail}"
        return Certificate(
            theorem,
            tuple(assumptions),
            text,
            settings,
            numbers or {},
            self.evidence(*keys),
            fingerprint=fingerprint(theta, x, y),
        )


_NOTHING = Bound(-math.inf, math.inf, True, "nothing is known yet")
_BOUNDS: dict[str, Any] = {
    "gram_min": gram_min,
    "gram_max": gram_max,
    "residual_norm": residual_norm,
    "jacobian_lipschitz": jacobian_lipschitz,
    "jacobian_change": jacobian_change,
}


# --- rational arithmetic with two sides --------------------------------------------------------------------


def _above(numerator: Fraction | float, denominator: Fraction) -> float:
    """A float at least the quotient of nonnegative numbers; infinite where that is not bounded."""
    if numerator == math.inf or denominator <= 0:
        return math.inf
    return upward(Fraction(numerator) / denominator)


def _below(numerator: Fraction | float, denominator: Fraction) -> float:
    """A float at most the quotient of nonnegative numbers."""
    if numerator == 0:
        return 0.0
    if numerator == math.inf or denominator <= 0:
        return math.inf
    return downward(Fraction(numerator) / denominator)


def _between(low: float, high: float, method: str) -> Bound:
    return Bound(min(low, high), high, True, method)


def _exact(value: float) -> Fraction | float:
    return value if math.isinf(value) else Fraction(value)


def _times(a: float, b: float) -> Fraction | float:
    return math.inf if math.inf in (a, b) else Fraction(a) * Fraction(b)


def under(limit: Fraction) -> float:
    """The greatest float below a number: ``q <= under(c)`` and ``q < c`` are the same for floats q."""
    found = downward(limit)
    return found if Fraction(found) < limit else math.nextafter(found, -math.inf)


def exactly(value: float) -> Bound:
    """A number that is known."""
    return Bound(value, value, True, "the stored number")


# --- Kantorovich -------------------------------------------------------------------------------------------


def kantorovich(
    problem: Problem, theta: Array, x: Array, y: Array, eta: float = 1.0, rho: float = 0.0, lam: float = 0.0
) -> Certificate:
    """Kantorovich's majorant from this point: ``LJ |r| / (s0^2 - n lam) <= 1/2`` and the damping condition.

    Then NGD and RING stay below the parabola ``p(t) = LJ t^2/2 - s0 t + |r_0|``: ``|r_k| <= p(t_k)`` and
    ``|w_k - w_0| <= t_k``, ``t_(k+1) = t_k - eta th p/p'``, ``th = p'^2/(p'^2 + nu_k)``.

    Parameters
    ----------
    problem : gr.Problem
        `gr.two_layer` with a smooth activation, ``Gaussian(variance=1.0)``. Others come out undecided, relu refuted.
    theta : array (P,)
    x : array (n, d)
    y : array (n, 1)
    eta, rho, lam : float
        Step size in (0, 1], gradient regularization and constant damping.

    Returns
    -------
    Certificate
        Beside the assumptions, ``LJ |r|/s0^2`` against the thresholds of the unified theorem, 2/25, and of
        Zhang, Martens and Grosse, 1/18.

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As the functions of `proofs_check.bounds`; numbers out of their ranges.

    Notes
    -----
    The theorem needs ``nu_k = n (rho |g_k|^2 + lam) <= p'(t_k)^2`` at every later step. Two numbers at the start
    decide that: ``n lam <= s0^2 - 2 LJ |r_0|`` and ``(rho/n) lmax(J_0 J_0^T) |r_0|^2 + n lam <= s0^2``. For,
    while ``|r_k| <= p`` and ``|w_k - w_0| <= t``, ``n rho |g_k|^2 <= (rho/n) (S + LJ t)^2 p^2`` with S the greatest
    singular value, and ``p'^2 = s0^2 - 2 LJ |r_0| + 2 LJ p``. On the way to the root ``(S + LJ t)^2 p`` falls: its
    slope is ``(S + LJ t)(2 LJ p - (S + LJ t)|p'|)``, and ``2 LJ p <= p'^2 <= (S + LJ t)|p'|``. So, with
    ``y = p/|r_0|``, the damping is at most ``(rho/n) S^2 |r_0|^2 y + n lam``, which is linear in y like ``p'^2``: below it
    at y = 0 and y = 1 is below it between.

    Source: ours (after Kantorovich); the thresholds: ours, and Zhang, Martens and Grosse 2019.
    """
    at, settings = Point(problem, theta, x, y), _settings(eta, rho, lam)
    if at.unfit:
        return at.undecided("kantorovich", settings, at.unfit)
    n, (low, high) = at.num_examples, at.squared("gram_min")
    L, h = at.bound("jacobian_lipschitz"), at.bound("residual_norm")
    taken = n * Fraction(lam)
    pairs = _times(L.lower, h.lower), _times(L.upper, h.upper)
    ratio = _between(_below(pairs[0], high), _above(pairs[1], low), "LJ |r| / lmin(J J^T)")
    free = _between(_below(pairs[0], high - taken), _above(pairs[1], low - taken), "LJ |r| / (lmin - n lam)")
    name = "LJ |r| / (s0^2 - n lam) <= 1/2" if lam else "LJ |r| / s0^2 <= 1/2"
    assumptions = [
        Assumption(name, free, 0.5),
        Assumption("eta <= 1", exactly(settings.eta), 1.0, given=True),
    ]
    keys: list[tuple[str, float | None]] = [
        (name, None) for name in ("gram_min", "residual_norm", "jacobian_lipschitz")
    ]
    if rho or lam:
        assumptions.append(_damping(at, Fraction(rho), taken))
        keys.append(("gram_max", None))
    for name, limit in (("unified", Fraction(2, 25)), ("Zhang", Fraction(1, 18))):
        text = f"LJ |r| / s0^2 < {limit} ({name})"
        assumptions.append(Assumption(text, ratio, under(limit), needed=False))
    if L.upper == math.inf:
        return at.certificate("kantorovich", settings, assumptions, keys, L.method)
    numbers = at.numbers(rho, L=L.upper)
    return at.certificate(
        "kantorovich", settings, assumptions, keys, f"eta {eta:g}, rho {rho:g}, lam {lam:g}", numbers
    )


def _damping(at: Point, rho: Fraction, taken: Fraction) -> Assumption:
    """``((rho/n) lmax |r|^2 + n lam) / s0^2 <= 1``."""
    h, (low, high), top = at.bound("residual_norm"), at.squared("gram_min"), at.squared("gram_max")
    least, most = (
        rho / at.num_examples * t * Fraction(r) ** 2 for t, r in zip(top, (h.lower, h.upper), strict=True)
    )
    found = _between(_below(least + taken, high), _above(most + taken, low), "sides of lmax, |r| and lmin")
    return Assumption("((rho/n) lmax |r|^2 + n lam) / s0^2 <= 1", found, 1.0)


# --- a ball in which the Jacobian changes little -----------------------------------------------------------


def unified(
    problem: Problem, theta: Array, x: Array, y: Array, eta: float = 1.0, rho: float = 0.0, lam: float = 0.0
) -> Certificate:
    """The unified theorem from this point: ``|J - J_0| <= kap s0`` on the ball ``R = 2 |r_0|/((1 - kap) s0)``.

    With ``kap < 1/5``, ``C = 2 kap/(1 - kap)`` and ``eta <= (1 - 2C)/(1 - C)^2``: ``|r_(k+1)|^2 <= (1 - eta q_k)
    |r_k|^2``, ``q_k >= ell/(ell + nu_k)``, ``ell = (1 - kap)^2 s0^2``, for NGD and RING with any rho and lam.

    Parameters
    ----------
    problem, theta, x, y, eta, rho, lam
        As in `kantorovich`; relu too.

    Returns
    -------
    Certificate

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As `kantorovich`.

    Notes
    -----
    Where the change on the ball of ``kap = 1/5`` is proved to be at most ``kap' s0`` with a smaller kap', the
    ball of kap' lies in it, and kap' will do. From below, every kap is at least the change on the ball
    ``2 |r_0|/s0``, over s0.

    Source: ours.
    """
    at, settings = Point(problem, theta, x, y), _settings(eta, rho, lam)
    if at.unfit:
        return at.undecided("unified", settings, at.unfit)
    kap, radii = _least_share(at, (Fraction(1, 5),), lambda share: (1 - share) / 2)
    assumptions = [Assumption("kap < 1/5", kap, under(Fraction(1, 5)))]
    if kap.upper < math.inf:
        C = 2 * Fraction(kap.upper) / (1 - Fraction(kap.upper))
        step = Bound(
            settings.eta, upward(Fraction(settings.eta) * (1 - C) ** 2 / (1 - 2 * C)), True, "C of kap"
        )
        assumptions.append(Assumption("eta (1 - C)^2/(1 - 2C) <= 1", step, 1.0))
    return _in_a_ball(at, "unified", settings, kap, radii, assumptions)


def linear(
    problem: Problem, theta: Array, x: Array, y: Array, eta: float = 1.0, rho: float = 0.0, lam: float = 0.0
) -> Certificate:
    """A slower rate in a smaller ball: ``|J - J_0| <= kap s0`` on ``R = |r_0|/((1 - 3 kap) s0)``, ``kap < 1/3``.

    Then ``|r_(k+1)| <= (1 - eta (1 - C) ell/(ell + nu_k)) |r_k|``, ``C = 2 kap/(1 - kap)``, ``ell = (1 - kap)^2
    s0^2``, for NGD and RING with any rho and lam and ``eta <= 1``. At kap = 0 the Jacobian is constant: for relu,
    no neuron can flip.

    Parameters
    ----------
    problem, theta, x, y, eta, rho, lam
        As in `kantorovich`; relu too.

    Returns
    -------
    Certificate

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As `kantorovich`.

    Notes
    -----
    Let |r| = 1, c its coordinates in the eigenbasis of ``J J^T``, k the filter and k_1 its least value. Since
    ``sum c^2 (k - k_1)(1 - k) >= 0``, ``|(I - eta k) c|^2 <= 1 - 2 eta q + eta^2 ((1 + k_1) q - k_1)``, at most
    ``(1 - eta (q + k_1)/2)^2``; and ``s |delta| <= eta (k_1 q)^{1/2} <= eta (q + k_1)/2`` because k(z)/z falls, s
    being the least singular value here. The change of the Jacobian adds at most ``C s |delta|``. So ``|r+| <= 1 - eta (1 - C)(q
    + k_1)/2`` and ``(1 - C) s |delta| <= |r| - |r+|``, whose sum is a path of at most R; a step that is not
    proved yet is at most ``|r|/s`` long.

    Source: ours.
    """
    at, settings = Point(problem, theta, x, y), _settings(eta, rho, lam)
    if at.unfit:
        return at.undecided("linear", settings, at.unfit)
    kap, radii = _least_share(at, _SHARES, lambda share: 1 - 3 * share)
    assumptions = [
        Assumption("kap < 1/3", kap, under(Fraction(1, 3))),
        Assumption("eta <= 1", exactly(settings.eta), 1.0, given=True),
    ]
    return _in_a_ball(at, "linear", settings, kap, radii, assumptions)


def _in_a_ball(
    at: Point, theorem: str, settings: Settings, kap: Bound, radii: list[float], assumptions: list[Assumption]
) -> Certificate:
    keys: list[tuple[str, float | None]] = [("gram_min", None), ("residual_norm", None)]
    keys += [("jacobian_change", radius) for radius in radii]
    numbers = at.numbers(settings.rho, kap=kap.upper) if kap.upper < 1.0 else None
    if settings.rho and numbers:
        keys.append(("gram_max", None))
    eta, rho, lam = settings
    detail = f"eta {eta:g}, rho {rho:g}, lam {lam:g}; {kap.method}"
    return at.certificate(theorem, settings, assumptions, keys, detail, numbers)


def _least_share(at: Point, shares: tuple[Fraction, ...], room: Any) -> tuple[Bound, list[float]]:
    """A kap with ``|J - J_0| <= kap s0`` on ``R = |r_0|/(room(kap) s0)``, and the radius that shows it.

    Where none is found, a number that every such kap exceeds: the change on the ball of kap = 0, over s0.
    """
    (s_low, s_high), h = at.s0, at.bound("residual_norm")

    def shown(share: Fraction) -> tuple[float, float]:
        radius = _above(Fraction(h.upper), room(share) * Fraction(s_low))
        return _above(_exact(at.bound("jacobian_change", radius).upper), Fraction(s_low)), radius

    for share in shares if s_low > 0.0 else ():
        best = shown(share)
        if best[0] < share:
            # the ball of a smaller kap lies in this one; once more there, which is nearer to the least
            best = min(best, shown(Fraction(best[0])))
            return Bound(0.0, best[0], True, at.bound("jacobian_change", best[1]).method), [best[1]]
    least = _below(Fraction(h.lower), room(Fraction(0)) * Fraction(s_high))
    radius = 0.0 if math.isinf(least) else least
    change = at.bound("jacobian_change", radius)
    return Bound(_below(_exact(change.lower), Fraction(s_high)), math.inf, True, change.method), [radius]


# --- Zhang, Martens and Grosse -----------------------------------------------------------------------------


def zhang_condition_1(problem: Problem, theta: Array, x: Array, y: Array) -> Certificate:
    """Condition 1 of Zhang, Martens and Grosse: the Gram matrix ``J J^T`` is positive definite. Any `MLP`.

    Parameters
    ----------
    problem, theta, x, y
        As in `kantorovich`, of any depth, number of outputs and likelihood.

    Returns
    -------
    Certificate
        Refuted where a vector v shows ``v^T J J^T v <= 0``, which floats seldom can.

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As ``proofs_check.bounds.gram_min``.

    Notes
    -----
    Source: Zhang, Martens and Grosse 2019.
    """
    at = Point(problem, theta, x, y)
    found, (low, high) = at.bound("gram_min"), at.squared("gram_min")
    inverse = Bound(_below(Fraction(1), high), _above(Fraction(1), low), True, found.method)
    assumption = Assumption("1/lmin(J J^T) < inf", inverse, sys.float_info.max)
    return at.certificate("zhang-condition-1", Settings(), [assumption], [("gram_min", None)], found.method)


def zhang_condition_2(problem: Problem, theta: Array, x: Array, y: Array) -> Certificate:
    """Condition 2 of Zhang, Martens and Grosse: ``|J - J_0| <= (C/3) s0`` within ``3 |r_0|/s0``, for a ``C < 1/2``.

    Parameters
    ----------
    problem, theta, x, y
        As in `kantorovich`; relu too.

    Returns
    -------
    Certificate
        Refuted by a point of the ball at which the Jacobian has changed more: ``evidence`` has it, as the
        witness of ``jacobian_change``.

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As `kantorovich`.

    Notes
    -----
    Source: Zhang, Martens and Grosse 2019.
    """
    at = Point(problem, theta, x, y)
    if at.unfit:
        return at.undecided("zhang-condition-2", Settings(), at.unfit)
    (s_low, s_high), h = at.s0, at.bound("residual_norm")
    inner = _below(3 * Fraction(h.lower), Fraction(s_high))
    radii = [0.0 if math.isinf(inner) else inner]
    low, high = _below(3 * Fraction(at.bound("jacobian_change", radii[0]).lower), Fraction(s_high)), math.inf
    if low < 0.5 and s_low > 0.0:  # otherwise the upper side decides nothing any more
        radii.append(_above(3 * Fraction(h.upper), Fraction(s_low)))
        high = _above(_times(3.0, at.bound("jacobian_change", radii[1]).upper), Fraction(s_low))
    found = _between(low, high, at.bound("jacobian_change", radii[-1]).method)
    keys: list[tuple[str, float | None]] = [("gram_min", None), ("residual_norm", None)]
    keys += [("jacobian_change", radius) for radius in radii]
    assumption = Assumption("C = 3 |J - J_0|/s0 < 1/2 within 3 |r|/s0", found, under(Fraction(1, 2)))
    return at.certificate("zhang-condition-2", Settings(), [assumption], keys, found.method)


def _settings(eta: Any, rho: Any, lam: Any) -> Settings:
    return Settings(
        check_real("eta", eta, minimum=0.0, exclusive=True),
        check_real("rho", rho, minimum=0.0),
        check_real("lam", lam, minimum=0.0),
    )
