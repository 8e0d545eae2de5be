"""The theorems of convergence as certificates: assumptions from public bounds, compared in rationals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from grng_ref import Problem
from grng_ref.arrays import Array
from proofs_check.bounds import Bound
from proofs_check.bounds.balls import upward

from .certificate import Assumption, Certificate, Settings
from .point import Point, above, below, between, exact, exactly, settings_of, times, under

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
        `gr.two_layer` with a smooth activation, ``Gaussian(variance=1.0)``. Others come out undecided, relu
        refuted.
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
    The theorem needs ``nu_k = n (rho |g_k|^2 + lam) <= p'(t_k)^2`` at every later step. Two numbers at the
    start decide that: ``n lam <= s0^2 - 2 LJ |r_0|`` and ``(rho/n) lmax(J_0 J_0^T) |r_0|^2 + n lam <= s0^2``.
    For, while ``|r_k| <= p`` and ``|w_k - w_0| <= t``, ``n rho |g_k|^2 <= (rho/n) (S + LJ t)^2 p^2`` with S
    the greatest singular value, and ``p'^2 = s0^2 - 2 LJ |r_0| + 2 LJ p``. On the way to the root
    ``(S + LJ t)^2 p`` falls: its slope is ``(S + LJ t)(2 LJ p - (S + LJ t)|p'|)``, and
    ``2 LJ p <= p'^2 <= (S + LJ t)|p'|``. So, with ``y = p/|r_0|``, the damping is at most
    ``(rho/n) S^2 |r_0|^2 y + n lam``, which is linear in y like ``p'^2``: below it at y = 0 and y = 1 is
    below it between.

    Source: ours (after Kantorovich); the thresholds: ours, and Zhang, Martens and Grosse 2019.
    """
    at, settings = Point(problem, theta, x, y), settings_of(eta, rho, lam)
    if at.unfit:
        return at.undecided("kantorovich", settings, at.unfit)
    n, (low, high) = at.num_examples, at.squared("gram_min")
    L, h = at.bound("jacobian_lipschitz"), at.bound("residual_norm")
    if L.lower < L.upper == math.inf:
        return at.undecided("kantorovich", settings, L.method)
    taken = n * Fraction(lam)
    pairs = times(L.lower, h.lower), times(L.upper, h.upper)
    ratio = between(below(pairs[0], high), above(pairs[1], low), "LJ |r| / lmin(J J^T)")
    free = between(below(pairs[0], high - taken), above(pairs[1], low - taken), "LJ |r| / (lmin - n lam)")
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
    found = between(below(least + taken, high), above(most + taken, low), "sides of lmax, |r| and lmin")
    return Assumption("((rho/n) lmax |r|^2 + n lam) / s0^2 <= 1", found, 1.0)


# --- a ball in which the Jacobian changes little -----------------------------------------------------------


