"""The regularized Kalman update: gain form, pseudo-observations, RING, and saturated observations."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr
from proofs_check import oracles


def data(rows: int = 5, size: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    B, c = rng.standard_normal((rows, size)), rng.standard_normal(rows)
    H = rng.standard_normal((size, size))
    return B, c, B.T @ c, 0.5 * (H + H.T), rng.standard_normal(size)


@pytest.mark.parametrize("with_coefficients", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("regularization", ["implicit", "explicit"])
def test_update_is_its_definition(regularization, rho, with_coefficients, backend: Backend):
    """``Y + N B^T B + (N rho |g|^2 I or N rho H^2)``; mean ``- Y^{-1} N (g or g + rho H g)``."""
    B, c, g, H, mean = data()
    n, p0 = 3, 0.5
    size = mean.size
    move = [backend.asarray(a) for a in (mean, B, g, H, c)]
    result = gr.kalman_update(
        move[0],
        gr.full_belief(move[0], prior_variance=p0),
        move[1],
        move[2],
        num_examples=n,
        rho=rho,
        regularization=regularization,
        hessian=move[3],
        coefficients=move[4] if with_coefficients else None,
    )
    Y = np.eye(size) / p0 + n * B.T @ B
    if regularization == "implicit":
        Y, v = Y + n * rho * float(g @ g) * np.eye(size), g
    else:
        Y, v = Y + n * rho * H @ H, g + rho * H @ g
    step = -np.linalg.solve(Y, n * v)
    rtol = tolerance(backend.dtype, np.linalg.cond(Y), terms=size + len(B))
    backend.assert_close(result.belief.information(), Y, rtol=rtol)
    atol = rtol * (np.linalg.norm(step) + n * np.linalg.norm(np.linalg.inv(Y), 2) * np.linalg.norm(g))
    backend.assert_close(result.mean, mean + step, rtol=rtol, atol=atol)
    assert result.info.gradient_norm == pytest.approx(np.linalg.norm(g), rel=rtol)
    implicit = regularization == "implicit"
    assert result.info.precision == pytest.approx(n * rho * float(g @ g) if implicit else 0.0, rel=rtol)
    assert result.info.step_norm == pytest.approx(np.linalg.norm(step), rel=rtol + atol)
    # negative controls: means for sums; the regularized gradient left out
    mean_form = mean - np.linalg.solve(np.eye(size) / p0 + B.T @ B, g)
    with pytest.raises(AssertionError):
        backend.assert_close(result.mean, mean_form, rtol=rtol, atol=atol)
    if not implicit and rho > 0.0:
        with pytest.raises(AssertionError):
            backend.assert_close(result.mean, mean - np.linalg.solve(Y, n * g), rtol=rtol, atol=atol)


def gain_form(mean, P, H, innovation, R):
    return oracles.ekf_update(mean, P, H, innovation, R)


def test_regularization_is_the_observation_that_it_claims_to_be():
    """Implicit: theta observed at its own mean with precision N rho |g|^2. Explicit: zero observed where the
    model says sqrt(N rho) g(theta), unit noise, Jacobian sqrt(N rho) H. By the covariance form of the oracle.
    """
    B, c, g, H, mean = data()
    n, p0, rho, size = 3, 0.5, 0.6, 4
    rows, innovation = math.sqrt(n) * B, -math.sqrt(n) * c
    prior = gr.full_belief(mean, prior_variance=p0)
    m1, P1 = gain_form(mean, p0 * np.eye(size), rows, innovation, np.eye(len(B)))
    precision = n * rho * float(g @ g)
    # the pseudo-observation is part of the same batch: theta observed at the predicted mean
    together = np.vstack([rows, np.eye(size)])
    noise = np.diag(np.concatenate([np.ones(len(B)), np.full(size, 1.0 / precision)]))
    m2, P2 = gain_form(mean, p0 * np.eye(size), together, np.concatenate([innovation, np.zeros(size)]), noise)
    implicit = gr.kalman_update(mean, prior, B, g, num_examples=n, rho=rho, coefficients=c)
    np.testing.assert_allclose(implicit.mean, m2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(implicit.belief.covariance(), P2, rtol=0, atol=1e-13)
    root = math.sqrt(n * rho)
    together = np.vstack([rows, root * H])
    m3, P3 = gain_form(
        mean,
        p0 * np.eye(size),
        together,
        np.concatenate([innovation, -root * g]),
        np.eye(len(B) + size),
    )
    explicit = gr.kalman_update(
        mean, prior, B, g, num_examples=n, rho=rho, regularization="explicit", hessian=H, coefficients=c
    )
    np.testing.assert_allclose(explicit.mean, m3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(explicit.belief.covariance(), P3, rtol=0, atol=1e-13)
    for other in (m1, m2):  # negative control
        assert not np.allclose(explicit.mean, other, atol=1e-3)
    assert not np.allclose(implicit.belief.covariance(), P1, atol=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
def test_logit_space_is_the_filter_of_the_observed_mean(likelihood):
    """Ours works on score rows; the oracle observes y with Jacobian dh/dtheta and covariance Cov[y|f]."""
    network = Network("tanh", likelihood, "ntk")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    p0 = 0.3
    H, innovation, R = oracles.mean_space_observation(
        likelihood, network.outputs(theta), network.jacobian, y, network.variance
    )
    mean, P = oracles.ekf_update(theta, p0 * np.eye(theta.size), H, innovation, R)
    result = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=len(x),
        coefficients=problem.score_coefficients(theta, x, y),
    )
    np.testing.assert_allclose(result.mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.belief.covariance(), P, rtol=0, atol=1e-13)
    if likelihood != "gaussian":  # negative control: df/dtheta with the covariance of y
        wrong = oracles.ekf_update(
            theta, p0 * np.eye(theta.size), network.jacobian.reshape(-1, theta.size), innovation, R
        )[0]
        assert not np.allclose(result.mean, wrong, atol=1e-4)


def test_linear_gaussian_model_gives_the_exact_posterior():
    """A linear network: one update is Bayes' rule, in 50 digits."""
    rng = np.random.default_rng(1)
    model, s2, p0 = gr.MLP((3, 1), activation="identity"), 0.2, 5.0
    problem = gr.Problem(model, gr.Gaussian(variance=s2))
    theta, x, y = rng.standard_normal(4), rng.standard_normal((6, 3)), rng.standard_normal((6, 1))
    design = np.hstack([x, np.ones((6, 1))])
    mean, covariance = oracles.linear_gaussian_posterior(
        design, y[:, 0], theta, p0 * np.eye(4), s2, digits=50
    )
    result = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=6,
        coefficients=problem.score_coefficients(theta, x, y),
    )
    np.testing.assert_allclose(result.mean, mean, rtol=1e-12)
    error = np.linalg.norm(result.belief.covariance() - covariance) / np.linalg.norm(covariance)
    assert error <= tolerance("float64", np.linalg.cond(covariance))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("rho", [0.0, 2.0])
