"""R-Kalman steps against the formulas written out in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr

P0, PHI, NOISE, RHO = 0.4, 0.9, 0.05, 0.3


def formula(
    problem,
    mean,
    P,
    x,
    y,
    *,
    rho,
    regularization,
    kind="expected",
    samples=None,
    forgetting=PHI,
    noise=NOISE,
):
    """Predict, then update, in dense information form; returns the new mean and covariance."""
    n, size = len(x), mean.size
    predicted = P / forgetting + noise * np.eye(size)
    B = problem.score_rows(mean, x, y, kind=kind, samples=samples)
    g, H = problem.gradient(mean, x, y), problem.hessian(mean, x, y)
    Y = np.linalg.inv(predicted) + n * B.T @ B
    v = g
    if regularization == "implicit":
        Y = Y + n * rho * float(g @ g) * np.eye(size)
    else:
        Y, v = Y + n * rho * H @ H, g + rho * H @ g
    covariance = np.linalg.inv(Y)
    return mean - n * covariance @ v, covariance


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    "regularization, kind",
    list(itertools.product(("implicit", "explicit"), ("expected", "empirical", "monte_carlo"))),
)
def test_steps_are_their_formulas(likelihood, regularization, kind):
    """Three batches in a row: prediction, linearisation at the predicted mean, sums over the examples."""
    network = Network("tanh", likelihood, "ntk", num_examples=3)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = gr.rkalman(
        problem,
        prior_variance=P0,
        forgetting=PHI,
        process_noise=NOISE,
        rho=RHO,
        regularization=regularization,
        kind=kind,
        seed=4,
    )
    state = opt.init(theta)
    np.testing.assert_allclose(
        state.covariance(), P0 * np.eye(theta.size), rtol=0, atol=tolerance("float64") * P0
    )
    mean, P = theta, P0 * np.eye(theta.size)
    rounding = 0.0
    for step in range(3):
        batch = slice(0, 2 + step % 2)
        bx, by = x[batch], y[batch]
        before, prior = theta, (mean, P)
        theta, state, info = opt.step(theta, state, bx, by)
        options = {"rho": RHO, "kind": kind, "samples": info.samples}
        mean, P = formula(problem, *prior, bx, by, regularization=regularization, **options)
        # Each step inverts matrices of the condition of P; the errors of the steps add up, and the next
        # step starts at them.
        rounding += tolerance("float64", np.linalg.cond(P), terms=theta.size)
        sizes = np.linalg.norm(P, 2), np.linalg.norm(np.linalg.inv(P), 2)
        np.testing.assert_allclose(theta, mean, rtol=0, atol=rounding * np.linalg.norm(mean))
        np.testing.assert_array_equal(state.mean, theta)
        np.testing.assert_allclose(state.covariance(), P, rtol=0, atol=rounding * sizes[0])
        np.testing.assert_allclose(state.information(), np.linalg.inv(P), rtol=0, atol=rounding * sizes[1])
        g = problem.gradient(before, bx, by)
        assert info.step == step
        assert state.step == step + 1
        expected = RHO * float(g @ g) if regularization == "implicit" else 0.0
        sums = tolerance("float64", terms=theta.size)
        assert info.damping == pytest.approx(expected, rel=sums)
        # theta - before has the rounding of theta
        assert info.step_norm == pytest.approx(
            np.linalg.norm(theta - before), rel=sums, abs=sums * np.linalg.norm(theta)
        )
        assert info.gradient_norm == pytest.approx(np.linalg.norm(g), rel=sums)
        if kind == "monte_carlo":
            draws = problem.sample(before, bx, rng=np.random.default_rng([4, step]))
            np.testing.assert_array_equal(info.samples, draws)
    # negative controls of the last step, one change each: regularization, forgetting, noise, prior
    other = "explicit" if regularization == "implicit" else "implicit"
    options["regularization"] = regularization
    changes = [{"regularization": other}, {"forgetting": 1.0}, {"noise": 0.0}]
    wrong = [formula(problem, *prior, bx, by, **{**options, **change}) for change in changes]
    wrong.append(formula(problem, prior[0], P, bx, by, **options))
    for wrong_mean, wrong_covariance in wrong:
        assert np.linalg.norm(theta - wrong_mean) > 1e3 * rounding * np.linalg.norm(mean)
        assert np.linalg.norm(state.covariance() - wrong_covariance, 2) > 1e3 * rounding * sizes[0]


def test_without_noise_and_forgetting_the_filter_only_learns():
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = gr.rkalman(problem, prior_variance=2.0)
    state = opt.init(theta)
    for _ in range(4):
        before, at = state.information(), theta
        theta, state, _ = opt.step(theta, state, x, y)
        growth = state.information() - before
        expected = (
            len(x) * gr.fisher(problem, at, x).to_dense()
        )  # a sum over the batch, at the predicted mean
        # a difference: it has the rounding of the larger matrix, formed from its root
        limit = tolerance("float64", terms=theta.size) * np.linalg.norm(state.information())
        np.testing.assert_allclose(growth, expected, rtol=0, atol=limit)
        assert np.linalg.eigvalsh(growth)[0] >= -limit
        later = len(x) * gr.fisher(problem, theta, x).to_dense()  # negative control: at the new mean
        assert not np.allclose(growth, later, rtol=0, atol=1e3 * limit)


@pytest.mark.parametrize("rho", [0.0, 1.5])
def test_first_step_from_the_isotropic_prior_is_ring(rho):
    network = Network("gelu", "poisson")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    lam = 0.03
    filter_ = gr.rkalman(problem, prior_variance=1.0 / (len(x) * lam), rho=rho)
    ring = gr.ring(problem, lr=1.0, rho=rho, damping=lam)
    ours, _, info = filter_.update(theta, filter_.init(theta), x, y)
    reference, _, ring_info = ring.update(theta, ring.init(theta), x, y)
    condition = 1.0 + np.linalg.norm(network.fisher, 2) / lam
    limit = tolerance("float64", condition, terms=theta.size)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=limit * np.linalg.norm(reference))
    sums = tolerance("float64", terms=theta.size)
    assert info.damping + lam == pytest.approx(ring_info.damping, rel=sums)
    doubled = gr.rkalman(problem, prior_variance=2.0 / (len(x) * lam), rho=rho)  # negative control
    assert not np.allclose(doubled.update(theta, doubled.init(theta), x, y)[0], reference, rtol=1e-3)


def test_rho_may_be_a_schedule():
    network = Network("tanh", "gaussian")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = gr.rkalman(problem, rho=lambda step: [0.5, 0.0][step])
    state = opt.init(theta)
    moved, state, info = opt.step(theta, state, x, y)
    assert info.damping > 0.0
    fixed = gr.rkalman(problem, rho=0.5)
    np.testing.assert_array_equal(moved, fixed.step(theta, fixed.init(theta), x, y)[0])
    _, _, info = opt.step(moved, state, x, y)
    assert info.damping == 0.0


def test_updates_are_pure_and_a_belief_may_be_given(backend: Backend):
    network = Network("tanh", "bernoulli")
    problem = gr.asarray(network.problem, backend=backend.library, dtype=backend.dtype, device=backend.device)
    theta, x, y = (backend.asarray(a) for a in (network.theta, network.x, network.y))
    prior = gr.full_belief(theta, prior_variance=P0)
    by_name, by_belief = gr.rkalman(problem, prior_variance=P0), gr.rkalman(problem, belief=prior)
    root = backend.to_numpy(prior.root).copy()
    state = by_belief.init(theta)
    first = by_belief.update(theta, state, x, y)
    second = by_belief.update(theta, state, x, y)
    third = by_name.update(theta, by_name.init(theta), x, y)
    for other in (second, third):
        np.testing.assert_array_equal(backend.to_numpy(first[0]), backend.to_numpy(other[0]))
    np.testing.assert_array_equal(backend.to_numpy(prior.root), root)
    assert state.step == 0
    n = len(network.x)
    Y = np.eye(network.theta.size) / P0 + n * network.fisher
    expected = -n * np.linalg.solve(Y, network.gradients.mean(axis=0))
    rtol = tolerance(backend.dtype, min(np.linalg.cond(Y), 1e3), terms=8)
    backend.assert_close(first[0], expected, rtol=rtol)


def test_an_overflow_carries_the_step_info_and_changes_nothing():
    """float32: N rho |g|^2 beyond its range makes the information infinite."""
    network = Network("tanh", "gaussian")
    problem = network.problem
    theta, x, y = (a.astype(np.float32) for a in (network.theta, network.x, network.y))
    opt = gr.rkalman(problem, prior_variance=1.0, rho=1e70)
    state, kept = opt.init(theta), theta.copy()
    with np.errstate(all="ignore"), pytest.raises(gr.NumericalError, match="step 0") as error:
        opt.step(theta, state, x, y * np.float32(1e8))
    info = error.value.result
    assert isinstance(info, gr.StepInfo)
    assert info.step_norm is None
    assert info.step == 0
    np.testing.assert_array_equal(theta, kept)
    assert state.step == 0


def test_a_stationary_point_stays_and_is_learned():
    network = Network("tanh", "gaussian")
    problem, theta, x = network.problem, network.theta, network.x
    y = problem.outputs(theta, x)
    for regularization in ("implicit", "explicit"):
        opt = gr.rkalman(problem, prior_variance=1.0, rho=2.0, regularization=regularization)
        delta, state, info = opt.update(theta, opt.init(theta), x, y)
        assert np.all(delta == 0.0)
        assert info.damping == 0.0
        assert np.linalg.norm(state.information() - np.eye(theta.size)) > 1e-3


@pytest.mark.parametrize("sizes", [(30, 200, 200, 1), (10, *(6 * (20,)), 1)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_own_gradient_of_one_example_is_accepted(sizes, dtype):
    """One output, one example: a single score row, whose roundoff is not that of the backward pass."""
    problem = gr.Problem(gr.MLP(sizes, activation="tanh"), gr.Poisson())
    opt = gr.rkalman(problem, prior_variance=0.1, belief="diagonal")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        theta = (rng.standard_normal(problem.num_parameters) * 0.3 / max(sizes) ** 0.5).astype(dtype)
        x, y = rng.standard_normal((1, sizes[0])).astype(dtype), np.ones((1, 1), dtype=dtype)
        _, _, info = opt.step(theta, opt.init(theta), x, y)
        assert info.step_norm > 0.0
