"""The two conditions of Zhang, Martens and Grosse (2019) as certificates."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

from grng_ref import Problem
from grng_ref.arrays import Array
from proofs_check.bounds import Bound

from .certificate import Assumption, Certificate, Settings
from .point import Point, above, below, between, times, under


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
    inverse = Bound(below(Fraction(1), high), above(Fraction(1), low), True, found.method)
    assumption = Assumption("1/lmin(J J^T) < inf", inverse, sys.float_info.max)
    return at.certificate("zhang-condition-1", Settings(), [assumption], [("gram_min", None)], found.method)


def zhang_condition_2(problem: Problem, theta: Array, x: Array, y: Array) -> Certificate:
    """Condition 2 of Zhang, Martens and Grosse: ``|J - J_0| <= (C/3) s0`` within ``3 |r_0|/s0``, ``C < 1/2``.

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
    inner = below(3 * Fraction(h.lower), Fraction(s_high))
    radii = [0.0 if math.isinf(inner) else inner]
    low, high = below(3 * Fraction(at.bound("jacobian_change", radii[0]).lower), Fraction(s_high)), math.inf
    if low < 0.5 and s_low > 0.0:  # otherwise the upper side decides nothing any more
        radii.append(above(3 * Fraction(h.upper), Fraction(s_low)))
        high = above(times(3.0, at.bound("jacobian_change", radii[1]).upper), Fraction(s_low))
    found = between(low, high, at.bound("jacobian_change", radii[-1]).method)
    keys: list[tuple[str, float | None]] = [("gram_min", None), ("residual_norm", None)]
    keys += [("jacobian_change", radius) for radius in radii]
    assumption = Assumption("C = 3 |J - J_0|/s0 < 1/2 within 3 |r|/s0", found, under(Fraction(1, 2)))
    return at.certificate("zhang-condition-2", Settings(), [assumption], keys, found.method)
