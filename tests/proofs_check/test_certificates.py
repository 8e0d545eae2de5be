"""Certificates: what they decide, that they are proved again, and that planted errors in them are found."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import brentq
from two_layer_case import network

import grng_ref as gr
from proofs_check.bounds import Bound
from proofs_check.certificates import (
    Assumption,
    Certificate,
    a_posteriori,
    assess,
    check_certificate,
    kantorovich,
    linear,
    unified,
    zhang_condition_1,
    zhang_condition_2,
)
from proofs_check.soundness import Trial, run_trials, violations


def floats(problem, theta, x, y):
    """LJ, s0, |r| and the greatest singular value, by formulas of this file, in floats."""
    bending = {"tanh": 4 / 27**0.5, "softplus": 0.25}[problem.model.activation]
    K = x @ x.T
    L = bending * math.sqrt(np.linalg.eigvalsh(K * K)[-1] / problem.model.sizes[1])
    s = np.linalg.svd(problem.jacobian(theta, x).reshape(len(x), -1), compute_uv=False)
    return L, s[-1], float(np.linalg.norm(problem.outputs(theta, x) - y)), s[0]


def changed(certificate, quantity, **sides):
    """The certificate with another side of one bound, its assumptions left as they are."""
    evidence = tuple(
        one._replace(bound=dataclasses.replace(one.bound, **sides)) if one.quantity == quantity else one
        for one in certificate.evidence
    )
    return dataclasses.replace(certificate, evidence=evidence)


# --- the thresholds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_kantorovich_decides_on_both_sides_of_its_threshold(activation):
    at = network(activation, size=1.0)
    L, s, _, _ = floats(*at)
    for factor, verdict in ((0.99, "certified"), (4.0, "refuted")):
        size = factor * s**2 / (2 * L)
        found = kantorovich(*network(activation, size=size))
        assert found.verdict == verdict
        assert check_certificate(found, *network(activation, size=size)).holds
        assert found.assumptions[0].bound.upper == pytest.approx(factor / 2, rel=1e-9)


def test_thresholds_of_other_theorems_are_reported_beside():
    at = network(size=1.0)
    L, s, _, _ = floats(*at)
    for ratio, verdicts in ((0.05, ["certified", "certified"]), (0.3, ["refuted", "refuted"])):
        found = kantorovich(*network(size=ratio * s**2 / L))  # 1/18 = 0.056, 2/25 = 0.08
        assert found.verdict == "certified"
        assert [one.verdict for one in found.assumptions if not one.needed] == verdicts
    found = kantorovich(*network(size=0.079 * s**2 / L))
    assert found.assumptions[-2].verdict == "certified"
    assert found.assumptions[-1].verdict != "certified"


@pytest.mark.parametrize("kind", ["rho", "lam"])
def test_the_damping_condition_is_the_one_of_its_formula(kind):
    at = network(size=1e-3)
    L, s, h, top = floats(*at)
    n = len(at[2])
    limits = {"rho": n * s**2 / (top * h) ** 2, "lam": (s**2 - 2 * L * h) / n}
    inside, outside = (kantorovich(*at, **{kind: factor * limits[kind]}) for factor in (0.999, 1.001))
    assert inside.verdict == "certified"
    assert outside.verdict != "certified"


def test_damping_stays_below_the_squared_slope_on_the_whole_way():
    """The proof in `kantorovich`'s docstring, where both of its numbers are at their limits."""
    rng = np.random.default_rng(1)
    worst = -np.inf
    for _ in range(200):
        L, s = rng.uniform(0.1, 3, size=2)
        h, S = s**2 / (2 * L) * rng.random(), s * (1 + 3 * rng.random())
        taken = (s**2 - 2 * L * h) * rng.random()  # n lam
        share = (s**2 - taken) / (S * h) ** 2  # rho / n
        t = np.linspace(0, (s - math.sqrt(s**2 - 2 * L * h)) / L, 200)
        p, slope = L * t**2 / 2 - s * t + h, L * t - s
        worst = max(worst, np.max((share * (S + L * t) ** 2 * p**2 + taken - slope**2) / s**2))
    assert worst <= 1e-12  # equal at t = 0


def test_unified_needs_what_its_quadratic_needs():
    L, s, _, _ = floats(*network(size=1.0))
    size = 0.05 * s**2 / L
    kap = brentq(lambda one: one * (1 - one) - 0.1, 0, 0.5)  # kap (1 - kap) = 2 x
    found = unified(*network(size=size), eta=0.3)
    assert found.verdict == "certified"
    assert kap * (1 - 1e-9) <= found.assumptions[0].bound.upper <= 1.02 * kap  # refined once
    assert unified(*network(size=1.7 * size), eta=0.3).verdict != "certified"  # x = 0.085 > 2/25


