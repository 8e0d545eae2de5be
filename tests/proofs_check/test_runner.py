"""A run succeeds only if every verdict is the expected one and every planted error was caught."""

from __future__ import annotations

import math
import os

import mpmath
import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from proofs_check import (
    Claim,
    Finding,
    Run,
    Suite,
    at_most,
    combine,
    identity,
    inequality,
    load_suite,
    rate,
    run_claim,
    run_suite,
    statistical,
)

EPS = float(np.finfo(np.float64).eps)
HOLDS = Finding("holds", 0.5, 1.0, "a check")
REFUTED = Finding("refuted", 2.0, 1.0, "a check with a planted error", witness=2.0)
UNDECIDED = Finding("undecided", math.nan, 1.0, "a check that overflowed")
CERTIFIED = Finding("certified", 0.5, 1.0, "an enclosure", certificate="interval arithmetic")


def made(function, id="the-claim", *, kind="identity", expected="holds"):
    return Claim(id, "s", "classical", kind, expected, {}, function)  # kept in no list


def returning(finding, expected="holds"):
    return run_claim(made(lambda run: finding, expected=expected), Run())


# --- the runner's judgement ----------------------------------------------------------------------------


def test_a_check_that_always_passes_fails_the_run():
    def always_passes(run):
        def check(value):
            return identity(value, value, tolerance=4 * run.eps, reason="roundoff", detail="1 number")

        return check(1.0).with_control(check(2.0))  # the planted error is compared with itself

    result = run_claim(made(always_passes), Run())
    assert result.verdict == "holds"
    assert not result.ok
    assert result.problems == ("control not caught: the planted error came out holds",)


def test_a_check_that_always_fails_cannot_pass_as_an_expected_refutation():
    result = returning(REFUTED.with_control(REFUTED), expected="refuted")
    assert result.problems == ("control not caught: the planted error came out refuted",)
    assert returning(REFUTED.with_control(HOLDS), expected="refuted").ok


def test_a_missing_control_fails_the_run():
    result = returning(HOLDS)
    assert result.problems == ("no negative control: nothing shows that this check can fail",)
    assert not result.control_caught


@pytest.mark.parametrize("finding", [HOLDS, CERTIFIED], ids=["holds", "certified"])
def test_the_expected_verdict_with_a_caught_control_is_as_expected(finding):
    result = returning(finding.with_control(REFUTED), expected=finding.verdict)
    assert result.ok
    assert result.control_caught


@pytest.mark.parametrize("finding", [HOLDS, CERTIFIED], ids=["holds", "certified"])
def test_a_planted_error_that_only_overflows_is_not_caught(finding):
    result = returning(finding.with_control(UNDECIDED), expected=finding.verdict)
    assert result.problems == ("control not caught: the planted error came out undecided",)


@pytest.mark.parametrize("expected", ["certified", "holds", "refuted", "undecided"])
@pytest.mark.parametrize("finding", [CERTIFIED, HOLDS, REFUTED, UNDECIDED], ids=lambda f: f.verdict)
def test_every_other_verdict_than_the_expected_one_is_a_problem(finding, expected):
    control = HOLDS if expected in ("refuted", "undecided") else REFUTED
    result = returning(finding.with_control(control), expected=expected)
    assert result.ok == (finding.verdict == expected)
    if not result.ok:
        assert result.problems == (f"verdict is {finding.verdict}, expected {expected}",)


@pytest.mark.parametrize("raised", [ValueError("what happened"), SystemExit(0)], ids=["error", "exit"])
def test_whatever_a_claim_raises_is_reported_and_fails(raised):
    def check(run):
        raise raised

    result = run_claim(made(check), Run())
    assert not result.ok
    assert result.verdict == "error"
    assert "in check" in result.error
    assert result.problems[0].startswith(f"error: {type(raised).__name__}")


def test_a_claim_that_returns_no_finding_is_an_error():
    result = run_claim(made(lambda run: True), Run())
    assert result.problems == ("error: TypeError: claim 'the-claim' must return a Finding, got bool",)


