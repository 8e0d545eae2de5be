"""NGD, RING and RENG directions on score rows, against the formulas written out densely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Network
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.solvers import ACCEPTED_RESIDUAL, SolveResult, scaled_residual

SHAPES = [(3, 8), (8, 8), (12, 5), (1, 1), (1, 4), (5, 1)]  # rows, P


def system(rows: int, size: int, seed: int = 0):
    """Score rows, coefficients, the gradient ``B^T c``, and a symmetric indefinite Hessian."""
    rng = np.random.default_rng(seed)
    B, c = rng.standard_normal((rows, size)), rng.standard_normal(rows)
    H = rng.standard_normal((size, size))
    return B, c, B.T @ c, 0.5 * (H + H.T)


def dense(B: np.ndarray, v: np.ndarray, damping: float) -> np.ndarray:
    return np.linalg.solve(B.T @ B + damping * np.eye(B.shape[1]), v)


@pytest.mark.parametrize("rows, size", SHAPES[:3])
def test_directions_are_their_formulas(rows, size, backend: Backend):
    B, c, g, H = system(rows, size)
    damping, rho = 0.3, 0.7
    total = damping + rho * float(g @ g)
    v = g + rho * H @ g
    # the data are rounded to the dtype first: the condition of the damped matrix counts
    rtol = tolerance(backend.dtype, np.linalg.cond(B.T @ B + damping * np.eye(size)), terms=size)
    mB, mc, mg, mH = (backend.asarray(a) for a in (B, c, g, H))
    calls = []

    def hvp(u):
        calls.append(u)
        return mH @ u

    expected = dense(B, g, damping)
    for coefficients in (None, mc):
        backend.assert_close(
            gr.natural_direction(mB, mg, damping=damping, coefficients=coefficients), expected, rtol=rtol
        )
        backend.assert_close(
            gr.ring_direction(mB, mg, rho=rho, damping=damping, coefficients=coefficients),
            dense(B, g, total),
            rtol=rtol,
        )
    # g + rho H g may cancel
    atol = rtol * np.linalg.norm(g) * (1 + rho * np.linalg.norm(H)) / damping
    reng = gr.reng_direction(mB, mg, hvp, rho=rho, damping=damping)
    backend.assert_close(reng, dense(B, v, damping), rtol=0.0, atol=atol)
    assert len(calls) == 1
    np.testing.assert_array_equal(backend.to_numpy(calls[0]), backend.to_numpy(mg))
    # negative controls: rho |g| for rho |g|^2; no Hessian; the Hessian for the Fisher
    for wrong in (dense(B, g, damping + rho * float(np.linalg.norm(g))), dense(B, v, damping + 1e-2)):
        with pytest.raises(AssertionError):
            backend.assert_close(gr.ring_direction(mB, mg, rho=rho, damping=damping), wrong, rtol=rtol)
    with pytest.raises(AssertionError):
        backend.assert_close(reng, dense(B, g, damping), rtol=rtol)


@given(
    rows=st.integers(1, 8),
    size=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    damping=st.one_of(st.just(0.0), st.floats(1e-6, 1e3)),
)
def test_rho_zero_is_ngd_to_the_bit(rows, size, seed, damping):
    B, c, g, _ = system(rows, size, seed)

    def never(v):
        raise AssertionError("the Hessian-vector product is not needed at rho = 0")

    try:
        plain = gr.natural_direction(B, g, damping=damping)
    except gr.NumericalError:  # rows of any condition number, undamped: g may leave the numerical range
        assert damping == 0.0
        return
    np.testing.assert_array_equal(gr.ring_direction(B, g, rho=0.0, damping=damping), plain)
    np.testing.assert_array_equal(gr.reng_direction(B, g, never, rho=0.0, damping=damping), plain)
    with_c = gr.natural_direction(B, g, damping=damping, coefficients=c)
    np.testing.assert_array_equal(gr.ring_direction(B, g, rho=0.0, damping=damping, coefficients=c), with_c)


@pytest.mark.parametrize("relative", [1e-12, 1e-10, 1e-6])
@pytest.mark.parametrize("rows, size", [(6, 30), (20, 30)])
def test_near_the_row_space_with_and_without_coefficients(rows, size, relative):
    """Damping 1e-12 |F|, gradients in the row space: both routes have an accepted residual, and agree."""
    B, c, g, _ = system(rows, size, seed=1)
    F = B.T @ B
    a = relative * float(np.linalg.norm(F))
    found = []
    for coefficients in (c, None):
        x = gr.natural_direction(B, g, damping=a, coefficients=coefficients)
        remainder = g - (B.T @ (B @ x) + a * x)
        assert scaled_residual(remainder, x, float(np.linalg.norm(F)) + a) <= ACCEPTED_RESIDUAL
        found.append(x)
    # both nearly the minimum-norm solution; their difference may lie in the null space, times eps |F| / a
    inside = np.linalg.pinv(B) @ B
    difference = inside @ (found[0] - found[1])
    condition = np.linalg.cond(B) ** 2
    assert np.linalg.norm(difference) <= tolerance("float64", condition) * np.linalg.norm(found[0])
    with np.errstate(all="ignore"):  # negative control: the textbook form alone
        naive = (g - B.T @ np.linalg.solve(B @ B.T + a * np.eye(rows), B @ g)) / a
        if relative <= 1e-12:
            remainder = g - (F @ naive + a * naive)
            assert scaled_residual(remainder, naive, float(np.linalg.norm(F)) + a) > 1e2


@given(
    num_examples=st.integers(1, 6),
    size=st.integers(1, 8),
    log_rho=st.floats(-6, 6),
    log_residual=st.floats(-6, 3),
    eta=st.floats(0.01, 2.0),
    seed=st.integers(0, 10**6),
)
def test_step_bounds_of_ring(num_examples, size, log_rho, log_residual, eta, seed):
    """Squared loss, s2 = 1, lam = 0: ``eta min(1/(rho|g|), |r|/s_min, |r|/(2 sqrt(N rho)|g|))``."""
    rng = np.random.default_rng(seed)
    J = rng.standard_normal((num_examples, size))
    r = 10.0**log_residual * rng.standard_normal(num_examples)
    B, c = J / num_examples**0.5, r / num_examples**0.5
    g, rho = J.T @ r / num_examples, 10.0**log_rho
    length, residual = float(np.linalg.norm(g)), float(np.linalg.norm(r))
    if length < 1e-8 * residual:
        return
    bounds = [1.0 / (rho * length), residual / (2.0 * np.sqrt(num_examples * rho) * length)]
    if num_examples <= size:
        bounds.append(residual / float(np.linalg.svd(J, compute_uv=False)[-1]))
    for coefficients in (None, c):
        x = gr.ring_direction(B, g, rho=rho, coefficients=coefficients)
        assert eta * np.linalg.norm(x) <= eta * min(bounds) * (1 + 1e-9)


def test_the_step_bounds_are_attained_and_fail_for_half_the_damping():
    """One parameter, one example: at s^2 = N rho |g|^2 the step is as long as the third bound allows."""
    J, r, n = np.array([[1.0]]), np.array([1.0]), 1
    g = J.T @ r / n
    rho = 1.0
    bound = 1.0 / (2.0 * np.sqrt(n * rho) * 1.0)
    x = gr.ring_direction(J, g, rho=rho)
    assert abs(x[0]) == pytest.approx(bound, rel=1e-12)
    assert abs(gr.ring_direction(J, g, rho=rho / 2)[0]) > bound * 1.1  # negative control


@pytest.mark.parametrize("rows, size", [(8, 5), (3, 6)])
def test_undamped_steps_are_invariant_under_linear_reparameterization(rows, size):
    """theta = T z: ``T delta_z = delta_theta`` for nonsingular F, and ``J delta`` always."""
    B, c, g, _ = system(rows, size)
    T = np.random.default_rng(9).standard_normal((size, size)) + 3 * np.eye(size)
    plain = gr.natural_direction(B, g, damping=0.0, coefficients=c)
    moved = T @ gr.natural_direction(B @ T, T.T @ g, damping=0.0, coefficients=c)
    rtol = 1e3 * tolerance("float64", np.linalg.cond(T) ** 2)
    np.testing.assert_allclose(B @ moved, B @ plain, rtol=0, atol=rtol * np.linalg.norm(B @ plain))
    if rows >= size:
        np.testing.assert_allclose(moved, plain, rtol=0, atol=rtol * np.linalg.norm(plain))
    else:
        assert not np.allclose(moved, plain, rtol=1e-3)
    damped = T @ gr.natural_direction(B @ T, T.T @ g, damping=1.0)  # negative control
    assert not np.allclose(B @ damped, B @ gr.natural_direction(B, g, damping=1.0), rtol=1e-3)


def test_reng_with_the_gauss_newton_hessian():
    """If H = F and lam = 0: ``F^{-1}(g + rho F g) = F^{-1} g + rho g``; with (I + rho F) F it is NGD's."""
    B, _, g, _ = system(9, 5)
    F, rho = B.T @ B, 0.4
    x = gr.reng_direction(B, g, lambda v: F @ v, rho=rho)
    plain = gr.natural_direction(B, g, damping=0.0)
    rtol = 10 * tolerance("float64", np.linalg.cond(F))
    np.testing.assert_allclose(x, plain + rho * g, rtol=0, atol=rtol * np.linalg.norm(x))
    consistent = np.linalg.solve((np.eye(5) + rho * F) @ F, g + rho * F @ g)
    np.testing.assert_allclose(consistent, plain, rtol=0, atol=rtol * np.linalg.norm(plain))


