"""Newton-Schulz: the square law, the predicted number of steps, honest failures, warm starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, tolerance

from grng_ref.solvers import newton_schulz_inverse, solve_cholesky, solve_newton_schulz


def symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((values.size, values.size)))[0]
    matrix = (q * values) @ q.T
    return 0.5 * (matrix + matrix.T)


def row_sum(matrix: np.ndarray) -> float:
    return float(np.abs(matrix).sum(axis=1).max())


def test_the_error_is_squared_at_every_step():
    """``E_k = (I - M/t)^(2^k)``: its norm from the eigenvalues, until roundoff ends it."""
    values = np.geomspace(1.0, 0.05, 6)
    matrix = symmetric(values)
    start = 1.0 - values / row_sum(matrix)
    for k in range(10):
        result = newton_schulz_inverse(matrix, max_iterations=k)
        expected = float(np.linalg.norm(start ** (2**k)))
        assert result.iterations == k
        # k products of matrices of norm at most 1/0.05
        assert result.residual == pytest.approx(expected, rel=1e-10, abs=tolerance("float64", 20.0, terms=6))
        error = np.eye(6) - matrix @ result.inverse
        assert np.linalg.norm(error) == pytest.approx(result.residual, rel=1e-12)
        linear = float(np.linalg.norm(start ** (k + 1)))  # negative control: a linear rate is told apart
        assert k < 2 or expected < 1e-13 or result.residual != pytest.approx(linear, rel=0.01)


@pytest.mark.parametrize("least", [0.5, 0.1, 1e-2, 1e-4])
@pytest.mark.parametrize("goal", [0.5, 1e-2, 1e-6])
def test_the_number_of_steps_is_the_predicted_one(least, goal):
    """From I/t: ``ceil(log2(ln(1/q) / -ln(1 - lmin/t)))`` steps bring the spectral error to q, no fewer."""
    matrix = symmetric(np.geomspace(1.0, least, 5), seed=1)
    t = row_sum(matrix)
    predicted = math.ceil(math.log2(math.log(1.0 / goal) / -math.log1p(-least / t)))

    def spectral_error(steps: int) -> float:
        found = newton_schulz_inverse(matrix, max_iterations=steps).inverse
        return float(np.linalg.norm(np.eye(5) - matrix @ found, 2))

    slack = 1 + 1e-6
    assert spectral_error(predicted) <= goal * slack
    assert predicted == 0 or spectral_error(predicted - 1) > goal / slack


def test_converges_by_default_and_stays_symmetric(backend: Backend):
    values = np.geomspace(1.0, 1e-2, 7)
    matrix = symmetric(values)
    result = newton_schulz_inverse(backend.asarray(matrix))
    assert result.status == "converged"
    # an inverse is right to the condition number times the rounding of its iteration
    backend.assert_close(result.inverse, np.linalg.inv(matrix), rtol=tolerance(backend.dtype, 100.0, terms=7))
    host = backend.to_numpy(result.inverse)
    np.testing.assert_array_equal(host, host.T)


@pytest.mark.parametrize("exponent", [-30, 0, 30])
def test_any_scale(exponent):
    matrix = symmetric(np.geomspace(1.0, 1e-3, 5)) * 10.0**exponent
    assert newton_schulz_inverse(matrix).status == "converged"


@given(
    negative=st.floats(-1.0, -1e-12),
    others=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=6),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 10**6),
)
def test_an_indefinite_matrix_never_converges(negative, others, exponent, seed):
    matrix = symmetric(np.array([negative, *others]), seed) * 10.0**exponent
    with np.errstate(over="ignore", invalid="ignore"):
        result = newton_schulz_inverse(matrix)
    assert result.status in ("stagnated", "not_finite")
    assert not result.residual <= 1e-8
    v = np.linalg.eigh(matrix)[1][:, 0]  # the solve along the negative direction is refused as well
    with np.errstate(over="ignore", invalid="ignore"):
        assert not solve_newton_schulz(matrix, v, damping=0.0).success


@pytest.mark.parametrize("condition, converges", [(1e2, True), (1e3, True), (1e12, False), (1e15, False)])
def test_stagnation_is_a_status(condition, converges):
    """Spread-out eigenvalues: the residual of a symmetric X ends near eps cond^2, here 2e-10 at 1e3."""
    result = newton_schulz_inverse(symmetric(np.geomspace(1.0, 1.0 / condition, 6)))
    assert result.status == ("converged" if converges else "stagnated")
    assert result.iterations <= 60
    assert np.all(np.isfinite(result.inverse))


@given(log_condition=st.floats(0, 16), size=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_stated_residual_is_the_true_one(log_condition, size, seed):
    matrix = symmetric(np.geomspace(1.0, 10.0**-log_condition, size), seed)
    result = newton_schulz_inverse(matrix)
    error = float(np.linalg.norm(np.eye(size) - matrix @ result.inverse))
    rounding = size * 2.2e-16 * np.linalg.norm(matrix) * np.linalg.norm(result.inverse)
    assert result.residual == pytest.approx(error, rel=1e-10, abs=rounding)
    assert (result.status == "converged") == (result.residual <= 2.0**-26)


def test_zero_and_one_by_one():
    zero = newton_schulz_inverse(np.zeros((3, 3)))
    assert zero.status == "not_positive_definite"
    one = newton_schulz_inverse(np.array([[4.0]]))
    assert one.status == "converged"
    assert one.inverse[0, 0] == 0.25
    assert not solve_newton_schulz(np.zeros((2, 2)), np.ones(2), damping=0.0).success


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ulps", [1, 3])
def test_a_matrix_that_only_roundoff_makes_definite_is_refused(dtype, ulps):
    """Eigenvalues 2 and a few eps, below ``n eps |M|``: Cholesky refuses, and so must this."""
    eps = float(np.finfo(dtype).eps)
    matrix = np.array([[1.0, 1.0 - ulps * eps], [1.0 - ulps * eps, 1.0]], dtype=dtype)
    for v in (np.array([1.0, -1.0], dtype=dtype), np.array([1.0, 0.0], dtype=dtype)):
        assert newton_schulz_inverse(matrix).residual < 1.0  # it is not the iteration that fails
        for solver in (solve_newton_schulz, solve_cholesky):
            for damping in (0.0, 1e-30):
                assert solver(matrix, v, damping=damping).status == "not_positive_definite"
            # a damping above roundoff, or an eigenvalue that is, and both answer
            assert solver(matrix, v, damping=100 * eps).success
            clear = np.array([[1.0, 1.0 - 64 * eps], [1.0 - 64 * eps, 1.0]], dtype=dtype)
            assert solver(clear, v, damping=0.0).success


def test_warm_start_is_used_only_inside_the_unit_ball():
    matrix = symmetric(np.geomspace(1.0, 1e-3, 6))
    cold = newton_schulz_inverse(matrix)
    near = np.linalg.inv(matrix + 1e-4 * np.eye(6))
    assert np.linalg.norm(np.eye(6) - matrix @ near) < 1.0
    warm = newton_schulz_inverse(matrix, start=near)
    assert warm.status == "converged"
    assert 0 < warm.iterations < cold.iterations
    for far in (10.0 * near, -near, np.zeros((6, 6)), np.full((6, 6), np.nan)):
        assert not np.linalg.norm(np.eye(6) - matrix @ far) < 1.0
        ignored = newton_schulz_inverse(matrix, start=far)
        np.testing.assert_array_equal(ignored.inverse, cold.inverse)
        assert ignored.iterations == cold.iterations
    exact = newton_schulz_inverse(matrix, start=cold.inverse)
    assert exact.iterations <= 1
    assert exact.residual <= cold.residual
