"""Linear algebra that the array standard lacks or leaves unchecked.

On NumPy arrays most of these call LAPACK through SciPy; elsewhere the backend's own routines; and where a
backend has none, array-API functions of the same stability.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import array_api_extra as xpx
import numpy as np
import scipy.linalg

from .errors import NumericalError
from .namespaces import Array, array_namespace, backend_name, epsilon, is_numpy, like
from .transfer import from_host, to_numpy


def quiet() -> np.errstate:
    """A context without NumPy's floating-point warnings, where overflow ends in a status or an error."""
    return np.errstate(all="ignore")


def transpose(matrix: Array) -> Array:
    """The matrix with its last two axes exchanged."""
    return array_namespace(matrix).matrix_transpose(matrix)


def symmetrize(matrix: Array) -> Array:
    """(M + M^T) / 2."""
    return 0.5 * (matrix + transpose(matrix))


def identity(size: int, template: Array, value: float = 1.0) -> Array:
    """``value`` times the identity matrix, of the template's dtype and device."""
    xp = array_namespace(template)
    return value * xp.eye(size, **like(template))


def add_to_diagonal(matrix: Array, value: float) -> Array:
    """M + value I; M is not changed, and is itself the result where the value is zero."""
    if value == 0.0:
        return matrix
    if is_numpy(array_namespace(matrix)):
        result = matrix.copy()
        result.flat[:: matrix.shape[0] + 1] += value
        return result
    return matrix + identity(matrix.shape[0], matrix, value)


def diagonal(matrix: Array) -> Array:
    """The main diagonal of a square matrix."""
    return array_namespace(matrix).linalg.diagonal(matrix)


def norm(array: Array) -> float:
    """The Euclidean (Frobenius) norm as a Python float, free of overflow and underflow.

    Where the sum of squares leaves the safe range (1e-30 in float32 squares to zero), the entries are scaled
    by the largest one first.
    """
    xp = array_namespace(array)
    with quiet():
        squares = _sum_of_squares(array)
    if float(xp.finfo(array.dtype).smallest_normal) / epsilon(array) < squares < math.inf:
        return math.sqrt(squares)
    largest = float(xp.max(xp.abs(array)))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    scaled = array / largest
    return largest * float(xp.sqrt(xp.sum(scaled * scaled)))


def _sum_of_squares(array: Array) -> float:
    xp = array_namespace(array)
    if is_numpy(xp) and array.dtype == np.float64:  # no temporary array; float32 keeps its pairwise sum
        flat = np.ravel(array, order="K")
        return float(scipy.linalg.blas.ddot(flat, flat))
    return float(xp.sum(array * array))


def matmul(left: Array, right: Array) -> Array:
    """``A B`` of two matrices.

    On NumPy by SciPy's BLAS: factorizations are SciPy's, and NumPy's own BLAS has threads of its own, which
    spin for a while after a product and take the processors from those of the next routine.
    """
    xp = array_namespace(left)
    if not is_numpy(xp):
        return left @ right
    gemm = scipy.linalg.blas.dgemm if left.dtype == np.float64 else scipy.linalg.blas.sgemm
    (b, trans_b), (a, trans_a) = _column_major(right), _column_major(left)
    return gemm(1.0, b, a, trans_a=trans_b, trans_b=trans_a).T  # (A B)^T = B^T A^T, in LAPACK's memory order