def test_linear_is_certified_where_no_neuron_can_flip():
    at = network("relu", size=1e-9)
    found = linear(*at, eta=0.5)
    assert found.verdict == "certified"
    assert found.numbers["kap"] == 0.0
    assert found.guarantee(3) == pytest.approx([1e-9 * 0.5**k for k in range(4)], rel=1e-6)


def test_condition_2_is_certified_or_refuted_with_a_witness():
    for at in (network("softplus", size=1e-3), network("relu", size=1e-9)):
        assert zhang_condition_2(*at).verdict == "certified"
    refuted = zhang_condition_2(*network("relu"))
    assert refuted.verdict == "refuted"
    assert refuted.evidence[-1].bound.witness["neurons"]
    assert refuted.finding().witness["fingerprint"] == refuted.fingerprint


# --- guarantees ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theorem", [kantorovich, unified, linear])
@pytest.mark.parametrize(("rho", "lam"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1e-3)])
def test_runs_keep_what_is_guaranteed(theorem, rho, lam):
    problem, theta, x, y = network(size=0.02)
    found = theorem(problem, theta, x, y, eta=0.5, rho=rho, lam=lam)
    assert found.verdict == "certified"
    assert check_certificate(found, problem, theta, x, y).holds
    promised = found.guarantee(8)
    optimizer = gr.ring(problem, lr=0.5, rho=rho, damping=lam)
    state, sizes = optimizer.init(theta), []
    for _ in promised:
        sizes.append(float(np.linalg.norm(problem.outputs(theta, x) - y)))
        theta, state, _ = optimizer.step(theta, state, x, y)
    # outputs and labels of size one round to 1e-16 each
    assert np.all(np.array(sizes) <= np.array(promised) + 1e-14)
    assert promised[-1] < 0.2 * promised[0]  # and they say something


def test_the_majorant_is_the_parabola_s_newton_iteration():
    at = network(size=1.0)
    L, s, _, _ = floats(*at)
    h = 0.4 * s**2 / L
    promised = kantorovich(*network(size=h), eta=0.7).guarantee(5)
    t = [0.0]
    for _ in range(5):
        t.append(t[-1] - 0.7 * (L * t[-1] ** 2 / 2 - s * t[-1] + h) / (L * t[-1] - s))
    parabola = [L * one**2 / 2 - s * one + h for one in t]
    assert promised == pytest.approx(parabola, rel=1e-9)  # cancellation in p(t)


@pytest.mark.parametrize(("activation", "rho"), [("tanh", 0.0), ("tanh", 1.0), ("relu", 0.0), ("relu", 1.0)])
def test_a_run_is_certified_where_it_is(activation, rho):
    problem, theta, x, y = network(activation, width=48)
    found = a_posteriori(problem, gr.ring(problem, lr=1.0, rho=rho), theta, x, y, steps=30)
    assert found.verdict == "certified"
    assert 0 < found.step <= 30
    assert check_certificate(found, problem, found.theta, x, y).holds
    assert not check_certificate(found, problem, theta, x, y).holds


def test_a_run_that_is_too_short_is_undecided():
    problem, theta, x, y = network("relu", width=48)
    found = a_posteriori(problem, gr.ngd(problem, lr=1.0), theta, x, y, steps=0)
    assert (found.verdict, found.finding().verdict) == ("undecided", "undecided")
    with pytest.raises(ValueError, match="undecided"):
        found.guarantee(1)


# --- planted errors ------------------------------------------------------------------------------------


def planted(found):
    """The certificate with one error each, which its own verdict does not see."""
    lipschitz = {one.quantity: one.bound for one in found.evidence}["jacobian_lipschitz"]
    root = {one.quantity: one.bound for one in found.evidence}["gram_min"]
    numbers = dict(found.numbers)
    return {
        "factor 2 in LJ": changed(found, "jacobian_lipschitz", lower=0.0, upper=lipschitz.upper / 2),
        "lmin not rounded": changed(found, "gram_min", lower=root.upper),
        "s0 not rounded": dataclasses.replace(
            found, numbers={**numbers, "s": math.nextafter(numbers["s"], 1e9) * (1 + 1e-15)}
        ),
        "|r| not rounded": dataclasses.replace(found, numbers={**numbers, "h": numbers["h"] * (1 - 1e-15)}),
        "no evidence of lmax": dataclasses.replace(found, evidence=found.evidence[:-1]),
        "another theorem": dataclasses.replace(found, theorem="cauchy"),
    }


@pytest.mark.parametrize("error", list(planted(kantorovich(*network(size=0.02), rho=0.1))))
def test_the_checker_finds_planted_errors(error):
    at = network(size=0.02)
    found = planted(kantorovich(*at, rho=0.1))[error]
    assert found.verdict == "certified"
    assert not check_certificate(found, *at).holds


