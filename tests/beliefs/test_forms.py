"""The five forms of the full belief: one Gaussian, five ways to store it, and what each costs in digits."""

from __future__ import annotations

import numpy as np
import pytest
from rationals import exact_covariance, relative_error
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.beliefs import FORMS
from grng_ref.certified import exact_posterior

SIZE = 4
COVARIANCE_FORMS = ("covariance", "joseph", "square_root_covariance")


def belief_of(form: str, like, variance: float = 0.5) -> gr.Belief:
    return gr.full_belief(like, prior_variance=variance, form=form)


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return request.param


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("precision", [0.0, 0.7])
@pytest.mark.parametrize("m", [0, 1, 3, 9])
def test_update_is_its_definition(form, m, precision, with_targets, backend: Backend):
    """``Y + rows^T rows + precision I`` and the new step; twice: the second prior is not isotropic."""
    rng = np.random.default_rng(m)
    belief, Y = belief_of(form, backend.asarray(np.zeros(SIZE))), 2.0 * np.eye(SIZE)
    for rows, targets in ((rng.standard_normal((m, SIZE)), rng.standard_normal(m)) for _ in range(2)):
        gradient = -rows.T @ targets if with_targets else rng.standard_normal(SIZE)
        before = Y
        belief, step = belief.update(
            backend.asarray(rows),
            backend.asarray(gradient),
            targets=backend.asarray(targets) if with_targets else None,
            precision=precision,
        )
        Y = before + precision * np.eye(SIZE) + rows.T @ rows
        # what a covariance form subtracts from is P_0 = I / 2: |P_0| |Y| bounds the loss of digits
        rtol = tolerance(backend.dtype, 2.0 * np.linalg.cond(Y), terms=m + SIZE)
        backend.assert_close(belief.information(), Y, rtol=rtol)
        backend.assert_close(belief.covariance(), np.linalg.inv(Y), rtol=rtol)
        expected = -np.linalg.solve(Y, gradient)
        atol = rtol * (np.linalg.norm(rows) + 1.0) * (np.linalg.norm(targets) + 1.0)
        backend.assert_close(step, expected, rtol=rtol, atol=atol)
        if m == 0:
            continue
        # planted: the step of the information from before the update; a mean for the sum over rows
        with pytest.raises(AssertionError):
            backend.assert_close(step, -np.linalg.solve(before, gradient), rtol=rtol, atol=atol)
        # planted: first-order update of the covariance; Joseph's without K K^T
        P = np.linalg.inv(before + precision * np.eye(SIZE))
        gain = P @ rows.T @ np.linalg.inv(rows @ P @ rows.T + np.eye(m))
        left = np.eye(SIZE) - gain @ rows
        np.testing.assert_allclose(left @ P @ left.T + gain @ gain.T, np.linalg.inv(Y), atol=1e-13)
        for wrong in (P - P @ rows.T @ rows @ P, left @ P @ left.T):
            with pytest.raises(AssertionError):
                backend.assert_close(belief.covariance(), wrong, rtol=rtol)


