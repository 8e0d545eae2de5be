"""The linear algebra that the standard lacks: on every backend against the definition of each quantity.

Factorizations are judged by their backward error, ``|A - L L^T| <= c n eps |A|``, which holds whatever the
condition number; so are triangular solves, row by row.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tolerance

import grng_ref as gr
from grng_ref import NumericalError
from grng_ref.arrays import linalg

SIZE = 7
RNG = np.random.default_rng(8)
SQUARE = RNG.standard_normal((SIZE, SIZE))
SPD = SQUARE @ SQUARE.T + 0.1 * np.eye(SIZE)
INDEFINITE = SPD - 3.0 * np.eye(SIZE)


def backward(backend, terms=SIZE):
    return tolerance(backend.dtype, terms=terms)


def kept(backend, matrix):
    """A host matrix as the backend holds it: rounded to its dtype, in float64."""
    return matrix.astype(backend.dtype).astype(np.float64)


def host(array):
    return np.asarray(gr.to_numpy(array), dtype=np.float64)


def require_small(error, scale, bound):
    assert np.max(np.abs(error)) <= bound * np.max(np.abs(scale)), (np.max(np.abs(error)), bound)


# --- Cholesky ----------------------------------------------------------------------------------------------


def test_cholesky_reproduces_the_matrix(backend):
    factor = linalg.cholesky(backend.asarray(SPD))
    backend.assert_close(factor, np.tril(host(factor)), rtol=0.0)  # right kind; lower triangular exactly
    lower = host(factor)
    assert np.all(np.diag(lower) > 0)
    require_small(lower @ lower.T - kept(backend, SPD), SPD, backward(backend))


@pytest.mark.parametrize(
    "matrix",
    [INDEFINITE, -SPD, np.zeros((3, 3)), np.diag([1.0, 0.0, 1.0]), np.array([[1.0, 2.0], [2.0, 1.0]])],
    ids=["indefinite", "negative", "zero", "semidefinite", "large off-diagonal"],
)
def test_what_is_not_positive_definite_has_no_factor(matrix, backend):
    assert linalg.cholesky(backend.asarray(matrix)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [(0, 0), (SIZE - 1, 0)])
def test_what_is_not_finite_has_no_factor(value, where, backend):
    matrix = SPD.copy()
    matrix[where] = matrix[where[::-1]] = value
    assert linalg.cholesky(backend.asarray(matrix)) is None


def test_a_wrong_factor_is_not_taken_for_one(backend):
    """As CuPy returns it: numbers, and no error, where the matrix is not positive definite."""
    matrix, good = backend.asarray(SPD), np.linalg.cholesky(SPD)
    assert linalg.is_cholesky_factor(backend.asarray(good), matrix)
    wrong = [good * (1 + 0.01 * np.eye(SIZE)), -good, np.where(np.eye(SIZE) > 0, np.nan, good), good + 1e-2]
    for factor in wrong:
        assert not linalg.is_cholesky_factor(backend.asarray(factor), matrix)


# --- triangular solves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("shape", [(SIZE,), (SIZE, 3), (SIZE, 1)])
def test_triangular_solves(lower, transposed, shape, backend):
    triangle = (np.tril if lower else np.triu)(SQUARE) + 3.0 * np.eye(SIZE)
    rhs = RNG.standard_normal(shape)
    solution = linalg.solve_triangular(
        backend.asarray(triangle), backend.asarray(rhs), lower=lower, transposed=transposed
    )
    backend.assert_close(solution, host(solution), rtol=0.0)  # right kind
    assert solution.shape == shape
    matrix = kept(backend, triangle.T if transposed else triangle)
    size = np.abs(matrix) @ np.abs(host(solution)) + np.abs(rhs)
    error = np.abs(matrix @ host(solution) - kept(backend, rhs))
    assert np.all(error <= backward(backend) * size)


def test_cholesky_of_a_shifted_matrix_leaves_the_matrix_alone(backend):
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    held = backend.asarray(matrix)
    factor = host(linalg.cholesky(held, shift=0.25))
    np.testing.assert_allclose(factor @ factor.T, matrix + 0.25 * np.eye(2), rtol=tolerance(backend.dtype))
    np.testing.assert_array_equal(host(held), matrix)
    assert linalg.cholesky(held, shift=-1.0) is None


def test_cholesky_solve(backend):
    factor = linalg.cholesky(backend.asarray(SPD))
    rhs = RNG.standard_normal((SIZE, 2))
    solution = host(linalg.cholesky_solve(factor, backend.asarray(rhs)))
    matrix = kept(backend, SPD)
    scale = np.linalg.norm(matrix) * np.linalg.norm(solution)
    require_small(matrix @ solution - kept(backend, rhs), scale, backward(backend))


# --- eigenvalues -------------------------------------------------------------------------------------------


def test_eigh(backend):
    values, vectors = map(host, linalg.eigh(backend.asarray(INDEFINITE)))
    assert np.all(np.diff(values) >= 0)
    require_small(vectors.T @ vectors - np.eye(SIZE), 1.0, backward(backend))
    rebuilt = vectors @ np.diag(values) @ vectors.T
    require_small(rebuilt - kept(backend, INDEFINITE), np.linalg.norm(INDEFINITE, 2), backward(backend))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_eigh_of_what_is_not_finite(value, backend):
    matrix = SPD.copy()
    matrix[2, 2] = value
    with pytest.raises(NumericalError, match="NaN or infinite"):
        linalg.eigh(backend.asarray(matrix))


def fails_as(kind, real):
    """A backend's decomposition, made not to converge."""

    def svd(matrix, **options):
        if kind == "raises":
            raise np.linalg.LinAlgError("SVD did not converge")
        left, values, right = real(matrix, **options)
        return left, values * math.nan, right

    return svd