def test_the_checker_finds_a_dropped_damping_condition():
    at = network(size=0.02)
    found = kantorovich(*at, rho=1e6)
    assert found.verdict == "refuted"
    kept = tuple(one for one in found.assumptions if "rho" not in one.name)
    dropped = dataclasses.replace(found, assumptions=kept)
    assert dropped.verdict == "certified"
    assert "assumption" in check_certificate(dropped, *at).reason


def test_the_checker_finds_a_certificate_of_another_theta():
    problem, theta, x, y = network(size=0.02)
    found = kantorovich(problem, theta, x, y)
    near = theta.copy()
    near[0] = np.nextafter(near[0], 9)
    assert "another point" in check_certificate(found, problem, near, x, y).reason
    forged = dataclasses.replace(found, fingerprint=kantorovich(problem, 1.01 * theta, x, y).fingerprint)
    assert not check_certificate(forged, problem, 1.01 * theta, x, y).holds


@pytest.mark.parametrize("theorem", [unified, linear])
def test_the_checker_finds_a_ball_that_is_too_small(theorem):
    at = network(size=0.02)
    found = theorem(*at, eta=0.5)
    evidence = tuple(
        one._replace(
            radius=one.radius / 2, bound=dataclasses.replace(one.bound, lower=0.0, witness=None)
        )  # it proves what it says, of the smaller ball
        if one.radius is not None
        else one
        for one in found.evidence
    )
    small = dataclasses.replace(found, evidence=evidence)
    assert "ball is too small" in check_certificate(small, *at).reason
    less = dataclasses.replace(found, numbers={**found.numbers, "kap": found.numbers["kap"] / 2})
    assert not check_certificate(less, *at).holds
    longer = dataclasses.replace(found, settings=found.settings._replace(eta=1.5))
    assert "eta" in check_certificate(longer, *at).reason


def test_the_checker_finds_a_witness_outside_its_ball():
    at = network("relu")
    found = zhang_condition_2(*at)
    assert check_certificate(found, *at).holds
    one = found.evidence[-1]
    weights = np.array(one.bound.witness["weights"])
    old = np.asarray(at[1]).reshape(32, -1)[one.bound.witness["neurons"]]
    far = {**one.bound.witness, "weights": (old + 4.0 * (weights - old)).tolist()}
    moved = (*found.evidence[:-1], one._replace(bound=dataclasses.replace(one.bound, witness=far)))
    assert "outside" in check_certificate(dataclasses.replace(found, evidence=moved), *at).reason
    larger = (*found.evidence[:-1], one._replace(radius=1.001 * one.radius))
    assert not check_certificate(dataclasses.replace(found, evidence=larger), *at).holds


# --- verdicts say no more than their evidence ------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "rigorous", "verdict"),
    [
        ((0.0, 1.0), True, "certified"),
        ((0.0, 1.0), False, "holds"),
        ((1.5, 2.0), True, "refuted"),
        ((1.5, 2.0), False, "undecided"),
        ((0.5, math.inf), True, "undecided"),
    ],
)
def test_verdict_of_an_assumption(sides, rigorous, verdict):
    one = Assumption("q <= 1", Bound(*sides, rigorous, "given"), 1.0)
    assert one.verdict == verdict
    assert Certificate("linear", (one,), "given").finding().verdict == verdict


def test_the_worst_assumption_decides():
    def one(low, high, needed=True):
        return Assumption("q <= 1", Bound(low, high, True, "given"), 1.0, needed=needed)

    sides = [(0.1, 0.2), (0.3, 2.0), (3.0, 4.0)]
    verdicts = ["certified", "undecided", "refuted"]
    for k in range(3):
        found = Certificate("linear", tuple(one(*pair) for pair in sides[: k + 1]), "given")
        assert found.verdict == verdicts[k]
    beside = Certificate("linear", (one(0.1, 0.2), one(3.0, 4.0, needed=False)), "given")
    assert (beside.verdict, beside.margin) == ("certified", pytest.approx(0.8))


# --- a user's network ------------------------------------------------------------------------------------


def test_assess_says_what_applies_and_why_not():
    problem, theta, x, y = network("relu", width=48)
    found = assess(problem, theta, x, y, gr.ngd(problem, lr=1.0))
    verdicts = [one.verdict for one in found]
    assert verdicts == ["certified", "refuted", "refuted", "refuted", "refuted", "certified"]
    table = str(found).splitlines()
    assert len(table) == 2 + len(found)
    assert table[3].split()[:2] == ["zhang-condition-2", "refuted"]


