"""Intervals against SciPy, by hand and by simulation, and the words that follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grng_ref.training.intervals import (
    Interval,
    bonferroni,
    median_ratio,
    paired_interval,
    pairs_needed,
    word,
)


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


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.9875, 0.999])
@pytest.mark.parametrize("n", [2, 6, 8, 25])
def test_median_interval_is_that_of_scipys_quantile_test(n, confidence):
    costs = np.random.default_rng(n).lognormal(size=n)
    got = median_ratio([(c, c) for c in costs], [(1.0, 1.0)] * n, confidence=confidence)
    wanted = stats.quantile_test(costs, p=0.5).confidence_interval(confidence_level=confidence)
    # SciPy leaves NaN where an end is open
    assert (got.lower, got.upper) == (
        0.0 if math.isnan(wanted.low) else pytest.approx(wanted.low),
        math.inf if math.isnan(wanted.high) else pytest.approx(wanted.high),
    )
    assert (got.upper < math.inf) == (n >= pairs_needed(confidence))
    assert math.isclose(got.estimate, float(np.median(costs)))


def exact(*costs):
    return [(float(cost), float(cost)) for cost in costs]


def test_median_ratio_by_hand():
    # five pairs at 93.75 %: P(Bin(5, 1/2) = 0) = 1/32 on each side, so from the least to the largest ratio
    got = median_ratio(exact(2, 3, 4, 5, 9), exact(1, 1, 1, 1, 1), confidence=0.9375)
    assert got == pytest.approx((4.0, 2.0, 9.0, 5))
    assert median_ratio(exact(2, 3, 4, 5, 9), exact(1, 1, 1, 1, 1), confidence=0.95)[1:3] == (0.0, math.inf)
    # known between bounds: the least lower ratio to the largest upper one
    between = median_ratio([(2.0, 4.0)] * 5, [(1.0, 2.0)] * 5, confidence=0.9375)
    assert between == pytest.approx((2.0, 1.0, 4.0, 5))


def test_a_censored_cost_opens_the_side_that_it_could_move():
    spent = (30.0, math.inf)
    slow = median_ratio([spent, *exact(2, 2, 2, 2)], exact(1, 1, 1, 1, 1), confidence=0.9375)
    assert (slow.lower, slow.upper) == (2.0, math.inf)
    beaten = median_ratio(exact(1, 1, 1, 1, 1), [spent, *exact(2, 2, 2, 2)], confidence=0.9375)
    assert (beaten.lower, beaten.upper) == (0.0, 0.5)
    # the median itself is known while the censored are the fewer
    assert beaten.estimate == pytest.approx(0.5)
    assert math.isnan(median_ratio([spent] * 3, exact(1, 1, 1)).estimate)


def test_pairs_needed_by_hand():
    assert [pairs_needed(c) for c in (0.5, 0.95, 1.0 - 0.05 / 3.0, 0.9875)] == [2, 6, 7, 8]


# --- coverage ----------------------------------------------------------------------------------------------

TRIALS = 4000  # the standard deviation of a frequency near 0.95 is 0.0034; five of them are 0.017
MARGIN = 0.017


def coverage(interval, n: int = 6) -> float:
    """How often the interval of ``a - b`` holds the truth, 0.3, where pairs share what is large in both."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(TRIALS):
        shared = 10.0 * rng.normal(size=n)
        a, b = shared + rng.normal(size=n) + 0.3, shared + rng.normal(size=n)
        seen = interval(a.tolist(), b.tolist())
        covered += seen.lower <= 0.3 <= seen.upper
    return covered / TRIALS


def narrowed(a, b, factor):
    seen = paired_interval(a, b)
    half = factor * (seen.upper - seen.estimate)
    return seen._replace(lower=seen.estimate - half, upper=seen.estimate + half)


def no_root(a, b):
    """Planted: the standard error divides by n once more."""
    return narrowed(a, b, 1.0 / math.sqrt(len(a)))


def normal(a, b):
    """Planted: quantiles of the normal distribution with an estimated deviation."""
    return narrowed(a, b, stats.norm.ppf(0.975) / stats.t.ppf(0.975, len(a) - 1))


def test_interval_covers_as_often_as_it_says_and_planted_ones_do_not():
    assert abs(coverage(paired_interval) - 0.95) < MARGIN
    assert coverage(no_root) < 0.95 - 2.0 * MARGIN
    assert coverage(normal) < 0.95 - 2.0 * MARGIN


