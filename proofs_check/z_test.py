"""The comparison of claims that sample: a z-test at a sample size that was fixed in advance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri

from .entries import host, non_finite, witness_at
from .findings import Finding


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
    hosts = [host(n, v) for n, v in zip(names, (sample_mean, expected, standard_error), strict=True)]
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
    skew = host("skewness", skewness)
    largest = float(np.abs(skew).max())
    critical = _critical_score(false_alarm / count, largest / math.sqrt(num_samples))
    reason = (
        f"two-sided normal quantile at false-alarm rate {false_alarm:g} over {count} comparisons (Bonferroni)"
    )
    if largest > 0:
        reason += f", corrected for skewness {largest:.3g} of the summands"
    text = f"{detail}; z-test at the fixed sample size {num_samples}"
    if not all(np.isfinite(part).all() for part in (mean, target, error)):
        return non_finite(
            {"sample_mean": mean, "expected": target, "standard_error": error}, critical, text, reason
        )
    if not np.isfinite(skew).all():
        return non_finite({"skewness": skew}, critical, text, reason)
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
        witness=None if holds else witness_at(index, sample_mean=mean, expected=target, standard_error=error),
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