def unified(
    problem: Problem, theta: Array, x: Array, y: Array, eta: float = 1.0, rho: float = 0.0, lam: float = 0.0
) -> Certificate:
    """The unified theorem from here: ``|J - J_0| <= kap s0`` on the ball ``R = 2 |r_0|/((1 - kap) s0)``.

    With ``kap < 1/5``, ``C = 2 kap/(1 - kap)`` and ``eta <= (1 - 2C)/(1 - C)^2``:
    ``|r_(k+1)|^2 <= (1 - eta q_k) |r_k|^2``, ``q_k >= ell/(ell + nu_k)``, ``ell = (1 - kap)^2 s0^2``, for NGD
    and RING with any rho and lam.

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
    settings = settings_of(eta, rho, lam)

    def step(kap: Bound) -> list[Assumption]:
        if kap.upper == math.inf:
            return []
        C = 2 * Fraction(kap.upper) / (1 - Fraction(kap.upper))
        most = upward(Fraction(settings.eta) * (1 - C) ** 2 / (1 - 2 * C))
        return [Assumption("eta (1 - C)^2/(1 - 2C) <= 1", Bound(settings.eta, most, True, "C of kap"), 1.0)]

    return _in_a_ball("unified", Point(problem, theta, x, y), settings, _UNIFIED, step)


def linear(
    problem: Problem, theta: Array, x: Array, y: Array, eta: float = 1.0, rho: float = 0.0, lam: float = 0.0
) -> Certificate:
    """A slower rate in a smaller ball: ``|J - J_0| <= kap s0`` on ``R = |r_0|/((1 - 3 kap) s0)``.

    With ``kap < 1/3``: ``|r_(k+1)| <= (1 - eta (1 - C) ell/(ell + nu_k)) |r_k|``, ``C = 2 kap/(1 - kap)``,
    ``ell = (1 - kap)^2 s0^2``, for NGD and RING with any rho and lam and ``eta <= 1``. At kap = 0 the
    Jacobian is constant: for relu, no neuron can flip.

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
    Let ``|r| = 1``, c its coordinates in the eigenbasis of ``J J^T``, k the filter, k_1 its least value. As
    ``sum c^2 (k - k_1)(1 - k) >= 0``, ``|(I - eta k) c|^2 <= 1 - 2 eta q + eta^2 ((1 + k_1) q - k_1)``, at
    most ``(1 - eta (q + k_1)/2)^2``; and ``s |delta| <= eta (k_1 q)^{1/2} <= eta (q + k_1)/2`` because k(z)/z
    falls, s being the least singular value here. The change of the Jacobian adds at most ``C s |delta|``. So
    ``|r+| <= 1 - eta (1 - C)(q + k_1)/2`` and ``(1 - C) s |delta| <= |r| - |r+|``, whose sum is a path of at
    most R; a step that is not proved yet is at most ``|r|/s`` long.

    Source: ours.
    """
    settings = settings_of(eta, rho, lam)
    step = Assumption("eta <= 1", exactly(settings.eta), 1.0, given=True)
    return _in_a_ball("linear", Point(problem, theta, x, y), settings, _LINEAR, lambda kap: [step])


class _Ball(NamedTuple):
    """``kap < limit`` in the ball of radius ``|r_0|/(room(kap) s0)``, and the kap to try."""

    limit: Fraction
    shares: tuple[Fraction, ...]
    room: Callable[[Fraction], Fraction]


_UNIFIED = _Ball(Fraction(1, 5), (Fraction(1, 5),), lambda kap: (1 - kap) / 2)
# best for a change like R^(1/3) (flips), and like R
_LINEAR = _Ball(Fraction(1, 3), (Fraction(1, 4), Fraction(1, 6)), lambda kap: 1 - 3 * kap)


def _in_a_ball(
    theorem: str, at: Point, settings: Settings, ball: _Ball, step: Callable[[Bound], list[Assumption]]
) -> Certificate:
    if at.unfit:
        return at.undecided(theorem, settings, at.unfit)
    kap, radii = _least_share(at, ball.shares, ball.room)
    assumptions = [Assumption(f"kap < {ball.limit}", kap, under(ball.limit)), *step(kap)]
    keys: list[tuple[str, float | None]] = [("gram_min", None), ("residual_norm", None)]
    keys += [("jacobian_change", radius) for radius in radii]
    numbers = at.numbers(settings.rho, kap=kap.upper) if kap.upper < 1.0 else None
    if settings.rho and numbers:
        keys.append(("gram_max", None))
    eta, rho, lam = settings
    detail = f"eta {eta:g}, rho {rho:g}, lam {lam:g}; {kap.method}"
    return at.certificate(theorem, settings, assumptions, keys, detail, numbers)


def _least_share(
    at: Point, shares: tuple[Fraction, ...], room: Callable[[Fraction], Fraction]
) -> tuple[Bound, list[float]]:
    """A kap with ``|J - J_0| <= kap s0`` on ``R = |r_0|/(room(kap) s0)``, and the radius that shows it.

    Where none is found, a number that every such kap exceeds: the change on the ball of kap = 0, over s0.
    """
    (s_low, s_high), h = at.s0, at.bound("residual_norm")

    def shown(share: Fraction) -> tuple[float, float]:
        radius = above(Fraction(h.upper), room(share) * Fraction(s_low))
        return above(exact(at.bound("jacobian_change", radius).upper), Fraction(s_low)), radius

    for share in shares if s_low > 0.0 else ():
        best = shown(share)
        if best[0] < share:
            # the ball of a smaller kap lies in this one; once more there, which is nearer to the least
            best = min(best, shown(Fraction(best[0])))
            return Bound(0.0, best[0], True, at.bound("jacobian_change", best[1]).method), [best[1]]
    least = below(Fraction(h.lower), room(Fraction(0)) * Fraction(s_high))
    radius = 0.0 if math.isinf(least) else least
    change = at.bound("jacobian_change", radius)
    return Bound(below(exact(change.lower), Fraction(s_high)), math.inf, True, change.method), [radius]