def test_what_a_claim_prints_does_not_reach_standard_output(capsys):
    def check(run):
        print("chatter")
        return HOLDS.with_control(REFUTED)

    assert run_claim(made(check), Run()).ok
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "chatter\n"


def test_a_run_of_nothing_is_no_success():
    assert not run_suite(Suite(())).ok


def test_one_claim_spoils_the_run():
    good = made(lambda run: HOLDS.with_control(REFUTED), "good")
    bad = made(lambda run: HOLDS, "bad")
    assert run_suite(Suite((good,))).ok
    assert not run_suite(Suite((good, bad))).ok
    assert run_suite(Suite((good, bad)), only=["good"]).ok


@pytest.mark.parametrize("jobs", [0, -1, 1.0, True])
def test_jobs_is_checked(jobs):
    with pytest.raises(ValueError, match="jobs must be an integer of at least 1, got"):
        run_suite(Suite(()), jobs=jobs)


def test_workers_need_a_file_to_load():
    with pytest.raises(ValueError, match="jobs above 1 need a suite loaded with load_suite"):
        run_suite(Suite((made(lambda run: HOLDS),)), jobs=2)


def test_an_unknown_backend_is_refused_before_any_claim_runs():
    ran = []
    with pytest.raises(ValueError, match="backend"):
        run_suite(Suite((made(lambda run: ran.append(1)),)), Run(backend="fortran"))
    assert ran == []


FILE = '''
import numpy as np
from proofs_check import claim, identity, inequality
import helper_beside_the_claims

print("chatter while loading")

for number in range(3):

    @claim(f"loop-{number}", statement="s", source="x", kind="identity", params={"number": number})
    def check(run, number):
        """Fails if the sum is wrong."""
        x = run.asarray(run.rng(number).normal(size=50))
        print("chatter")

        def finding(factor):
            return identity(factor * x, 2 * x, tolerance=run.eps, reason="exact", detail="50 numbers")

        return finding(2).with_control(finding(2.5))


@claim("broken", statement="s", source="x", kind="inequality")
def broken(run):
    raise RuntimeError(helper_beside_the_claims.MESSAGE)


@claim("wrong", statement="s", source="x", kind="inequality")
def wrong(run):
    def finding(bound):
        return inequality(np.arange(4.0), bound, slack=0.0, reason="integers", detail="4 numbers")

    return finding(2.0).with_control(finding(1.0))
'''


def test_two_workers_give_the_results_of_one_process(tmp_path):
    (tmp_path / "helper_beside_the_claims.py").write_text("MESSAGE = 'from the neighbour'\n")
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    suite, settings = load_suite(path), Run(dtype="float32", seed=3)
    seen = []
    serial = run_suite(suite, settings)
    parallel = run_suite(suite, settings, jobs=2, on_result=lambda result: seen.append(result.claim.id))

    def essence(run):
        return [(r.claim.id, r.finding, r.verdict, r.problems) for r in run.results]

    assert essence(serial) == essence(parallel)
    assert sorted(seen) == ["broken", "loop-0", "loop-1", "loop-2", "wrong"]  # as they finish
    assert [r.ok for r in parallel.results] == [True, True, True, False, False]
    assert "in broken" in parallel.results[3].error
    assert parallel.results[3].problems == ("error: RuntimeError: from the neighbour",)
    assert parallel.results[4].finding.witness == {"index": [3], "lhs": 3.0, "rhs": 2.0}