@pytest.mark.parametrize("noise", ["none", "number", "matrix", "singular"])
def test_predict_is_its_definition(form, noise, backend: Backend):
    """``A P A^T / forgetting + Q`` for a belief that is not isotropic."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((3, SIZE))
    A = np.eye(SIZE) + 0.4 * np.eye(SIZE, k=1) - 0.2 * np.eye(SIZE, k=-2)
    half = rng.standard_normal((SIZE, 2 if noise == "singular" else SIZE))
    Q = {"none": 0.0, "number": 0.3}.get(noise, half @ half.T)
    P = np.linalg.inv(2.0 * np.eye(SIZE) + rows.T @ rows)
    put = backend.asarray
    belief, _ = belief_of(form, put(np.zeros(SIZE))).update(put(rows), put(np.zeros(SIZE)))
    given = put(Q) if np.ndim(Q) else Q
    moved = belief.predict(transition=put(A), offset=put(np.ones(SIZE)), noise=given, forgetting=0.8)
    Q = Q * np.eye(SIZE) if np.ndim(Q) == 0 else Q
    expected = A @ P @ A.T / 0.8 + Q
    condition = np.linalg.cond(A) ** 2 * np.linalg.cond(expected) * np.linalg.cond(P)
    rtol = tolerance(backend.dtype, min(condition, 1e3), terms=SIZE)
    backend.assert_close(moved.covariance(), expected, rtol=rtol)
    planted = {
        "A^T P A": A.T @ P @ A / 0.8 + Q,
        "the noise before the motion": A @ (P + Q) @ A.T / 0.8,
        "forgetting on the other side": 0.8 * A @ P @ A.T + Q,
        "the noise forgotten": (A @ P @ A.T + Q) / 0.8,
        "no noise": A @ P @ A.T / 0.8,
    }
    for name, wrong in planted.items():
        if np.allclose(wrong, expected, rtol=1e-6):
            assert (noise, "noise" in name) == ("none", True)
            continue
        with pytest.raises(AssertionError):
            backend.assert_close(moved.covariance(), wrong, rtol=rtol)
    # without a transition
    backend.assert_close(belief.predict(noise=given, forgetting=0.8).covariance(), P / 0.8 + Q, rtol=rtol)


def test_observed_covariance_is_its_definition(form, backend: Backend):
    rng = np.random.default_rng(6)
    rows, seen = rng.standard_normal((5, SIZE)), rng.standard_normal((3, SIZE))
    put = backend.asarray
    belief, _ = belief_of(form, put(np.zeros(SIZE))).update(put(rows), put(np.zeros(SIZE)))
    Y = 2.0 * np.eye(SIZE) + rows.T @ rows
    rtol = tolerance(backend.dtype, 2.0 * np.linalg.cond(Y), terms=SIZE)
    spread = belief.observed_covariance(put(seen))
    backend.assert_close(spread, seen @ np.linalg.solve(Y, seen.T), rtol=rtol)
    with pytest.raises(AssertionError):  # planted: the prior's
        backend.assert_close(spread, 0.5 * seen @ seen.T, rtol=rtol)


# --- digits ------------------------------------------------------------------------------------------------


def errors(form: str, ratio: float) -> np.ndarray:
    """Relative covariance errors over 20 problems of 6 parameters and 20 observations; inf for an error."""
    found = []
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((20, 6))
        exact = exact_covariance(rows, np.full(6, 1.0 / ratio))
        try:
            belief, _ = belief_of(form, np.zeros(6), ratio).update(rows, np.zeros(6))
            found.append(relative_error(belief.covariance(), exact))
        except gr.NumericalError:
            found.append(np.inf)
    return np.array(found)


@pytest.mark.parametrize("ratio", [1.0, 1e12, 1e18])
@pytest.mark.parametrize("form", ["square_root_information", "information", "auto"])
def test_information_forms_keep_their_digits(form, ratio):
    # cond(rows)^2 is near 10 for 20 x 6 normal entries
    assert errors(form, ratio).max() <= tolerance("float64", 10.0, terms=20)


@pytest.mark.parametrize("ratio", [1.0, 1e6, 1e12, 1e18, 1e24])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_default_form_keeps_the_digits_of_what_was_not_observed(batch, ratio):
    """Three observations of six parameters: the covariance is that of the prior in three directions."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows, targets = rng.standard_normal((3, 6)), rng.standard_normal(3)
        exact = exact_posterior(np.zeros(6), rows, targets, noise_variance=1.0, prior_variance=ratio)
        belief, mean = belief_of("auto", np.zeros(6), ratio), np.zeros(6)
        for start in range(0, 3, batch):
            seen = rows[start : start + batch]
            left = targets[start : start + batch] - seen @ mean
            belief, step = belief.update(seen, -seen.T @ left, targets=left)
            mean = mean + step
        # without exchanges of columns a row grows by the size of another one beside its pivot: 100 for these
        allowed = tolerance("float64", 100.0 * np.linalg.cond(rows), terms=6)
        assert exact.relative_error(belief.covariance(), "covariance") <= allowed
        assert exact.relative_error(mean, "mean") <= allowed


@pytest.mark.parametrize("form", COVARIANCE_FORMS)
def test_covariance_forms_lose_them(form):
    """The negative control: the loss grows like P0/R, and like its root for a root."""
    assert errors(form, 1.0).max() <= tolerance("float64", 10.0, terms=20)
    rate = 0.5 if form == "square_root_covariance" else 1.0
    worst = errors(form, 1e12).max()
    assert worst > 1e-19 * 1e12**rate
    assert worst > tolerance("float64", 10.0, terms=20)


@pytest.mark.parametrize("form", ["covariance", "joseph"])
def test_a_covariance_that_is_none_any_more_is_an_error(form):
    """At P0/R = 1e18 three of six directions are known to 1e18 eps at best, and their variance is near 1."""
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((3, 6))
        belief, _ = belief_of(form, np.zeros(6), 1e18).update(rows, np.zeros(6))
        with pytest.raises(gr.NumericalError, match="lost its digits"):
            belief.information()


def test_small_units_are_not_roundoff():
    """Variances of 1e-40 beside 1: every parameter has digits of its own."""
    P = np.array([[1e-40, 0.5e-20], [0.5e-20, 1.0]])
    made = type(belief_of("covariance", np.zeros(2)))(P)
    scale = np.diag([1e20, 1.0])
    expected = scale @ np.linalg.inv([[1.0, 0.5], [0.5, 1.0]]) @ scale
    np.testing.assert_allclose(made.information(), expected, rtol=1e-14)


@pytest.mark.parametrize("form", ["covariance", "joseph"])
def test_an_indefinite_covariance_is_refused_by_an_update(form):
    made = type(belief_of(form, np.zeros(2)))(np.diag([1.0, -4.0]))
    with pytest.raises(gr.NumericalError, match="not positive definite"):
        made.update(np.eye(2), np.ones(2))


def test_the_upper_triangle_of_a_covariance_is_not_read(backend: Backend):
    rng = np.random.default_rng(7)
    P, rows, gradient = np.diag([1.0, 2.0, 3.0]) + 0.5, rng.standard_normal((2, 3)), rng.standard_normal(3)
    put = backend.asarray
    results = []
    for matrix in (P, np.tril(P) + np.triu(np.full((3, 3), 7.0), 1)):
        belief = type(belief_of("covariance", put(np.zeros(3))))(put(matrix))
        after, step = belief.update(put(rows), put(gradient))
        results.append((after.covariance(), step, belief.predict(noise=0.1).covariance()))
    for one, other in zip(*results, strict=True):
        backend.assert_close(one, backend.to_numpy(other), rtol=0.0)


@pytest.mark.parametrize("form", ["square_root_information", "information"])
def test_an_information_that_is_singular_is_refused(form):
    """At 1e40 the prior is below the roundoff of one row of ones."""
    prior = belief_of(form, np.zeros(2), 1e40)
    with pytest.raises(gr.NumericalError, match=r"singular|not positive definite"):
        prior.update(np.ones((1, 2)), np.ones(2))
