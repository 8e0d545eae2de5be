"""The change of the Jacobian on a ball: all flip patterns of tiny networks, attacks, planted errors."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grng_ref as gr
from proofs_check.bounds import (
    check_witness,
    flips,
    jacobian_change,
    jacobian_lipschitz,
    lipschitz,
    search,
    slopes,
    two_layer,
)

SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "silu")


def network(name, d, m, signs=None):
    return gr.Problem(gr.two_layer(d, m, name, signs=signs), gr.Gaussian())


def change(problem, x, w, moved):
    J = [problem.jacobian(np.ravel(theta), x)[:, 0, :] for theta in (w, moved)]
    return float(np.linalg.norm(J[1] - J[0], 2))


def case(name, seed, n=3, d=3, m=3):
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0, 0.5, -2.0, 0.0], size=m)
    problem = network(name, d, m, signs)
    return problem, rng.normal(size=(m, d)), rng.normal(size=(n, d)), rng


# --- every flip pattern -----------------------------------------------------------------------------------


def distance_to(w, x, pattern):
    """The distance from w to ``{v : v.x_i >= 0 where the pattern has 1, <= 0 where 0}``: a polyhedral cone.

    The nearest point lies on the face of the constraints that it meets: all faces are tried.
    """
    normals = np.where(pattern, 1.0, -1.0)[:, None] * x
    best = math.inf
    for size in range(len(x) + 1):
        for active in itertools.combinations(range(len(x)), size):
            face = normals[list(active)]
            point = w - np.linalg.pinv(face) @ (face @ w) if size else w
            if np.all(normals @ point >= -1e-12):
                best = min(best, float(np.linalg.norm(point - w)))
    return best


def by_enumeration(problem, w, x, radius):
    """The greatest change over all patterns whose neurons' distances fit into the ball together."""
    signs = problem.model.frozen[1][0]
    before = (x @ w.T > 0).T  # (m, n)
    patterns = [np.array(p, dtype=bool) for p in itertools.product([False, True], repeat=len(x))]
    costs = [[distance_to(row, x, p) ** 2 for p in patterns] for row in w]
    K, best = x @ x.T, 0.0
    for choice in itertools.product(range(len(patterns)), repeat=len(w)):
        if sum(costs[r][k] for r, k in enumerate(choice)) <= radius**2:
            flipped = np.array([patterns[k] ^ b for k, b in zip(choice, before, strict=True)])
            signed = np.where(flipped, np.where(before, -1.0, 1.0), 0.0) * signs[:, None]
            best = max(best, float(np.linalg.eigvalsh(K * (signed.T @ signed))[-1]))
    return math.sqrt(best / len(w))


@given(seed=st.integers(0, 10**6), radius=st.sampled_from([0.05, 0.3, 0.8, 2.0, 5.0]))
def test_the_knapsack_is_above_every_pattern_and_the_witness_below(seed, radius):
    problem, w, x, _ = case("relu", seed)
    bound = jacobian_change(problem, w.ravel(), x, radius)
    truth = by_enumeration(problem, w, x, radius)
    # the truth has roundings of its own; a pattern at the very edge of the ball is open there
    assert truth <= bound.upper * (1 + 1e-12)
    assert bound.lower <= truth * (1 + 1e-12)
    assert check_witness(bound, "jacobian_change", problem, w.ravel(), x, radius).holds


def test_enumeration_finds_what_is_known():
    """One neuron, one input: it flips where R reaches the distance to the hyperplane, and J jumps by |x|."""
    problem, w, x = network("relu", 2, 1), np.array([[3.0, 0.0]]), np.array([[2.0, 0.0]])
    assert by_enumeration(problem, w, x, 2.99) == 0.0
    assert by_enumeration(problem, w, x, 3.01) == 2.0
    assert jacobian_change(problem, w.ravel(), x, 2.99).upper == 0.0
    far = jacobian_change(problem, w.ravel(), x, 3.01)
    assert 2.0 <= far.upper < 2.02
    assert far.lower == pytest.approx(2.0, rel=1e-14)


@pytest.mark.parametrize("error", ["costs too great", "values too small", "no sum over examples", "radius"])
def test_errors_in_the_knapsack_are_caught(error, monkeypatch):
    costs, products, knapsack = flips._costs, flips._upper_products, flips.flip_knapsack
    plants = {
        "costs too great": ("_costs", lambda w, x: 2 * costs(w, x)),
        "values too small": ("_upper_products", lambda x: 0.7 * products(x)),
        "no sum over examples": ("_upper_products", lambda x: np.diag(np.diag(products(x)))),
        "radius": ("flip_knapsack", lambda w, a, x, radius: knapsack(w, a, x, radius**2)),
    }
    name, planted = plants[error]
    monkeypatch.setattr(flips, name, planted)
    monkeypatch.setattr("proofs_check.bounds.change.flip_knapsack", flips.flip_knapsack)
    by_truth, by_checker = [], []
    for seed in range(12):
        problem, w, x, _ = case("relu", seed)
        radius = 0.6
        try:
            bound = jacobian_change(problem, w.ravel(), x, radius)
        except ValueError:  # the witness is above the planted upper side: a bound cannot be made
            by_truth.append(True)
            continue
        by_truth.append(by_enumeration(problem, w, x, radius) > bound.upper * (1 + 1e-12))
        by_checker.append(not check_witness(bound, "jacobian_change", problem, w.ravel(), x, radius).holds)
    assert any(by_truth)
    assert any(by_checker)


