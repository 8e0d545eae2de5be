"""Everything that a problem offers, against JAX's autodiff of the network and the loss written down here.

Nothing below calls grng_ref to form an expected value: the network and the losses are the definitions in
plain ``jax.numpy``, the derivatives are JAX's, the output Fisher is the Hessian of the loss in the outputs
(equal for these likelihoods), and the steps are dense solves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from autodiff_cases import (
    CASES,
    DAMPING,
    LR,
    ON_NUMPY_ONLY,
    PRIOR_VARIANCE,
    RHO,
    VARIANCE,
    Case,
    by_hand,
    data,
    make_problem,
)
from support import Backend, assert_values_close, import_peer, tolerance

import grng_ref as gr

pytestmark = pytest.mark.peers

jax = import_peer("jax")
jnp = jax.numpy

PROMISED = 1e-10  # relative error that the project promises against autodiff, in float64


# --- the definitions, in jax.numpy --------------------------------------------------------------------------

ACTIVATIONS = {
    "identity": lambda s: s,
    "relu": lambda s: jnp.where(s > 0, s, 0.0),
    "tanh": jnp.tanh,
    "sigmoid": lambda s: 1 / (1 + jnp.exp(-s)),
    "softplus": lambda s: jnp.log(1 + jnp.exp(s)),
    "gelu": lambda s: s * (1 + jax.scipy.special.erf(s / math.sqrt(2))) / 2,
    "silu": lambda s: s / (1 + jnp.exp(-s)),
}

LOSSES = {  # of one example
    "gaussian": lambda f, y: jnp.sum((f - y) ** 2) / (2 * VARIANCE),
    "categorical": lambda f, y: jnp.log(jnp.sum(jnp.exp(f))) - f[y],
    "bernoulli": lambda f, y: jnp.sum(jnp.log(1 + jnp.exp(f)) - y * f),
    "poisson": lambda f, y: jnp.sum(jnp.exp(f) - y * f),
}

MEANS = {
    "gaussian": lambda f: f,
    "bernoulli": lambda f: 1 / (1 + jnp.exp(-f)),
    "poisson": jnp.exp,
}


def network(case: Case, frozen: dict[int, Any]) -> Callable[[Any, Any], Any]:
    """``theta, x_n -> f_n``, by the definition."""
    act = ACTIVATIONS[case.activation]
    if case.two_layer:
        d, m, _ = case.sizes
        return lambda theta, x: jnp.sum(frozen[1] * act(theta.reshape(m, d) @ x), axis=1) / math.sqrt(m)

    def outputs(theta: Any, x: Any) -> Any:
        start, a, s = 0, x, x
        for index, shape in enumerate(case.shapes):
            if index in frozen:
                layer = frozen[index]
            else:
                layer = theta[start : start + math.prod(shape)].reshape(shape)
                start += math.prod(shape)
            d_in = case.sizes[index]
            scale = d_in**-0.5 if case.parameterization == "ntk" else 1.0
            if case.scales is not None:
                scale = case.scales[index]
            s = scale * layer[:, :d_in] @ a
            if case.bias:
                s = s + layer[:, d_in]
            a = act(s)
        return s

    return outputs


def autodiff(
    case: Case,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    f_n: Callable[[Any, Any], Any] | None = None,
) -> dict[str, np.ndarray]:
    """Every quantity by autodiff and dense algebra; another loss or network may stand for the definition."""
    given = data(case)
    loss = loss or LOSSES[case.likelihood]
    f_n = f_n or network(case, given.frozen)

    @jax.jit
    def compute(theta: Any, x: Any, y: Any, v: Any, u: Any) -> dict[str, Any]:
        def f(t: Any) -> Any:
            return jax.vmap(f_n, (None, 0))(t, x)

        def losses(t: Any) -> Any:
            return jax.vmap(loss)(f(t), y)

        def mean_loss(t: Any) -> Any:
            return jnp.mean(losses(t))

        g, H, J = jax.grad(mean_loss)(theta), jax.hessian(mean_loss)(theta), jax.jacrev(f)(theta)
        Om = jax.vmap(jax.hessian(loss))(f(theta), y)
        n, unit = x.shape[0], jnp.eye(theta.size)
        F = jnp.einsum("nkp,nkj,njq->pq", J, Om, J) / n
        regularized = g + RHO * H @ g
        precision = RHO * g @ g
        ngd = jnp.linalg.solve(F + DAMPING * unit, g)
        ring = jnp.linalg.solve(F + (DAMPING + precision) * unit, g)
        reng = jnp.linalg.solve(F + DAMPING * unit, regularized)
        implicit = unit / PRIOR_VARIANCE + n * F + n * precision * unit
        explicit = unit / PRIOR_VARIANCE + n * F + n * RHO * H @ H
        return {
            "outputs": f(theta),
            "loss": mean_loss(theta),
            "gradient": g,
            "per-example gradients": jax.jacrev(losses)(theta),
            "jacobian": J,
            "jvp": jax.jvp(f, (theta,), (v,))[1],
            "vjp": jax.vjp(f, theta)[1](u)[0],
            "hvp": jax.jvp(jax.grad(mean_loss), (theta,), (v,))[1],
            "hessian": H,
            "fisher": F,
            "fisher times v": F @ v,
            "ngd direction": ngd,
            "ring direction": ring,
            "reng direction": reng,
            "ngd step": -LR * ngd,
            "ring step": -LR * ring,
            "reng step": -LR * reng,
            "implicit rkalman information": implicit,
            "implicit rkalman step": -jnp.linalg.solve(implicit, n * g),
            "explicit rkalman information": explicit,
            "explicit rkalman step": -jnp.linalg.solve(explicit, n * regularized),
        }

    return {k: np.asarray(q) for k, q in compute(given.theta, given.x, given.y, given.v, given.u).items()}


# --- the comparison -----------------------------------------------------------------------------------------


def limits(expected: dict[str, np.ndarray]) -> dict[str, float]:
    """The relative error allowed to each quantity: rounding, times the condition number of a solve.

    A number is the result of sums over at most examples times parameters terms, and both sides round. The
    cases are conditioned so that every limit keeps the promise.
    """
    parameters, examples = expected["gradient"].size, expected["outputs"].shape[0]
    F = float(np.linalg.norm(expected["fisher"], 2))
    condition = {  # of the matrix that a step solves with, or a bound of it
        name: 1.0 + F / DAMPING for name in expected if name.endswith((" direction", " step"))
    } | {
        f"{kind} rkalman step": float(np.linalg.cond(expected[f"{kind} rkalman information"]))
        for kind in ("implicit", "explicit")
    }
    allowed = {
        name: tolerance("float64", condition.get(name, 1.0), terms=parameters * examples) for name in expected
    }
    assert max(allowed.values()) <= PROMISED, f"badly conditioned case: {allowed}"
    return allowed


@functools.cache
def expected_of(name: str) -> dict[str, np.ndarray]:
    return autodiff(CASES[name])


@pytest.mark.parametrize(
    ("name", "library"),
    [(name, "numpy") for name in CASES] + [(name, "jax") for name in CASES if name not in ON_NUMPY_ONLY],
)
def test_everything_equals_autodiff(name: str, library: str) -> None:
    backend = Backend(library, library, "float64")
    expected = expected_of(name)
    found = by_hand(CASES[name], backend)
    assert found.keys() == expected.keys()
    for quantity, limit in limits(expected).items():
        backend.assert_close(found[quantity], expected[quantity], rtol=limit)


def disagreements(found: dict[str, Any], expected: dict[str, np.ndarray]) -> set[str]:
    """The quantities whose relative error, of the largest entry, is beyond its limit."""
    return {
        name
        for name, limit in limits(expected).items()
        if np.max(np.abs(found[name] - expected[name])) > limit * np.max(np.abs(expected[name]))
    }


OF_THE_OUTPUTS = {"outputs", "jacobian", "jvp", "vjp"}


@pytest.mark.parametrize(
    ("name", "planted", "unharmed"),
    [
        # the 1/2 is missing
        ("gelu-ntk-gaussian", lambda f, y: jnp.sum((f - y) ** 2) / VARIANCE, OF_THE_OUTPUTS),
        # no label: neither the outputs nor the Fisher can tell
        (
            "tanh-categorical",
            lambda f, y: jnp.log(jnp.sum(jnp.exp(f))),
            {*OF_THE_OUTPUTS, "fisher", "fisher times v"},
        ),
    ],
    ids=["half-missing", "label-missing"],
)
def test_a_wrong_loss_is_found(name: str, planted: Callable[[Any, Any], Any], unharmed: set[str]) -> None:
    found = by_hand(CASES[name], Backend("numpy", "numpy", "float64"))
    assert disagreements(found, expected_of(name)) == set()
    assert disagreements(found, autodiff(CASES[name], loss=planted)) == set(found) - unharmed


def test_every_quantity_sees_a_network_that_is_slightly_wrong() -> None:
    name = "softplus-poisson"
    case = CASES[name]
    found = by_hand(case, Backend("numpy", "numpy", "float64"))
    right = network(case, data(case).frozen)
    wrong = autodiff(case, f_n=lambda theta, x: (1 + PROMISED) * right(theta, x))
    assert disagreements(found, wrong) == set(found)


# --- the filter in the form of the textbooks ----------------------------------------------------------------


def mean_of_labels(case: Case) -> Callable[[Any], Any]:
    """``theta -> E[y]``, of all examples and outputs in one vector."""
    given = data(case)
    f_n = network(case, given.frozen)
    return lambda theta: MEANS[case.likelihood](jax.vmap(f_n, (None, 0))(theta, given.x)).ravel()


def covariance_of_labels(case: Case) -> Any:
    """Cov[y], the derivative of the mean by its natural parameter (times the Gaussian's variance)."""
    given = data(case)
    f = jax.vmap(network(case, given.frozen), (None, 0))(given.theta, given.x).ravel()
    return jax.jacrev(MEANS[case.likelihood])(f) * (VARIANCE if case.likelihood == "gaussian" else 1.0)


def step_of_rkalman(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance after one batch, without regularization."""
    given = data(case)
    optimizer = gr.rkalman(make_problem(case, given.frozen), prior_variance=PRIOR_VARIANCE)
    theta, state, _ = optimizer.step(given.theta, optimizer.init(given.theta), given.x, given.y)
    return theta, state.covariance()


@pytest.mark.parametrize("name", ["gelu-ntk-gaussian", "silu-scales-bernoulli", "relu-nobias-ntk-poisson"])
def test_rkalman_is_the_covariance_form_of_the_extended_kalman_filter(name: str) -> None:
    """``K = P H^T (H P H^T + R)^{-1}`` in the mean of the labels, where grng_ref works in the logits."""
    case, given = CASES[name], data(CASES[name])
    mu, R = mean_of_labels(case), covariance_of_labels(case)
    H, prior = jax.jacrev(mu)(given.theta), PRIOR_VARIANCE * jnp.eye(given.theta.size)
    S = H @ prior @ H.T + R
    K = jnp.linalg.solve(S, H @ prior).T

    def update(innovation_covariance: Any) -> tuple[np.ndarray, np.ndarray]:
        mean = given.theta + K @ (given.y.ravel() - mu(given.theta))
        return np.asarray(mean), np.asarray(prior - K @ innovation_covariance @ K.T)

    limit = tolerance("float64", float(jnp.linalg.cond(S)), terms=given.theta.size)
    assert limit <= PROMISED
    mean, covariance = step_of_rkalman(case)
    expected_mean, expected_covariance = update(S)
    assert_values_close(mean, expected_mean, dtype="float64", rtol=limit)
    assert_values_close(covariance, expected_covariance, dtype="float64", rtol=limit)
    with pytest.raises(AssertionError):  # R forgotten in the downdate
        assert_values_close(covariance, update(S - R)[1], dtype="float64", rtol=limit)


def test_rkalman_is_dynamax_extended_kalman_filter() -> None:
    case = CASES["deep-tanh-ntk-gaussian"]
    given = data(case)
    filters = import_peer("dynamax.nonlinear_gaussian_ssm")
    size, mu, R = given.theta.size, mean_of_labels(case), covariance_of_labels(case)
    boost = 1e-9  # what dynamax adds to the innovation covariance S before it solves with it
    parameters = filters.ParamsNLGSSM(
        initial_mean=jnp.asarray(given.theta),
        initial_covariance=PRIOR_VARIANCE * jnp.eye(size),
        dynamics_function=lambda theta: theta,
        dynamics_covariance=jnp.zeros((size, size)),
        emission_function=mu,
        emission_covariance=R - boost * jnp.eye(R.shape[0]),  # so that the gain is that of R
    )
    filtered = filters.extended_kalman_filter(parameters, jnp.asarray(given.y).reshape(1, -1))
    # Its covariance P - K (S - boost I) K^T is then too large by boost K K^T.
    H = jax.jacrev(mu)(given.theta)
    K = jnp.linalg.solve(PRIOR_VARIANCE * H @ H.T + R, PRIOR_VARIANCE * H).T
    covariance = filtered.filtered_covariances[0] - boost * K @ K.T

    condition = float(jnp.linalg.cond(PRIOR_VARIANCE * H @ H.T + R))
    limit = tolerance("float64", condition, terms=size)
    assert limit <= PROMISED
    found_mean, found_covariance = step_of_rkalman(case)
    assert_values_close(found_mean, filtered.filtered_means[0], dtype="float64", rtol=limit)
    assert_values_close(found_covariance, covariance, dtype="float64", rtol=limit)
    with pytest.raises(AssertionError):  # the limit is below dynamax's own 1e-9
        assert_values_close(found_covariance, filtered.filtered_covariances[0], dtype="float64", rtol=limit)
