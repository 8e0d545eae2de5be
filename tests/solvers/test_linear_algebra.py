"""The linear algebra below the solvers: LAPACK paths against fallbacks, and the checks that failures need."""

from __future__ import annotations

import math
from fractions import Fraction

import array_api_strict
import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.arrays import linalg
from proofs_check import oracles

EPS = float(np.finfo(float).eps)


def strict(array: np.ndarray):
    return array_api_strict.asarray(array, device=array_api_strict.Device("device1"))


# --- norms ---------------------------------------------------------------------------------------------


@given(
    entries=st.lists(st.floats(-10, 10, allow_nan=False), min_size=1, max_size=6),
    exponent=st.integers(-30, 30),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_norm_at_any_scale(entries, exponent, dtype):
    array = (np.array(entries) * 10.0**exponent).astype(dtype)
    with mpmath.workdps(50):
        exact = float(mpmath.norm([mpmath.mpf(float(value)) for value in array]))
    # entries far below the largest underflow when they are scaled by it, and do not matter then
    assert linalg.norm(array) == pytest.approx(exact, rel=8 * float(np.finfo(dtype).eps), abs=0.0)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e300])
def test_norm_at_the_ends_of_float64(scale):
    array = np.array([3.0, 4.0]) * scale
    exact = math.hypot(*(float(value) for value in array))
    assert linalg.norm(array) == pytest.approx(exact, rel=1e-15, abs=0.0)
    with np.errstate(all="ignore"):
        naive = float(np.sqrt(np.sum(array * array)))
    assert naive != pytest.approx(exact, rel=0.1, abs=0.0)  # negative control: the plain formula fails here


def test_norm_of_special_values(backend: Backend):
    assert linalg.norm(backend.asarray(np.zeros(3))) == 0.0
    assert linalg.norm(backend.asarray(np.array([1.0, np.inf]))) == np.inf
    assert math.isnan(linalg.norm(backend.asarray(np.array([1.0, np.nan]))))


# --- Cholesky ------------------------------------------------------------------------------------------


def spd(n: int, seed: int = 0, condition: float = 10.0) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    matrix = (q * np.geomspace(1.0, 1.0 / condition, n)) @ q.T
    return 0.5 * (matrix + matrix.T)


def test_cholesky_factors_and_says_none(backend: Backend):
    matrix = spd(5)
    factor = linalg.cholesky(backend.asarray(matrix))
    backend.assert_close(factor, np.linalg.cholesky(matrix), rtol=tolerance(backend.dtype, 10.0, terms=5))
    indefinite = matrix - 0.5 * np.eye(5)
    assert linalg.cholesky(backend.asarray(indefinite)) is None
    poisoned = matrix.copy()
    poisoned[2, 2] = np.nan
    assert linalg.cholesky(backend.asarray(poisoned)) is None


def _negative_pivot(factor, matrix):
    factor[:, 3] = -factor[:, 3]
    return factor


def _nan(factor, matrix):
    factor[4, 1] = np.nan
    return factor


def _unfactored_block(factor, matrix):
    """What a routine leaves that stopped at the pivot 3: the matrix itself from there on."""
    factor[3:, 3:] = np.tril(matrix[3:, 3:])
    return factor


def _zero_pivot(factor, matrix):
    factor[5, 5] = 0.0
    return factor


def _one_wrong_digit(factor, matrix):
    factor[4, 2] *= 1 + 1e-6
    return factor


CORRUPTIONS = [_negative_pivot, _nan, _unfactored_block, _zero_pivot, _one_wrong_digit]


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda f: f.__name__.strip("_"))
def test_a_corrupted_factor_is_noticed(corrupt):
    """CuPy returns such factors without raising."""
    matrix = spd(6)
    factor = np.linalg.cholesky(matrix)
    assert linalg.is_cholesky_factor(factor, matrix)
    assert not linalg.is_cholesky_factor(corrupt(factor.copy(), matrix), matrix)