# --- attacks ----------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(("relu", *SMOOTH)),
    radius=st.floats(1e-3, 10.0),
    m=st.integers(1, 40),
)
def test_no_attack_exceeds_the_upper_side(seed, name, radius, m):
    problem, w, x, rng = case(name, seed, n=4, m=m)
    bound = jacobian_change(problem, w.ravel(), x, radius)
    for _ in range(10):
        step = rng.normal(size=w.shape) * (rng.random(size=(m, 1)) < rng.random())
        if rng.random() < 0.5:  # along one input: the cheapest way to flip there
            step = step[:, :1] * x[rng.integers(len(x))]
        size = np.linalg.norm(step)
        if size > 0:
            assert change(problem, x, w, w + radius / size * step) <= bound.upper * (1 + 1e-9)
    assert bound.lower <= bound.upper
    assert check_witness(bound, "jacobian_change", problem, w.ravel(), x, radius).holds


@given(seed=st.integers(0, 10**6), name=st.sampled_from(("relu", *SMOOTH)), radius=st.floats(1e-3, 5.0))
def test_the_witness_does_what_it_says(seed, name, radius):
    problem, w, x, _ = case(name, seed, n=4, m=12)
    bound = jacobian_change(problem, w.ravel(), x, radius)
    if bound.lower == 0.0:
        return
    moved = w.copy()
    moved[bound.witness["neurons"]] = bound.witness["weights"]
    assert np.linalg.norm(moved - w) <= radius * (1 + 1e-15)
    found = change(problem, x, w, moved)  # of two rounded Jacobians of size |J|
    size = np.linalg.norm(problem.jacobian(w.ravel(), x))
    assert bound.lower <= found + 1e-13 * size
    assert found <= bound.lower * (1 + 1e-9) + 1e-13 * size