def test_one_step_from_the_isotropic_prior_is_ring(likelihood, rho):
    """``P_0 = I/(N lam)``: the mean moves by RING with eta = 1 and damping lam."""
    network = Network("silu", likelihood)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    lam, n = 0.05, len(x)
    B, g = problem.score_rows(theta, x), problem.gradient(theta, x, y)
    c = problem.score_coefficients(theta, x, y)
    direction = gr.ring_direction(B, g, rho=rho, damping=lam, coefficients=c)
    prior = gr.full_belief(theta, prior_variance=1.0 / (n * lam))
    for coefficients in (None, c):
        result = gr.kalman_update(theta, prior, B, g, num_examples=n, rho=rho, coefficients=coefficients)
        np.testing.assert_allclose(
            result.mean, theta - direction, rtol=0, atol=1e-11 * np.linalg.norm(direction)
        )
    assert not np.allclose(result.mean, theta - 0.9 * direction, rtol=1e-6)


# --- saturated softmax -------------------------------------------------------------------------------------


def exact_softmax_update(theta: np.ndarray, x: np.ndarray, y: np.ndarray, classes: int, p0: float):
    """The step, the posterior covariance and the least probability of a linear softmax, in 120 digits."""
    with mpmath.workdps(120):
        _n, d = x.shape
        size = classes * d
        W = mpmath.matrix(theta.reshape(classes, d).tolist())
        Y = mpmath.eye(size) / mpmath.mpf(p0)
        total = mpmath.zeros(size, 1)
        smallest = mpmath.mpf(1)
        for row, label in zip(x, y, strict=True):
            a = mpmath.matrix(row.tolist())
            f = W * a
            weights = [mpmath.exp(value) for value in f]
            p = [w / sum(weights) for w in weights]
            smallest = min([smallest, *p])
            for k in range(classes):
                slope = p[k] - (1 if k == label else 0)
                for i in range(d):
                    total[k * d + i] += slope * a[i]
                for m in range(classes):
                    omega = (p[k] if k == m else 0) - p[k] * p[m]
                    for i in range(d):
                        for j in range(d):
                            Y[k * d + i, m * d + j] += omega * a[i] * a[j]
        P = Y**-1
        step = np.array([float(entry) for entry in -P * total])
        covariance = np.array([[float(P[i, j]) for j in range(size)] for i in range(size)])
        return step, covariance, float(smallest)