@given(
    n=st.integers(1, 40),
    log_condition=st.floats(0, 14),
    exponent=st.integers(-200, 200),
    seed=st.integers(0, 10**6),
)
def test_the_check_accepts_every_factor_that_lapack_gives(n, log_condition, exponent, seed):
    matrix = spd(n, seed, 10.0**log_condition) * 10.0**exponent
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return
    assert linalg.is_cholesky_factor(factor, matrix)


@given(size=st.integers(2, 12), rank=st.integers(1, 11), seed=st.integers(0, 10**6))
def test_a_singular_matrix_that_roundoff_lets_pass_is_singular(size, rank, seed):
    B = np.random.default_rng(seed).standard_normal((min(rank, size - 1), size))
    matrix = B.T @ B
    factor = linalg.cholesky(matrix)
    if factor is not None:  # about one in ten
        assert linalg.is_singular(factor, linalg.norm(matrix))
    regular = spd(size, seed, 1e8)
    assert not linalg.is_singular(np.linalg.cholesky(regular), linalg.norm(regular))


# --- triangular solves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [None, 1, 3], ids=["vector", "column", "columns"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_triangular_solves(lower, transposed, columns, backend: Backend):
    rng = np.random.default_rng(1)
    n = 5
    full = rng.standard_normal((n, n)) + 3.0 * np.eye(n)
    factor = np.tril(full) if lower else np.triu(full)
    rhs = rng.standard_normal(n if columns is None else (n, columns))
    exact = np.linalg.solve(factor.T if transposed else factor, rhs)
    got = linalg.solve_triangular(
        backend.asarray(factor), backend.asarray(rhs), lower=lower, transposed=transposed
    )
    backend.assert_close(got, exact, rtol=tolerance(backend.dtype, np.linalg.cond(factor), terms=n))
    wrong = np.linalg.solve(factor if transposed else factor.T, rhs)
    with pytest.raises(AssertionError):
        backend.assert_close(got, wrong, rtol=tolerance(backend.dtype, np.linalg.cond(factor), terms=n))


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_triangular_fallback_is_as_stable_as_lapack(lower, transposed):
    """Substitution has a small componentwise backward error at any condition number: here 1e15."""
    rng = np.random.default_rng(2)
    n = 12
    full = np.triu(rng.standard_normal((n, n)), 1) + np.diag(np.geomspace(1.0, 1e-15, n))
    factor = full.T.copy() if lower else full
    rhs = rng.standard_normal(n)
    matrix = factor.T if transposed else factor
    for convert in (np.asarray, strict):
        x = gr.to_numpy(
            linalg.solve_triangular(convert(factor), convert(rhs), lower=lower, transposed=transposed)
        )
        remainder = [
            Fraction(float(b))
            - sum(Fraction(float(t)) * Fraction(float(v)) for t, v in zip(row, x, strict=True))
            for row, b in zip(matrix, rhs, strict=True)
        ]
        sizes = np.abs(matrix) @ np.abs(x) + np.abs(rhs)
        assert max(abs(float(r)) / s for r, s in zip(remainder, sizes, strict=True)) <= n * EPS


def test_a_singular_triangle_is_a_numerical_error(backend: Backend):
    factor = np.triu(np.ones((3, 3)))
    factor[1, 1] = 0.0
    with pytest.raises(gr.NumericalError, match="singular"):
        linalg.solve_triangular(backend.asarray(factor), backend.asarray(np.ones(3)), lower=False)


def test_cholesky_solve(backend: Backend):
    matrix, rhs = spd(6), np.arange(6.0)
    factor = linalg.cholesky(backend.asarray(matrix))
    got = linalg.cholesky_solve(factor, backend.asarray(rhs))
    backend.assert_close(got, np.linalg.solve(matrix, rhs), rtol=tolerance(backend.dtype, 10.0, terms=6))


# --- QR of an appended block -----------------------------------------------------------------------------


