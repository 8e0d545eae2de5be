"""RENG by differences of gradients: an error of first order, the default length, the ends of the range."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from networks import Network
from support import tolerance

import grng_ref as gr
from grng_ref.directions import difference_length, gradient_difference

NETWORK = Network("tanh", "poisson", num_examples=6)


def difference(length, dtype="float64"):
    """The quotient, H g, and e; on NETWORK."""
    problem = NETWORK.problem
    theta, x, y = (np.asarray(a, dtype=dtype) for a in (NETWORK.theta, NETWORK.x, NETWORK.y))
    g = problem.gradient(theta, x, y)
    found = gradient_difference(lambda t: problem.gradient(t, x, y), theta, g, length=length)
    return found, problem.hvp(theta, x, y, g), (length or difference_length(theta)) / np.linalg.norm(g)


def third_derivative():
    """``D^3 L[g, g]`` (P,), by a central difference of H g: right to 1e-8 or so."""
    problem, theta, x, y = NETWORK.problem, NETWORK.theta, NETWORK.x, NETWORK.y
    g = problem.gradient(theta, x, y)
    h = 1e-5 / np.linalg.norm(g)
    plus, minus = (problem.hvp(theta + s * h * g, x, y, g) for s in (1.0, -1.0))
    return (plus - minus) / (2.0 * h)


def test_the_error_of_the_difference_is_of_first_order():
    """``(e / 2) D^3 L[g, g] + O(e^2)``: halving e halves the error, and quarters what is left of it."""
    leading, left = third_derivative(), []
    for length in (0.04, 0.02, 0.01, 0.005):
        found, exact, e = difference(length)
        error = found - exact
        np.testing.assert_allclose(
            error, 0.5 * e * leading, atol=20 * length * np.max(np.abs(0.5 * e * leading))
        )
        left.append(np.linalg.norm(error - 0.5 * e * leading))
    ratios = [a / b for a, b in itertools.pairwise(left)]
    np.testing.assert_allclose(ratios, 4.0, rtol=0.1)
    # negative control: a central difference has no error of first order
    assert not np.allclose(
        0.0 * leading, 0.5 * e * leading, atol=20 * length * np.max(np.abs(0.5 * e * leading))
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_default_length_loses_half_the_digits_at_most(dtype):
    """Truncation ``(e / 2) |D^3 L[g, g]|``, and rounding of two gradients and of the moved theta over e."""
    found, exact, e = difference(None, dtype)
    eps = float(np.finfo(dtype).eps)
    H = np.linalg.norm(NETWORK.problem.hessian(NETWORK.theta, NETWORK.x, NETWORK.y), 2)
    g = np.linalg.norm(NETWORK.problem.gradient(NETWORK.theta, NETWORK.x, NETWORK.y))
    rounding = 10 * eps * (g + H * np.linalg.norm(NETWORK.theta)) / e
    bound = 0.5 * e * np.linalg.norm(third_derivative()) + rounding
    assert np.linalg.norm(found - exact) <= 1.1 * bound
    assert bound <= 200 * math.sqrt(eps) * np.linalg.norm(exact)  # so that the test says something
    for factor in (1e-4, 1e4):  # a much shorter or longer difference is worse: the length is near the best
        worse = difference(factor * e * g, dtype)[0]
        assert np.linalg.norm(worse - exact) > 10 * np.linalg.norm(found - exact)


def test_reng_by_finite_differences_is_near_the_exact_one():
    problem, theta, x, y = NETWORK.problem, NETWORK.theta, NETWORK.x, NETWORK.y
    deltas = {}
    for hvp in ("exact", "finite_difference"):
        opt = gr.reng(problem, lr=0.5, rho=0.7, damping=0.2, hvp=hvp)
        deltas[hvp] = opt.update(theta, opt.init(theta), x, y)[0]
    g = problem.gradient(theta, x, y)
    e = difference_length(theta) / np.linalg.norm(g)
    # |(C + a I)^{-1}| <= 1 / a; the truncation of H g, twice over for its rounding
    bound = 2 * 0.5 * 0.7 * 0.5 * e * np.linalg.norm(third_derivative()) / 0.2
    apart = np.linalg.norm(deltas["exact"] - deltas["finite_difference"])
    assert 0.0 < apart <= bound
    plain = gr.ngd(problem, lr=0.5, damping=0.2)
    assert np.linalg.norm(deltas["exact"] - plain.update(theta, plain.init(theta), x, y)[0]) > 1e3 * bound


def test_differences_at_the_ends_of_the_range():
    """g = 0 exactly; gradients so small that e alone would overflow."""
    zero = np.zeros(3)
    np.testing.assert_array_equal(gradient_difference(lambda t: t, zero, zero), zero)
    H = np.diag([1.0, 2.0, 3.0])
    for size in (1e-300, 1e-30, 1e30):
        theta = np.array([1.0, 1.0, 1.0]) * size
        found = gradient_difference(lambda t: H @ t, theta, H @ theta)  # linear: no truncation error
        # of the gradients, |H| |moved theta| eps each, over how far theta moved
        size_there = np.linalg.norm(theta) + difference_length(theta)
        atol = tolerance("float64") * 9.0 * size_there / difference_length(theta) * np.max(H @ theta)
        np.testing.assert_allclose(found, H @ H @ theta, rtol=0, atol=atol)
