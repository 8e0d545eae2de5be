"""The package's filter against this room, which shares no formula with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import tolerance

import grng_ref as gr
from grng_ref.certified import exact_posterior, kalman_enclosure

RATIOS = (1e12, 1e18)


def linear_problem(seed: int, noise: float) -> tuple[np.ndarray, ...]:
    """Mean, rows, targets, and the score rows, coefficients and gradient that the filter takes."""
    rng = np.random.default_rng(seed)
    mean, rows, targets = (rng.standard_normal(shape) for shape in (6, (20, 6), 20))
    B = rows / math.sqrt(20 * noise)
    c = (rows @ mean - targets) / math.sqrt(20 * noise)
    return mean, rows, targets, B, c


def covariance_form(prior_variance: float, rows: np.ndarray, noise: float) -> np.ndarray:
    """The planted error: the filter that subtracts from the covariance, right on paper."""
    P = prior_variance * np.eye(rows.shape[1])
    for row in rows:
        spread = row @ P @ row + noise
        P = P - np.outer(P @ row, row @ P) / spread
    return P


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_linear_gaussian_problems_at_large_ratios(ratio, noise):
    """20 random problems: the covariance is right to 1e-12 where the covariance form has no digit left.

    The root of the information has a condition number of order 10 here (the prior is negligible), so 1e-12
    leaves a factor of 100 above what rounding can do.
    """
    worst_of_the_covariance_form = 0.0
    for seed in range(20):
        mean, rows, targets, B, c = linear_problem(seed, noise)
        exact = exact_posterior(mean, rows, targets, noise_variance=noise, prior_variance=ratio * noise)
        result = gr.kalman_update(
            mean,
            gr.full_belief(mean, prior_variance=ratio * noise),
            B,
            B.T @ c,
            num_examples=20,
            coefficients=c,
        )
        covariance = result.belief.covariance()
        assert exact.relative_error(covariance, "covariance") <= 1e-12
        assert exact.relative_error(result.belief.information(), "information") <= 1e-12
        assert exact.relative_error(result.mean, "mean") <= 1e-12
        balls = kalman_enclosure(
            mean,
            (rows @ mean)[:, None],
            rows[:, None, :],
            targets[:, None],
            likelihood="gaussian",
            variance=noise,
            prior_variance=ratio * noise,
        )
        assert balls.covariance.relative_error_bound(covariance) <= 1e-12
        assert balls.step.relative_error_bound(result.mean - mean) <= 1e-12
        assert balls.covariance.contains(exact.rounded("covariance"))
        planted = exact.relative_error(covariance_form(ratio * noise, rows, noise), "covariance")
        worst_of_the_covariance_form = max(worst_of_the_covariance_form, planted)
    assert worst_of_the_covariance_form > 1e-6


@pytest.mark.parametrize("saturation", [1.0, 35.0, 70.0])
@pytest.mark.parametrize("right_label", [True, False])
@pytest.mark.parametrize("with_coefficients", [True, False])
def test_saturated_softmax(saturation, right_label, with_coefficients):
    """A linear softmax whose outputs are exact: the step, the gradient and the covariance to 1e-10."""
    x = np.array([[1.0, 0.5], [0.5, -1.0]])
    W = saturation * np.array([[1.0, 0.5], [0.0, -0.25], [1 / 64, 0.0], [-1 / 64, 0.25]])
    problem, theta = gr.Problem(gr.MLP((2, 4), bias=False), gr.Categorical()), W.ravel()
    f = problem.outputs(theta, x)
    assert np.array_equal(f, x @ W.T)
    y = np.argmax(f, axis=1) if right_label else np.argmin(f, axis=1)
    B, g = problem.score_rows(theta, x), problem.gradient(theta, x, y)
    coefficients = problem.score_coefficients(theta, x, y) if with_coefficients else None
    start = np.zeros_like(theta)  # the step itself, without the rounding of adding it to theta
    for rho in (0.0, 0.5):
        balls = kalman_enclosure(
            start, f, problem.jacobian(theta, x), y, likelihood="categorical", prior_variance=4.0, rho=rho
        )
        result = gr.kalman_update(
            start,
            gr.full_belief(theta, prior_variance=4.0),
            B,
            g,
            num_examples=2,
            rho=rho,
            coefficients=coefficients,
        )
        assert balls.gradient.relative_error_bound(g) <= 1e-13
        assert balls.step.relative_error_bound(result.mean) <= 1e-10
        assert balls.covariance.relative_error_bound(result.belief.covariance()) <= 1e-10
    p = gr.Categorical().mean(f)
    assert saturation < 70.0 or np.min(p) < 1e-30
    # planted: p - e_y as it is written
    subtracted = p - np.eye(4)[y]
    planted = np.einsum("nk,nkp->p", subtracted, problem.jacobian(theta, x)) / 2
    if right_label and saturation == 70.0:
        assert balls.gradient.relative_error_bound(planted) > 1e-10


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(("rho", "regularization"), [(0.0, "implicit"), (0.6, "implicit"), (0.6, "explicit")])
def test_regularized_update_of_a_network(likelihood, rho, regularization):
    network = Network("tanh", likelihood)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    H = problem.hessian(theta, x, y)
    H = 0.5 * (H + H.T)
    options: dict[str, Any] = {"rho": rho, "regularization": regularization, "hessian": H}
    result = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=0.5),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=len(x),
        **options,
    )
    balls = kalman_enclosure(
        theta,
        problem.outputs(theta, x),
        problem.jacobian(theta, x),
        y,
        likelihood=likelihood,
        variance=network.variance if likelihood == "gaussian" else None,
        prior_variance=0.5,
        **options,
    )
    rtol = tolerance("float64", np.linalg.cond(balls.information.midpoint), terms=theta.size)
    assert rtol < 1e-9
    assert balls.gradient.relative_error_bound(problem.gradient(theta, x, y)) <= 1e-13
    assert balls.information.relative_error_bound(result.belief.information()) <= rtol
    assert balls.covariance.relative_error_bound(result.belief.covariance()) <= rtol
    assert balls.step.relative_error_bound(result.mean - theta) <= rtol
    # planted: the mean of the examples for their sum
    wrong = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=0.5),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=1,
        **options,
    )
    assert balls.step.relative_error_bound(wrong.mean - theta) > 1e-3


def test_predicted_belief_as_prior():
    """A second step: the information matrix of the predicted belief, as it is stored, is the prior."""
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    belief = gr.full_belief(theta, prior_variance=0.5)
    B, g = problem.score_rows(theta, x), problem.gradient(theta, x, y)
    first = gr.kalman_update(theta, belief, B, g, num_examples=len(x))
    predicted = first.belief.predict(noise=0.01, forgetting=0.9)
    B, g = problem.score_rows(first.mean, x), problem.gradient(first.mean, x, y)
    second = gr.kalman_update(first.mean, predicted, B, g, num_examples=len(x))
    f, J = problem.outputs(first.mean, x), problem.jacobian(first.mean, x)
    for form, matrix in (
        ("prior_information", predicted.information()),
        ("prior_covariance", predicted.covariance()),
    ):
        symmetric = (matrix + matrix.T) / 2
        balls = kalman_enclosure(first.mean, f, J, y, likelihood="categorical", **{form: symmetric})
        assert balls.step.relative_error_bound(second.mean - first.mean) <= 1e-11
        assert balls.covariance.relative_error_bound(second.belief.covariance()) <= 1e-11
