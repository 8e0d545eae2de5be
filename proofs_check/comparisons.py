"""Comparisons that claims are made of: each returns a `Finding`, never one that says more than "holds".

Floating-point agreement on a sample proves nothing, so no comparison here certifies; a value that is not
finite decides nothing either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri

import grng_ref as gr

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
    left, right = _host("computed", computed), _host("reference", reference)
    if left.shape != right.shape or left.size == 0:
        raise ValueError(
            f"computed and reference must have one nonempty shape, got {left.shape} and {right.shape}"
        )
    _check_threshold("tolerance", tolerance)
    check_text("reason", reason)
    size = _norm(right) if scale is None else _check_scale(scale)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return _non_finite({"computed": left, "reference": right}, tolerance, detail, reason)
    if size == 0:
        raise ValueError("reference is zero, so there is no relative error: give scale=, a positive number")
    with np.errstate(over="ignore"):
        difference = left - right
    measured = _norm(difference) / size
    index = np.unravel_index(np.argmax(np.abs(difference)), left.shape)
    holds = measured <= tolerance
    return Finding(
        "holds" if holds else "refuted",
        measured,
        tolerance,
        f"{detail}; relative 2-norm over {left.size} entries",
        reason=reason,
        witness=None if holds else _witness(index, computed=left, reference=right),
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
    left, right = np.broadcast_arrays(_host("lhs", lhs), _host("rhs", rhs))
    if left.size == 0:
        raise ValueError("lhs and rhs must have entries to compare, got none")
    _check_threshold("slack", slack)
    check_text("reason", reason)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return _non_finite({"lhs": left, "rhs": right}, slack, detail, reason)
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
        witness=None if holds else _witness(index, lhs=left, rhs=right),
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
    numbers = _host("values", values)
    if numbers.size == 0:
        raise ValueError("values must hold at least one number, got none")
    if not math.isfinite(limit):
        raise ValueError(f"limit must be finite, got {limit}")
    check_text("reason", reason)
    if not np.isfinite(numbers).all():
        return _non_finite({"values": numbers}, limit, detail, reason)
    index = np.unravel_index(np.argmax(numbers), numbers.shape)
    worst = float(numbers[index])
    holds = worst <= limit
    witness = None if holds else _witness(index, value=numbers)
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
    size, value = _host("sizes", sizes).ravel(), _host("values", values).ravel()
    _check_threshold("tolerance", tolerance)
    check_text("reason", reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.log(size), np.log(value)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        sides = {"log of sizes": x, "log of values": y}
        return _non_finite(sides, tolerance, detail, reason)
    if x.shape != y.shape or x.size < 2 or np.ptp(x) == 0:
        raise ValueError(
            f"sizes and values must have one shape and two different sizes at least, got {size.shape} and "
            f"{value.shape}"
        )
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


def statistical(
    sample_mean: Any,
    expected: Any,
    standard_error: Any,
    *,
    num_samples: int,
    detail: str,
    false_alarm: float = 1e-6,
    comparisons: int | None = None,
    skewness: Any = 0.0,
) -> Finding:
    """Finding of *mean = expected* by a two-sided z-test at a sample size fixed in advance.

    ``measured = max |mean - expected| / standard_error``; holds iff it is at most the z at which

        Phi(-z) (e^c + e^-c) = false_alarm / comparisons,   c = max |skewness| z^3 / (3 sqrt(num_samples)),

    Bonferroni's share of the false-alarm rate with the leading (Cramer) correction of a studentized mean's
    tails for skewed summands (Jing, Shao and Wang 2003). Without skewness that is the normal quantile. A
    true claim then fails with probability ``false_alarm``, up to the corrections of higher order. There is
    one look at the data: never call it again with more samples after a failure.

    Parameters
    ----------
    sample_mean, expected, standard_error : array of any backend, or number
        Broadcast against each other. A standard error of zero demands exact agreement.
    num_samples : int
        Independent samples behind each mean, at least 2, fixed beforehand. Take 1e3 or more.
    detail : str
        What was run.
    false_alarm : float
        In (0, 0.5).
    comparisons : int, optional
        Number of comparisons that share the false-alarm rate; the number of entries by default, more where
        a claim runs this test several times.
    skewness : array, or number
        Of the summands, exact or from the sample; the largest modulus counts.

    Returns
    -------
    Finding
        "holds", "refuted" (with the worst entry as witness) or "undecided" (a non-finite input, or so much
        skewness that the correction reaches no such rate at this sample size).

    Raises
    ------
    ValueError
        A negative standard error, too few samples or comparisons, false_alarm out of range, no entries.
    """
    names = ("sample_mean", "expected", "standard_error")
    hosts = [_host(n, v) for n, v in zip(names, (sample_mean, expected, standard_error), strict=True)]
    mean, target, error = np.broadcast_arrays(*hosts)
    count = mean.size if comparisons is None else comparisons
    if mean.size == 0 or count < mean.size:
        raise ValueError(f"comparisons must be at least the number of entries, got {count} for {mean.size}")
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}")
    if not 0 < false_alarm < 0.5:
        raise ValueError(f"false_alarm must lie between 0 and 0.5, got {false_alarm}")
    if (error < 0).any():
        raise ValueError(f"standard_error must not be negative, got {error.min()}")
    skew = _host("skewness", skewness)
    largest = float(np.abs(skew).max())
    critical = _critical_score(false_alarm / count, largest / math.sqrt(num_samples))
    reason = (
        f"two-sided normal quantile at false-alarm rate {false_alarm:g} over {count} comparisons (Bonferroni)"
    )
    if largest > 0:
        reason += f", corrected for skewness {largest:.3g} of the summands"
    text = f"{detail}; z-test at the fixed sample size {num_samples}"
    if not all(np.isfinite(part).all() for part in (mean, target, error)):
        return _non_finite(
            {"sample_mean": mean, "expected": target, "standard_error": error}, critical, text, reason
        )
    if not np.isfinite(skew).all():
        return _non_finite({"skewness": skew}, critical, text, reason)
    if math.isnan(critical):
        note = f"skewness {largest:.3g} is too much for so rare a false alarm at this sample size"
        return Finding("undecided", math.nan, critical, f"{text}; {note}", reason=reason)
    # no spread and no gap: exact agreement; no spread and a gap: infinitely many standard errors
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = np.abs(mean - target)
        scores = np.where(gap == 0, 0.0, gap / error)
    index = np.unravel_index(np.argmax(scores), scores.shape)
    measured = float(scores[index])
    holds = measured <= critical
    return Finding(
        "holds" if holds else "refuted",
        measured,
        critical,
        text,
        reason=reason,
        witness=None if holds else _witness(index, sample_mean=mean, expected=target, standard_error=error),
    )


def _critical_score(rate: float, skewness: float) -> float:
    """The z with ``Phi(-z) (e^c + e^-c) = rate``, ``c = skewness z^3 / 3``; NaN if there is none."""
    normal = float(-ndtri(rate / 2))
    if not skewness > 0:
        return normal

    def excess(z: float) -> float:
        c = skewness * z**3 / 3
        return float(log_ndtr(-z) + np.logaddexp(c, -c) - math.log(rate))

    turn = 1 / skewness  # about here the correction, which grows like z^3, overtakes the tail
    return float(brentq(excess, normal, turn)) if turn > normal and excess(turn) <= 0 else math.nan


def _host(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value if isinstance(value, int | float) else gr.to_numpy(value))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def _norm(values: np.ndarray) -> float:
    """2-norm of all entries, scaled so that squares neither overflow nor vanish."""
    if not np.isfinite(values).all():  # a difference of finite numbers that overflowed
        return math.inf
    largest = float(np.abs(values).max())
    return largest * float(np.sqrt(np.square(values / largest).sum())) if largest > 0 else 0.0


def _non_finite(sides: dict[str, np.ndarray], threshold: float, detail: str, reason: str) -> Finding:
    """Undecided: a NaN is no evidence for a claim, and none for its refutation either."""
    name, values = next((n, v) for n, v in sides.items() if not np.isfinite(v).all())
    index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
    return Finding(
        "undecided",
        math.nan,
        threshold,
        f"{detail}; {name} is not finite at index {index}",
        reason=reason,
        witness={"index": index, "not_finite": name},
    )


def _witness(index: Sequence[Any], **sides: np.ndarray) -> dict[str, Any]:
    return {"index": [int(i) for i in index], **{name: float(v[tuple(index)]) for name, v in sides.items()}}


def _check_threshold(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}: relative errors of 1 compare nothing")


def _check_scale(scale: float) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a finite positive number, got {scale}")
    return float(scale)