@pytest.mark.parametrize(
    ("sizes", "likelihood"),
    [((3, 6, 5, 1), gr.Gaussian()), ((3, 9, 2), gr.Gaussian()), ((3, 9, 1), gr.Bernoulli())],
)
def test_assess_is_undecided_where_nothing_is_known(sizes, likelihood):
    rng = np.random.default_rng(2)
    problem = gr.Problem(gr.MLP(sizes), likelihood)
    theta, x = problem.init(rng), rng.normal(size=(4, 3))
    y = rng.integers(2, size=(4, sizes[-1])) * 1.0
    found = assess(problem, theta, x, y, gr.ngd(problem, lr=1.0, damping=0.1))
    first, *rest = found
    assert first.theorem == "zhang-condition-1"
    assert first.verdict == "certified"
    assert {one.verdict for one in rest} == {"undecided"}
    assert all(one.detail for one in rest)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda problem: gr.adamw(problem, lr=0.1), "AdamW"),
        (lambda problem: gr.reng(problem, lr=0.1, rho=1.0), "implicit"),
        (lambda problem: gr.ngd(problem, lr=0.1, momentum=0.5), "momentum"),
        (lambda problem: gr.ngd(problem, lr=0.1, structure="diagonal", damping=1.0), "structure"),
        (lambda problem: gr.ngd(problem, lr=0.1, kind="empirical", damping=1.0), "kind"),
        (lambda problem: gr.ngd(problem, lr=lambda k: 0.1), "constant"),
    ],
)
def test_other_optimizers_are_undecided_with_the_reason(make, reason):
    problem, theta, x, y = network(size=0.02)
    found = a_posteriori(problem, make(problem), theta, x, y, steps=1)
    assert found.verdict == "undecided"
    assert reason in found.detail


def test_condition_1_is_not_certified_for_equal_inputs():
    problem, theta, x, y = network()
    x[1] = x[0]
    assert zhang_condition_1(problem, theta, x, y).verdict != "certified"


# --- bad inputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eta", "rho", "lam"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "1"])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        kantorovich(*network(), **{name: value})


def test_other_arguments_are_refused():
    problem, theta, x, y = network()
    for theorem in (kantorovich, unified, linear, zhang_condition_1, zhang_condition_2):
        with pytest.raises(TypeError, match="problem"):
            theorem("problem", theta, x, y)
        with pytest.raises(ValueError, match="theta"):
            theorem(problem, theta[1:], x, y)
    with pytest.raises(TypeError, match="problem"):
        assess(None, theta, x, y, gr.ngd(problem, lr=1.0))
    with pytest.raises(ValueError, match="steps"):
        a_posteriori(problem, gr.ngd(problem, lr=1.0), theta, x, y, steps=-1)
    with pytest.raises(TypeError, match="Certificate"):
        check_certificate(None, problem, theta, x, y)
    assert kantorovich(problem, theta, x, y, eta=1.5).verdict == "refuted"


def test_limits_are_strict_where_the_theorem_is():
    assert Fraction(unified(*network(size=0.02), eta=0.5).assumptions[0].limit) < Fraction(1, 5)


# --- attacks on random networks ----------------------------------------------------------------------------


def test_no_attack_contradicts_a_certificate_and_every_planted_error_is_caught():
    counts = run_trials(1, 12, plant_every=4)
    assert not counts["violations"]
    assert counts["planted"] == counts["caught"]
    assert len(counts["planted"]) >= 4
    assert set(counts["rechecked"]) == {"True"}


@pytest.mark.parametrize("error", ["LJ", "kap", "eta", "ball"])
def test_attacks_see_gross_errors(error):
    """The attacks are what the soundness rests on: each of them must be able to succeed."""
    rng, at = np.random.default_rng(3), network("tanh", size=0.02)
    if error == "LJ":
        found, seen = kantorovich(*at), "least singular value"
        wrong = dataclasses.replace(found, numbers={**found.numbers, "L": found.numbers["L"] / 50})
    elif error == "kap":
        found, seen = linear(*at), "change of the Jacobian"
        wrong = changed(found, "jacobian_change", lower=0.0, upper=found.evidence[-1].bound.lower / 20)
    elif error == "eta":
        found, seen = kantorovich(*at, eta=0.5), "run"
        wrong = dataclasses.replace(found, settings=found.settings._replace(eta=0.1))
        promised = found.guarantee(5)
        wrong = dataclasses.replace(wrong, numbers={**wrong.numbers, "h": promised[1]})
    else:
        found, seen = zhang_condition_2(*at), "witness"
        wrong = changed(found, "jacobian_change", upper=9.0, lower=3 * found.evidence[-1].bound.upper)
    assert not list(violations(Trial(*at, found), found, rng))
    assert seen in list(violations(Trial(*at, wrong), wrong, rng))