# --- findings ------------------------------------------------------------------------------------------

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("verdict", ["holds", "certified"])
@pytest.mark.parametrize(
    ("measured", "threshold"), [*((b, 1.0) for b in BAD), (0.0, math.nan), (0, math.inf), (2, 1)]
)
def test_a_positive_verdict_cannot_contradict_its_numbers(verdict, measured, threshold):
    with pytest.raises(ValueError, match=f"verdict '{verdict}' needs finite measured <= threshold"):
        Finding(verdict, measured, threshold, "x", certificate="enclosure" * (verdict == "certified"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("true", 0.0, 1.0, "x"), "verdict must be one of certified, holds, refuted, undecided; got 'true'"),
        (("holds", 0.0, 1.0, " "), "detail must say what was run"),
        (("refuted", 2.0, 1.0, "x", 0.0, "", object()), "witness must be representable in JSON"),
        (("refuted", 2.0, 1.0, "x"), "verdict 'refuted' needs a witness"),
        (("refuted", 0.0, 1.0, "x", 0.0, "", 3), "verdict 'refuted' needs a witness and measured > thresh"),
        (("certified", 0.0, 1.0, "x"), "certificate must say where"),
        (("holds", 0.0, 1.0, "x", 0.0, "", None, None, "ball arithmetic"), "certificate belongs to"),
        (
            ("holds", 0.0, 1.0, "x", 0.0, "", None, HOLDS.with_control(REFUTED)),
            "control must be a finding without a control",
        ),
    ],
)
def test_findings_check_their_fields(arguments, message):
    with pytest.raises(ValueError, match=message):
        Finding(*arguments)


def test_a_control_is_a_finding():
    with pytest.raises(TypeError, match="control must be a Finding, got bool"):
        HOLDS.with_control(True)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("side", [0, 1])
def test_not_finite_never_holds_and_never_refutes(bad, side):
    pair = [np.ones(3), np.ones(3)]
    pair[side][1] = bad
    common = {"reason": "r", "detail": "d"}
    for finding in (
        identity(*pair, tolerance=0.5, **common),
        identity(*pair, tolerance=0.5, scale=1.0, **common),
        inequality(*pair, slack=0.5, **common),
        statistical(*pair, 1.0, num_samples=100, detail="d"),
        statistical(1.0, 1.0, pair[side] if bad != -math.inf else math.nan, num_samples=100, detail="d"),
    ):
        assert finding.verdict == "undecided"
        assert math.isnan(finding.measured)


@given(st.floats(1e-200, 1e200), st.floats(-1.0, 1.0).filter(lambda t: abs(t) > 1e-3), st.integers(1, 6))
def test_identity_measures_the_relative_norm_at_any_scale(scale, error, size):
    # one entry off by `error` of a constant vector: the relative 2-norm is |error| / sqrt(size) by hand
    reference = np.full(size, scale)
    computed = reference.copy()
    computed[-1] *= 1 + error
    finding = identity(computed, reference, tolerance=1e-4, reason="r", detail="d")
    # 1 + error and the product round, each by eps/2 of numbers up to 2: relative to |error| >= 1e-3
    assert finding.measured == pytest.approx(abs(error) / math.sqrt(size), rel=4 * EPS / 1e-3)
    assert finding.verdict == "refuted"
    assert finding.witness == {"index": [size - 1], "computed": computed[-1], "reference": scale}


