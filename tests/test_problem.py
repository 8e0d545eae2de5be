"""The problem's derivatives against complex steps, central differences and slow loops.

The oracle imports nothing of grng_ref. Every activation meets every likelihood; the parameterizations, biases
and frozen layers are dealt out over these pairs so that each comes up several times.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import ACTIVATIONS, LIKELIHOODS, Network, networks, structures
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.models import Activation
from grng_ref.models.activations import ACTIVATIONS as OURS
from proofs_check import oracles

NETWORKS = list(networks())
# eps^(4/5) = 3e-13 of the five-point difference where the derivatives are of order one; they reach 100 here.
DIFFERENCE_ERROR = 1e-10


def allowed(network: Network, dtype: str = "float64") -> float:
    """Sums over at most P products, layer after layer; data of order one."""
    return tolerance(dtype, terms=network.theta.size)


def vectors(network: Network, count: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, network.theta.size))


@pytest.fixture(params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    return request.param


def test_the_table_holds_every_pair_and_every_structure():
    pairs = {(n.activation, n.likelihood) for n in NETWORKS}
    assert len(pairs) == len(ACTIVATIONS) * len(LIKELIHOODS)
    seen = [{f: getattr(n, f) for f in ("bias", "frozen")} | {"factors": n.factors} for n in NETWORKS]
    for wanted in structures():
        factors = Network(**wanted).factors
        assert {"bias": wanted["bias"], "frozen": wanted["frozen"], "factors": factors} in seen
    assert {n.activation for n in NETWORKS if n.two_layer} == set(ACTIVATIONS)


def test_first_derivatives(network: Network):
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    rtol = allowed(network)

    def same(actual, expected):
        assert_values_close(actual, expected, dtype="float64", rtol=rtol)

    same(problem.outputs(theta, x), network.outputs(theta))
    # a loss is a sum of terms of either sign (softplus(f) - y f): right to roundings of the terms
    loss = problem.loss(theta, x, y)
    assert loss.shape == ()
    assert abs(float(loss) - network.loss(theta)) <= rtol * max(1.0, np.abs(network.losses(theta)).max())
    same(problem.per_example_gradients(theta, x, y), network.gradients)
    same(problem.gradient(theta, x, y), network.gradients.mean(axis=0))
    same(problem.jacobian(theta, x), network.jacobian)
    for v in vectors(network, 2):
        same(problem.jvp(theta, x, v), oracles.complex_step_directional(network.outputs, theta, v))
        same(problem.jvp(theta, x, v), network.jacobian @ v)
    u = np.random.default_rng(6).standard_normal(network.jacobian.shape[:2])
    same(problem.vjp(theta, x, u), np.einsum("nk,nkp->p", u, network.jacobian))


def test_second_derivatives(network: Network):
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    hessian = problem.hessian(theta, x, y)
    scale = np.abs(hessian).max()
    # H is made of products of at most P terms of the size of H's largest entry
    assert np.abs(hessian - hessian.T).max() <= allowed(network) * scale
    for v in vectors(network, 2):
        product = problem.hvp(theta, x, y, v)
        expected = network.hvp(v)
        size = np.linalg.norm(v) * max(1.0, np.linalg.norm(hessian))
        assert np.abs(product - expected).max() <= DIFFERENCE_ERROR * size
        assert_values_close(hessian @ v, product, dtype="float64", rtol=0.0, atol=allowed(network) * size)
    v, w = vectors(network, 2)
    together = problem.hvp(theta, x, y, 2.0 * v - 0.5 * w)
    apart = 2.0 * problem.hvp(theta, x, y, v) - 0.5 * problem.hvp(theta, x, y, w)
    # the sum may cancel: roundings of its parts
    atol = allowed(network) * scale * (2.0 * np.linalg.norm(v) + np.linalg.norm(w))
    assert_values_close(together, apart, dtype="float64", rtol=0.0, atol=atol)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_dense_hessian_against_differences_of_complex_steps(activation: str):
    network = Network(activation, "categorical", sizes=(2, 3, 2), num_examples=2)
    expected = oracles.hessian(network.loss, network.theta)
    got = network.problem.hessian(network.theta, network.x, network.y)
    assert_values_close(got, expected, dtype="float64", rtol=DIFFERENCE_ERROR)


def test_dense_hessian_in_batches_is_the_same(monkeypatch: pytest.MonkeyPatch):
    network = Network("silu", "poisson")
    whole = network.problem.hessian(network.theta, network.x, network.y)
    for entries in (1, 5 * 3 * 4, 7 * 3 * 4):  # one direction at a time; batches with a remainder
        monkeypatch.setattr("grng_ref.problem._HESSIAN_WORKSPACE", entries)
        parts = network.problem.hessian(network.theta, network.x, network.y)
        assert_values_close(parts, whole, dtype="float64")


def test_jvp_and_vjp_are_adjoint(network: Network):
    problem, theta, x = network.problem, network.theta, network.x
    rng = np.random.default_rng(7)
    for v in vectors(network, 3):
        u = rng.standard_normal(network.jacobian.shape[:2])
        forward, backward = problem.jvp(theta, x, v), problem.vjp(theta, x, u)
        left, right = float(np.sum(u * forward)), float(np.sum(backward * v))
        size = np.linalg.norm(u) * np.linalg.norm(network.jacobian) * np.linalg.norm(v)
        assert abs(left - right) <= tolerance("float64") * size


# --- planted errors: the comparisons above catch them --------------------------------------------------


def _wrong_activation(**changes) -> Activation:
    return dataclasses.replace(OURS["tanh"], **changes)


@pytest.mark.parametrize(
    "mutation",
    ["first derivative", "second derivative", "bias scaled", "sum instead of mean", "scale dropped"],
)
def test_the_comparisons_catch_planted_errors(mutation: str, monkeypatch: pytest.MonkeyPatch):
    network = Network("tanh", "categorical", "ntk")
    problem = network.problem
    check = test_second_derivatives if mutation == "second derivative" else test_first_derivatives
    check(network)
    if mutation == "first derivative":
        wrong = _wrong_activation(first=lambda s: OURS["tanh"].first(s) * (1 + 1e-9))
        problem = dataclasses.replace(problem, model=dataclasses.replace(problem.model, activation=wrong))
    elif mutation == "second derivative":
        wrong = _wrong_activation(second=lambda s: OURS["tanh"].second(s) * (1 + 1e-6))
        problem = dataclasses.replace(problem, model=dataclasses.replace(problem.model, activation=wrong))
    elif mutation == "bias scaled":
        original = gr.MLP.layer_input

        def scaled(self, index, activations, last=1.0):
            return original(self, index, activations, last * self.layer_scales[index])

        monkeypatch.setattr(gr.MLP, "layer_input", scaled)
    elif mutation == "scale dropped":
        monkeypatch.setattr(gr.MLP, "weights", lambda self, i, layer: layer[..., : self.sizes[i]])
    else:
        monkeypatch.setattr(
            gr.Problem,
            "gradient",
            lambda self, theta, x, y: self.per_example_gradients(theta, x, y).sum(axis=0),
        )
    broken = dataclasses.replace(network)
    broken.__dict__["problem"] = problem
    with pytest.raises(AssertionError):
        check(broken)


# --- float32, backends, shapes -------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS[::16], ids=str)
def test_every_backend_and_dtype(network: Network, backend: Backend):
    """Against the oracle at the values that the dtype holds."""
    rounded = dataclasses.replace(network)
    theta, x, y, frozen = network.data
    kind = backend.dtype
    real = y.dtype.kind == "f"
    rounded.__dict__["data"] = (
        theta.astype(kind).astype(float),
        x.astype(kind).astype(float),
        y.astype(kind).astype(float) if real else y,
        {i: layer.astype(kind).astype(float) for i, layer in frozen.items()},
    )
    problem = gr.asarray(rounded.problem, backend=backend.library, dtype=backend.dtype, device=backend.device)
    theta, x, y = (backend.asarray(a) for a in rounded.data[:3])
    v = vectors(network, 1)[0].astype(kind)
    rtol = allowed(network, kind)
    backend.assert_close(problem.outputs(theta, x), rounded.outputs(rounded.theta), rtol=rtol)
    backend.assert_close(problem.gradient(theta, x, y), rounded.gradients.mean(axis=0), rtol=rtol)
    backend.assert_close(problem.jacobian(theta, x), rounded.jacobian, rtol=rtol)
    backend.assert_close(problem.jvp(theta, x, backend.asarray(v)), rounded.jacobian @ v, rtol=rtol)
    product = problem.hvp(theta, x, y, backend.asarray(v))
    expected = rounded.problem.hvp(rounded.theta, rounded.x, rounded.y, v.astype(float))
    backend.assert_close(product, expected, rtol=rtol)


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    num_examples=st.integers(1, 4),
    activation=st.sampled_from(ACTIVATIONS),
    likelihood=st.sampled_from(LIKELIHOODS),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_shape(widths, num_examples, activation, likelihood, bias, seed):
    """N = 1, K = 1, one unit: the shapes hold, and g = mean of the parts = J^T of the output gradients."""
    network = Network(
        activation, likelihood, bias=bias, sizes=tuple(widths), num_examples=num_examples, seed=seed
    )
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    n, k, p = num_examples, widths[-1], theta.size
    jacobian, parts = problem.jacobian(theta, x), problem.per_example_gradients(theta, x, y)
    assert problem.outputs(theta, x).shape == (n, k)
    assert jacobian.shape == (n, k, p)
    assert parts.shape == (n, p)
    outer = problem.likelihood.gradient(problem.outputs(theta, x), y)
    scale = float(np.linalg.norm(jacobian) * np.linalg.norm(outer))
    atol = tolerance("float64", terms=n * k) * scale
    gradient = problem.gradient(theta, x, y)
    assert_values_close(gradient, parts.mean(axis=0), dtype="float64", rtol=0.0, atol=atol)
    expected = np.einsum("nkp,nk->p", jacobian, outer) / n
    assert_values_close(gradient, expected, dtype="float64", rtol=0.0, atol=atol)
    B, c = problem.score_rows(theta, x), problem.score_coefficients(theta, x, y)
    assert B.shape == (n * k, p)
    assert_values_close(B.T @ c, gradient, dtype="float64", rtol=0.0, atol=atol)


# --- special points ------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_theta_zero(activation: str, likelihood: str):
    """All weights zero: outputs zero, no NaN; H still matches the oracle (relu'(0) = 0 is a convention)."""
    network = Network(activation, likelihood, sizes=(2, 3, 2))
    theta = np.zeros_like(network.theta)
    problem, x, y = network.problem, network.x, network.y
    assert np.all(problem.outputs(theta, x) == 0.0)
    gradient, hessian = problem.gradient(theta, x, y), problem.hessian(theta, x, y)
    expected = oracles.complex_step_gradient(network.loss, theta)
    assert_values_close(gradient, expected, dtype="float64", rtol=allowed(network), atol=1e-16)
    assert np.all(np.isfinite(hessian))
    if activation != "relu":
        reference = oracles.hessian(network.loss, theta)
        assert_values_close(hessian, reference, dtype="float64", rtol=DIFFERENCE_ERROR, atol=1e-12)


def test_dead_relu_network_has_zero_derivatives_below_the_last_layer():
    model = gr.MLP((2, 3, 2), activation="relu")
    problem = gr.Problem(model, gr.Gaussian())
    theta = problem.pack([(-np.ones((3, 2)), np.zeros(3)), (np.ones((2, 3)), np.array([0.5, -0.5]))])
    x, y = np.array([[1.0, 2.0], [0.3, 0.1]]), np.zeros((2, 2))
    gradient = problem.unpack(problem.gradient(theta, x, y))
    assert np.all(gradient[0] == 0.0)
    np.testing.assert_array_equal(gradient[1], [[0, 0, 0, 0.5], [0, 0, 0, -0.5]])
    lower = problem.hessian(theta, x, y)[:9, :]
    assert np.all(lower == 0.0)


def test_overflow_is_an_error_and_not_a_nan():
    problem = gr.Problem(gr.MLP((1, 1), bias=False), gr.Poisson())
    theta, x, y = np.array([800.0]), np.array([[1.0]]), np.array([[1.0]])
    with np.errstate(over="ignore"), pytest.raises(gr.NumericalError):
        problem.loss(theta, x, y)
    with np.errstate(over="ignore"), pytest.raises(gr.NumericalError):
        problem.gradient(theta, x, y)


@pytest.mark.parametrize("kind", ["expected", "monte_carlo", "empirical"])
def test_layer_factors_are_activations_and_score_signals(kind):
    network = Network("tanh", "categorical", frozen=(1,))
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    options = {"kind": kind} | ({"rng": 3, "num_samples": 2} if kind == "monte_carlo" else {})
    activations, signals = problem.layer_factors(theta, x, y, **options)
    for both, alone in (
        (activations, problem.activations(theta, x)),
        (signals, problem.score_signals(theta, x, y, **options)),
    ):
        assert len(both) == len(alone) == 2
        for one, other in zip(both, alone, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError, match="unexpected keyword"):
        problem.layer_factors(theta, x, y, knd=kind)
