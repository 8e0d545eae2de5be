"""The constants sup |act''|, proved in balls over the whole line; the Lipschitz constant, attacked."""

from __future__ import annotations

import dataclasses
import math

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grng_ref as gr
from grng_ref.models.activations import ACTIVATIONS
from proofs_check.bounds import check_witness, jacobian_lipschitz, slope_lipschitz, two_layer

SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "silu")
END, NEAR, STEP = 40.0, 0.25, 1 / 256
B2 = {
    "tanh": lambda: 4 / (3 * flint.arb(3).sqrt()),
    "sigmoid": lambda: 1 / (6 * flint.arb(3).sqrt()),
    "softplus": lambda: flint.arb(1) / 4,
    "gelu": lambda: 2 / (2 * flint.arb.pi()).sqrt(),
    "silu": lambda: flint.arb(1) / 2,
}
# where |act''| is greatest, for z >= 0 (act'' is even or odd)
PEAK = {
    "tanh": lambda: (1 / flint.arb(3).sqrt()).atanh(),
    "sigmoid": lambda: 2 * (1 / flint.arb(3).sqrt()).atanh(),
    "softplus": lambda: flint.arb(0),
    "gelu": lambda: flint.arb(0),
    "silu": lambda: flint.arb(0),
}
# a decreasing bound of |act''(z)| for z >= 2, by s' <= e^{-z}, |tanh| <= 1
TAIL = {
    "tanh": lambda z: 8 * (-2 * z).exp(),
    "sigmoid": lambda z: (-z).exp(),
    "softplus": lambda z: (-z).exp(),
    "gelu": lambda z: (-z * z / 2).exp() * (2 + z * z),
    "silu": lambda z: (-z).exp() * (2 + z),
}


def bend(name, z):
    """act'' of a power series in balls, from exponentials alone."""
    if name == "gelu":
        return (-z * z / 2).exp() / (2 * flint.arb.pi()).sqrt() * (2 - z * z)
    if name == "tanh":
        s = 1 / (1 + (-2 * z).exp())
        return -8 * (2 * s - 1) * s * (1 - s)
    s = 1 / (1 + (-z).exp())
    slope = s * (1 - s)
    if name == "softplus":
        return slope
    return slope * (1 - 2 * s) if name == "sigmoid" else 2 * slope + z * slope * (1 - 2 * s)


def taylor(name, z, order=3):
    """act'', act''', act'''' / 2 on the ball z."""
    with flint.ctx.workprec(256):
        cap, flint.ctx.cap = flint.ctx.cap, order
        try:
            series = bend(name, flint.arb_series([z, 1]))
            return [series[k] for k in range(order)]
        finally:
            flint.ctx.cap = cap


def is_supremum(name, constant):
    """Whether |act''| <= constant is proved for all z, and attained."""
    with flint.ctx.workprec(256):
        peak, tiny = PEAK[name](), flint.arb(10) ** -60
        value, slope, _ = taylor(name, peak)
        attained = abs(abs(value) - constant) < tiny and abs(slope) < tiny
        # near the peak |act''| is concave: with slope 0 there, it is at most its value there
        sign = 1 if value > 0 else -1
        near = [
            sign * taylor(name, flint.arb(m, STEP))[2] for m in steps(float(peak) - NEAR, float(peak) + NEAR)
        ]
        concave = all(curvature < 0 for curvature in near)
        outside = [*steps(0.0, float(peak) - NEAR), *steps(float(peak) + NEAR, END)]
        below = all(abs(taylor(name, flint.arb(m, STEP), 1)[0]) < constant for m in outside)
        return bool(attained and concave and below and TAIL[name](flint.arb(END)) < constant)


def steps(start, stop):
    """Midpoints of balls of radius STEP that cover [start, stop], with overlap."""
    return np.arange(start, stop + STEP, STEP) if stop > start else []


@pytest.mark.parametrize("name", SMOOTH)
def test_the_constants_are_suprema(name):
    with flint.ctx.workprec(256):
        constant = B2[name]()
        assert is_supremum(name, constant)
        low, high = two_layer.SQUARED_BENDING[name]
        ends = [flint.arb(flint.fmpq(part.numerator, part.denominator)) for part in (low, high)]
        assert not ends[0] > constant**2
        assert not ends[1] < constant**2
        assert abs(ends[1] - ends[0]) < flint.arb(10) ** -18
        # planted: a constant that is not attained, and one that is exceeded
        assert not is_supremum(name, constant * (1 + flint.arb(2) ** -40))
        assert not is_supremum(name, constant * (1 - flint.arb(2) ** -40))


