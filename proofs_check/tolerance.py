"""Tolerances that follow from the arithmetic, with their reasons, for claims."""

from __future__ import annotations

import math
from typing import TypedDict

from .context import Run

FACTOR = 32.0
"""The constant of a backward stable computation; next to the 30 of LAPACK's scaled residuals."""


class Tolerance(TypedDict):
    """The keyword arguments of `identity` that say how close, and why."""

    tolerance: float
    reason: str


class Slack(TypedDict):
    """The keyword arguments of `inequality` that say how much may be exceeded, and why."""

    slack: float
    reason: str


def as_slack(limit: Tolerance, note: str = "") -> Slack:
    """A tolerance as an inequality's slack, with a note before its reason: what it is that rounds."""
    return {"slack": limit["tolerance"], "reason": f"{note}: {limit['reason']}" if note else limit["reason"]}


def roundoff(run: Run, *, condition: float = 1.0, terms: int = 1) -> Tolerance:
    """``32 sqrt(terms) condition eps``, and the reason in words.

    A backward stable computation returns the exact answer for data perturbed by a few eps; the answer moves
    by at most that times the condition number. Rounding errors of a sum behave like a random walk and grow
    like the root of its terms (Higham and Mary 2019).

    Parameters
    ----------
    condition : float
        Condition number of the problem.
    terms : int
        Length of the longest sum.

    Raises
    ------
    ValueError
        The tolerance reaches 0.1: with not one digit left to compare, a check could hardly fail.
    """
    value = FACTOR * math.sqrt(terms) * condition * run.eps
    if not value < 0.1:
        raise ValueError(f"tolerance {value:.1e} leaves no digit to compare: condition {condition:.1e}")
    reason = f"{FACTOR:g} eps({run.dtype}) x sqrt({terms} terms) x condition number {condition:.3g}"
    return {"tolerance": value, "reason": reason}