def test_identity_at_its_threshold():
    common = {"reason": "binary fractions, exact", "detail": "d"}
    assert identity(1.25, 1.0, tolerance=0.25, **common).verdict == "holds"
    assert identity(1.25, 1.0, tolerance=0.25, **common).margin == 0.0
    assert identity(1.25, 1.0, tolerance=0.5, **common).margin == 0.5
    assert identity(1.25, 1.0, tolerance=0.24, **common).verdict == "refuted"
    assert identity(np.array([3.0, 4.0]), np.zeros(2), tolerance=0.5, scale=20.0, **common).measured == 0.25
    assert identity(np.zeros(3), np.zeros(3), tolerance=0.0, scale=2.0, **common).verdict == "holds"
    assert identity(np.array([1e308]), np.array([-1e308]), tolerance=0.1, **common).verdict == "refuted"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: identity(np.ones(2), np.ones((2, 1)), tolerance=0.1, **c),
            r"one nonempty shape, got \(2,\)",
        ),
        (lambda c: identity(np.ones(0), np.ones(0), tolerance=0.1, **c), "one nonempty shape"),
        (lambda c: identity(1.0, 0.0, tolerance=0.1, **c), "reference is zero"),
        (lambda c: identity(1.0, 1.0, tolerance=1.0, **c), r"tolerance must lie in \[0, 1\), got 1.0"),
        (lambda c: identity(1.0, 1.0, tolerance=math.nan, **c), "tolerance must lie in"),
        (lambda c: identity(1.0, 1.0, tolerance=0.1, scale=0.0, **c), "scale must be a finite positive"),
        (lambda c: identity(1.0, 1.0, tolerance=0.1, reason=" ", detail="d"), "reason must say where"),
        (lambda c: inequality(np.ones(0), 1.0, slack=0.1, **c), "lhs and rhs must have entries"),
        (lambda c: inequality(1.0, 1.0, slack=-0.1, **c), r"slack must lie in \[0, 1\), got -0.1"),
        (lambda c: inequality(1.0, 1.0, slack=0.1, reason="", detail="d"), "reason must say where"),
        (lambda c: statistical(1.0, 1.0, -1.0, num_samples=9, detail="d"), "standard_error must not be neg"),
        (lambda c: statistical(1.0, 1.0, 1.0, num_samples=1, detail="d"), "num_samples must be at least 2"),
        (
            lambda c: statistical(1.0, 1.0, 1.0, num_samples=9, detail="d", false_alarm=0.7),
            "false_alarm must",
        ),
        (
            lambda c: statistical(np.ones(5), 1.0, 1.0, num_samples=9, detail="d", comparisons=4),
            "comparisons must be at least the number of entries, got 4 for 5",
        ),
        (lambda c: combine([]), "findings must hold at least one"),
        (
            lambda c: combine([HOLDS, HOLDS.with_control(REFUTED)]),
            "findings must all carry a control, or none",
        ),
    ],
)
def test_constructors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call({"reason": "r", "detail": "d"})


def test_complex_numbers_are_not_compared_by_their_real_part():
    with pytest.raises(TypeError, match="computed must be an array of real numbers, got dtype complex128"):
        identity(np.array([1 + 1j]), np.ones(1), tolerance=0.1, reason="r", detail="d")


def test_inequality_is_entry_by_entry_with_a_relative_slack():
    common = {"reason": "r", "detail": "d"}
    lhs, rhs = np.array([1.0, 1e-9]), np.array([4.0, 0.5e-9])
    finding = inequality(lhs, rhs, slack=0.25, **common)  # the small entry is twice its bound
    assert finding.verdict == "refuted"
    assert finding.witness == {"index": [1], "lhs": 1e-9, "rhs": 0.5e-9}
    assert finding.measured == 0.5
    # against a scale of one, the same excess is below the slack
    assert inequality(lhs, rhs, slack=0.25, scale=1.0, **common).verdict == "holds"
    assert inequality(1.0, 4.0, slack=0.0, **common).margin == 0.75
    assert inequality(np.zeros(2), 0.0, slack=0.0, **common).verdict == "holds"
    assert inequality(-1e308, 1e308, slack=0.0, **common).verdict == "holds"
    assert inequality(1e308, -1e308, slack=0.5, **common).verdict == "refuted"


def test_the_z_test_uses_the_two_sided_quantile_of_all_comparisons():
    # P(|z| > 1.959963984540054) = 0.05, from tables of the normal distribution
    table = 1.959963984540054
    just_below, just_above = table * (1 - 1e-12), table * (1 + 1e-12)
    for score, verdict in ((just_below, "holds"), (just_above, "refuted"), (-just_above, "refuted")):
        finding = statistical(score, 0.0, 1.0, num_samples=1000, detail="d", false_alarm=0.05)
        assert finding.verdict == verdict
    spread = statistical(
        np.full(10, just_above), 0.0, 1.0, num_samples=10, detail="d", false_alarm=0.5 - 1e-9
    )
    assert spread.threshold == pytest.approx(table, rel=1e-8)  # 0.5 over 10 comparisons is 0.05 each
    shared = statistical(just_above, 0.0, 1.0, num_samples=10, detail="d", false_alarm=0.05, comparisons=2)
    assert shared.verdict == "holds"
    assert "over 2 comparisons (Bonferroni)" in shared.reason


def test_no_spread_demands_exact_agreement():
    exact = statistical(np.ones(2), 1.0, np.array([0.0, 1.0]), num_samples=10, detail="d")
    assert (exact.verdict, exact.measured) == ("holds", 0.0)
    off = statistical(1.0 + 1e-9, 1.0, 0.0, num_samples=10, detail="d")
    assert (off.verdict, off.measured) == ("refuted", math.inf)


