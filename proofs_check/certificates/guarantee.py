"""What a certificate guarantees of the next residual, from the bound of this one; rounded upwards."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from proofs_check.bounds.balls import root_downward, root_upward, upward


def next_bound(theorem: str, numbers: Mapping[str, float], settings: Any, h: float) -> float:
    """A number at least ``|r_{k+1}|``, if ``|r_k| <= h`` and the theorem's assumptions are met.

    *kantorovich.* ``p+ = p [1 - eta th + (L/2) (eta th)^2 p / v^2]``, ``v^2 = s^2 - 2 L h_0 + 2 L p``,
    ``th = v^2 / (v^2 + nu)``, and ``nu = (rho/n) (T^{1/2} + s - v)^2 p^2 + n lam`` bounds the damping at the
    distance ``t = (s - v)/L``. The map is increasing in p and in nu, so a bound of the one before does for
    it. Near the root of the parabola, where v is lost in the rounding of s, L and h, ``p+ <= p``.

    *unified.* ``h+^2 = (1 - eta k) h^2``. *linear.* ``h+ = (1 - eta (1 - C) k) h``. Both increase in h, with
    ``k = ell/(ell + nu)``, ``ell = (1 - kap)^2 s^2``, ``nu = (rho/n) (T^{1/2} + kap s)^2 h^2 + n lam``.
    """
    s, n = Fraction(numbers["s"]), int(numbers["n"])
    root = Fraction(root_upward(Fraction(numbers["top"])))
    eta, rho, lam = (Fraction(value) for value in settings)
    p = Fraction(h)
    if theorem == "kantorovich":
        L = Fraction(numbers["L"])
        square = s**2 - 2 * L * Fraction(numbers["h"]) + 2 * L * p
        if square <= 0:
            return h
        nu = rho / n * (root + s - Fraction(root_downward(square))) ** 2 * p**2 + n * lam
        th = square / (square + nu)
        return min(h, upward(p * (1 - eta * th + L / 2 * (eta * th) ** 2 * p / square)))
    kap = Fraction(numbers["kap"])
    ell = (1 - kap) ** 2 * s**2
    k = ell / (ell + rho / n * (root + kap * s) ** 2 * p**2 + n * lam)
    if theorem == "unified":
        return root_upward((1 - eta * k) * p**2)
    return upward((1 - eta * (1 - 3 * kap) / (1 - kap) * k) * p)
