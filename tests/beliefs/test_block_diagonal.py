"""The block-diagonal belief: joint gain, and every block of the joint posterior covariance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
from rationals import block, exact_covariance, relative_error
from support import Backend, tolerance

import grng_ref as gr

BLOCKS = (2, 1, 3)
SIZE = sum(BLOCKS)
BOUNDS = list(itertools.pairwise(itertools.accumulate(BLOCKS, initial=0)))


def block_diagonal(matrix: np.ndarray) -> np.ndarray:
    return scipy.linalg.block_diag(*[matrix[a:b, a:b] for a, b in BOUNDS])


def prior(like, variance: float = 0.5) -> gr.BlockDiagonalBelief:
    return gr.block_diagonal_belief(like, prior_variance=variance, blocks=BLOCKS)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("precision", [0.0, 0.7])
@pytest.mark.parametrize("m", [0, 1, 4, 9])
def test_update_is_its_definition(m, precision, with_targets, backend: Backend):
    """Step ``-(Y^- + V^T V + p I)^{-1} h``; covariance: the blocks of that inverse. Twice."""
    rng = np.random.default_rng(m)
    belief, P = prior(backend.asarray(np.zeros(SIZE))), 0.5 * np.eye(SIZE)
    for rows, targets in ((rng.standard_normal((m, SIZE)), rng.standard_normal(m)) for _ in range(2)):
        gradient = -rows.T @ targets if with_targets else rng.standard_normal(SIZE)
        belief, step = belief.update(
            backend.asarray(rows),
            backend.asarray(gradient),
            targets=backend.asarray(targets) if with_targets else None,
            precision=precision,
        )
        old = np.linalg.inv(P) + precision * np.eye(SIZE)
        joint = np.linalg.inv(old + rows.T @ rows)
        P = block_diagonal(joint)
        rtol = tolerance(backend.dtype, np.linalg.cond(joint), terms=m + SIZE)
        atol = rtol * (np.linalg.norm(rows) + 1.0) * (np.linalg.norm(targets) + 1.0)
        backend.assert_close(belief.covariance(), P, rtol=rtol)
        backend.assert_close(belief.information(), np.linalg.inv(P), rtol=rtol)
        backend.assert_close(step, -joint @ gradient, rtol=rtol, atol=atol)
        if m == 0:
            continue
        own = np.linalg.inv(block_diagonal(old + rows.T @ rows))
        planted = {
            "own gain for the step": -own @ gradient,
            "the projected covariance for the step": -P @ gradient,
            "the information before the update": -np.linalg.solve(old, gradient),
        }
        for wrong in planted.values():
            with pytest.raises(AssertionError):
                backend.assert_close(step, wrong, rtol=rtol, atol=atol)
        with pytest.raises(AssertionError):  # planted: the blocks of the information, not of the covariance
            backend.assert_close(belief.covariance(), own, rtol=rtol)


def test_prediction_and_observed_covariance(backend: Backend):
    rng = np.random.default_rng(3)
    rows, seen = rng.standard_normal((4, SIZE)), rng.standard_normal((5, SIZE))
    put = backend.asarray
    belief, _ = prior(put(np.zeros(SIZE))).update(put(rows), put(np.zeros(SIZE)))
    P = block_diagonal(np.linalg.inv(2.0 * np.eye(SIZE) + rows.T @ rows))
    rtol = tolerance(backend.dtype, np.linalg.cond(P), terms=SIZE)
    moved = belief.predict(noise=0.2, forgetting=0.8)
    backend.assert_close(moved.covariance(), P / 0.8 + 0.2 * np.eye(SIZE), rtol=rtol)
    for wrong in (P / 0.8, P + 0.2 * np.eye(SIZE), (P + 0.2 * np.eye(SIZE)) / 0.8):
        with pytest.raises(AssertionError):
            backend.assert_close(moved.covariance(), wrong, rtol=rtol)
    backend.assert_close(belief.observed_covariance(put(seen)), seen @ P @ seen.T, rtol=rtol)
    alone = seen[:, :2] @ P[:2, :2] @ seen[:, :2].T
    with pytest.raises(AssertionError):  # planted: one block only
        backend.assert_close(belief.observed_covariance(put(seen)), alone, rtol=rtol)


def test_one_block_is_the_full_belief():
    rng = np.random.default_rng(4)
    one = gr.block_diagonal_belief(np.zeros(SIZE), prior_variance=0.5, blocks=[SIZE])
    full = gr.full_belief(np.zeros(SIZE), prior_variance=0.5)
    for m in (2, 9):
        rows, targets = rng.standard_normal((m, SIZE)), rng.standard_normal(m)
        one, step = one.predict(noise=0.1, forgetting=0.9).update(rows, -rows.T @ targets, targets=targets)
        full, same = full.predict(noise=0.1, forgetting=0.9).update(rows, -rows.T @ targets, targets=targets)
        np.testing.assert_allclose(step, same, rtol=1e-12)
        np.testing.assert_allclose(one.information(), full.information(), rtol=0, atol=1e-13)


def test_explicit_regularization_observes_the_whole_hessian():
    """P + rows observations at once, the joint step of the regularized gradient."""
    rng = np.random.default_rng(5)
    B, c, H, rho, n = (
        rng.standard_normal((3, SIZE)),
        rng.standard_normal(3),
        rng.standard_normal((SIZE,) * 2),
        0.3,
        4,
    )
    H, g = H + H.T, B.T @ c
    result = gr.kalman_update(
        np.zeros(SIZE), prior(np.zeros(SIZE)), B, g,
        num_examples=n, rho=rho, regularization="explicit", hessian=H, coefficients=c,
    )  # fmt: skip
    joint = np.linalg.inv(2.0 * np.eye(SIZE) + n * B.T @ B + n * rho * H @ H)
    np.testing.assert_allclose(result.mean, -n * joint @ (g + rho * H @ g), rtol=1e-11)
    np.testing.assert_allclose(result.belief.covariance(), block_diagonal(joint), rtol=0, atol=1e-14)


# --- digits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1e6, 1e12, 1e18])
@pytest.mark.parametrize("m", [1, 2, 3, 5, 6, 8, 20])
def test_every_block_against_exact_rationals(m, ratio):
    """Every block to its own size. One of one parameter, like a block whose rows have full rank, keeps all
    digits; one with a direction that is not observed keeps those of a full belief, eps sqrt(P0/R).
    """
    for seed in range(5):
        rows = np.random.default_rng([m, seed]).standard_normal((m, SIZE))
        belief = prior(np.zeros(SIZE), ratio)
        exact = exact_covariance(rows, np.diag(belief.information()))
        after, _ = belief.update(rows, np.zeros(SIZE))
        for (first, last), own in zip(BOUNDS, after.blocks, strict=True):
            error = relative_error(own.covariance(), block(exact, first, last))
            # the other blocks leave m - (SIZE - size) directions unexplained
            full_rank = last - first == 1 or m >= SIZE
            # P - size others, of square-ish normal matrices: cond^2 up to 1e4 over these seeds
            bound = tolerance("float64", 1e4) if full_rank else 32 * 2.3e-16 * math.sqrt(ratio)
            assert error <= bound, (seed, first, error)


def test_small_rows_first_would_lose_them():
    """The negative control: a QR factorization that puts the identity above V loses eps sqrt(P0/R)."""
    ratio, lost, kept = 1e18, [], []
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((8, SIZE))
        like = gr.block_diagonal_belief(np.zeros(SIZE), prior_variance=ratio, blocks=[1] * SIZE)
        prior_precision = like.information()[0, 0]
        exact = exact_covariance(rows, np.full(SIZE, prior_precision))
        others = rows[:, 1:].T / math.sqrt(prior_precision)
        wrong_order = np.linalg.qr(np.concatenate([np.eye(8), others]), mode="r")
        own = np.linalg.solve(wrong_order.T, rows[:, 0])
        lost.append(relative_error(1.0 / (prior_precision + own @ own), block(exact, 0, 1)))
        after, _ = like.update(rows, np.zeros(SIZE))
        kept.append(relative_error(after.covariance()[0, 0], block(exact, 0, 1)))
    assert max(lost) > 1e-9
    assert max(kept) <= tolerance("float64", 1e2)


def test_a_block_that_is_singular_to_roundoff_is_an_error():
    """At 1e40 one row of ones leaves a direction of the block to a prior below its roundoff."""
    belief = gr.block_diagonal_belief(np.zeros(3), prior_variance=1e40, blocks=[2, 1])
    with pytest.raises(gr.NumericalError, match="singular"):
        belief.update(np.array([[1.0, 1.0, 0.0]]), np.ones(3))