@pytest.mark.parametrize("fails", ["", "raises", "gives NaN"])
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 1), (3, 4, 4), (2, 3, 6)])
def test_left_singular_vectors(shape, fails, backend, monkeypatch):
    """Also where the backend's own decomposition does not converge."""
    if fails:
        module = linalg.array_namespace(backend.asarray(SPD)).linalg
        monkeypatch.setattr(module, "svd", fails_as(fails, module.svd))
    matrix = np.random.default_rng(0).standard_normal(shape)
    given = backend.asarray(matrix)
    for full_matrices in (False, True):
        left, values = linalg.left_singular(given, full_matrices=full_matrices)
        assert left.dtype == values.dtype == given.dtype
        left, values = host(left), host(values)
        size = shape[-2] if full_matrices else min(shape[-2:])
        assert left.shape == (*shape[:-1], size)
        assert values.shape == (*shape[:-2], min(shape[-2:]))
        assert np.all(np.diff(values) <= 0)
        turned = np.swapaxes(left, -1, -2)
        require_small(turned @ left - np.eye(size), 1.0, backward(backend))
        square = np.zeros((*shape[:-2], size))
        square[..., : values.shape[-1]] = values**2
        exact = kept(backend, matrix) @ np.swapaxes(kept(backend, matrix), -1, -2)
        rebuilt = (left * square[..., None, :]) @ turned
        require_small(rebuilt - exact, np.linalg.norm(matrix) ** 2, backward(backend))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_left_singular_vectors_of_what_is_not_finite(value, backend):
    matrix = SPD.copy()
    matrix[2, 2] = value
    with pytest.raises(NumericalError, match="NaN or infinite"):
        linalg.left_singular(backend.asarray(matrix))


# --- appended rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, SIZE, 40])
def test_qr_append(rows, backend):
    triangle, new = np.triu(SQUARE), RNG.standard_normal((rows, SIZE))
    held = backend.asarray((triangle, new))
    factor, _ = linalg.qr_append(*held)
    backend.assert_close(factor, np.triu(host(factor)), rtol=0.0)
    triangle, new = kept(backend, triangle), kept(backend, new)
    expected = triangle.T @ triangle + new.T @ new
    require_small(
        host(factor).T @ host(factor) - expected, np.trace(expected), backward(backend, SIZE + rows)
    )
    assert np.array_equal(host(held[0]), triangle)  # neither is overwritten
    assert np.array_equal(host(held[1]), new)


def test_qr_append_does_not_square(backend):
    """``[[1], [e]]`` with e below the square root of eps: forming R^T R would lose e."""
    tiny = 1e-5 if backend.dtype == "float32" else 1e-10
    first = np.array([[1.0, 1.0], [0.0, 0.0]])
    factor = host(linalg.qr_append(backend.asarray(first), backend.asarray(np.array([[0.0, tiny]])))[0])
    assert abs(abs(factor[1, 1]) - tiny) <= tolerance(backend.dtype) * tiny


