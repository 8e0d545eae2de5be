"""The full belief against its definitions: exact rationals, high precision, and dense formulas."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rationals import exact_covariance, relative_error
from support import Backend, tolerance

import grng_ref as gr

EPS = float(np.finfo(float).eps)


def textbook_covariance(rows: np.ndarray, prior_variance: float) -> np.ndarray:
    """The covariance form: ``P - P h (h^T P h + 1)^{-1} h^T P``, one observation after the other."""
    P = prior_variance * np.eye(rows.shape[1])
    for h in rows:
        moved = P @ h
        P = P - np.outer(moved, moved) / (h @ moved + 1.0)
    return P


@pytest.mark.parametrize("ratio", [1.0, 1e12, 1e18])
def test_covariance_against_exact_rationals(ratio):
    """6 parameters, 20 observations, P0/R up to 1e18: the covariance form has lost its digits by then."""
    ours, textbook = [], []
    for seed in range(25):
        rows = np.random.default_rng(seed).standard_normal((20, 6))
        exact = exact_covariance(rows, np.full(6, 1.0 / ratio))
        belief = gr.full_belief(np.zeros(6), prior_variance=ratio)
        batch, _ = belief.update(rows, np.zeros(6))
        single = belief
        for row in rows:
            single, _ = single.update(row[None, :], np.zeros(6))
        ours += [relative_error(b.covariance(), exact) for b in (batch, single)]
        textbook.append(relative_error(textbook_covariance(rows, ratio), exact))
    # cond(rows)^2 is near 10 for 20 x 6 normal entries; 40 transformations
    assert max(ours) <= tolerance("float64", 10.0)
    if ratio > 1.0:  # negative control
        assert max(textbook) > 1e-6


@pytest.mark.parametrize("ratio", [1e6, 1e12])
def test_fewer_observations_than_parameters(ratio):
    """In the unobserved directions the information is the prior's alone: the error is eps sqrt(P0/R).

    The rows leave roundoff of size eps there, beside a prior root of size sqrt(R/P0). To form the information
    and invert it loses eps P0/R.
    """
    worst, inverted = 0.0, 0.0
    for seed in range(10):
        rows = np.random.default_rng(seed).standard_normal((4, 6))
        exact = exact_covariance(rows, np.full(6, 1.0 / ratio))
        belief, _ = gr.full_belief(np.zeros(6), prior_variance=ratio).update(rows, np.zeros(6))
        worst = max(worst, relative_error(belief.covariance(), exact))
        inverse = np.linalg.inv(np.eye(6) / ratio + rows.T @ rows)
        inverted = max(inverted, relative_error(inverse, exact))
    assert worst <= 32 * EPS * math.sqrt(ratio)
    assert inverted > 32 * EPS * math.sqrt(ratio)  # negative control


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("precision", [0.0, 0.7])
@pytest.mark.parametrize("m", [1, 3, 9])
def test_update_is_its_definition(m, precision, with_targets, backend: Backend):
    """``Y + rows^T rows + precision I`` and ``-Y^{-1} gradient``; targets: gradient = -rows^T targets."""
    rng = np.random.default_rng(m)
    size = 4
    rows, targets = rng.standard_normal((m, size)), rng.standard_normal(m)
    gradient = -rows.T @ targets if with_targets else rng.standard_normal(size)
    before = gr.full_belief(backend.asarray(np.zeros(size)), prior_variance=2.0)
    posterior, step = before.update(
        backend.asarray(rows),
        backend.asarray(gradient),
        targets=backend.asarray(targets) if with_targets else None,
        precision=precision,
    )
    Y = (0.5 + precision) * np.eye(size) + rows.T @ rows
    rtol = tolerance(backend.dtype, np.linalg.cond(Y), terms=m + size)
    backend.assert_close(posterior.information(), Y, rtol=rtol)
    backend.assert_close(posterior.covariance(), np.linalg.inv(Y), rtol=rtol)
    atol = rtol * np.linalg.norm(rows) * np.linalg.norm(targets)
    backend.assert_close(step, -np.linalg.solve(Y, gradient), rtol=rtol, atol=atol)
    host = backend.to_numpy(posterior.root)
    assert np.all(np.tril(host, -1) == 0.0)
    # negative control: the information before the update used for the step
    old = -np.linalg.solve(0.5 * np.eye(size), gradient)
    with pytest.raises(AssertionError):
        backend.assert_close(step, old, rtol=rtol, atol=atol)


@given(
    size=st.integers(1, 6),
    log_ratio=st.floats(-6, 12),
    noise=st.one_of(st.just(0.0), st.floats(1e-8, 1e4)),
    forgetting=st.floats(0.05, 1.0),
    seed=st.integers(0, 10**6),
)
def test_predict_is_its_definition(size, log_ratio, noise, forgetting, seed):
    """``P / forgetting + noise I`` in 60 digits, for beliefs of any spread."""
    rng = np.random.default_rng(seed)
    scale = 10.0**log_ratio
    root = np.triu(rng.standard_normal((size, size))) + 2.0 * np.eye(size)
    belief = gr.FullBelief(root / math.sqrt(scale))
    predicted = belief.predict(noise=noise, forgetting=forgetting)
    with mpmath.workdps(60):
        R = mpmath.matrix(belief.root.tolist())
        P = (R.T * R) ** -1
        expected = P / mpmath.mpf(forgetting) + mpmath.mpf(noise) * mpmath.eye(size)
        got = mpmath.matrix(predicted.covariance().tolist())
        error = float(mpmath.mnorm(got - expected, "f") / mpmath.mnorm(expected, "f"))
    condition = np.linalg.cond(root) ** 2
    assert error <= tolerance("float64", condition, terms=size)
    if noise == 0.0:
        np.testing.assert_allclose(predicted.root, math.sqrt(forgetting) * belief.root, rtol=1e-15)


def test_predict_on_every_backend_and_its_planted_errors(backend: Backend):
    root = np.array([[2.0, 0.25, -0.375], [0.0, 1.0, 0.125], [0.0, 0.0, 0.5]])
    belief = gr.FullBelief(backend.asarray(root))
    P = np.linalg.inv(root.T @ root)
    rtol = tolerance(backend.dtype, np.linalg.cond(P), terms=3)
    predicted = belief.predict(noise=0.3, forgetting=0.9).covariance()
    backend.assert_close(predicted, P / 0.9 + 0.3 * np.eye(3), rtol=rtol)
    for wrong in (P + 0.3 * np.eye(3), (P + 0.3 * np.eye(3)) / 0.9, 0.9 * P + 0.3 * np.eye(3)):
        with pytest.raises(AssertionError):
            backend.assert_close(predicted, wrong, rtol=rtol)
    backend.assert_close(belief.predict().root, root, rtol=0.0)


def test_batch_sequential_and_permuted_updates_agree():
    """And information only grows: ``Y_new - Y_old`` is positive semidefinite."""
    rng = np.random.default_rng(2)
    rows, targets = rng.standard_normal((7, 4)), rng.standard_normal(7)
    prior = gr.full_belief(np.zeros(4), prior_variance=3.0)
    batch, step = prior.update(rows, -rows.T @ targets, targets=targets)
    for order in ([0, 1, 2, 3, 4, 5, 6], [3, 1, 6, 0, 5, 2, 4]):
        belief, mean = prior, np.zeros(4)
        for i in order:
            residual = targets[i] - rows[i] @ mean
            before = belief.information()
            belief, move = belief.update(rows[i : i + 1], -rows[i] * residual, targets=np.array([residual]))
            mean = mean + move
            growth = np.linalg.eigvalsh(belief.information() - before)
            assert growth[0] >= -1e-13 * growth[-1]
        np.testing.assert_allclose(belief.information(), batch.information(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(mean, step, rtol=0, atol=1e-13)


def test_signs_of_the_root_carry_no_meaning():
    rng = np.random.default_rng(3)
    root = np.triu(rng.standard_normal((3, 3)))
    rows, gradient = rng.standard_normal((2, 3)), rng.standard_normal(3)
    flipped = np.diag([1.0, -1.0, -1.0]) @ root
    one, step_one = gr.FullBelief(root).update(rows, gradient)
    two, step_two = gr.FullBelief(flipped).update(rows, gradient)
    np.testing.assert_allclose(one.information(), two.information(), atol=1e-14)
    np.testing.assert_allclose(step_one, step_two, rtol=1e-11)


def test_full_belief_is_the_isotropic_prior(backend: Backend):
    belief = gr.full_belief(backend.asarray(np.zeros(3)), prior_variance=0.25)
    backend.assert_close(belief.covariance(), 0.25 * np.eye(3))
    backend.assert_close(belief.information(), 4.0 * np.eye(3))
    assert belief.size == 3


@pytest.mark.parametrize("variance", [1e-300, 1e300])
def test_extreme_prior_variances(variance):
    belief = gr.full_belief(np.zeros(2), prior_variance=variance)
    covariance = belief.covariance()
    assert covariance[0, 0] == pytest.approx(variance, rel=1e-14, abs=0.0)
    posterior, step = belief.update(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]))
    expected = 1.0 / (1.0 + 1.0 / variance)
    assert step[0] == pytest.approx(-expected, rel=1e-14, abs=0.0)
    assert posterior.covariance()[1, 1] == pytest.approx(variance, rel=1e-14, abs=0.0)


@pytest.mark.parametrize(("name", "value"), [("prior_variance", 1e100), ("prior_variance", 1e-80)])
def test_a_prior_beyond_the_dtype_is_refused(name, value):
    """Its root, 1e-50 or 1e40, would be zero or infinite in float32."""
    with pytest.raises(ValueError, match=rf"{name} leaves the range of float32"):
        gr.full_belief(np.zeros(2, dtype=np.float32), **{name: value})


@pytest.mark.parametrize(("name", "value"), [("forgetting", 1e-100), ("noise", 1e-80)])
def test_a_prediction_beyond_the_dtype_is_refused(name, value):
    belief = gr.full_belief(np.zeros(2, dtype=np.float32), prior_variance=1.0)
    with pytest.raises(ValueError, match=rf"{name} leaves the range of float32"):
        belief.predict(**{name: value})


def test_wind_up_beyond_the_dtype_is_an_error():
    """A direction that no row reaches, forgotten 4,000 times by 0.5: the covariance would be 2^4000."""

    def forget() -> None:
        belief = gr.full_belief(np.zeros(2), prior_variance=1.0)
        for _ in range(4000):
            belief, _ = belief.predict(forgetting=0.5).update(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]))
            belief.covariance()

    with pytest.raises(gr.NumericalError, match=r"singular|overflowed"):
        forget()


@given(m=st.integers(1, 6), size=st.integers(1, 5), exponent=st.integers(-12, 12), seed=st.integers(0, 10**6))
def test_any_shape_and_scale(m, size, exponent, seed):
    """Information, covariance and step at rows of size 10^exponent beside a unit prior."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((m, size)) * 10.0**exponent
    targets = rng.standard_normal(m)
    belief, step = gr.full_belief(np.zeros(size), prior_variance=1.0).update(
        rows, -rows.T @ targets, targets=targets
    )
    Y = np.eye(size) + rows.T @ rows
    np.testing.assert_allclose(belief.information(), Y, rtol=0, atol=1e-13 * np.linalg.norm(Y))
    with mpmath.workdps(60):
        B, t = mpmath.matrix(rows.tolist()), mpmath.matrix(targets.tolist())
        exact = (mpmath.eye(size) + B.T * B) ** -1 * (B.T * t)
        exact = np.array([float(e) for e in exact])
    # least squares [I; rows]: condition of the stacked matrix, squared where the residual is not small
    stacked = np.vstack([np.eye(size), rows])
    condition = np.linalg.cond(stacked)
    size_of_terms = condition * np.linalg.norm(targets) + np.linalg.norm(exact)
    assert np.linalg.norm(step - exact) <= 64 * EPS * condition * max(1.0, size_of_terms)


def test_the_step_does_not_depend_on_the_layout_of_the_rows():
    rng = np.random.default_rng(4)
    rows, gradient = rng.standard_normal((5, 3)), rng.standard_normal(3)
    belief = gr.full_belief(np.zeros(3), prior_variance=1.0)
    reference = belief.update(rows, gradient)[1]
    for layout in (np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
        np.testing.assert_array_equal(belief.update(layout, gradient)[1], reference)


def test_beliefs_are_immutable():
    rng = np.random.default_rng(5)
    belief = gr.FullBelief(np.triu(rng.standard_normal((3, 3))))
    kept = belief.root.copy()
    belief.predict(noise=0.1, forgetting=0.5)
    belief.update(rng.standard_normal((4, 3)), np.ones(3), precision=1.0)
    np.testing.assert_array_equal(belief.root, kept)
    for a, b in itertools.combinations([belief.predict(), belief], 2):
        np.testing.assert_array_equal(a.root, b.root)
