"""Paired intervals, and the words that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ..arrays import check_real

WORDS = ("supported", "not supported", "undecided")


class Interval(NamedTuple):
    """A mean of paired differences, between two bounds."""

    estimate: float
    lower: float
    upper: float
    pairs: int


def paired_interval(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of ``first - second``: ``m -+ t_{n-1} s / sqrt(n)``.

    Parameters
    ----------
    first, second : sequences of n numbers
        Pair i shares its seed. With fewer than two pairs the bounds are infinite.
    confidence : float
        In (0, 1); two-sided.

    Raises
    ------
    ValueError
        Sequences of unequal length, no pair, numbers that are not finite, a bad confidence.

    Notes
    -----
    Exact where the differences are independent and normal. Source: classical (Student 1908).
    """
    if not 0.0 < check_real("confidence", confidence, minimum=0.0) < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if len(first) != len(second) or not first:
        raise ValueError(f"first and second must hold pairs, got {len(first)} and {len(second)} numbers")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not np.all(np.isfinite(differences)):
        raise ValueError(f"first and second must be finite, got differences {differences}")
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2.0) * np.std(differences, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_ratio(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The interval of ``exp mean log(first / second)``, a ratio of positive costs.

    Parameters
    ----------
    first, second : sequences of n numbers
        > 0; pair i shares its seed.
    confidence : float
        In (0, 1); two-sided.

    Raises
    ------
    ValueError
        As `paired_interval`; a number that is not positive.
    """
    if min([*first, *second], default=1.0) <= 0.0:
        raise ValueError("first and second must be positive, for the logarithm of their ratio")
    log = paired_interval([math.log(a) for a in first], [math.log(b) for b in second], confidence=confidence)
    with np.errstate(over="ignore", under="ignore"):  # two pairs may leave a ratio open on both sides
        estimate, lower, upper = (float(np.exp(v)) for v in (log.estimate, log.lower, log.upper))
    return Interval(estimate, lower, upper, log.pairs)


def bonferroni(confidence: float, comparisons: int) -> float:
    """The confidence of each of m intervals that makes all of them right together: ``1 - (1 - c) / m``.

    Parameters
    ----------
    confidence : float
        c, of all together.
    comparisons : int
        m.

    Notes
    -----
    By the union bound; no independence is needed.
    """
    return 1.0 - (1.0 - confidence) / max(1, comparisons)


def word(
    intervals: Sequence[Interval], *, null: float, complete: bool = True, rivals_complete: Sequence[bool] = ()
) -> str:
    """What intervals of "less than the null value is better" say of a claim to beat every rival.

    *supported*: the claimant's runs are complete and every interval lies below the null value. *not
    supported*: the interval of a rival whose runs are complete lies above it. *undecided*: neither.
    A run that failed or did not reach its target is not complete: its number only bounds the truth, from the
    side that is kind to it.
    """
    known = list(rivals_complete) or [True] * len(intervals)
    if intervals and complete and all(i.upper < null for i in intervals):
        return "supported"
    if any(i.lower > null and good for i, good in zip(intervals, known, strict=True)):
        return "not supported"
    return "undecided"