@pytest.mark.parametrize("rows", [1, 3, SIZE, 40])
def test_qr_append_of_large_rows_keeps_the_small_ones(rows, backend, monkeypatch):
    """Pivots of 1e-8 (1e-3 in float32) beside rows of 1, in panels of several widths, the last one narrower.

    ``Y^{-1}`` is made of what is small: its error is not the small number's share of the large one.
    """
    small = 1e-3 if backend.dtype == "float32" else 1e-8
    triangle = small * (np.triu(SQUARE) + 3 * np.eye(SIZE))
    new, t = RNG.standard_normal((rows, SIZE)), RNG.standard_normal(rows)
    held = backend.asarray((triangle, new, t))
    triangle, new, t = (kept(backend, array) for array in (triangle, new, t))
    stacked = mpmath.matrix(np.concatenate([triangle, new]).tolist())
    with mpmath.workdps(60):
        covariance = (stacked.T * stacked) ** -1
        step = covariance * (mpmath.matrix(new.T.tolist()) * mpmath.matrix(t.tolist()))
        step = np.array([float(entry) for entry in step])
        covariance = np.array(covariance.tolist(), dtype=float)
    # the condition of the rows that decide, once each has a size of its own
    rtol = tolerance(backend.dtype, 100.0, terms=SIZE + rows)
    for width in (1, 4, 64):
        monkeypatch.setattr(linalg, "_PANEL", width)
        (factor, half), (alone, _) = linalg.qr_append(*held), linalg.qr_append(*held[:2])
        for updated in (factor, alone):
            backend.assert_close(updated, np.triu(host(updated)), rtol=0.0)
            inverse = np.linalg.inv(host(updated).astype(np.float64))
            require_small(inverse @ inverse.T - covariance, np.linalg.norm(covariance), rtol)
        inverse = np.linalg.inv(host(factor).astype(np.float64))
        require_small(inverse @ host(half) - step, np.linalg.norm(step), rtol)
    if rows < SIZE and backend.dtype == "float64":  # negative control: the small rows first
        inverse = np.linalg.inv(np.linalg.qr(np.concatenate([triangle, new]))[1])
        assert np.linalg.norm(inverse @ inverse.T - covariance) > 100 * rtol * np.linalg.norm(covariance)


@pytest.mark.parametrize("rows", [0, 1, SIZE, 40])
def test_qr_append_with_targets_is_least_squares(rows, backend):
    """``R x`` for the x of least ``|factor x|^2 + |rows x - t|^2``, whatever the signs of R."""
    triangle = np.triu(SQUARE) + 3 * np.eye(SIZE)
    new, t = RNG.standard_normal((rows, SIZE)), RNG.standard_normal(rows)
    factor, half = linalg.qr_append(*backend.asarray((triangle, new, t)))
    backend.assert_close(half, host(half), rtol=0.0)  # right kind
    triangle, new, t = (kept(backend, a) for a in (triangle, new, t))
    solution = np.linalg.solve(triangle.T @ triangle + new.T @ new, new.T @ t)
    condition = np.linalg.cond(np.concatenate([triangle, new])) ** 2
    found = np.linalg.solve(host(factor), host(half))
    scale = np.linalg.norm(solution) + np.linalg.norm(t)
    require_small(found - solution, scale, tolerance(backend.dtype, condition, terms=SIZE + rows))
    if rows:  # planted: the other sign
        assert np.linalg.norm(found + solution) > np.linalg.norm(solution)


def test_qr_by_size_keeps_small_rows(backend):
    """Rows of 1e-6 to 1e6 (of 1 to 1e3 in float32), the small ones first: every one to its own size."""
    small = 1e-3 if backend.dtype == "float32" else 1e-6
    rows = np.concatenate([small * RNG.standard_normal((SIZE, SIZE)), RNG.standard_normal((3, SIZE)) / small])
    held = backend.asarray(rows)
    basis, triangle = map(host, linalg.qr_by_size(held))
    assert basis.shape == (SIZE + 3, SIZE)
    assert np.all(np.tril(triangle, -1) == 0.0)
    require_small(basis.T @ basis - np.eye(SIZE), 1.0, backward(backend))
    error = np.linalg.norm(basis @ triangle - kept(backend, rows), axis=1)
    # the growth of a row without exchanges of columns: 10 for these
    assert np.all(error <= 10 * backward(backend) * np.linalg.norm(rows, axis=1))
    if backend.dtype == "float64":  # negative control: as the rows come (NumPy takes float32 to float64)
        basis, triangle = np.linalg.qr(rows)
        lost = np.linalg.norm(basis @ triangle - rows, axis=1)
        assert np.any(lost > 10 * backward(backend) * np.linalg.norm(rows, axis=1))


def test_pivots_of_roundoff(backend):
    def found(matrix):
        return linalg.has_roundoff_pivot(backend.asarray(matrix))

    tiny = 2.0**-40 if backend.dtype == "float32" else 2.0**-70
    assert not found(np.eye(3))
    assert not found(np.diag([1.0, tiny, 1.0]))  # a small column, of its own units
    assert found(np.array([[1.0, 1.0], [0.0, tiny]]))
    assert found(np.diag([1.0, 0.0]))
    assert found(np.diag([1.0, np.nan]))
    assert not found(np.array([[tiny, 1.0], [0.0, 1.0]]))