@pytest.mark.parametrize("saturation", [1.0, 10.0, 35.0, 70.0])
@pytest.mark.parametrize("right_label", [True, False])
@pytest.mark.parametrize("with_coefficients", [False, True])
def test_saturated_softmax_against_high_precision(saturation, right_label, with_coefficients):
    """Probabilities down to 1e-30: no epsilon, no dropped class, steps right to their own size."""
    classes, d, p0 = 3, 2, 4.0
    x = np.array([[1.0, 0.25], [0.5, -1.0]])
    W = np.array([[1.0, 0.5], [0.0, -0.25], [-0.125, 0.0]]) * saturation
    theta = W.ravel()
    model = gr.MLP((d, classes), bias=False)
    problem = gr.Problem(model, gr.Categorical())
    f = x @ W.T
    y = f.argmax(axis=1) if right_label else f.argmin(axis=1)
    step, covariance, smallest = exact_softmax_update(theta, x, y, classes, p0)
    result = gr.kalman_update(
        np.zeros_like(theta),  # the step itself, without the rounding of adding it to theta
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=len(x),
        coefficients=problem.score_coefficients(theta, x, y) if with_coefficients else None,
    )
    assert saturation < 70.0 or smallest < 1e-30
    # P_0 = 4 I bounds the condition of Y by 4 |Y|, near 10 here
    assert np.linalg.norm(result.mean - step) <= 1e-13 * np.linalg.norm(step)
    error = np.linalg.norm(result.belief.covariance() - covariance) / np.linalg.norm(covariance)
    assert error <= 1e-13
    # negative control: the usual filter, its observation covariance made invertible by an epsilon of 1e-6
    p = np.exp(f - f.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    if saturation >= 10.0:
        n = len(x)
        J = problem.jacobian(theta, x)
        omega = np.array([np.diag(q) - np.outer(q, q) for q in p])
        H = np.einsum("nkm,nmp->nkp", omega, J).reshape(n * classes, -1)
        R = np.zeros((n * classes,) * 2)
        for i in range(n):
            part = slice(i * classes, (i + 1) * classes)
            R[part, part] = omega[i] + 1e-6 * np.eye(classes)
        innovation = (np.eye(classes)[y] - p).ravel()
        wrong, _ = oracles.ekf_update(np.zeros_like(theta), p0 * np.eye(theta.size), H, innovation, R)
        assert np.linalg.norm(wrong - step) > 1e-6 * np.linalg.norm(step)


def test_coefficients_that_do_not_give_the_gradient_are_refused():
    """The step is made from c; a g that does not belong to it would be ignored without a word."""
    belief = gr.full_belief(np.zeros(2), prior_variance=1.0)
    with pytest.raises(ValueError, match=r"coefficients must satisfy g = B\^T c"):
        gr.kalman_update(
            np.zeros(2),
            belief,
            np.eye(2),
            np.array([1.0, 0.0]),
            num_examples=1,
            coefficients=np.array([0.0, 5.0]),
        )