def test_the_z_test_has_its_false_alarm_rate_and_power():
    # 4000 tests of a true mean at rate 0.05: 200 alarms expected, standard deviation 13.8; five of those
    # are a chance of 6e-7 for this fixed seed
    rng = np.random.default_rng(20)
    samples = rng.normal(size=(4000, 400))
    means, errors = samples.mean(axis=1), samples.std(axis=1, ddof=1) / 20

    def alarms(shift):
        findings = (
            statistical(m + shift, 0.0, e, num_samples=400, detail="d", false_alarm=0.05)
            for m, e in zip(means, errors, strict=True)
        )
        return sum(f.verdict == "refuted" for f in findings)

    assert abs(alarms(0.0) - 200) < 5 * 13.8
    assert alarms(0.4) == 4000  # eight standard errors: the planted error is always caught


def test_combine_takes_the_worst_finding_and_the_least_caught_control():
    tight = Finding("holds", 0.9, 1.0, "tight")
    assert combine([HOLDS, tight, CERTIFIED]).detail == "worst of 3: tight"
    assert combine([HOLDS, UNDECIDED, CERTIFIED]).verdict == "undecided"
    assert combine([HOLDS, UNDECIDED, REFUTED]).verdict == "refuted"
    assert combine(iter([CERTIFIED])).verdict == "certified"
    assert returning(combine([HOLDS.with_control(REFUTED)] * 2)).ok
    missed = returning(combine([HOLDS.with_control(REFUTED), HOLDS.with_control(tight)]))
    assert missed.problems == ("control not caught (1 of 2): the planted error came out holds",)
    assert missed.control == tight


@pytest.mark.parametrize("missed", [REFUTED, UNDECIDED], ids=["refuted", "undecided"])
@pytest.mark.parametrize("nested", [False, True])
def test_combine_masks_no_missed_control_of_an_expected_refutation(missed, nested):
    # the worst of the controls is the good one here: each has to be judged by itself
    parts = [REFUTED.with_control(HOLDS), REFUTED.with_control(missed), REFUTED.with_control(HOLDS)]
    whole = combine([combine(parts[:2]), combine(parts[2:])]) if nested else combine(parts)
    result = returning(whole, expected="refuted")
    assert not result.ok
    assert not result.control_caught
    assert "control not caught (1 of 3)" in result.problems[0]
    assert returning(combine(parts[::2]), expected="refuted").ok


def test_a_control_that_is_itself_combined_is_judged_part_by_part():
    result = returning(HOLDS.with_control(combine([REFUTED, HOLDS])))
    assert result.problems == ("control not caught (1 of 2): the planted error came out holds",)


def test_a_refutation_needs_no_number_but_a_witness():
    assert Finding("refuted", math.nan, 1.0, "not comparable", witness={"index": [0]}).verdict == "refuted"


def test_margins_have_no_negative_zero():
    assert math.copysign(1.0, Finding("holds", 0.0, 0.0, "exact").margin) == 1.0
    exact = inequality(1.0, 1.0, slack=0.0, reason="r", detail="d")
    assert math.copysign(1.0, exact.margin) == 1.0


def test_at_most_is_for_numbers_with_a_unit_of_their_own():
    common = {"reason": "r", "detail": "d"}
    assert at_most(np.array([29.0, 30.0]), 30.0, **common).verdict == "holds"
    over = at_most(np.array([[1.0, 31.0]]), 30.0, **common)
    assert (over.verdict, over.measured, over.witness) == ("refuted", 31.0, {"index": [0, 1], "value": 31.0})
    assert at_most(np.array([1.0, math.nan]), 30.0, **common).verdict == "undecided"
    with pytest.raises(ValueError, match="values must hold at least one number"):
        at_most(np.ones(0), 1.0, **common)
    with pytest.raises(ValueError, match="limit must be finite, got nan"):
        at_most(1.0, math.nan, **common)