def test_solve(backend):
    matrix, columns = SQUARE + 2.0 * np.eye(SIZE), RNG.standard_normal((SIZE, 3))
    solution = linalg.solve("M", *backend.asarray((matrix, columns)))
    backend.assert_close(solution, host(solution), rtol=0.0)  # right kind
    error = kept(backend, matrix) @ host(solution) - kept(backend, columns)
    require_small(error, np.linalg.norm(matrix) * np.linalg.norm(host(solution)), backward(backend))
    for singular in (np.zeros((3, 3)), np.arange(1.0, 10.0).reshape(3, 3)):
        with pytest.raises(NumericalError, match="M is singular"):
            linalg.solve("M", *backend.asarray((singular, np.eye(3))))


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_products_of_a_lower_triangle(order, backend):
    """Symmetric matrices of which the upper triangle holds something else, in any memory order."""
    lower = np.tril(SPD) + np.triu(np.full((SIZE, SIZE), 7.0), 1)
    factor, columns = RNG.standard_normal((SIZE, 2)), RNG.standard_normal((SIZE, 3))
    held = backend.asarray(lower)
    if backend.library == "numpy":
        held = {"C": held, "F": np.asfortranarray(held), "strided": np.repeat(held, 2, axis=0)[::2]}[order]
    before = host(held)
    right = backend.asarray((factor, columns, columns[:, 0]))
    symmetric = kept(backend, SPD)
    backend.assert_close(linalg.symmetric_from_lower(held), symmetric, rtol=0.0)
    bound = backward(backend)
    require_small(host(linalg.symmetric_times(held, right[1])) - symmetric @ columns, 30.0, bound)
    require_small(host(linalg.symmetric_times(held, right[2])) - symmetric @ columns[:, 0], 30.0, bound)
    left = linalg.subtract_square(held, right[0])
    expected = np.tril(symmetric - factor @ factor.T)
    require_small(np.tril(host(left)) - expected, 30.0, bound)
    assert np.array_equal(host(held), before)
    with pytest.raises(AssertionError):  # planted: the upper triangle read
        require_small(host(linalg.symmetric_times(held, right[1])) - lower @ columns, 30.0, bound)


# --- small pieces ------------------------------------------------------------------------------------------


def test_kron_is_the_product_of_row_major_layers(backend):
    a, g = RNG.standard_normal((3, 3)), RNG.standard_normal((2, 2))
    v = RNG.standard_normal((2, 3))
    product = host(linalg.kron(backend.asarray(g), backend.asarray(a)))
    expected = np.zeros(6)
    for i in range(2):
        for j in range(3):
            expected[3 * i + j] = sum(g[i, k] * v[k, m] * a[j, m] for k in range(2) for m in range(3))
    require_small(product @ v.ravel() - expected, np.linalg.norm(product), tolerance(backend.dtype, terms=6))
    require_small(expected - (g @ v @ a.T).ravel(), expected, 1e-14)  # the slow loop itself
    transposed = host(linalg.kron(backend.asarray(a), backend.asarray(g))) @ v.ravel()
    assert np.max(np.abs(transposed - expected)) > 0.1  # the order of the factors matters


def test_the_diagonal_is_changed_in_a_copy(backend):
    matrix = backend.asarray(SQUARE)
    shifted = linalg.add_to_diagonal(matrix, 0.5)
    backend.assert_close(shifted, kept(backend, SQUARE) + 0.5 * np.eye(SIZE), rtol=tolerance(backend.dtype))
    assert np.array_equal(host(matrix), kept(backend, SQUARE))
    assert linalg.add_to_diagonal(matrix, 0.0) is matrix


def test_identity_transpose_and_symmetric_part(backend):
    matrix = backend.asarray(SQUARE)
    backend.assert_close(linalg.identity(3, matrix, 2.0), 2.0 * np.eye(3), rtol=0.0)
    backend.assert_close(linalg.transpose(matrix), kept(backend, SQUARE).T, rtol=0.0)
    backend.assert_close(linalg.diagonal(matrix), np.diag(kept(backend, SQUARE)), rtol=0.0)
    symmetric = host(linalg.symmetrize(matrix))
    assert np.array_equal(symmetric, symmetric.T)
    require_small(symmetric - (SQUARE + SQUARE.T) / 2, SQUARE, tolerance(backend.dtype))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_norms_neither_overflow_nor_underflow(scale, backend):
    values = scale * np.array([[3.0, -4.0], [12.0, 84.0]])
    found = linalg.norm(backend.asarray(values))
    assert type(found) is float
    assert found == pytest.approx(85.0 * scale, rel=tolerance(backend.dtype), abs=0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_norms_of_what_is_not_finite(value, backend):
    found = linalg.norm(backend.asarray(np.array([1.0, value])))
    assert math.isnan(found) if np.isnan(value) else found == np.inf


@given(values=st.lists(st.floats(-1e200, 1e200), min_size=1, max_size=8))
def test_norms_against_hypot(values):
    found = linalg.norm(np.array(values))
    assert found == pytest.approx(math.hypot(*values), rel=tolerance("float64", terms=8), abs=1e-320)
