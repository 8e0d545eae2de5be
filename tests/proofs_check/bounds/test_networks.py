"""Spectrum of the Gram matrix and norm of the residual: mpmath's networks lie between the sides."""

from __future__ import annotations

import dataclasses
import json
import math

import mpmath
import numpy as np
import pytest

import grng_ref as gr
from proofs_check.bounds import (
    Bound,
    check_witness,
    gram_max,
    gram_min,
    jacobian_change,
    jacobian_lipschitz,
    residual_norm,
)

X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.random.default_rng(1).normal(size=(4, 1))
PROBLEM = gr.Problem(gr.two_layer(3, 7, "tanh"), gr.Gaussian())
THETA = PROBLEM.init(rng=0)


def true_outputs_and_gram():
    """From the formula of the network, in 60 digits, with the scale as it is stored."""
    c, d, m = PROBLEM.model.scales[1], 3, 7
    w = [[mpmath.mpf(float(v)) for v in row] for row in THETA.reshape(m, d)]
    x = [[mpmath.mpf(float(v)) for v in row] for row in X]
    z = [[mpmath.fdot(row, v) for row in w] for v in x]
    signs = [1 if r % 2 == 0 else -1 for r in range(m)]
    f = [c * mpmath.fsum(a * mpmath.tanh(t) for a, t in zip(signs, row, strict=True)) for row in z]
    slope = [[mpmath.sech(t) ** 2 for t in row] for row in z]
    G = mpmath.matrix(4)
    for i in range(4):
        for j in range(4):
            pairs = zip(slope[i], slope[j], strict=True)
            G[i, j] = mpmath.mpf(c) ** 2 * mpmath.fsum(p * q for p, q in pairs) * mpmath.fdot(x[i], x[j])
    return f, G


def test_the_truth_lies_between_the_sides():
    with mpmath.workdps(60):
        f, G = true_outputs_and_gram()
        values = sorted(mpmath.eigsy(G, eigvals_only=True))
        residual = mpmath.norm([a - float(b) for a, b in zip(f, Y[:, 0], strict=True)])
    for bound, truth in (
        (gram_min(PROBLEM, THETA, X), values[0]),
        (gram_max(PROBLEM, THETA, X), values[-1]),
        (residual_norm(PROBLEM, THETA, X, Y), residual),
    ):
        assert bound.lower <= truth <= bound.upper
        assert bound.upper - bound.lower <= 1e-13 * float(values[-1])


def test_variance_divides_the_residual():
    twice = gr.Problem(PROBLEM.model, gr.Gaussian(variance=2.0))
    ours, half = residual_norm(PROBLEM, THETA, X, Y), residual_norm(twice, THETA, X, Y)
    assert half.lower == pytest.approx(ours.lower / 2, rel=1e-14)


def test_deep_and_multiple_outputs():
    problem = gr.Problem(gr.MLP((3, 4, 4, 2), "softplus"), gr.Categorical())
    theta, labels = problem.init(rng=1), np.array([0, 1, 1, 0])
    J = problem.jacobian(theta, X).reshape(8, -1)
    values = np.linalg.eigvalsh(J @ J.T)
    low, high = gram_min(problem, theta, X), gram_max(problem, theta, X)
    assert low.upper == pytest.approx(values[0], abs=1e-12 * values[-1])
    assert high.lower == pytest.approx(values[-1], rel=1e-12)
    norm = residual_norm(problem, theta, X, labels)
    p = problem.likelihood.mean(problem.outputs(theta, X))
    assert norm.lower == pytest.approx(np.linalg.norm(p - np.eye(2)[labels]), rel=1e-12)
    for bound, name, arguments in (
        (low, "gram_min", ()),
        (high, "gram_max", ()),
        (norm, "residual_norm", (labels,)),
    ):
        assert check_witness(bound, name, problem, theta, X, *arguments).holds


QUANTITIES = [
    ("gram_min", gram_min, (PROBLEM, THETA, X)),
    ("gram_max", gram_max, (PROBLEM, THETA, X)),
    ("residual_norm", residual_norm, (PROBLEM, THETA, X, Y)),
]


@pytest.mark.parametrize(("name", "function", "arguments"), QUANTITIES)
def test_the_checker_proves_both_sides_and_refuses_wrong_ones(name, function, arguments):
    bound = function(*arguments)
    assert check_witness(bound, name, *arguments).holds
    stored = dataclasses.replace(bound, witness=json.loads(json.dumps(bound.witness)))
    assert check_witness(stored, name, *arguments).holds
    for lower, upper in ((bound.upper * (1 + 1e-9), math.inf), (0.0, bound.lower * (1 - 1e-9))):
        wrong = dataclasses.replace(bound, lower=lower, upper=upper)
        assert not check_witness(wrong, name, *arguments).holds
    other = (PROBLEM, THETA + 0.01, *arguments[2:])
    assert not check_witness(bound, name, *other).holds


def test_damaged_vectors():
    bound = gram_min(PROBLEM, THETA, X)
    for vector in ([0.0] * 4, [1.0] * 3, ["a"] * 4, [1.0, 0.0, 0.0, 0.0]):
        changed = dataclasses.replace(bound, witness={"vector": vector})
        assert not check_witness(changed, "gram_min", PROBLEM, THETA, X).holds
    assert (
        "there is none"
        in check_witness(dataclasses.replace(bound, witness=None), "gram_min", PROBLEM, THETA, X).reason
    )


def test_arguments_of_the_checker():
    bound = gram_min(PROBLEM, THETA, X)
    with pytest.raises(TypeError, match="bound must be a Bound, got float"):
        check_witness(1.0, "gram_min", PROBLEM, THETA, X)
    with pytest.raises(ValueError, match="quantity must be one of"):
        check_witness(bound, "gram", PROBLEM, THETA, X)
    with pytest.raises(TypeError, match="arguments must be those of gram_min"):
        check_witness(bound, "gram_min", PROBLEM, THETA)
    everything = Bound(0.0, math.inf, True, "nothing", {"vector": [1.0] * 4})
    assert check_witness(everything, "jacobian_lipschitz", PROBLEM, X).holds


def test_bounds_of_other_backends(backend):
    problem, theta, x, y = backend.asarray((PROBLEM, THETA, X, Y))
    host = gr.to_numpy((problem, theta, x, y))
    for function, arguments, same in (
        (gram_min, (problem, theta, x), host[:3]),
        (residual_norm, (problem, theta, x, y), host),
        (jacobian_lipschitz, (problem, x), (host[0], host[2])),
        (jacobian_change, (problem, theta, x, 0.5), (*host[:3], 0.5)),
    ):
        assert function(*arguments) == function(*same)
        assert check_witness(function(*arguments), function.__name__, *arguments).holds


@pytest.mark.parametrize("function", [gram_min, gram_max])
def test_bad_input(function):
    with pytest.raises(TypeError, match="problem"):
        function(None, THETA, X)
    with pytest.raises(ValueError, match="theta"):
        function(PROBLEM, THETA[:-1], X)
    with pytest.raises(ValueError, match="x must have shape"):
        function(PROBLEM, THETA, X[:, :2])
    with pytest.raises(TypeError, match="y must be given, got None"):
        residual_norm(PROBLEM, THETA, X, None)