@given(rows=st.integers(1, 6), size=st.integers(1, 6), power=st.integers(-40, 40), seed=st.integers(0, 10**6))
def test_scaling_by_powers_of_two_scales_the_answer_exactly(rows, size, power, seed):
    """B -> sB, g -> sg, damping -> s^2 damping: the direction is divided by s, bit for bit."""
    B, _, g, _ = system(rows, size, seed)
    s = 2.0**power
    plain = gr.natural_direction(B, g, damping=0.25)
    scaled = gr.natural_direction(s * B, s * g, damping=0.25 * s * s)
    np.testing.assert_array_equal(scaled * s, plain)


def test_directions_take_what_a_problem_gives():
    network = Network("silu", "categorical", "ntk", num_examples=4)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    B, c = problem.score_rows(theta, x), problem.score_coefficients(theta, x, y)
    g, H = problem.gradient(theta, x, y), problem.hessian(theta, x, y)
    got = gr.reng_direction(B, g, lambda v: problem.hvp(theta, x, y, v), rho=0.5, damping=0.1)
    expected = np.linalg.solve(network.fisher + 0.1 * np.eye(theta.size), g + 0.5 * H @ g)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * np.linalg.norm(expected))
    got = gr.ring_direction(B, g, rho=0.5, damping=0.1, coefficients=c)
    total = 0.1 + 0.5 * float(g @ g)
    expected = np.linalg.solve(network.fisher + total * np.eye(theta.size), g)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * np.linalg.norm(expected))