@given(n=st.integers(1, 40), m=st.integers(1, 45), seed=st.integers(0, 10**6), exponent=st.integers(-12, 12))
def test_qr_append_is_the_factor_of_the_sum(n, m, seed, exponent):
    """``R^T R = R0^T R0 + rows^T rows``, by LAPACK and by the fallback; beyond LAPACK's block size too."""
    rng = np.random.default_rng(seed)
    factor = np.triu(rng.standard_normal((n, n)))
    rows = rng.standard_normal((m, n)) * 10.0**exponent
    kept = factor.copy(), rows.copy()
    expected = factor.T @ factor + rows.T @ rows
    for convert in (np.asarray, strict):
        updated = gr.to_numpy(linalg.qr_append(convert(factor), convert(rows))[0])
        assert updated.shape == (n, n)
        assert np.all(np.tril(updated, -1) == 0.0)
        # orthogonal transformations: backward error of a few roundings of |[R0; rows]|^2 = tr of the sum
        error = np.abs(updated.T @ updated - expected).max()
        assert error <= tolerance("float64", terms=n + m) * np.trace(expected)
    np.testing.assert_array_equal(factor, kept[0])
    np.testing.assert_array_equal(rows, kept[1])


def test_qr_append_keeps_digits_that_the_normal_equations_lose():
    """R0 = 1e-9 beside rows of order one that are linearly dependent: forming the sum loses R0 altogether."""
    rows = np.ones((3, 2))
    factor = 1e-9 * np.eye(2)
    exact = math.sqrt(1e-18 + 1e-18)  # the information along (1, -1)/sqrt 2 is R0's 1e-18; |R v| = 1e-9
    v = np.array([1.0, -1.0])
    for convert in (np.asarray, strict):
        updated = gr.to_numpy(linalg.qr_append(convert(factor), convert(rows))[0])
        assert np.linalg.norm(updated @ v) == pytest.approx(exact, rel=1e-6, abs=0.0)
    information = factor.T @ factor + rows.T @ rows
    assert v @ information @ v != pytest.approx(exact**2, rel=0.1, abs=0.0)  # negative control


# --- the rest ------------------------------------------------------------------------------------------


def test_small_functions(backend: Backend):
    matrix = np.arange(9.0).reshape(3, 3)
    moved = backend.asarray(matrix)
    backend.assert_close(linalg.transpose(moved), matrix.T, rtol=0.0)
    backend.assert_close(linalg.symmetrize(moved), (matrix + matrix.T) / 2, rtol=0.0)
    backend.assert_close(linalg.add_to_diagonal(moved, 2.5), matrix + 2.5 * np.eye(3), rtol=0.0)
    backend.assert_close(linalg.add_to_diagonal(moved, 0.0), matrix, rtol=0.0)
    backend.assert_close(moved, matrix, rtol=0.0)
    backend.assert_close(linalg.identity(3, moved, 4.0), 4.0 * np.eye(3), rtol=0.0)
    backend.assert_close(linalg.diagonal(moved), np.array([0.0, 4.0, 8.0]), rtol=0.0)
    left, right = matrix[:2], matrix[1:, :2]
    backend.assert_close(
        linalg.kron(backend.asarray(left), backend.asarray(right)), oracles.kronecker(left, right), rtol=0.0
    )


def test_eigh(backend: Backend):
    matrix = spd(6)
    values, vectors = linalg.eigh(backend.asarray(matrix))
    expected = np.geomspace(0.1, 1.0, 6)
    backend.assert_close(values, expected, rtol=tolerance(backend.dtype, terms=6))
    host = gr.to_numpy(vectors).astype(float)
    assert_values_close(
        (host * expected) @ host.T, matrix, dtype=backend.dtype, rtol=tolerance(backend.dtype, terms=6)
    )
    poisoned = matrix.copy()
    poisoned[0, 0] = np.nan
    with pytest.raises(gr.NumericalError):
        linalg.eigh(backend.asarray(poisoned))


def test_scipy_is_the_reference_of_the_numpy_path():
    """The LAPACK path does what scipy.linalg says for the plain problem, bit for bit."""
    matrix, rhs = spd(7), np.ones(7)
    factor = scipy.linalg.cholesky(matrix, lower=True)
    np.testing.assert_array_equal(linalg.cholesky(matrix), factor)
    np.testing.assert_array_equal(
        linalg.solve_triangular(factor, rhs, lower=True),
        scipy.linalg.solve_triangular(factor, rhs, lower=True),
    )
