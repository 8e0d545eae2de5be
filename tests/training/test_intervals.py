"""Paired intervals against SciPy and by simulation, and the words that follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grng_ref.training.intervals import Interval, bonferroni, paired_interval, paired_ratio, word


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9875])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_interval_is_that_of_scipys_paired_t_test(n, confidence):
    rng = np.random.default_rng(n)
    a, b = rng.normal(1.0, 2.0, n), rng.normal(0.0, 1.0, n)
    got = paired_interval(a.tolist(), b.tolist(), confidence=confidence)
    wanted = stats.ttest_rel(a, b).confidence_interval(confidence)
    # the quantiles of the two come from unlike routines: their own error is some 1e-12
    assert np.allclose([got.lower, got.upper], [wanted.low, wanted.high], rtol=1e-10, atol=1e-13)


def test_interval_by_hand():
    # differences 1, 2, 3: mean 2, s = 1; two degrees of freedom: t(p) = (2p - 1) / sqrt(2 p (1 - p))
    got = paired_interval([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    half = 0.95 / math.sqrt(2.0 * 0.975 * 0.025) / math.sqrt(3.0)
    assert got.estimate == 2.0
    assert math.isclose(got.lower, 2.0 - half, rel_tol=1e-12)
    assert math.isclose(got.upper, 2.0 + half, rel_tol=1e-12)


def test_ratio_is_geometric_and_one_pair_says_nothing():
    got = paired_ratio([2.0, 8.0], [1.0, 1.0])
    assert math.isclose(got.estimate, 4.0)
    assert math.isclose(got.lower * got.upper, 16.0)
    assert paired_ratio([2.0], [1.0])[1:] == (0.0, math.inf, 1)
    assert paired_ratio([1e300, 1e-300], [1e-8, 1.0])[1:] == (0.0, math.inf, 2)


def coverage(interval, trials: int = 4000, n: int = 6) -> float:
    """How often the interval of ``a - b`` holds the truth, 0.3, where pairs share what is large in both."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(trials):
        shared = 10.0 * rng.normal(size=n)
        a, b = shared + rng.normal(size=n) + 0.3, shared + rng.normal(size=n)
        seen = interval(a.tolist(), b.tolist())
        covered += seen.lower <= 0.3 <= seen.upper
    return covered / trials


def no_root(a, b):
    """Planted: the standard error divides by n once more."""
    seen = paired_interval(a, b)
    half = (seen.upper - seen.estimate) / math.sqrt(len(a))
    return seen._replace(lower=seen.estimate - half, upper=seen.estimate + half)


def never(a, b):
    """Planted: an interval that never covers."""
    seen = paired_interval(a, b)
    return seen._replace(lower=seen.upper + 100.0, upper=seen.upper + 101.0)


def test_interval_covers_as_often_as_it_says_and_planted_ones_do_not():
    # 4000 trials: the standard deviation of the frequency is 0.0034; 5 of them are 0.017
    assert abs(coverage(paired_interval) - 0.95) < 0.017
    assert abs(coverage(no_root) - 0.95) > 0.1
    assert coverage(never) == 0.0


def test_unpaired_runs_give_a_useless_interval():
    """What pairing is for: the shared part, a hundred times the rest, does not enter."""
    rng = np.random.default_rng(3)
    shared = 10.0 * rng.normal(size=8)
    a, b = shared + 0.1 * rng.normal(size=8), shared + 0.1 * rng.normal(size=8)
    paired, broken = paired_interval(a.tolist(), b.tolist()), paired_interval(a.tolist(), b[::-1].tolist())
    assert (broken.upper - broken.lower) > 10.0 * (paired.upper - paired.lower)


def test_bonferroni():
    assert bonferroni(0.95, 4) == pytest.approx(0.9875)
    assert bonferroni(0.95, 1) == pytest.approx(0.95)


BELOW, ABOVE, ACROSS = (Interval(0.0, *bounds, 6) for bounds in ((-2.0, -1.0), (1.0, 2.0), (-1.0, 1.0)))


@pytest.mark.parametrize(
    ("intervals", "complete", "rivals", "expected"),
    [
        ([BELOW, BELOW], True, [True, True], "supported"),
        (
            [BELOW, BELOW],
            True,
            [True, False],
            "supported",
        ),  # a rival's cost was larger still
        ([BELOW, BELOW], False, [True, True], "undecided"),
        ([BELOW, ACROSS], True, [True, True], "undecided"),
        ([BELOW, ABOVE], True, [True, True], "not supported"),
        ([BELOW, ABOVE], False, [True, True], "not supported"),
        ([BELOW, ABOVE], True, [True, False], "undecided"),
        ([], True, [], "undecided"),
    ],
)
def test_words(intervals, complete, rivals, expected):
    assert word(intervals, null=0.0, complete=complete, rivals_complete=rivals) == expected


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (paired_interval, ([1.0], [1.0, 2.0]), "first and second must hold pairs"),
        (paired_interval, ([], []), "first and second must hold pairs"),
        (paired_interval, ([math.nan, 1.0], [1.0, 2.0]), "first and second must be finite"),
        (paired_ratio, ([0.0, 1.0], [1.0, 2.0]), "first and second must be positive"),
    ],
)
def test_bad_numbers_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_bad_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence must lie in"):
        paired_interval([1.0, 2.0], [1.0, 3.0], confidence=1.0)
