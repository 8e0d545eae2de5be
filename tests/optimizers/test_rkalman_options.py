"""R-Kalman's other forgetting, its iterations, evidence and predictions, against formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from networks import LIKELIHOODS, VARIANCE, Network
from scipy.stats import multivariate_normal
from support import Backend, tolerance

import grng_ref as gr
from grng_ref import certified

P0, PHI, NOISE = 0.4, 0.8, 0.05


def after_one_batch(network: Network, **options):
    """The optimizer, theta and state after a first batch, so that the belief is not isotropic."""
    opt = gr.rkalman(network.problem, prior_variance=P0, **options)
    theta, state, _ = opt.step(network.theta, opt.init(network.theta), network.x, network.y)
    return opt, theta, state


def posterior(network: Network, mean, Y):
    """Mean and information after the batch, from those of the prediction, at the predicted mean."""
    n = len(network.x)
    Y = Y + n * gr.fisher(network.problem, mean, network.x).to_dense()
    return mean - n * np.linalg.solve(Y, network.problem.gradient(mean, network.x, network.y)), Y


@pytest.mark.parametrize("noise", [0.0, NOISE])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_forgetting_falls_back_to_the_prior(likelihood, noise):
    """``Y^- = Y' + (1 - phi) I/p0`` and ``mean^- = P^- (Y' theta + (1 - phi) theta_0/p0)``.

    ``Y' = (P/phi + q I)^{-1}``, which is phi Y without noise.
    """
    network = Network("tanh", likelihood)
    options = {"forgetting": PHI, "process_noise": noise, "forgetting_kind": "prior"}
    opt, theta, state = after_one_batch(network, **options)
    assert state.prior_mean is not None
    moved, after, _ = opt.step(theta, state, network.x, network.y)

    def formula(phi, prior_mean):
        unit = np.eye(theta.size)
        plain = np.linalg.inv(state.covariance() / phi + noise * unit)
        Y = plain + (1 - phi) / P0 * unit
        mean = np.linalg.solve(Y, plain @ theta + (1 - phi) / P0 * prior_mean)
        return posterior(network, mean, Y)

    mean, Y = formula(PHI, network.theta)
    limit = tolerance("float64", np.linalg.cond(Y), terms=theta.size)
    np.testing.assert_allclose(moved, mean, rtol=0, atol=limit * np.linalg.norm(mean))
    np.testing.assert_allclose(after.information(), Y, rtol=0, atol=limit * np.linalg.norm(Y))
    for wrong, _ in (formula(PHI, theta), formula(PHI**2, network.theta)):  # negative controls
        assert np.linalg.norm(moved - wrong) > 1e3 * limit * np.linalg.norm(mean)


def test_prior_forgetting_alone_returns_to_the_prior():
    """Data that say nothing, forgotten 200 times: mean and covariance are the prior's again."""
    network = Network("tanh", "gaussian")
    opt, theta, state = after_one_batch(network, forgetting=PHI, forgetting_kind="prior")
    for _ in range(200):
        theta, belief = opt._predict(theta, state)
        state = type(state)(state.step, theta, belief, state.prior_mean)
    np.testing.assert_allclose(theta, network.theta, rtol=0, atol=1e-12)
    np.testing.assert_allclose(state.covariance(), P0 * np.eye(theta.size), rtol=0, atol=1e-12)


def test_the_increment_is_observed_at_the_mean_that_the_prior_has_moved():
    network = Network("tanh", "gaussian")
    increment = 0.3
    options = {"forgetting": PHI, "forgetting_kind": "prior", "information_increment": increment}
    opt, theta, state = after_one_batch(network, **options)
    moved, after, _ = opt.step(theta, state, network.x, network.y)
    unit = np.eye(theta.size)
    Y = PHI * state.information() + (1 - PHI) / P0 * unit
    mean = np.linalg.solve(Y, PHI * state.information() @ theta + (1 - PHI) / P0 * network.theta)
    expected, Y = posterior(network, mean, Y + increment * unit)
    limit = tolerance("float64", np.linalg.cond(Y), terms=theta.size)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=limit * np.linalg.norm(expected))
    np.testing.assert_allclose(after.information(), Y, rtol=0, atol=limit * np.linalg.norm(Y))