@pytest.mark.parametrize("name", SMOOTH)
def test_the_second_derivatives_are_those_of_the_package(name):
    z = np.linspace(-5.0, 5.0, 41)
    ours = [float(taylor(name, flint.arb(float(value)), 1)[0]) for value in z]
    np.testing.assert_allclose(ACTIVATIONS[name].second(z), ours, rtol=1e-12, atol=1e-15)
    symmetric = np.abs(ACTIVATIONS[name].second(z))
    np.testing.assert_allclose(symmetric, symmetric[::-1], rtol=1e-12, atol=1e-15)


def test_the_constants_are_public_bounds():
    for name in SMOOTH:
        bound = slope_lipschitz(name)
        with flint.ctx.workprec(256):
            assert flint.arb(bound.lower) < B2[name]() * (1 + flint.arb(2) ** -60)
            assert flint.arb(bound.upper) > B2[name]() * (1 - flint.arb(2) ** -60)
        assert bound.upper <= math.nextafter(math.nextafter(bound.lower, 1.0), 1.0)
        assert check_witness(bound, "slope_lipschitz", name).holds
        low = dataclasses.replace(bound, upper=math.nextafter(bound.lower, 0.0), lower=0.0)
        high = dataclasses.replace(bound, lower=math.nextafter(bound.upper, 1.0), upper=1.0)
        assert not check_witness(low, "slope_lipschitz", name).holds
        assert not check_witness(high, "slope_lipschitz", name).holds
    assert slope_lipschitz("identity").upper == 0.0
    assert slope_lipschitz("relu").lower == math.inf
    assert check_witness(slope_lipschitz("relu"), "slope_lipschitz", "relu").holds
    with pytest.raises(ValueError, match="activation must be one of"):
        slope_lipschitz("sine")


# --- the Lipschitz constant -------------------------------------------------------------------------------


def network(name, d, m, signs=None):
    return gr.Problem(gr.two_layer(d, m, name, signs=signs), gr.Gaussian())


def change(problem, x, w, moved):
    J = [problem.jacobian(theta.ravel(), x)[:, 0, :] for theta in (w, moved)]
    return float(np.linalg.norm(J[1] - J[0], 2))


def steepest(name, problem, x, m):
    """A pair of points between which one neuron bends most at the longest input, as a ratio of norms."""
    longest = x[np.argmax(np.linalg.norm(x, axis=1))]
    length = float(np.linalg.norm(longest))
    w = np.zeros((m, x.shape[1]))
    h = 1e-4
    with flint.ctx.workprec(256):
        peak = float(PEAK[name]())
    w[0] = (peak - h / 2) / length**2 * longest
    moved = w.copy()
    moved[0] += h / length**2 * longest
    return change(problem, x, w, moved) / float(np.linalg.norm(moved - w))


@given(
    seed=st.integers(0, 10**6), name=st.sampled_from(SMOOTH), n=st.integers(1, 4), scale=st.floats(0.1, 3.0)
)
def test_no_pair_of_points_exceeds_the_constant(seed, name, n, scale):
    rng = np.random.default_rng(seed)
    d, m = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    x, signs = scale * rng.normal(size=(n, d)), rng.normal(size=m)
    signs[0] = 1.0 + np.max(np.abs(signs))
    problem = network(name, d, m, signs)
    bound = jacobian_lipschitz(problem, x)
    for reach in (1e-3, 0.3, 3.0):
        w = rng.normal(size=(m, d))
        step = reach * rng.normal(size=(m, d))
        assert change(problem, x, w, w + step) <= bound.upper * np.linalg.norm(step) * (1 + 1e-9)
    worst = steepest(name, problem, x, m)
    assert bound.lower * (1 - 1e-4) <= worst <= bound.upper * (1 + 1e-9)
    if n == 1:  # Kx is a number: the two sides are one
        assert bound.upper == pytest.approx(bound.lower, rel=1e-14)
    assert check_witness(bound, "jacobian_lipschitz", problem, x).holds


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("other", SMOOTH)
def test_the_constant_of_another_activation_is_caught(name, other, monkeypatch):
    """By the attack, if it is smaller; by the checker, whichever side is false."""
    x = np.random.default_rng(1).normal(size=(1, 3))
    problem = network(name, 3, 4)
    monkeypatch.setitem(two_layer.SQUARED_BENDING, name, two_layer.SQUARED_BENDING[other])
    bound = jacobian_lipschitz(problem, x)
    wrong = name != other
    assert check_witness(bound, "jacobian_lipschitz", problem, x).holds != wrong
    attacked = not bound.lower * (1 - 1e-4) <= steepest(name, problem, x, 4) <= bound.upper * (1 + 1e-9)
    assert attacked == wrong