def _column_major(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """M^T in LAPACK's memory order without a copy, or M itself and True, for LAPACK to transpose."""
    return (matrix.T, False) if matrix.flags.c_contiguous else (matrix, True)


def cholesky(matrix: Array, *, shift: float = 0.0, overwrite: bool = False) -> Array | None:
    """The lower Cholesky factor of ``M + shift I``, or None where that is not numerically positive definite.

    ``overwrite``: M is the caller's own and may be destroyed, which saves a copy.

    CuPy and JAX do not raise on an indefinite matrix, so the factor itself is checked: its entries are
    finite, its diagonal is positive, and its rows have the squared lengths that the diagonal of the
    matrix states.
    """
    xp = array_namespace(matrix)
    if overwrite and is_numpy(xp):
        shifted, own = matrix, True
        shifted.flat[:: matrix.shape[0] + 1] += shift
    else:
        shifted = add_to_diagonal(matrix, shift)
        own = shifted is not matrix  # a copy already, which LAPACK may overwrite
    if is_numpy(xp):
        try:
            # A symmetric matrix is its own transpose, and this view has LAPACK's memory order.
            factor = scipy.linalg.cholesky(shifted.T, lower=True, check_finite=False, overwrite_a=own)
        except np.linalg.LinAlgError:
            return None
        # NaN or infinity in a row of the matrix reaches the pivot of that row.
        return factor if np.all(np.isfinite(np.diagonal(factor))) else None
    if not bool(xp.all(xp.isfinite(shifted))):
        return None
    try:
        factor = xp.linalg.cholesky(shifted)
    except Exception as error:  # torch and array-api-strict raise LinAlgError types of their own
        if "LinAlgError" in type(error).__name__:
            return None
        raise
    return factor if is_cholesky_factor(factor, shifted) else None


def is_cholesky_factor(factor: Array, matrix: Array) -> bool:
    """Whether a lower-triangular matrix can be the Cholesky factor of a matrix, in O(n^2)."""
    xp = array_namespace(matrix)
    pivots, stated = diagonal(factor), diagonal(matrix)
    lengths = xp.sum(factor * factor, axis=-1)
    slack = 8 * matrix.shape[-1] * epsilon(matrix)
    good = (pivots > 0) & (xp.abs(lengths - stated) <= slack * stated)  # False for NaN
    return bool(xp.all(good))


def solve_triangular(factor: Array, rhs: Array, *, lower: bool, transposed: bool = False) -> Array:
    """Solve ``T x = b`` (or ``T^T x = b``) for a triangular T; b is a vector or a matrix of columns."""
    xp = array_namespace(factor)
    name = backend_name(xp)
    if name != "numpy" and bool(xp.any(diagonal(factor) == 0.0)):  # others than LAPACK give infinities
        raise NumericalError("a triangular factor is singular")
    if name == "numpy" or name == "jax" or name == "cupy":
        module = {"numpy": "scipy.linalg", "jax": "jax.scipy.linalg", "cupy": "cupyx.scipy.linalg"}[name]
        solve = importlib.import_module(module).solve_triangular  # cupyx's needs CUDA libraries to import
        options: dict[str, Any] = {} if name == "jax" else {"check_finite": False}
        try:
            return solve(factor, rhs, lower=lower, trans=int(transposed), **options)
        except np.linalg.LinAlgError as error:
            raise NumericalError("a triangular factor is singular") from error
    matrix = transpose(factor) if transposed else factor
    columns = rhs if rhs.ndim == 2 else rhs[:, None]
    if name == "torch":
        solution = xp.linalg.solve_triangular(matrix, columns, upper=lower == transposed)
    elif lower != transposed:
        # The general solver finds an upper triangular matrix already eliminated and substitutes back,
        # so a lower triangular system is turned round.
        solution = xp.flip(xp.linalg.solve(xp.flip(matrix), xp.flip(columns, axis=0)), axis=0)
    else:
        solution = xp.linalg.solve(matrix, columns)
    return solution if rhs.ndim == 2 else solution[:, 0]


def cholesky_solve(factor: Array, rhs: Array) -> Array:
    """Solve ``L L^T x = b`` for a lower Cholesky factor L."""
    half = solve_triangular(factor, rhs, lower=True)
    return solve_triangular(factor, half, lower=True, transposed=True)


def is_singular(factor: Array, matrix_norm: float) -> bool:
    """Whether a matrix with the Cholesky factor L is singular to working precision: ``lmin <= n eps |M|``.

    Roundoff can let the factorization of a singular matrix succeed. Three steps of inverse iteration find
    the smallest eigenvalue then: it is 1/eps times smaller than the largest one. O(n^2).
    """
    xp = array_namespace(factor)
    n = factor.shape[0]
    places = xp.arange(n, **like(factor))
    x = xp.cos(places * places)  # a start without structure: orthogonal to nothing on purpose
    inverse_size = 0.0
    for _ in range(3):
        x = cholesky_solve(factor, x / norm(x))
        inverse_size = norm(x)
        if not np.isfinite(inverse_size):
            return True
    return inverse_size * matrix_norm * n * epsilon(factor) >= 1.0


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and orthonormal eigenvectors (columns) of a symmetric matrix.

    Raises
    ------
    NumericalError
        Non-finite entries, or no convergence.
    """
    xp = array_namespace(matrix)
    if not bool(xp.all(xp.isfinite(matrix))):
        raise NumericalError("eigendecomposition of a matrix with NaN or infinite entries")
    try:
        values, vectors = xp.linalg.eigh(matrix)
    except Exception as error:
        if "LinAlgError" in type(error).__name__:
            raise NumericalError(f"eigendecomposition failed: {error}") from error
        raise
    return values, vectors


def left_singular(matrix: Array, *, full_matrices: bool = False) -> tuple[Array, Array]:
    """Left singular vectors (columns) and singular values (descending) of a matrix, or of each in a stack.

    LAPACK's divide and conquer, which most backends call, does not converge for some matrices of moderate
    entries and many zeros; such a one is decomposed on the host, by the slower QR iteration.

    Raises
    ------
    NumericalError
        Non-finite entries, or no convergence by either.
    """
    xp = array_namespace(matrix)
    if not bool(xp.all(xp.isfinite(matrix))):
        raise NumericalError("singular value decomposition of a matrix with NaN or infinite entries")
    try:
        left, values, _ = xp.linalg.svd(matrix, full_matrices=full_matrices)
        if bool(xp.all(xp.isfinite(values))):  # JAX says it by NaN
            return left, values
    except Exception as error:
        if "LinAlgError" not in type(error).__name__:
            raise
    host = to_numpy(matrix)
    options: dict[str, Any] = {"full_matrices": full_matrices, "lapack_driver": "gesvd"}
    try:
        parts = [scipy.linalg.svd(one, **options) for one in host.reshape(-1, *host.shape[-2:])]
    except np.linalg.LinAlgError as error:
        raise NumericalError(f"singular value decomposition failed: {error}") from error
    stacks = (np.stack([part[i] for part in parts]) for i in (0, 1))
    left, values = (from_host(s.reshape(*host.shape[:-2], *s.shape[1:]), matrix) for s in stacks)
    return left, values


def leading_pair_of_tridiagonal(
    diagonal: list[float], beside: list[float], *, roundoff: float
) -> tuple[float, list[float]]:
    """The largest eigenvalue of a symmetric tridiagonal matrix of host numbers, and a unit eigenvector.

    Of eigenvalues that ``roundoff``, relative, may have split, the vector is the one along the first unit
    vector's part in their space.
    """
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
    largest = float(values[-1])
    tied = vectors[:, values >= largest - roundoff * abs(largest)]
    vector = tied @ tied[0, :]
    size = float(np.linalg.norm(vector))
    vector = vector / size if size > 0.0 else tied[:, -1]
    return largest, [float(entry) for entry in vector]


def qr_append(factor: Array, rows: Array, targets: Array | None = None) -> tuple[Array, Array | None]:
    """The upper triangular R with ``R^T R = factor^T factor + rows^T rows``, by orthogonal transformations.

    ``factor`` is upper triangular (n, n) with zeros below, ``rows`` is (m, n). With targets t (m,) also the
    first n entries of the same transformation of ``[0; t]``: ``R x`` for the least-squares solution x of
    ``[factor; rows] x = [0; t]``. O(n^2 m).

    A reflection that starts in a small row leaves the roundoff of the large rows in it. So rows that are
    large beside a pivot of the factor are eliminated panel by panel, the larger rows first; the others by
    LAPACK's ``tpqrt``, which keeps the factor on top (its fallback factorizes the stacked matrix).
    """
    xp = array_namespace(factor)
    n, m = factor.shape[0], rows.shape[0]
    if m == 0:
        return factor, None if targets is None else xp.zeros(n, **like(factor))
    if float(xp.max(xp.abs(rows))) > _ROWS_BESIDE_PIVOT * float(xp.min(xp.abs(diagonal(factor)))):
        return _append_by_panels(factor, rows, targets)
    if is_numpy(xp):
        tpqrt, tpmqrt = scipy.linalg.get_lapack_funcs(("tpqrt", "tpmqrt"), (factor,))
        updated, reflectors, scales, status = tpqrt(0, min(32, n), factor, rows)
        if status != 0:
            raise NumericalError(f"LAPACK tpqrt returned status {status}")
        if targets is None:
            return updated, None
        zeros = np.zeros((n, 1), dtype=factor.dtype)
        half, _, status = tpmqrt(0, reflectors, scales, zeros, targets[:, None], trans="T")
        if status != 0:
            raise NumericalError(f"LAPACK tpmqrt returned status {status}")
        return updated, half[:, 0]
    stacked = xp.concat([factor, rows], axis=0)
    basis, updated = xp.linalg.qr(stacked, mode="reduced")
    updated = xp.reshape(xp.reshape(updated, (-1,)), (n, n))  # row-major, as a loaded state is
    return updated, None if targets is None else transpose(basis[n:, :]) @ targets


_ROWS_BESIDE_PIVOT = 16.0  # what `tpqrt` may lose: a digit
_PANEL = 64  # columns of a panel


def _append_by_panels(factor: Array, rows: Array, targets: Array | None) -> tuple[Array, Array | None]:
    """`qr_append` with the rows of every panel in the order of the pivots of a Gaussian elimination.

    So a row is eliminated by larger ones only, and its roundoff stays of its own size (Powell and Reid 1969;
    Cox and Higham 1998). The targets are one more column.
    """
    xp = array_namespace(factor)
    n, held, left = factor.shape[0], factor, rows
    if targets is not None:
        held = xp.concat([factor, xp.zeros((n, 1), **like(factor))], axis=1)
        left = xp.concat([rows, targets[:, None]], axis=1)
    bands = []
    for first in range(0, n, _PANEL):
        size = min(_PANEL, n - first)
        active = xp.concat([left, held[first : first + size, first:]])
        order = _pivot_order(active[:, :size])
        active = xp.take(active, from_host(order, active, dtype=xp.int64), axis=0)
        basis, triangle = xp.linalg.qr(active[:, :size], mode="complete")
        beside = transpose(basis) @ active[:, size:]
        before = xp.zeros((size, first), **like(factor))
        bands.append(xp.concat([before, triangle[:size, :], beside[:size, :]], axis=1))
        left = beside[size:, :]
    updated = xp.concat(bands)
    if targets is None:
        return updated, None
    return xp.asarray(updated[:, :n], copy=True), updated[:, n]  # a view would keep its last column


def _pivot_order(panel: Array) -> np.ndarray:
    """The order in which Gaussian elimination with partial pivoting takes the rows, on the host."""
    held = to_numpy(panel)
    (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (held,))
    order = np.arange(held.shape[0])
    for place, pivot in enumerate(getrf(held)[1]):
        order[[place, pivot]] = order[[pivot, place]]
    return order


def qr_by_size(rows: Array) -> tuple[Array, Array]:
    """Orthonormal columns Q (n, k) and an upper triangular R with ``Q R = rows``, the larger rows first.

    The roundoff that Householder's reflections leave in a row is then of the size of that row and not of
    the largest one (Cox and Higham 1998): a weak prior beside strong observations keeps its digits.
    """
    xp = array_namespace(rows)
    order = xp.argsort(xp.max(xp.abs(rows), axis=1), descending=True)
    basis, triangle = xp.linalg.qr(xp.take(rows, order, axis=0), mode="reduced")
    return xp.take(basis, xp.argsort(order), axis=0), triangle


def symmetric_from_lower(matrix: Array) -> Array:
    """The symmetric matrix with the lower triangle of M, whatever is above it."""
    xp = array_namespace(matrix)
    return xp.tril(matrix) + transpose(xp.tril(matrix, k=-1))


def symmetric_times(matrix: Array, columns: Array) -> Array:
    """``P X`` for a symmetric P of which only the lower triangle is read, and X a vector or columns."""
    xp = array_namespace(matrix)
    if not is_numpy(xp):
        return symmetric_from_lower(matrix) @ columns
    held, lower = _fortran_triangle(matrix)
    symm, symv = scipy.linalg.get_blas_funcs(("symm", "symv"), (matrix,))
    return (
        symv(1.0, held, columns, lower=lower) if columns.ndim == 1 else symm(1.0, held, columns, lower=lower)
    )


def subtract_square(matrix: Array, factor: Array) -> Array:
    """``P - V V^T`` for a symmetric P: of argument and result only the lower triangle counts."""
    xp = array_namespace(matrix)
    if not is_numpy(xp):
        return matrix - factor @ transpose(factor)
    held, lower = _fortran_triangle(matrix)
    (syrk,) = scipy.linalg.get_blas_funcs(("syrk",), (matrix,))
    updated = syrk(-1.0, factor, beta=1.0, c=held, lower=lower)
    return updated if lower else updated.T


def _fortran_triangle(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """A view of the matrix in LAPACK's memory order, and whether its lower triangle is below there."""
    return (matrix, 1) if matrix.flags.f_contiguous else (matrix.T, 0)


def has_roundoff_pivot(triangle: Array) -> bool:
    """Whether a pivot of a QR factor R is nothing but roundoff: below ``eps`` times the length of its column.

    The factorization is backward stable column by column, so such a matrix may as well be singular; a small
    pivot in a small column is a good one. True for what is not finite.
    """
    xp = array_namespace(triangle)
    pivots = xp.abs(diagonal(triangle))
    suspicious = triangle.shape[0] * epsilon(triangle) * float(xp.max(pivots))
    smallest = float(xp.finfo(triangle.dtype).smallest_normal)  # what is below has lost its digits
    if float(xp.min(pivots)) > max(suspicious, smallest):  # O(n), and nearly always enough
        return False
    lengths = xp.sqrt(xp.sum(triangle * triangle, axis=0))
    return not bool(xp.all((pivots > epsilon(triangle) * lengths) & (pivots >= smallest)))


def solve(name: str, matrix: Array, columns: Array) -> Array:
    """``M^{-1} X`` for a square M, or a NumericalError that names M where it is singular to roundoff."""
    with quiet():
        basis, triangle = qr_by_size(matrix)
        if has_roundoff_pivot(triangle):
            raise NumericalError(f"{name} is singular to working precision")
        return solve_triangular(triangle, transpose(basis) @ columns, lower=False)


def kron(a: Array, b: Array) -> Array:
    """The Kronecker product; in row-major order ``kron(G, A) vec(V) = vec(G V A^T)``."""
    return xpx.kron(a, b)