# --- stationary points, failures -------------------------------------------------------------------------


@pytest.mark.parametrize("rows, size", SHAPES)
def test_at_a_stationary_point_the_direction_is_zero(rows, size):
    """g = 0, rho > 0, no damping: RING's total damping is 0, and the minimum-norm answer is 0."""
    B, _, _, H = system(rows, size)
    g = np.zeros(size)
    assert np.all(gr.ring_direction(B, g, rho=2.0) == 0.0)
    assert np.all(gr.ring_direction(B, g, rho=2.0, coefficients=np.zeros(rows)) == 0.0)
    assert np.all(gr.reng_direction(B, g, lambda v: H @ v, rho=2.0) == 0.0)


def test_a_failure_carries_its_result():
    B, _, g, _ = system(3, 8)
    outside = g + np.linalg.svd(B)[2][-1]
    with pytest.raises(gr.NumericalError, match="outside_range") as error:
        gr.natural_direction(B, outside, damping=0.0)
    assert isinstance(error.value.result, SolveResult)
    assert not error.value.result.success


def test_overflow_of_the_regularization_is_a_numerical_error():
    """``rho |g|^2`` beyond the largest number; Python's float power would raise an OverflowError."""
    B, _, g, _ = system(3, 8)
    with pytest.raises(gr.NumericalError, match="overflowed"):
        gr.ring_direction(B, 1e200 * g, rho=1.0)
    with pytest.raises(gr.NumericalError, match="overflowed"):
        gr.kalman_update(
            np.zeros(8), gr.full_belief(g, prior_variance=1.0), B, 1e200 * g, num_examples=3, rho=1.0
        )