@pytest.mark.parametrize("name", ["relu", *SMOOTH])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_the_two_sides_are_near_each_other(name, radius):
    """In the regime of the theorems (unit inputs, wide networks); a search that finds nothing would show."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = network(name, 16, 512)
    theta = problem.init(rng=0)
    bound = jacobian_change(problem, theta, x, radius)
    assert bound.upper <= 1.45 * bound.lower
    assert check_witness(bound, "jacobian_change", problem, theta, x, radius).holds


def test_balls_of_slopes_hold_the_float_ones():
    rng = np.random.default_rng(5)
    for name in ("identity", "relu", *SMOOTH):
        for z in (*rng.normal(size=20), -40.0, 0.0, 40.0, 800.0, -800.0):
            with slopes.working_precision(160):
                ball = slopes.SLOPES[name](slopes.ball_matrix(np.array([[z]]))[0, 0])
            expected = float(gr.models.activations.ACTIVATIONS[name].first(np.array([z]))[0])
            assert float(ball) == pytest.approx(expected, rel=1e-13, abs=1e-15)


# --- special cases ----------------------------------------------------------------------------------------


def test_no_flip_in_the_ball_is_an_exact_zero():
    problem, w, x, _ = case("relu", 1, n=4, m=6)
    nearest = float(np.min(np.abs(w @ x.T) / np.linalg.norm(x, axis=1)))
    below = jacobian_change(problem, w.ravel(), x, 0.999 * nearest)
    assert (below.lower, below.upper) == (0.0, 0.0)
    assert "no neuron can flip" in below.method
    assert check_witness(below, "jacobian_change", problem, w.ravel(), x, 0.999 * nearest).holds
    # planted: the zero is claimed for a ball in which a neuron flips
    wrong = check_witness(below, "jacobian_change", problem, w.ravel(), x, 1.001 * nearest)
    live = problem.model.frozen[1][0][np.argmin(np.min(np.abs(w @ x.T) / np.linalg.norm(x, axis=1), axis=1))]
    assert wrong.holds == (live == 0.0)


def test_a_preactivation_of_zero_flips_in_every_ball():
    problem, x = network("relu", 2, 2), np.array([[1.0, 0.0]])
    theta = np.array([0.0, 1.0, 5.0, 0.0])
    bound = jacobian_change(problem, theta, x, 1e-6)
    assert bound.lower == pytest.approx(math.sqrt(0.5))
    assert bound.upper == pytest.approx(math.sqrt(0.5), rel=1e-9)


def test_nothing_changes_where_nothing_can():
    problem, w, x, _ = case("tanh", 2)
    still = jacobian_change(problem, w.ravel(), x, 0.0)
    assert (still.lower, still.upper) == (0.0, 0.0)
    zeros = jacobian_change(network("relu", 3, 3), w.ravel(), 0.0 * x, 1.0)
    assert (zeros.lower, zeros.upper) == (0.0, 0.0)
    linear = jacobian_change(network("identity", 3, 3), w.ravel(), x, 7.0)
    assert (linear.lower, linear.upper) == (0.0, 0.0)


def test_smooth_upper_side_is_the_constant_times_the_radius():
    problem, w, x, _ = case("gelu", 3)
    constant, radius = jacobian_lipschitz(problem, x).upper, 0.3
    upper = jacobian_change(problem, w.ravel(), x, radius).upper
    assert constant * radius <= upper <= math.nextafter(constant * radius, math.inf)


@pytest.mark.parametrize("name", SMOOTH)
def test_at_a_large_radius_the_range_of_the_slope_is_the_upper_side(name):
    """Every neuron may saturate: the change stays as large as |J| itself, however large the ball."""
    problem, w, x, rng = case(name, 7, n=4, m=12)
    bounds = [jacobian_change(problem, w.ravel(), x, radius) for radius in (1e2, 1e4)]
    assert bounds[0].upper == bounds[1].upper < 1e2 * jacobian_lipschitz(problem, x).upper
    assert bounds[1].upper <= 5 * bounds[1].lower
    for bound, radius in zip(bounds, (1e2, 1e4), strict=True):
        assert "range of act'" in bound.method
        assert check_witness(bound, "jacobian_change", problem, w.ravel(), x, radius).holds
        less = dataclasses.replace(bound, upper=0.999999 * bound.upper, lower=0.0)
        assert not check_witness(less, "jacobian_change", problem, w.ravel(), x, radius).holds
    for _ in range(20):
        moved = w + 10.0 ** rng.uniform(-1, 2) * rng.normal(size=w.shape)
        assert change(problem, x, w, moved) <= bounds[1].upper * (1 + 1e-9)


def test_one_unit_attains_the_range_of_the_slope():
    """Along a ray act' runs through its range: sigmoid from 1/4 at 0, tanh from 1, to 0; softplus 0 to 1."""
    x = np.array([[1.0]])
    for name, start, length in (("sigmoid", 0.0, 0.25), ("tanh", 0.0, 1.0), ("softplus", -40.0, 1.0)):
        bound = jacobian_change(network(name, 1, 1), np.array([start]), x, 1e3)
        assert length * (1 - 1e-9) <= bound.lower <= bound.upper <= length * (1 + 1e-15)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu", "silu"])
def test_the_range_of_the_slope_is_what_is_stored(name):
    """gelu' and silu' satisfy s(z) + s(-z) = 1 and rise until act'' changes sign: the range is 2 max - 1.

    act'' is phi(z)(2 - z^2) for gelu, and has the sign of 2 - z tanh(z/2) for silu. The other three slopes
    are monotone, or even and falling from 0, with ends that are known.
    """
    z = np.linspace(-30.0, 30.0, 60001)
    values = gr.models.activations.ACTIVATIONS[name].first(z)
    stored = float(two_layer.SLOPE_RANGE[name])
    assert 0.0 <= stored - (values.max() - values.min()) <= 2e-7
    if name in ("gelu", "silu"):
        with slopes.working_precision(160) as flint:
            low, high = flint.arb("2.39"), flint.arb("2.40")
            for _ in range(60):
                middle = flint.arb(((low + high) / 2).mid())
                low, high = (middle, high) if middle * (middle / 2).tanh() < 2 else (low, middle)
            at = flint.arb(2).sqrt() if name == "gelu" else low.union(high)
            slope = slopes.SLOPES[name]
            part = two_layer.SLOPE_RANGE[name]
            assert slope(at) + slope(-at) - 1 < flint.arb(10) ** -9
            assert 2 * slope(at) - 1 < flint.arb(flint.fmpq(part.numerator, part.denominator))


@pytest.mark.parametrize("error", ["a range too small", "signs left out", "one input only"])
def test_errors_in_the_range_are_caught(error, monkeypatch):
    plants = {
        "a range too small": lambda network, x: 0.5 * right(network, x),
        "signs left out": lambda network, x: right(network._replace(signs=0 * network.signs + 0.1), x),
        "one input only": lambda network, x: right(network, x[:1]),
    }
    right = lipschitz.greatest_change
    monkeypatch.setattr("proofs_check.bounds.change.greatest_change", plants[error])
    problem, w, x, _ = case("tanh", 7, n=4, m=12)
    caught = []
    for name in SMOOTH:
        problem = network(name, 3, 12, np.linspace(-2, 2, 12))
        try:
            bound = jacobian_change(problem, w.ravel(), x, 1e3)
        except ValueError:  # the witness is above the planted upper side
            caught.append(True)
            continue
        caught.append(not check_witness(bound, "jacobian_change", problem, w.ravel(), x, 1e3).holds)
    assert all(caught)