def test_a_state_without_a_prior_mean_is_refused_where_it_is_needed():
    network = Network("tanh", "gaussian")
    state = gr.rkalman(network.problem).init(network.theta)
    opt = gr.rkalman(network.problem, forgetting=PHI, forgetting_kind="prior")
    with pytest.raises(ValueError, match="state must hold the prior mean"):
        opt.update(network.theta, state, network.x, network.y)


def test_an_information_increment_bounds_the_wind_up():
    """``Y^- = phi Y + increment I``: no variance beyond ``max(p0, (1 - phi) / increment)``."""
    network = Network("tanh", "categorical")
    increment = 0.3
    opt, theta, state = after_one_batch(network, forgetting=PHI, information_increment=increment)
    moved, after, _ = opt.step(theta, state, network.x, network.y)
    mean, Y = posterior(network, theta, PHI * state.information() + increment * np.eye(theta.size))
    limit = tolerance("float64", np.linalg.cond(Y), terms=theta.size)
    np.testing.assert_allclose(moved, mean, rtol=0, atol=limit * np.linalg.norm(mean))
    np.testing.assert_allclose(after.information(), Y, rtol=0, atol=limit * np.linalg.norm(Y))
    assert theta.size > network.x.shape[0] * 2  # there is a direction that no example reaches

    def largest(**options) -> float:
        opt, theta, state = after_one_batch(network, forgetting=PHI, **options)
        for _ in range(60):
            theta, state, _ = opt.step(theta, state, network.x, network.y)
        return float(np.linalg.eigvalsh(state.covariance())[-1])

    bound = max(P0, (1 - PHI) / increment)
    assert largest(information_increment=increment) <= bound * (1 + 1e-12)
    assert largest() > 1e3 * bound  # negative control: it grows like phi^-k


