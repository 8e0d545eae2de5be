"""Paired intervals, and the words that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ..arrays import check_real

WORDS = ("supported", "not supported", "undecided")
UNKNOWN = (0.0, math.inf)  # the bounds of a cost of which nothing is known

Bounds = tuple[float, float]


class Interval(NamedTuple):
    """What pairs say of a mean difference, or of a median ratio; NaN and infinity stand for unknown."""

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
    check_confidence(confidence)
    _check_pairs(first, second)
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not np.all(np.isfinite(differences)):
        raise ValueError(f"first and second must be finite, got differences {differences}")
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2.0) * np.std(differences, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def median_ratio(first: Sequence[Bounds], second: Sequence[Bounds], *, confidence: float = 0.95) -> Interval:
    """An interval of the median of ``first / second``, costs that are known between bounds only.

    With ``l_i = lower_i / upper'_i`` and ``u_i = upper_i / lower'_i``, the primes those of ``second``, and k
    the largest number with ``P(Bin(n, 1/2) < k) <= (1 - confidence) / 2``: from the k-th smallest ``l`` to
    the k-th largest ``u``; from 0 to infinity where k is 0. The estimate is the geometric mean of the medians
    of l and u, NaN where one of them is 0 or infinite.

    Parameters
    ----------
    first, second : sequences of n pairs (lower, upper)
        ``0 <= lower <= upper``, lower finite, upper > 0; an infinite upper bound is that of a cost cut off
        (censored). Pair i shares its seed.
    confidence : float
        In (0, 1); two-sided.

    Raises
    ------
    ValueError
        Sequences of unequal length, no pair, bounds out of order, a bad confidence.

    Notes
    -----
    It holds the median at least as often as stated for any distribution and wherever in their bounds the
    costs lie: the interval of the true ratios lies inside. Source: classical (order statistics: Thompson
    1936).
    """
    check_confidence(confidence)
    _check_pairs(first, second)
    for bounds in (*first, *second):
        if not (0.0 <= bounds[0] <= bounds[1] and bounds[0] < math.inf and bounds[1] > 0.0):
            raise ValueError(f"first and second must hold bounds 0 <= lower <= upper of costs, got {bounds}")
    n = len(first)
    lower = sorted(_ratio(a[0], b[1]) for a, b in zip(first, second, strict=True))
    upper = sorted(_ratio(a[1], b[0]) for a, b in zip(first, second, strict=True))
    middle = float(np.median(lower)), float(np.median(upper))
    known = middle[0] > 0.0 and math.isfinite(middle[1])
    estimate = math.sqrt(middle[0]) * math.sqrt(middle[1]) if known else math.nan
    k = sum(float(special.bdtr(i, n, 0.5)) <= (1.0 - confidence) / 2.0 for i in range(n))
    if k == 0:
        return Interval(estimate, *UNKNOWN, n)
    return Interval(estimate, lower[k - 1], upper[n - k], n)


def pairs_needed(confidence: float) -> int:
    """The fewest pairs with which `median_ratio` has bounds: the least n with ``2^-n <= (1 - c) / 2``.

    Parameters
    ----------
    confidence : float
        c, in (0, 1).

    Raises
    ------
    ValueError
        A bad confidence.
    """
    n, tail = 1, (1.0 - check_confidence(confidence)) / 2.0
    while 0.5**n > tail:
        n += 1
    return n


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


def word(intervals: Sequence[Interval], *, null: float) -> str:
    """What intervals of "less than the null value is better" say of a claim to beat every rival.

    *supported*: every interval lies below the null value. *not supported*: one lies above it. *undecided*:
    neither; so too without any interval. What is not known has infinite bounds, and decides nothing.
    """
    if intervals and all(i.upper < null for i in intervals):
        return "supported"
    return "not supported" if any(i.lower > null for i in intervals) else "undecided"


def check_confidence(confidence: float) -> float:
    """The confidence, if it lies in (0, 1)."""
    if not 0.0 < check_real("confidence", confidence) < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    return confidence


def _check_pairs(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second) or not first:
        raise ValueError(f"first and second must hold pairs, got {len(first)} and {len(second)} numbers")


def _ratio(a: float, b: float) -> float:
    """``a / b``; infinite where b is 0, which only a lower bound can be, or a is infinite."""
    return math.inf if b == 0.0 or math.isinf(a) else a / b