def test_rate_fits_an_exponent():
    sizes = np.array([1.0, 10.0, 100.0])
    common = {"reason": "r", "detail": "d", "tolerance": 0.1}
    assert rate(sizes, 3 * sizes**-0.5, -0.5, **common).measured == pytest.approx(0, abs=1e-12)
    off = rate(sizes, 3 * sizes**-0.5, -1.0, **common)
    assert off.verdict == "refuted"
    assert off.witness["exponent"] == pytest.approx(-0.5)
    assert off.measured == pytest.approx(0.5)
    # least squares: slopes 1 and 2 between three equally spaced logarithms average to 1.5
    assert rate(sizes, np.array([1.0, 10.0, 1000.0]), 1.5, **common).measured == pytest.approx(0, abs=1e-12)
    for bad in (0.0, -1.0, math.nan, math.inf):
        assert rate(sizes, np.array([1.0, 1.0, bad]), 0.0, **common).verdict == "undecided"
    for wrong in (sizes[:1], np.ones(3), sizes[:2]):
        with pytest.raises(ValueError, match="two different sizes"):
            rate(wrong, np.ones(3) if len(wrong) != 1 else np.ones(1), 1.0, **common)
    with pytest.raises(ValueError, match="tolerance must lie"):
        rate(sizes, sizes, 1.0, tolerance=1.0, reason="r", detail="d")


def test_skewed_summands_raise_the_threshold_of_the_z_test():
    # by the formula: at z the normal tail times e^c + e^-c is the rate, c = 2 z^3 / (3 sqrt(400))
    finding = statistical(0.0, 0.0, 1.0, num_samples=400, detail="d", false_alarm=1e-3, skewness=-2.0)
    z = mpmath.mpf(finding.threshold)
    c = 2 * z**3 / 60
    assert float(mpmath.ncdf(-z) * (mpmath.exp(c) + mpmath.exp(-c))) == pytest.approx(1e-3, rel=1e-9)
    assert "corrected for skewness 2 of the summands" in finding.reason
    far = statistical(0.0, 0.0, 1.0, num_samples=100, detail="d", skewness=np.array([0.0, 9.0]))
    assert far.verdict == "undecided"
    assert "skewness 9 is too much" in far.detail
    assert statistical(0.0, 0.0, 1.0, num_samples=9, detail="d", skewness=math.nan).verdict == "undecided"


def test_the_false_alarm_rate_for_skewed_summands():
    # exponential summands (skewness 2), 100 of them, at rate 1e-3: of 40000 tests 40 alarms are expected, and
    # five standard deviations of a Poisson count more are allowed; the plain normal quantile gives hundreds
    rng = np.random.default_rng(21)
    samples = rng.exponential(size=(40000, 100))
    scores = np.abs(samples.mean(axis=1) - 1) / (samples.std(axis=1, ddof=1) / 10)

    def alarms(skewness):
        test = statistical(
            0.0, 0.0, 1.0, num_samples=100, detail="d", false_alarm=1e-3, skewness=skewness
        )  # fmt: skip
        return int((scores > test.threshold).sum())

    assert alarms(2.0) <= 40 + 5 * 40**0.5
    assert alarms(0.0) > 3 * 40


# --- threads and interrupts ----------------------------------------------------------------------------


def blas_threads():
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: there are no threads to limit")
def test_claims_run_with_one_blas_thread_and_give_the_others_back():
    seen = []

    def check(run):
        seen.append(blas_threads())
        return HOLDS.with_control(REFUTED)

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        result = run_suite(Suite((made(check),)))
        assert set(blas_threads()) == {2}
    assert seen == [[1] * len(seen[0])]
    assert {pool["threads"] for pool in result.environment["blas"]} == {1}


def test_an_interrupt_keeps_what_had_finished():
    def interrupted(run):
        raise KeyboardInterrupt

    started = []
    suite = Suite((made(lambda run: HOLDS.with_control(REFUTED), "first"), made(interrupted, "second")))
    result = run_suite(suite, on_start=lambda one: started.append(one.id))
    assert started == ["first", "second"]
    assert [one.claim.id for one in result.results] == ["first"]
    assert result.interrupted
    assert not result.ok
