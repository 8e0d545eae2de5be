"""Bounds at any scale of weights, inputs, signs and radius, and what the checker takes for a bound."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

import grng_ref as gr
from proofs_check.bounds import Bound, check_exact, check_witness, jacobian_change

SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "silu")


def network(name, d, m, signs=None):
    return gr.Problem(gr.two_layer(d, m, name, signs=signs), gr.Gaussian())


def case(name, seed, n=3, d=3, m=3):
    rng = np.random.default_rng(seed)
    problem = network(name, d, m, rng.choice([-1.0, 1.0, 0.5, -2.0], size=m))
    return problem, rng.normal(size=(m, d)), rng.normal(size=(n, d)), rng


@pytest.mark.parametrize("sign", [1.0, 1e-150, 1e150])
@pytest.mark.parametrize("length", [1.0, 1e-150, 1e140])
@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
def test_the_knapsack_has_no_scale(unit, length, sign):
    """The change is homogeneous: 0 in weights and radius together, 1 in the inputs and in the signs."""
    _, w, x, _ = case("relu", 8, n=3, m=40)
    signs = np.tile([1.0, -1.0, 0.5, 2.0], 10)

    def bound(unit, length, sign):
        arguments = network("relu", 3, 40, sign * signs), (unit * w).ravel(), length * x, 0.4 * unit
        return jacobian_change(*arguments), arguments

    plain, (found, arguments) = bound(1.0, 1.0, 1.0)[0], bound(unit, length, sign)
    if 1e-140 < length * sign / unit < 1e140:
        assert found.upper / length / sign == pytest.approx(plain.upper, rel=1e-9)
        assert min(found.witness["multipliers"]) > 0.0
    else:  # no float holds a good multiplier: 0 proves a bound too
        assert plain.upper * (1 - 1e-9) <= found.upper / length / sign < 2 * plain.upper
    assert check_witness(found, "jacobian_change", *arguments).holds
    less = dataclasses.replace(found, lower=0.0, upper=0.999 * plain.lower * length * sign)
    assert not check_witness(less, "jacobian_change", *arguments).holds


@pytest.mark.parametrize("tiny", [1e-150, 1e-170, 5e-324])
def test_a_flip_of_a_tiny_neuron_at_a_tiny_input_is_no_zero(tiny):
    """Its square underflows; what it changes, tiny^2, may not."""
    problem = network("relu", 1, 2, np.array([tiny, 1.0]))
    theta, x = np.array([0.0, 5.0]), np.array([[tiny], [1.0]])
    bound = jacobian_change(problem, theta, x, 1.0)
    assert Fraction(bound.upper) ** 2 >= Fraction(tiny) ** 4 / 2
    zero = dataclasses.replace(bound, lower=0.0, upper=0.0)
    assert not check_witness(zero, "jacobian_change", problem, theta, x, 1.0).holds


def test_neurons_at_the_origin_flip_at_any_scale():
    problem, x = network("relu", 2, 3), np.array([[3e3, 1e3], [1e-3, 2.0]])
    for radius in (5e-324, 1e-300, 1.0, 1e300):
        bound = jacobian_change(problem, np.zeros(6), x, radius)
        assert np.linalg.norm(x, 2) <= bound.upper < 1.5 * np.linalg.norm(x, 2)
        assert check_witness(bound, "jacobian_change", problem, np.zeros(6), x, radius).holds


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e60])
def test_smooth_bounds_hold_or_are_refused_at_any_scale(name, scale):
    problem, w, x, rng = case(name, 9, n=2, m=4)
    arguments = problem, w.ravel(), scale * x, 0.5
    bound = jacobian_change(*arguments)
    assert check_witness(bound, "jacobian_change", *arguments).holds
    for _ in range(5):
        step = rng.normal(size=w.shape)
        moved = w + 0.5 / np.linalg.norm(step) * step
        rows = [problem.jacobian(theta.ravel(), scale * x)[:, 0, :] for theta in (w, moved)]
        found = np.linalg.norm((rows[1] - rows[0]) / scale, 2) * scale
        assert found <= bound.upper * (1 + 1e-9) + 1e-13 * scale
    with pytest.raises(gr.NumericalError, match="range of float64"):
        jacobian_change(problem, w.ravel(), 1e200 * x, 0.5)


def test_scalar_products_of_the_checker_are_exact():
    """Against rationals: their sign, and a magnitude that is never too great and nearly right."""
    rng = np.random.default_rng(4)
    spread = rng.integers(-1, 2, size=(2, 40, 5)) * 10.0 ** rng.uniform(-20, 20, size=(2, 40, 5))
    a, b = spread * rng.normal(size=spread.shape)
    a[:5], b[:5] = rng.integers(-2, 3, size=(2, 5, 5))  # which often cancel
    a[5], b[6], a[7] = 0.0, 0.0, [5e-324, 1e-310, 0.0, -1e-320, 2e-300]
    a[8], b[8] = [1e16, 1.0, -1e16, 0.0, 0.0], [1.0, 2.0**-60, 1.0, 0.0, 0.0]  # cancels but for one part
    signs, sizes = check_exact.products(a, b)
    for r, e in enumerate(check_exact.exponents(a)):
        for i, f in enumerate(check_exact.exponents(b)):
            pairs = zip(map(Fraction, a[r].tolist()), map(Fraction, b[i].tolist()), strict=True)
            true = sum((p * q for p, q in pairs), start=Fraction(0))
            assert signs[r, i] == (true > 0) - (true < 0)
            size = abs(true) / Fraction(2) ** (int(e) + int(f))
            assert size * (1 - Fraction(1, 2**49)) <= Fraction(sizes[r, i]) <= size


def test_the_checker_refuses_what_is_no_norm_and_no_ball():
    problem, w, x, _ = case("tanh", 6, n=4, m=30)
    for name, arguments in (
        ("jacobian_change", (problem, w.ravel(), x, 0.5)),
        ("jacobian_lipschitz", (network("relu", 3, 30), 0.0 * x)),
        ("slope_lipschitz", ("identity",)),
    ):
        negative = Bound(-9.0, -8.0, True, "planted")
        assert "never negative" in check_witness(negative, name, *arguments).reason
    bound = jacobian_change(problem, w.ravel(), x, 0.5)
    for radius in (-0.5, math.inf, math.nan):
        assert not check_witness(bound, "jacobian_change", problem, w.ravel(), x, radius).holds
    other = gr.Problem(gr.MLP((2, 3, 3, 1)), gr.Gaussian())
    assert not check_witness(Bound(0.0, 1.0, True, "m"), "jacobian_lipschitz", other, np.ones((1, 2))).holds
