"""Tolerances that follow from the arithmetic, with their reasons, for claims."""

from __future__ import annotations

import math
from typing import TypedDict

from .context import Run

FACTOR = 32.0
"""The constant of a backward stable computation; next to the 30 of LAPACK's scaled residuals."""

DIFFERENCE_ERROR = 1e-9
"""Allowed to the five-point differences of `proofs_check.oracles`.

Their truncation error is ``h^4 |f^(5)| / 30`` at ``h = eps^(1/5) max(1, |theta|_inf)``: some 1e-13 times the
fifth derivative, which reaches thousands in a network with weights of order one.
"""


class Tolerance(TypedDict):
    """The keyword arguments of `identity` that say how close, and why."""

    tolerance: float
    reason: str


def roundoff(run: Run, *, condition: float = 1.0, terms: int = 1, reference: float = 0.0) -> Tolerance:
    """``32 sqrt(terms) condition eps + reference``, and the reason in words.

    A backward stable computation returns the exact answer for data perturbed by a few eps; the answer moves
    by at most that times the condition number. Rounding errors of a sum behave like a random walk and grow
    like the root of its terms (Higham and Mary 2019).

    Parameters
    ----------
    condition : float
        Condition number of the problem.
    terms : int
        Length of the longest sum.
    reference : float
        Relative error of the reference itself.

    Raises
    ------
    ValueError
        The tolerance reaches 0.1: with not one digit left to compare, a check could hardly fail.
    """
    value = FACTOR * math.sqrt(terms) * condition * run.eps + reference
    if not value < 0.1:
        raise ValueError(f"tolerance {value:.1e} leaves no digit to compare: condition {condition:.1e}")
    reason = f"{FACTOR:g} eps({run.dtype}) x sqrt({terms} terms) x condition number {condition:.3g}"
    if reference > 0.0:
        reason += f", plus {reference:g} for the reference's finite differences"
    return {"tolerance": value, "reason": reason}
