"""Comparisons that claims are made of: each returns a `Finding`, never one that says more than "holds".

Floating-point agreement on a sample proves nothing, so no comparison here certifies; a value that is not
finite decides nothing either way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .entries import host, non_finite, norm, witness_at
from .findings import Finding, check_text


def identity(
    computed: Any,
    reference: Any,
    *,
    tolerance: float,
    reason: str,
    detail: str,
    scale: float | None = None,
) -> Finding:
    """Finding of *computed = reference*, in the relative 2-norm of all entries.

    ``measured = ||computed - reference||_2 / scale``, computed in float64. Holds iff
    ``measured <= tolerance``; a non-finite entry on either side leaves it undecided.

    Parameters
    ----------
    computed, reference : array of any backend, or number
        Equal shapes; nothing is broadcast.
    tolerance : float
        In [0, 1).
    reason : str
        The tolerance's derivation (from the dtype, the sizes, the conditioning).
    detail : str
        What was run, on how many instances.
    scale : float, optional
        What the error is measured against, ``||reference||_2`` by default. Needed for a zero reference.

    Returns
    -------
    Finding
        "holds", "refuted" (with the entry of largest error as witness) or "undecided"; never "certified".

    Raises
    ------
    ValueError
        Unequal or empty shapes, tolerance out of range, no reason, or no scale for a zero reference.
    """
    left, right = host("computed", computed), host("reference", reference)
    if left.shape != right.shape or left.size == 0:
        raise ValueError(
            f"computed and reference must have one nonempty shape, got {left.shape} and {right.shape}"
        )
    _check_threshold("tolerance", tolerance)
    check_text("reason", reason)
    size = norm(right) if scale is None else _check_scale(scale)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return non_finite({"computed": left, "reference": right}, tolerance, detail, reason)
    if size == 0:
        raise ValueError("reference is zero, so there is no relative error: give scale=, a positive number")
    with np.errstate(over="ignore"):
        difference = left - right
    measured = norm(difference) / size
    index = np.unravel_index(np.argmax(np.abs(difference)), left.shape)
    holds = measured <= tolerance
    return Finding(
        "holds" if holds else "refuted",
        measured,
        tolerance,
        f"{detail}; relative 2-norm over {left.size} entries",
        reason=reason,
        witness=None if holds else witness_at(index, computed=left, reference=right),
    )


def inequality(
    lhs: Any,
    rhs: Any,
    *,
    slack: float,
    reason: str,
    detail: str,
    scale: float | None = None,
) -> Finding:
    """Finding of *lhs <= rhs*, entry by entry, up to a stated slack for roundoff.

    ``measured = max (lhs - rhs) / scale``; holds iff ``measured <= slack``. The margin is ``-measured``:
    the least relative distance from the bound, so a margin near zero is a tight inequality.

    Parameters
    ----------
    lhs, rhs : array of any backend, or number
        Broadcast against each other.
    slack : float
        In [0, 1).
    reason : str
        The slack's derivation.
    detail : str
        What was run, on how many instances.
    scale : float, optional
        By default ``max(|lhs|, |rhs|)`` of each entry (an entry with 0 <= 0 counts as equal).

    Returns
    -------
    Finding
        "holds", "refuted" (with the worst entry as witness) or "undecided" (a non-finite side).

    Raises
    ------
    ValueError
        Shapes that do not broadcast, nothing to compare, slack or scale out of range, no reason.
    """
    left, right = np.broadcast_arrays(host("lhs", lhs), host("rhs", rhs))
    if left.size == 0:
        raise ValueError("lhs and rhs must have entries to compare, got none")
    _check_threshold("slack", slack)
    check_text("reason", reason)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return non_finite({"lhs": left, "rhs": right}, slack, detail, reason)
    size = (
        np.maximum(np.abs(left), np.abs(right)) if scale is None else np.full(left.shape, _check_scale(scale))
    )
    # divided before subtracting: the difference of two finite numbers may overflow
    divisor = np.where(size > 0, size, 1.0)
    excess = left / divisor - right / divisor
    index = np.unravel_index(np.argmax(excess), excess.shape)
    measured = float(excess[index])
    holds = measured <= slack
    return Finding(
        "holds" if holds else "refuted",
        measured,
        slack,
        f"{detail}; {left.size} comparisons",
        margin=-measured,
        reason=reason,
        witness=None if holds else witness_at(index, lhs=left, rhs=right),
    )


def at_most(
    values: Any,
    limit: float,
    *,
    reason: str,
    detail: str,
) -> Finding:
    """Finding of *value <= limit* for every one of some numbers that have a unit of their own.

    ``measured = max values``, for counts, or residuals in units of roundoff, whose limit exceeds one.

    Parameters
    ----------
    values : array of any backend, or number
    limit : float
        Finite.
    reason : str
        Where the limit comes from.
    detail : str
        What was run, on how many instances.

    Returns
    -------
    Finding
        "holds", "refuted" (with the largest as witness) or "undecided" (a non-finite value).

    Raises
    ------
    ValueError
        No values, a limit that is not finite, no reason.
    """
    numbers = host("values", values)
    if numbers.size == 0:
        raise ValueError("values must hold at least one number, got none")
    if not math.isfinite(limit):
        raise ValueError(f"limit must be finite, got {limit}")
    check_text("reason", reason)
    if not np.isfinite(numbers).all():
        return non_finite({"values": numbers}, limit, detail, reason)
    index = np.unravel_index(np.argmax(numbers), numbers.shape)
    worst = float(numbers[index])
    holds = worst <= limit
    witness = None if holds else witness_at(index, value=numbers)
    verdict = "holds" if holds else "refuted"
    return Finding(verdict, worst, limit, detail, reason=reason, witness=witness)


def rate(
    sizes: Any,
    values: Any,
    order: float,
    *,
    tolerance: float,
    reason: str,
    detail: str,
) -> Finding:
    """Finding of *value = constant size^order*, by the slope of a line through the logarithms.

    ``measured = |slope - order|``, the slope of ``log values`` over ``log sizes`` by least squares. An order
    of convergence is one of the errors after a step over those before it.

    Parameters
    ----------
    sizes, values : array of any backend
        Equal shapes, at least two entries, positive.
    order : float
        The exponent claimed.
    tolerance : float
        On the exponent, in [0, 1).
    reason : str
        The tolerance's derivation: terms of higher order, sampling errors.
    detail : str
        What was run.

    Returns
    -------
    Finding
        "holds", "refuted" (with the slope as witness) or "undecided" (an entry that is not finite or not
        positive).

    Raises
    ------
    ValueError
        Unequal shapes, fewer than two different sizes, tolerance out of range, no reason.
    """
    size, value = host("sizes", sizes).ravel(), host("values", values).ravel()
    if size.shape != value.shape or len(set(size)) < 2:
        raise ValueError(
            f"sizes and values must have one shape and two different sizes at least, got {size.shape} and "
            f"{value.shape}"
        )
    _check_threshold("tolerance", tolerance)
    check_text("reason", reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.log(size), np.log(value)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        sides = {"log of sizes": x, "log of values": y}
        return non_finite(sides, tolerance, detail, reason)
    slope = float(np.polyfit(x, y, 1)[0])
    measured = abs(slope - order)
    holds = measured <= tolerance
    return Finding(
        "holds" if holds else "refuted",
        measured,
        tolerance,
        f"{detail}; exponent {slope:.4g} fitted to {x.size} points, {order:g} claimed",
        reason=reason,
        witness=None if holds else {"exponent": slope, "claimed": order},
    )


def _check_threshold(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}: relative errors of 1 compare nothing")


def _check_scale(scale: float) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a finite positive number, got {scale}")
    return float(scale)