def test_other_networks_are_undecided():
    problem = gr.Problem(gr.MLP((2, 3, 3, 1)), gr.Gaussian())
    bound = jacobian_change(problem, problem.init(rng=0), np.ones((2, 2)), 1.0)
    assert (bound.lower, bound.upper, bound.witness) == (0.0, math.inf, None)
    assert "no bound is known" in bound.method


def test_a_search_that_leaves_the_ball_proves_nothing(monkeypatch):
    problem, w, x, _ = case("tanh", 4)
    monkeypatch.setattr(search, "_INSIDE", 1.0 + 1e-6)
    bound = jacobian_change(problem, w.ravel(), x, 0.01)
    assert bound.lower == 0.0
    assert bound.witness is None


# --- damaged witnesses ------------------------------------------------------------------------------------


def damage(bound, **parts):
    return dataclasses.replace(bound, witness={**bound.witness, **parts})


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_damaged_witnesses_are_caught(name):
    problem, w, x, _ = case(name, 6, n=4, m=30)
    arguments = (problem, w.ravel(), x, 0.5)
    bound = jacobian_change(*arguments)
    assert bound.lower > 0.0

    def reason(changed, arguments=arguments):
        return check_witness(changed, "jacobian_change", *arguments).reason

    assert reason(bound) == ""
    first = bound.witness["neurons"][0]
    weights = np.array(bound.witness["weights"])
    far = weights.copy()
    far[0] += 0.6 * (far[0] - w[first]) / np.linalg.norm(far[0] - w[first])
    assert "outside its ball" in reason(damage(bound, weights=far.tolist()))
    assert "outside its ball" in reason(bound, (problem, w.ravel(), x, 0.4))
    unmoved = damage(bound, weights=w[bound.witness["neurons"]].tolist())
    assert "changes less" in reason(unmoved)
    assert "different neurons" in reason(damage(bound, neurons=[first] * len(weights)))
    assert "different neurons" in reason(damage(bound, neurons=[-1, *bound.witness["neurons"][1:]]))
    assert "shape" in reason(damage(bound, direction=[1.0]))
    assert "cannot be read" in reason(damage(bound, direction=["north"] * 4))
    assert "cannot be read" in reason(dataclasses.replace(bound, witness=None))
    assert "direction is zero" in reason(damage(bound, direction=[0.0] * 4))
    assert "changes less" in reason(damage(bound, direction=[1.0, 0.0, 0.0, 0.0]))
    assert "shape" in reason(damage(bound, weights=[row[:2] for row in bound.witness["weights"]]))
    above = dataclasses.replace(bound, lower=bound.lower * (1 + 1e-9), upper=math.inf)
    assert "changes less" in reason(above)
    lost_width = dataclasses.replace(bound, lower=bound.lower * math.sqrt(30), upper=math.inf)
    assert "changes less" in reason(lost_width)
    below = dataclasses.replace(bound, upper=bound.upper / math.sqrt(30), lower=0.0)
    assert reason(below) != ""


def test_damaged_multipliers_are_caught():
    problem, w, x, _ = case("relu", 6, n=4, m=30)
    bound = jacobian_change(problem, w.ravel(), x, 0.5)
    for multipliers in ([0.0] * 4, [1e9] * 4, [-1.0] * 4, [1.0] * 3):
        changed = damage(bound, multipliers=multipliers)
        assert not check_witness(changed, "jacobian_change", problem, w.ravel(), x, 0.5).holds


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"radius": -1.0}, ValueError, "radius must be a finite number >= 0, got -1.0"),
        ({"radius": math.inf}, ValueError, "radius must be a finite number >= 0, got inf"),
        ({"radius": "1"}, TypeError, "radius"),
        ({"theta": np.ones(5)}, ValueError, r"theta must have shape .*6.*got \(5,\)"),
        ({"theta": np.full(6, np.nan)}, ValueError, "theta"),
        ({"x": np.ones((2, 3))}, ValueError, "x must have shape"),
        ({"problem": 1}, TypeError, "problem must be a gr.Problem with a gr.MLP, got int"),
    ],
)
def test_bad_input(change, error, message):
    good = {"problem": network("relu", 2, 3), "theta": np.ones(6), "x": np.ones((2, 2)), "radius": 1.0}
    with pytest.raises(error, match=message):
        jacobian_change(**{**good, **change})