def test_a_dropped_width_is_caught():
    x = np.random.default_rng(2).normal(size=(3, 4))
    problem = network("tanh", 4, 64)
    bound = jacobian_lipschitz(problem, x)
    dropped = dataclasses.replace(bound, lower=8 * bound.lower, upper=8 * bound.upper)
    assert not check_witness(dropped, "jacobian_lipschitz", problem, x).holds
    assert not dropped.lower <= steepest("tanh", problem, x, 64)
    twice = dataclasses.replace(bound, lower=bound.lower / 8, upper=bound.upper / 8)
    assert not check_witness(twice, "jacobian_lipschitz", problem, x).holds
    assert not steepest("tanh", problem, x, 64) <= twice.upper


def test_one_unit_below_is_caught():
    """With one input along an axis the constant is rational for silu: 1/2 |x|^2 / 8 at width 64."""
    x = np.array([[3.0, 0.0]])
    problem = network("silu", 2, 64)
    truth = 9.0 / 16.0
    bound = jacobian_lipschitz(problem, x)
    assert bound.lower <= truth <= bound.upper
    exact = dataclasses.replace(bound, lower=truth, upper=truth)
    assert check_witness(exact, "jacobian_lipschitz", problem, x).holds
    less = dataclasses.replace(exact, lower=0.0, upper=math.nextafter(truth, 0.0))
    more = dataclasses.replace(exact, lower=math.nextafter(truth, 1.0), upper=1.0)
    for beyond in (less, more):
        assert not check_witness(beyond, "jacobian_lipschitz", problem, x).holds


def test_activations_without_a_finite_or_positive_constant():
    x = np.random.default_rng(3).normal(size=(3, 2))
    relu = jacobian_lipschitz(network("relu", 2, 4), x)
    assert (relu.lower, relu.upper) == (math.inf, math.inf)
    assert "no finite Lipschitz constant" in relu.method
    assert jacobian_lipschitz(network("relu", 2, 4), 0.0 * x).upper == 0.0
    assert jacobian_lipschitz(network("relu", 2, 4, np.zeros(4)), x).upper == 0.0
    linear = jacobian_lipschitz(network("identity", 2, 4), x)
    assert (linear.lower, linear.upper) == (0.0, 0.0)
    for problem in (network("relu", 2, 4), network("identity", 2, 4)):
        assert check_witness(jacobian_lipschitz(problem, x), "jacobian_lipschitz", problem, x).holds


@pytest.mark.parametrize(
    "model",
    [
        gr.MLP((2, 3, 3, 1)),
        gr.MLP((2, 3, 1)),
        gr.MLP((2, 3, 1), bias=False, frozen={1: np.ones((1, 3))}, scales=(2.0, 1.0)),
        gr.two_layer(2, 3, ACTIVATIONS["tanh"]),
    ],
)
def test_other_networks_are_undecided(model):
    x = np.ones((2, 2))
    bound = jacobian_lipschitz(gr.Problem(model, gr.Gaussian()), x)
    assert (bound.lower, bound.upper) == (0.0, math.inf)
    assert "no bound is known for this model" in bound.method


@pytest.mark.parametrize(
    ("problem", "x", "error", "message"),
    [
        (None, np.ones((1, 2)), TypeError, "problem must be a gr.Problem with a gr.MLP, got NoneType"),
        (network("tanh", 2, 3), np.ones((1, 3)), ValueError, "x must have shape"),
        (network("tanh", 2, 3), np.ones((0, 2)), ValueError, r"x must have shape .* got \(0, 2\)"),
        (network("tanh", 2, 3), [[1.0, 2.0]], TypeError, "x must be an array"),
        (network("tanh", 2, 3), np.full((1, 2), np.inf), ValueError, "x"),
        (network("tanh", 2, 3), np.full((1, 2), 1e90), gr.NumericalError, "range of float64"),
    ],
)
def test_bad_input(problem, x, error, message):
    with pytest.raises(error, match=message):
        jacobian_lipschitz(problem, x)
