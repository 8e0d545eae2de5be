"""The low-rank belief: information diag(d) + W W^T, truncated by the singular vectors of its columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rationals import exact_covariance, rational, relative_error
from support import Backend, tolerance

import grng_ref as gr

SIZE, RANK = 6, 2


def projected(d: np.ndarray, square: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best rank-r part of W W^T + V^T V by its eigenvectors; the diagonal of the rest joins d."""
    values, vectors = np.linalg.eigh(square)
    kept = (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
    return d + np.diag(square - kept), kept


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("precision", [0.0, 0.7])
@pytest.mark.parametrize("m", [0, 1, 3, 9])
def test_update_is_its_definition(m, precision, with_targets, backend: Backend):
    """The joint step before truncation, and the truncation; three times, so that W is not zero before."""
    rng = np.random.default_rng(m)
    belief = gr.low_rank_belief(backend.asarray(np.zeros(SIZE)), prior_variance=0.5, rank=RANK)
    d, square = np.full(SIZE, 2.0), np.zeros((SIZE, SIZE))
    for _ in range(3):
        rows, targets = rng.standard_normal((m, SIZE)), rng.standard_normal(m)
        gradient = -rows.T @ targets if with_targets else rng.standard_normal(SIZE)
        belief, step = belief.update(
            backend.asarray(rows),
            backend.asarray(gradient),
            targets=backend.asarray(targets) if with_targets else None,
            precision=precision,
        )
        old, before = d, np.diag(d + precision) + square
        joint = before + rows.T @ rows
        d, square = projected(d + precision, square + rows.T @ rows, RANK)
        Y = np.diag(d) + square
        # the gap of the singular values, 0.1 or more here, divides the error of the truncated part
        rtol = tolerance(backend.dtype, 10.0 * np.linalg.cond(joint), terms=m + SIZE)
        size = np.linalg.norm(np.linalg.inv(joint), 2) * np.linalg.norm(gradient)
        atol = tolerance(backend.dtype, np.linalg.cond(joint), terms=m + SIZE) * size
        backend.assert_close(belief.information(), Y, rtol=rtol)
        backend.assert_close(belief.covariance(), np.linalg.inv(Y), rtol=rtol)
        backend.assert_close(step, -np.linalg.solve(joint, gradient), rtol=0.0, atol=atol)
        if m < 3:
            continue
        planted = {"truncated": Y, "before": before}
        for wrong in planted.values():
            with pytest.raises(AssertionError):
                backend.assert_close(step, -np.linalg.solve(wrong, gradient), rtol=0.0, atol=atol)
        with pytest.raises(AssertionError):  # planted: the remainder dropped
            backend.assert_close(belief.information(), np.diag(old + precision) + square, rtol=rtol)
        with pytest.raises(AssertionError):  # planted: no truncation
            backend.assert_close(belief.information(), joint, rtol=rtol)


def test_the_diagonal_of_the_information_is_exact():
    rng = np.random.default_rng(1)
    belief, expected = gr.low_rank_belief(np.zeros(SIZE), prior_variance=0.5, rank=1), np.full(SIZE, 2.0)
    for _ in range(5):
        rows = rng.standard_normal((3, SIZE))
        belief, _ = belief.update(rows, np.zeros(SIZE), precision=0.1)
        expected = expected + 0.1 + np.sum(rows**2, axis=0)
        np.testing.assert_allclose(np.diag(belief.information()), expected, rtol=1e-13)


@given(
    size=st.integers(1, 6),
    rank=st.integers(1, 6),
    noise=st.one_of(st.just(0.0), st.floats(1e-6, 1e4)),
    forgetting=st.floats(0.05, 1.0),
    seed=st.integers(0, 10**6),
)
def test_prediction_is_exact(size, rank, noise, forgetting, seed):
    """``P / phi + q I`` stays diagonal plus rank r: nothing is truncated."""
    rng = np.random.default_rng(seed)
    d, W = rng.uniform(0.5, 2.0, size), rng.standard_normal((size, min(rank, size)))
    belief = gr.LowRankBelief(d, W)
    moved = belief.predict(noise=noise, forgetting=forgetting)
    P = np.linalg.inv(np.diag(d) + W @ W.T)
    expected = P / forgetting + noise * np.eye(size)
    bound = tolerance("float64", np.linalg.cond(P), terms=size)
    assert np.linalg.norm(moved.covariance() - expected) <= bound * np.linalg.norm(expected)
    assert moved.columns.shape == W.shape
    if noise > 1e-3:  # negative controls: no noise; the noise on the diagonal part alone
        alone = np.linalg.inv(np.diag(1.0 / (1.0 / (forgetting * d) + noise)) + forgetting * W @ W.T)
        for wrong in (P / forgetting, alone):
            assert np.linalg.norm(moved.covariance() - wrong) > bound * np.linalg.norm(expected)


def test_prediction_and_observed_covariance_on_every_backend(backend: Backend):
    rng = np.random.default_rng(2)
    d, W, rows = (
        rng.uniform(0.5, 2.0, SIZE),
        rng.standard_normal((SIZE, RANK)),
        rng.standard_normal((4, SIZE)),
    )
    belief = gr.LowRankBelief(backend.asarray(d), backend.asarray(W))
    P = np.linalg.inv(np.diag(d) + W @ W.T)
    rtol = tolerance(backend.dtype, np.linalg.cond(P), terms=SIZE)
    moved = belief.predict(noise=0.3, forgetting=0.9)
    backend.assert_close(moved.covariance(), P / 0.9 + 0.3 * np.eye(SIZE), rtol=rtol)
    spread = belief.observed_covariance(backend.asarray(rows))
    backend.assert_close(spread, rows @ P @ rows.T, rtol=rtol)
    with pytest.raises(AssertionError):  # planted: the diagonal part alone
        backend.assert_close(spread, rows @ np.diag(1 / d) @ rows.T, rtol=rtol)


def test_full_rank_is_the_full_belief():
    """Over a sequence with forgetting and noise, with fewer and more rows than parameters."""
    rng = np.random.default_rng(3)
    low = gr.low_rank_belief(np.zeros(SIZE), prior_variance=0.7, rank=SIZE)
    full = gr.full_belief(np.zeros(SIZE), prior_variance=0.7)
    lower = gr.low_rank_belief(np.zeros(SIZE), prior_variance=0.7, rank=SIZE - 1)
    for m in (2, 9, 1, 4):
        rows, targets = rng.standard_normal((m, SIZE)), rng.standard_normal(m)
        gradient, motion = -rows.T @ targets, {"noise": 0.05, "forgetting": 0.9}
        low, step = low.predict(**motion).update(rows, gradient, targets=targets, precision=0.2)
        full, same = full.predict(**motion).update(rows, gradient, targets=targets, precision=0.2)
        lower, _ = lower.predict(**motion).update(rows, gradient, targets=targets, precision=0.2)
        np.testing.assert_allclose(step, same, rtol=0, atol=1e-13 * np.linalg.norm(same) + 1e-14)
        np.testing.assert_allclose(low.information(), full.information(), rtol=0, atol=1e-12)
    assert not np.allclose(lower.information(), full.information(), atol=1e-3)  # negative control


@pytest.mark.parametrize("ratio", [1e6, 1e12, 1e18])
@pytest.mark.parametrize("m", [2, 9])
def test_steps_and_covariance_against_exact_rationals(m, ratio):
    """At full rank: steps by least squares keep their digits; the covariance those of a full belief."""
    for seed in range(5):
        rng = np.random.default_rng([m, seed])
        rows, targets = rng.standard_normal((m, SIZE)), rng.standard_normal(m)
        belief = gr.low_rank_belief(np.zeros(SIZE), prior_variance=ratio, rank=SIZE)
        exact = exact_covariance(rows, belief.precisions)
        after, step = belief.update(rows, -rows.T @ targets, targets=targets)
        expected = exact * rational(rows).transpose() * rational(targets[:, None])
        assert relative_error(step[:, None], expected) <= tolerance("float64", 1e3)
        lost = 1e3 if m >= SIZE else np.sqrt(ratio)
        assert relative_error(after.covariance(), exact) <= 32 * 2.3e-16 * lost
