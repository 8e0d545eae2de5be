"""The estimator of a Gaussian likelihood's variance: its averages, and no bias where it says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import Backend, tolerance

import grng_ref as gr

pytestmark = pytest.mark.slow

S2 = 0.3


def batches(count: int, seed: int = 0):
    """Errors (N, K) and covariances (N, K, K) of batches of several sizes."""
    rng = np.random.default_rng(seed)
    for t in range(count):
        e = rng.normal(size=(1 + t % 3, 2))
        root = 0.3 * rng.normal(size=(1 + t % 3, 2, 2))
        yield e, root @ root.mT


@pytest.mark.parametrize("phi", [1.0, 0.9, 0.2])
def test_averages_are_those_with_weights_that_add_up_to_one(backend: Backend, phi: float) -> None:
    estimate = None
    for e, covariance in batches(6):
        estimate = gr.update_variance(
            estimate, backend.asarray(e), backend.asarray(covariance), forgetting=phi
        )
    weights = phi ** np.arange(5, -1, -1.0)
    weights /= weights.sum()
    squares = weights @ [np.mean(e**2) for e, _ in batches(6)]
    spread = weights @ [np.mean([np.diag(c) for c in cov]) for _, cov in batches(6)]
    rtol = tolerance(backend.dtype, terms=36)
    assert estimate.squares == pytest.approx(squares, rel=rtol)
    assert estimate.spread == pytest.approx(spread, rel=rtol)
    assert estimate.variance == pytest.approx(squares - spread, rel=rtol * squares / (squares - spread))


def z_value(seed: int, *, forgotten: bool = False, seen: bool = False) -> float:
    """Standardised error of the estimate after 600 batches of a random walk, filtered with the true model.

    The innovations of a Kalman filter are independent Gaussians with the covariance ``S = s2 I + H P H^T``,
    so the mean of a batch's squares has the variance ``2 |S|_F^2 / K^2``. Planted errors: the spread is
    forgotten, or the labels were seen before they were predicted.
    """
    rng = np.random.default_rng([7, seed])
    size, outputs, count, q, p0 = 3, 2, 600, 0.05, 2.0
    theta = math.sqrt(p0) * rng.normal(size=size)
    mean, belief = np.zeros(size), gr.full_belief(np.zeros(size), prior_variance=p0)
    estimate, noise = None, 0.0
    for _ in range(count):
        theta = theta + math.sqrt(q) * rng.normal(size=size)
        H = rng.normal(size=(outputs, size))
        y = H @ theta + math.sqrt(S2) * rng.normal(size=outputs)
        mean, belief = gr.kalman_predict(mean, belief, noise=q)
        e, covariance = y - H @ mean, belief.observed_covariance(H)
        noise += 2.0 * np.sum((covariance + S2 * np.eye(outputs)) ** 2) / outputs**2
        rows = H / math.sqrt(S2)
        belief, step = belief.update(rows, -H.T @ e / S2, targets=e / math.sqrt(S2))
        mean = mean + step
        if seen:
            e, covariance = y - H @ mean, belief.observed_covariance(H)
        estimate = gr.update_variance(estimate, e[None], (0.0 if forgotten else 1.0) * covariance[None])
    return (estimate.squares - estimate.spread - S2) / math.sqrt(noise) * count


SEEDS = range(10)
LIMIT = 3.89
"""|z| of one seed; ten of them raise a false alarm with probability 1e-3."""


def test_it_is_unbiased_on_linear_data() -> None:
    z = np.array([z_value(seed) for seed in SEEDS])
    assert np.max(np.abs(z)) <= LIMIT
    assert abs(z.sum()) / math.sqrt(len(z)) <= 3.29  # all seeds together, 1e-3 again


@pytest.mark.parametrize("planted", ["forgotten", "seen"])
def test_a_planted_bias_is_found(planted: str) -> None:
    z = np.array([z_value(seed, **{planted: True}) for seed in SEEDS[:3]])
    assert np.min(np.abs(z)) > LIMIT


def test_it_goes_with_the_predictions_of_the_filter() -> None:
    """`opt.predict` gives what it takes: the averages are those of a hand-written design."""
    rng = np.random.default_rng(3)
    problem = gr.Problem(gr.MLP((2, 1)), gr.Gaussian(variance=S2))
    opt = gr.rkalman(problem)
    theta = np.zeros(3)
    state, estimate, squares, spreads = opt.init(theta), None, [], []
    for _ in range(5):
        x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 1))
        predicted = opt.predict(theta, state, x)
        estimate = gr.update_variance(estimate, y - predicted.mean, predicted.covariance)
        design = np.concatenate([x, np.ones((4, 1))], axis=1)
        squares.append(np.mean((y[:, 0] - design @ theta) ** 2))
        spreads.append(np.trace(design @ state.covariance() @ design.T) / 4)
        theta, state, _ = opt.step(theta, state, x, y)
    rtol = tolerance("float64", np.linalg.cond(state.covariance()), terms=60)
    assert estimate.squares == pytest.approx(np.mean(squares), rel=rtol)
    assert estimate.spread == pytest.approx(np.mean(spreads), rel=rtol)


def test_no_variance_is_made_up() -> None:
    """The difference is not clipped: the error says both numbers, and the averages go on."""
    estimate = gr.update_variance(None, np.full((1, 1), 0.5), np.full((1, 1, 1), 0.75))
    with pytest.raises(gr.NumericalError, match=r"positive, got .* = 0\.25 - 0\.75"):
        _ = estimate.variance
    later = gr.update_variance(estimate, np.full((1, 1), 2.0), np.full((1, 1, 1), 0.75))
    assert later.variance == 4.25 / 2 - 0.75
    with pytest.raises(gr.NumericalError, match="overflowed"):
        gr.update_variance(None, np.full((1, 1), 1e200), np.full((1, 1, 1), 1.0))


def test_an_estimate_can_be_saved(tmp_path) -> None:
    estimate = gr.update_variance(None, np.ones((2, 1)), np.full((2, 1, 1), 0.5))
    gr.save(tmp_path / "state.npz", estimate)
    assert gr.load(tmp_path / "state.npz") == estimate
