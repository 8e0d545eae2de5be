"""Predictions by a linear motion: noise matrices, transitions, and what is refused of them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tolerance

import grng_ref as gr
from grng_ref.beliefs import FORMS
from grng_ref.beliefs.motion import Motion

INFORMATION_FORMS = ("square_root_information", "information")


@given(
    size=st.integers(1, 5),
    rank=st.integers(1, 5),
    log_ratio=st.floats(-8, 8),
    forgetting=st.floats(0.05, 1.0),
    seed=st.integers(0, 10**6),
)
def test_square_root_information_against_high_precision(size, rank, log_ratio, forgetting, seed):
    """``A P A^T / phi + C C^T`` in 60 digits: noise of any size beside the spread, of any rank."""
    rng = np.random.default_rng(seed)
    root = np.triu(rng.standard_normal((size, size))) + 2.0 * np.eye(size)
    A = np.linalg.qr(rng.standard_normal((size, size)))[0] + 0.1 * rng.standard_normal((size, size))
    half = 10.0 ** (log_ratio / 2) * rng.standard_normal((size, min(rank, size)))
    Q = half @ half.T
    Q = 0.5 * (Q + Q.T)
    moved = gr.FullBelief(root).predict(transition=A, noise=Q, forgetting=forgetting)
    with mpmath.workdps(60):
        R, T = mpmath.matrix(root.tolist()), mpmath.matrix(A.tolist())
        expected = T * (R.T * R) ** -1 * T.T / mpmath.mpf(forgetting) + mpmath.matrix(Q.tolist())
        got = mpmath.matrix(moved.covariance().tolist())
        error = float(mpmath.mnorm(got - expected, "f") / mpmath.mnorm(expected, "f"))
    # roots, as they are used: the condition numbers of R and A by themselves
    condition = np.linalg.cond(root) ** 2 * np.linalg.cond(A) ** 2
    assert error <= tolerance("float64", condition, terms=size)


@pytest.mark.parametrize("form", FORMS)
def test_a_still_motion_changes_nothing(form):
    belief = gr.full_belief(np.zeros(3), prior_variance=0.7, form=form)
    belief, _ = belief.update(np.array([[1.0, 2.0, -1.0]]), np.zeros(3))
    still = belief.predict(transition=np.eye(3), offset=np.ones(3), noise=np.zeros((3, 3)))
    np.testing.assert_allclose(still.covariance(), belief.covariance(), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "singular",
    [
        np.zeros((3, 3)),
        np.diag([1.0, 0.0, 1.0]),
        np.arange(1.0, 10.0).reshape(3, 3),  # of rank 2, but its elimination leaves a pivot of roundoff
    ],
    ids=["zero", "projection", "rank 2"],
)
def test_a_singular_transition(form, singular):
    """A covariance can follow it; an information would become infinite, and says so."""
    belief = gr.full_belief(np.zeros(3), prior_variance=0.5, form=form)
    if form in (*INFORMATION_FORMS, "auto"):
        with pytest.raises(gr.NumericalError, match="transition is singular"):
            belief.predict(transition=singular, noise=1.0)
    else:
        moved = belief.predict(transition=singular, noise=1.0).covariance()
        np.testing.assert_allclose(moved, 0.5 * singular @ singular.T + np.eye(3), rtol=1e-14)


def test_a_badly_scaled_transition_is_not_singular():
    """Units of 1e-20 beside units of 1: every column has digits of its own."""
    A = np.diag([1e-20, 1.0, 1e20])
    moved = gr.full_belief(np.zeros(3), prior_variance=4.0).predict(transition=A)
    np.testing.assert_allclose(np.diag(moved.covariance()), 4.0 * np.diag(A) ** 2, rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "noise must be symmetric"),
        (np.diag([1.0, -0.1]), "noise must be positive semidefinite, got the eigenvalue -0.1"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "noise must be positive semidefinite, got the eigenvalue -1"),
        (np.eye(3), "noise"),
        (np.full((2, 2), math.nan), "noise must be finite"),
    ],
    ids=["unsymmetric", "negative", "indefinite", "shape", "NaN"],
)
def test_what_is_no_covariance_is_no_noise(form, noise, message):
    belief = gr.full_belief(np.zeros(2), prior_variance=1.0, form=form)
    with pytest.raises(ValueError, match=message):
        belief.predict(noise=noise)


def test_a_noise_matrix_of_roundoff_below_zero_is_taken():
    """``v v^T`` has eigenvalues of -1e-17: it is semidefinite up to its own roundoff."""
    v = np.random.default_rng(0).standard_normal((4, 1))
    Q = v @ v.T
    assert np.linalg.eigvalsh(Q)[0] < 0.0
    moved = gr.full_belief(np.zeros(4), prior_variance=1.0).predict(noise=Q)
    np.testing.assert_allclose(moved.covariance(), np.eye(4) + Q, rtol=0, atol=1e-14)


def test_the_parts_of_a_motion():
    template = np.eye(2)
    number = Motion.checked(template, None, None, 0.25, 0.5)
    np.testing.assert_array_equal(number.noise(template), 0.25 * np.eye(2))
    np.testing.assert_array_equal(number.noise_root(template), 0.5 * np.eye(2))
    np.testing.assert_array_equal(number.moved(np.eye(2)), 2.25 * np.eye(2))
    still = Motion.checked(template, None, None, 0.0, 1.0)
    assert still.is_still
    assert still.noise(template) is None
    assert still.noise_root(template) is None
    Q = np.array([[2.0, 1.0], [1.0, 2.0]])
    matrix = Motion.checked(template, 2.0 * np.eye(2), None, Q, 1.0)
    root = matrix.noise_root(template)
    np.testing.assert_allclose(root @ root.T, Q, rtol=1e-15)
    np.testing.assert_allclose(matrix.moved(np.eye(2)), 4.0 * np.eye(2) + Q, rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_a_full_belief_that_does_not_move_is_itself(form):
    """A filter without noise and forgetting predicts at every step: no copy of P x P numbers for it."""
    belief = gr.full_belief(np.zeros(3), prior_variance=2.0, form=form)
    assert belief.predict() is belief
    assert belief.predict(offset=np.ones(3)) is belief
    for options in ({"noise": 0.5}, {"forgetting": 0.5}, {"transition": 2.0 * np.eye(3)}):
        assert np.all(belief.predict(**options).covariance().diagonal() > 2.0)
