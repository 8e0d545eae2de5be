"""Everything that a problem offers, against JAX's autodiff of the network and the loss written down here.

Nothing below calls grng_ref to form an expected value: the network and the losses are the definitions in
plain ``jax.numpy``, the derivatives are JAX's, the output Fisher is the Hessian of the loss in the outputs
(equal for these likelihoods), and the steps are dense solves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support import Backend, assert_values_close, import_peer, tolerance

import grng_ref as gr

pytestmark = pytest.mark.peers

jax = import_peer("jax")
jnp = jax.numpy

PROMISED = 1e-10  # relative error that the project promises against autodiff, in float64
DAMPING, RHO, LR, PRIOR_VARIANCE = 0.3, 0.1, 0.7, 0.5
VARIANCE = 2.5  # of the Gaussian likelihood


@dataclass(frozen=True)
class Case:
    """A network, a likelihood and a number of examples."""

    sizes: tuple[int, ...]
    activation: str
    likelihood: str
    bias: bool = True
    parameterization: str = "standard"
    scales: tuple[float, ...] | None = None
    frozen: tuple[int, ...] = ()
    two_layer: bool = False
    examples: int = 5

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple((d_out, d_in + self.bias) for d_in, d_out in pairwise(self.sizes))

    @property
    def trainable(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.shapes)) if i not in self.frozen)


# Many cases share their shapes, because JAX compiles every operation anew for each shape, which takes long.
CASES = {
    "tanh-categorical": Case((4, 5, 3), "tanh", "categorical"),
    "relu-ntk-categorical": Case((4, 5, 3), "relu", "categorical", parameterization="ntk"),
    "gelu-ntk-gaussian": Case((4, 5, 3), "gelu", "gaussian", parameterization="ntk"),
    "silu-scales-bernoulli": Case((4, 5, 3), "silu", "bernoulli", scales=(0.5, 1.7)),
    "softplus-poisson": Case((4, 5, 3), "softplus", "poisson"),
    "sigmoid-nobias-categorical": Case((4, 5, 3), "sigmoid", "categorical", bias=False),
    "relu-nobias-ntk-poisson": Case((4, 5, 3), "relu", "poisson", bias=False, parameterization="ntk"),
    "gelu-frozen-first-bernoulli": Case((4, 5, 5, 3), "gelu", "bernoulli", frozen=(0,)),
    "silu-frozen-middle-categorical": Case(
        (4, 5, 5, 3), "silu", "categorical", parameterization="ntk", frozen=(1,)
    ),
    "softplus-frozen-ends-gaussian": Case((4, 5, 5, 3), "softplus", "gaussian", frozen=(0, 2)),
    "tanh-frozen-last-poisson": Case((4, 5, 3), "tanh", "poisson", frozen=(1,)),
    "deep-tanh-ntk-gaussian": Case((4, 5, 5, 5, 3), "tanh", "gaussian", parameterization="ntk"),
    "deep-gelu-scales-bernoulli": Case((4, 5, 5, 5, 3), "gelu", "bernoulli", scales=(1.0, 0.8, 1.2, 0.9)),
    "identity-deep-gaussian": Case((4, 5, 5, 3), "identity", "gaussian"),
    "single-layer-categorical": Case((4, 3), "identity", "categorical"),
    "two-layer-tanh-gaussian": Case((4, 5, 1), "tanh", "gaussian", bias=False, frozen=(1,), two_layer=True),
    "two-layer-relu-gaussian": Case((4, 5, 1), "relu", "gaussian", bias=False, frozen=(1,), two_layer=True),
    "one-output-bernoulli": Case((4, 5, 1), "gelu", "bernoulli"),
    "more-rows-than-parameters": Case((2, 2, 3), "sigmoid", "categorical", examples=12),
    "one-example": Case((4, 5, 3), "silu", "poisson", examples=1),
}


ON_NUMPY_ONLY = {
    "softplus-frozen-ends-gaussian",
    "tanh-frozen-last-poisson",
    "single-layer-categorical",
    "one-output-bernoulli",
    "more-rows-than-parameters",
    "one-example",
}
"""Cases of their own shapes, too slow to compile; the others are checked on JAX arrays too."""


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


@dataclass(frozen=True)
class Data:
    """The numbers of a case, on the host."""

    theta: np.ndarray
    frozen: dict[int, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    v: np.ndarray  # a direction (P,)
    u: np.ndarray  # a cotangent (N, K)


@functools.cache
def data(case: Case) -> Data:
    rng = np.random.default_rng(list(CASES.values()).index(case))
    n, k = case.examples, case.sizes[-1]
    layers = [rng.standard_normal(shape) / math.sqrt(shape[1]) for shape in case.shapes]
    if case.two_layer:
        layers[-1] = rng.choice([-1.0, 1.0], layers[-1].shape)
    y = {
        "gaussian": rng.standard_normal((n, k)),
        "categorical": rng.integers(0, k, n),
        "bernoulli": rng.integers(0, 2, (n, k)).astype(float),
        "poisson": rng.poisson(2.0, (n, k)).astype(float),
    }[case.likelihood]
    theta = np.concatenate([layers[i].ravel() for i in case.trainable])
    return Data(
        theta=theta,
        frozen={i: layers[i] for i in case.frozen},
        x=rng.standard_normal((n, case.sizes[0])),
        y=y,
        v=rng.standard_normal(theta.shape),
        u=rng.standard_normal((n, k)),
    )


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


# --- the same quantities by grng_ref ------------------------------------------------------------------------


def make_problem(case: Case, frozen: dict[int, Any]) -> gr.Problem:
    likelihood = {
        "gaussian": gr.Gaussian(VARIANCE),
        "categorical": gr.Categorical(),
        "bernoulli": gr.Bernoulli(),
        "poisson": gr.Poisson(),
    }[case.likelihood]
    if case.two_layer:
        d, m, _ = case.sizes
        return gr.Problem(gr.two_layer(d, m, case.activation, signs=frozen[1][0, :]), likelihood)
    model = gr.MLP(
        case.sizes,
        activation=case.activation,
        bias=case.bias,
        parameterization=case.parameterization,
        scales=case.scales,
        frozen=frozen,
    )
    return gr.Problem(model, likelihood)


def by_hand(case: Case, backend: Backend) -> dict[str, Any]:
    """Every quantity by grng_ref, on arrays of the backend."""
    given = backend.asarray(data(case))
    problem = make_problem(case, given.frozen)
    theta, batch = given.theta, (given.x, given.y)

    B, g = problem.score_rows(theta, given.x), problem.gradient(theta, *batch)
    fisher = gr.fisher(problem, theta, given.x)
    found = {
        "outputs": problem.outputs(theta, given.x),
        "loss": backend.xp.asarray(problem.loss(theta, *batch)),  # NumPy: a scalar for a 0-d array
        "gradient": g,
        "per-example gradients": problem.per_example_gradients(theta, *batch),
        "jacobian": problem.jacobian(theta, given.x),
        "jvp": problem.jvp(theta, given.x, given.v),
        "vjp": problem.vjp(theta, given.x, given.u),
        "hvp": problem.hvp(theta, *batch, given.v),
        "hessian": problem.hessian(theta, *batch),
        "fisher": fisher.to_dense(),
        "fisher times v": fisher @ given.v,
        "ngd direction": gr.natural_direction(B, g, damping=DAMPING),
        "ring direction": gr.ring_direction(
            B, g, rho=RHO, damping=DAMPING, coefficients=problem.score_coefficients(theta, *batch)
        ),
        "reng direction": gr.reng_direction(
            B, g, lambda w: problem.hvp(theta, *batch, w), rho=RHO, damping=DAMPING
        ),
    }
    optimizers = {
        "ngd": gr.ngd(problem, lr=LR, damping=DAMPING),
        "ring": gr.ring(problem, lr=LR, damping=DAMPING, rho=RHO),
        "reng": gr.reng(problem, lr=LR, damping=DAMPING, rho=RHO),
    } | {
        f"{kind} rkalman": gr.rkalman(problem, prior_variance=PRIOR_VARIANCE, rho=RHO, regularization=kind)
        for kind in ("implicit", "explicit")
    }
    for name, optimizer in optimizers.items():
        delta, state, _ = optimizer.update(theta, optimizer.init(theta), *batch)
        found[f"{name} step"] = delta
        if "rkalman" in name:
            found[f"{name} information"] = state.information()
    return found


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