@pytest.mark.parametrize("rho", [0.0, 0.4])
@pytest.mark.parametrize("regularization", ["implicit", "explicit"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_iterations_are_gauss_newton_steps_from_one_prediction(likelihood, regularization, rho):
    """``theta_{i+1} = theta_i - Y_i^{-1} (N g_i + Y^- (theta_i - theta^-))``, ``Y_i = Y^- + N F_i``."""
    network = Network("tanh", likelihood)
    options = {"rho": rho, "regularization": regularization}
    _, theta, state = after_one_batch(network, **options)
    opt = gr.rkalman(network.problem, iterations=3, **options)
    problem, x, y, n = network.problem, network.x, network.y, len(network.x)
    moved, after, _ = opt.step(theta, state, x, y)
    prior = state.information()
    first = problem.gradient(theta, x, y)

    def formula(count, again):
        point = theta
        for _ in range(count):
            g, H = problem.gradient(point, x, y), problem.hessian(point, x, y)
            base = prior + (
                n * rho * float(first @ first) * np.eye(theta.size) if regularization == "implicit" else 0.0
            )
            Y, v = base + n * gr.fisher(problem, point, x).to_dense(), n * g
            if regularization == "explicit":
                Y, v = Y + n * rho * H @ H, v + n * rho * H @ g
            point = point - np.linalg.solve(Y, v + (0.0 if again else base @ (point - theta)))
        return point, Y

    expected, Y = formula(3, again=False)
    limit = 10 * tolerance("float64", np.linalg.cond(Y), terms=theta.size)  # three solves, each from the last
    np.testing.assert_allclose(moved, expected, rtol=0, atol=limit * np.linalg.norm(expected))
    np.testing.assert_allclose(after.information(), Y, rtol=0, atol=limit * np.linalg.norm(Y))
    # negative controls: one linearisation, and a prior that moves along, which counts the batch three times
    for wrong, _ in (formula(1, again=False), formula(3, again=True)):
        assert np.linalg.norm(moved - wrong) > 1e3 * limit * np.linalg.norm(expected)


def test_iterations_do_not_draw_again():
    """The Monte-Carlo rows of every linearisation are those of the labels in the info."""
    network = Network("tanh", "categorical")
    opt = gr.rkalman(network.problem, iterations=2, kind="monte_carlo", seed=5)
    theta, x, y = network.theta, network.x, network.y
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    again, _, _ = opt.update(theta, opt.init(theta), x, y, samples=info.samples)
    np.testing.assert_array_equal(delta, again)


@pytest.mark.parametrize("belief", ["full", "block_diagonal", "diagonal", "low_rank"])
def test_log_marginal_of_a_linear_gaussian_model_is_the_density_of_the_labels(belief):
    """``log N(y; f, J P J^T + s2 I)``, of the predicted belief; the regularization does not count."""
    network = Network("identity", "gaussian", sizes=(3, 2), num_examples=4)
    opt = gr.rkalman(network.problem, prior_variance=P0, belief=belief, forgetting=PHI, rho=0.3)
    theta, state = network.theta, opt.init(network.theta)
    for batch in (slice(0, 3), slice(2, 4)):
        x, y = network.x[batch], network.y[batch]
        P = state.covariance() / PHI
        J = network.problem.jacobian(theta, x).reshape(-1, theta.size)
        f = network.problem.outputs(theta, x).ravel()

        def density(variance, f=f, J=J, P=P, y=y):
            return multivariate_normal(f, J @ P @ J.T + variance * np.eye(len(f))).logpdf(y.ravel())

        theta, state, info = opt.step(theta, state, x, y)
        assert info.log_marginal == pytest.approx(density(VARIANCE), rel=1e-12)
        assert info.log_marginal != pytest.approx(density(2 * VARIANCE), rel=1e-3)  # negative control


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_log_marginal_is_the_integral_of_the_quadratic_model(likelihood):
    """One parameter: ``log int N(theta) p(y | theta^-) exp(-G d - N F d^2 / 2) dtheta``, by quadrature."""
    network = Network("tanh", likelihood, sizes=(1, 2), bias=False, num_examples=2)
    problem, theta, x, y, n = network.problem, network.theta, network.x, network.y, 2
    opt = gr.rkalman(problem, prior_variance=P0)
    _, _, info = opt.update(theta, opt.init(theta), x, y)
    F, G = n * gr.fisher(problem, theta, x).to_dense(), n * problem.gradient(theta, x, y)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    nodes, weights = np.sqrt(P0) * nodes, weights / np.sqrt(2 * np.pi)
    d = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1)
    exponent = -d @ G - 0.5 * np.einsum("ijk,kl,ijl->ij", d, F, d)
    integral = float(np.einsum("i,j,ij->", weights, weights, np.exp(exponent)))
    expected = float(problem.log_likelihood(theta, x, y)) + np.log(integral)
    assert info.log_marginal == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("prior_variance", [1.0, 1e8, 1e16, 1e20])
@pytest.mark.parametrize("belief", ["full", "block_diagonal", "diagonal", "low_rank"])
def test_log_marginal_keeps_its_digits_beside_a_wide_prior(belief, prior_variance):
    """Against balls; the rows of a softmax are rank-deficient, so `S` is next to singular beyond 1/eps."""
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = gr.rkalman(problem, prior_variance=prior_variance, belief=belief)
    _, _, info = opt.update(theta, opt.init(theta), x, y)
    exact = certified.kalman_enclosure(
        theta,
        problem.outputs(theta, x),
        problem.jacobian(theta, x),
        y,
        likelihood="categorical",
        prior_variance=prior_variance,
        precision=400,
    ).log_marginal_likelihood
    # Every stored row has a few roundings in the null direction of its softmax; P multiplies their squares.
    rows = np.sqrt(len(x)) * problem.score_rows(theta, x)
    stored = (4 * float(np.finfo(float).eps) * np.linalg.norm(rows)) ** 2 * prior_variance
    limits = {"rel": tolerance("float64", terms=theta.size), "abs": stored}
    assert info.log_marginal == pytest.approx(float(exact.midpoint), **limits)
    assert info.log_marginal != pytest.approx(float(exact.midpoint) + 1e-3, **limits)  # negative control


def test_log_marginal_of_a_covariance_that_lost_its_digits_is_none_and_stops_no_step():
    network = Network("tanh", "categorical")
    theta, x, y = network.theta, network.x, network.y
    kept = {}
    for variance in (1.0, 1e12):
        opt = gr.rkalman(network.problem, prior_variance=variance, form="covariance")
        kept[variance] = opt.update(theta, opt.init(theta), x, y)[2].log_marginal
    assert kept[1.0] is not None
    assert kept[1e12] is None


def test_log_marginal_needs_coefficients():
    network = Network("tanh", "categorical")
    opt = gr.rkalman(network.problem, kind="monte_carlo")
    assert opt.update(network.theta, opt.init(network.theta), network.x, network.y)[2].log_marginal is None


@pytest.mark.parametrize("belief", ["full", "block_diagonal", "diagonal", "low_rank"])
def test_predictions_are_outputs_with_their_spread(belief, backend: Backend):
    network = Network("tanh", "categorical")
    problem = gr.asarray(network.problem, backend=backend.library, dtype=backend.dtype, device=backend.device)
    theta, x, y = (backend.asarray(a) for a in (network.theta, network.x, network.y))
    opt = gr.rkalman(problem, prior_variance=P0, belief=belief)
    theta, state, _ = opt.step(theta, opt.init(theta), x, y)
    prediction = opt.predict(theta, state, x)
    backend.assert_close(prediction.mean, backend.to_numpy(problem.outputs(theta, x)))
    J, P = backend.to_numpy(problem.jacobian(theta, x)), backend.to_numpy(state.covariance())
    expected = np.einsum("nkp,pq,nlq->nkl", J, P, J)
    rtol = tolerance(backend.dtype, np.linalg.cond(P), terms=theta.shape[0])
    backend.assert_close(prediction.covariance, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_named_beliefs_are_the_ones_made_by_hand():
    network = Network("tanh", "bernoulli", num_examples=12)  # more rows than the rank
    problem, theta = network.problem, network.theta
    layers = [layer.size for layer in problem.unpack(theta)]
    assert theta.size > 16
    made = {
        "full": gr.full_belief(theta, prior_variance=P0),
        "block_diagonal": gr.block_diagonal_belief(theta, prior_variance=P0, blocks=layers),
        "diagonal": gr.diagonal_belief(theta, prior_variance=P0, projection="covariance"),
        "low_rank": gr.low_rank_belief(theta, prior_variance=P0, rank=16),
    }
    steps = []
    for name, belief in made.items():
        results = []
        for opt in (gr.rkalman(problem, prior_variance=P0, belief=name), gr.rkalman(problem, belief=belief)):
            mean, state, _ = opt.step(theta, opt.init(theta), network.x, network.y)
            results.append((mean, state.covariance()))
        for first, second in zip(*results, strict=True):
            np.testing.assert_array_equal(first, second)
        steps.append(results[0][1])
    for i, first in enumerate(steps):  # they are four different beliefs
        assert all(np.abs(first - second).max() > 1e-6 for second in steps[i + 1 :])


@pytest.mark.parametrize("form", ["information", "square_root_covariance", "covariance", "joseph"])
def test_every_form_gives_the_same_filter(form):
    network = Network("tanh", "categorical")
    options = {"forgetting": PHI, "process_noise": NOISE, "rho": 0.2}
    results = []
    for chosen in ("auto", form):
        opt, theta, state = after_one_batch(network, form=chosen, **options)
        theta, state, info = opt.step(theta, state, network.x, network.y)
        results.append((theta, state.covariance(), np.asarray(info.log_marginal)))
    condition = np.linalg.cond(results[0][1])
    for first, second in zip(*results, strict=True):
        limit = (
            4 * tolerance("float64", condition, terms=theta.size) * np.linalg.norm(first)
        )  # two steps, two filters
        np.testing.assert_allclose(second, first, rtol=0, atol=limit)


def test_explicit_regularization_needs_a_belief_that_takes_the_hessian():
    network = Network("tanh", "categorical")
    for belief in ("diagonal", "low_rank", gr.diagonal_belief(network.theta, prior_variance=1.0)):
        with pytest.raises(ValueError, match="regularization must be 'implicit'"):
            gr.rkalman(network.problem, belief=belief, regularization="explicit", rho=0.1)
    opt = gr.rkalman(network.problem, belief="block_diagonal", regularization="explicit", rho=0.1)
    opt.step(network.theta, opt.init(network.theta), network.x, network.y)


def test_a_state_does_not_follow_a_theta_that_is_changed_in_place():
    """``theta += delta`` is what many a training loop does; the prior mean stays where it was."""
    problem = gr.Problem(gr.MLP((2, 1)), gr.Gaussian(variance=1.0))
    opt = gr.rkalman(problem, forgetting=0.5, forgetting_kind="prior")
    start = np.array([0.5, -1.0, 2.0])
    theta, out_of_place = start.copy(), start.copy()
    state, other = opt.init(theta), opt.init(out_of_place)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, y = rng.standard_normal((2, 2)), rng.standard_normal((2, 1))
        delta, state, _ = opt.update(theta, state, x, y)
        theta += delta
        out_of_place, other, _ = opt.step(out_of_place, other, x, y)
    np.testing.assert_array_equal(state.prior_mean, start)
    np.testing.assert_array_equal(theta, out_of_place)