def together(confidence: float, rivals: int = 4, n: int = 6) -> float:
    """How often the intervals against all rivals hold the truth, 0, where the claimant's runs are in each."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(TRIALS):
        own = rng.normal(size=n).tolist()
        others = rng.normal(size=(rivals, n)).tolist()
        seen = [paired_interval(own, other, confidence=confidence) for other in others]
        covered += all(i.lower <= 0.0 <= i.upper for i in seen)
    return covered / TRIALS


def test_bonferroni_covers_all_comparisons_together_and_no_correction_does_not():
    assert together(bonferroni(0.95, 4)) > 0.95 - MARGIN
    assert together(0.95) < 0.95 - 2.0 * MARGIN


# distance of the records and end of claimant and rival, whose costs have the median 6
COARSE = ((0.5, 600.0), (24.0, 2400.0))  # the rival's costs look larger than they are
CUT_OFF = ((0.5, 6.0), (0.5, 600.0))  # half of the claimant's runs end before


def median_coverage(interval, confidence: float, n: int, schemes) -> float:
    """How often the interval holds the median ratio, 1, of skewed costs seen at records and cut off."""
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(TRIALS):
        costs = [[recorded(cost, *scheme) for cost in 6.0 * rng.lognormal(size=n)] for scheme in schemes]
        seen = interval(*costs, confidence)
        covered += seen.lower <= 1.0 <= seen.upper
    return covered / TRIALS


def recorded(cost: float, every: float, end: float):
    """The record after the cost and the one before it; cut off at the end."""
    after = every * math.ceil(cost / every)
    return (after - every, after) if after <= end else (end, math.inf)


def as_stated(first, second, confidence):
    return median_ratio(first, second, confidence=confidence)


def records_for_costs(first, second, confidence):
    """Planted: a cost is taken to be that of its record."""
    return as_stated(
        *([(b if b < math.inf else a, b) for a, b in costs] for costs in (first, second)), confidence
    )


def dropped(first, second, confidence):
    """Planted: pairs in which the claimant never reached the target are left out."""
    kept = [i for i, (_, upper) in enumerate(first) if upper < math.inf] or [0]
    return as_stated([first[i] for i in kept], [second[i] for i in kept], confidence)


def student(first, second, confidence):
    """Planted: Student's interval of the logarithms, where what was cut off counts with what it spent."""
    spent = [[math.log(a if b == math.inf else b) for a, b in costs] for costs in (first, second)]
    seen = paired_interval(*spent, confidence=confidence)
    return seen._replace(lower=math.exp(seen.lower), upper=math.exp(seen.upper))


@pytest.mark.parametrize("schemes", [COARSE, CUT_OFF])
@pytest.mark.parametrize(("confidence", "n"), [(0.7, 24), (0.95, 6), (0.9875, 8)])
def test_median_interval_covers_skewed_and_censored_costs(confidence, n, schemes):
    assert median_coverage(as_stated, confidence, n, schemes) > confidence - MARGIN


@pytest.mark.parametrize(
    ("planted", "schemes"), [(records_for_costs, COARSE), (dropped, CUT_OFF), (student, CUT_OFF)]
)
def test_planted_median_intervals_do_not_cover(planted, schemes):
    assert median_coverage(planted, 0.7, 24, schemes) < 0.7 - 2.0 * MARGIN


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
TOUCHES = Interval(0.0, 0.0, 0.0, 6)
OPEN = Interval(math.nan, -math.inf, math.inf, 0)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([BELOW, BELOW], "supported"),
        ([BELOW, ACROSS], "undecided"),
        ([BELOW, ABOVE], "not supported"),
        ([OPEN, ABOVE], "not supported"),
        ([BELOW, OPEN], "undecided"),
        ([TOUCHES], "undecided"),
        ([], "undecided"),
    ],
)
def test_words(intervals, expected):
    assert word(intervals, null=0.0) == expected


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (paired_interval, ([1.0], [1.0, 2.0]), "first and second must hold pairs"),
        (paired_interval, ([], []), "first and second must hold pairs"),
        (paired_interval, ([math.nan, 1.0], [1.0, 2.0]), "first and second must be finite"),
        (median_ratio, ([(0.0, 0.0)], [(1.0, 1.0)]), "first and second must hold bounds"),
        (median_ratio, ([(2.0, 1.0)], [(1.0, 1.0)]), "first and second must hold bounds"),
        (median_ratio, ([(math.inf, math.inf)], [(1.0, 1.0)]), "first and second must hold bounds"),
        (median_ratio, ([(1.0, 1.0)], []), "first and second must hold pairs"),
    ],
)
def test_bad_numbers_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("confidence", [95, 1.0, 0.0, -0.5, math.nan])
def test_bad_confidence_is_refused(confidence):
    for refuse in (lambda: paired_interval([1.0, 2.0], [1.0, 3.0], confidence=confidence),
                   lambda: median_ratio(exact(1, 2), exact(1, 3), confidence=confidence),
                   lambda: pairs_needed(confidence)):  # fmt: skip
        with pytest.raises(ValueError, match="confidence must"):
            refuse()
