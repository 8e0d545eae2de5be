"""Solve in the eigenbasis of the matrix: any damping, and the minimum-norm solution at zero damping."""

from __future__ import annotations

from ..arrays import Array, NumericalError, epsilon, namespace
from ..arrays.linalg import eigh, norm, transpose
from .result import SolveResult, failure, refine


def numerical_rank(values: Array) -> int:
    """How many eigenvalues exceed ``n eps max|eigenvalue|``, the roundoff of the decomposition."""
    xp = namespace(values=values)
    cut = values.shape[0] * epsilon(values) * float(xp.max(xp.abs(values)))
    return int(xp.sum(xp.astype(values > cut, xp.int32)))


def truncated_inverse(values: Array, damping: float) -> Array:
    """``1 / (eigenvalue + a)``, and zero for the eigenvalues (ascending) beyond the numerical rank."""
    xp = namespace(values=values)
    dropped = values.shape[0] - numerical_rank(values)
    return xp.concat([xp.zeros_like(values[:dropped]), 1.0 / (values[dropped:] + damping)])


def spectral_inverse(values: Array, damping: float, *, cut: float | Array) -> tuple[Array, int]:
    """``1 / (eigenvalue + a)``, at a = 0 zero for eigenvalues up to ``cut``; and how many exceed it.

    For nonnegative eigenvalues of any shape and order; ``cut`` is one number, or one an eigenvalue.
    """
    xp = namespace(values=values)
    kept = values > cut
    rank = int(xp.sum(xp.astype(kept, xp.int32)))
    if damping > 0.0:
        return 1.0 / (values + damping), rank
    ones = xp.ones_like(values)
    return xp.where(kept, 1.0 / xp.where(kept, values, ones), 0.0 * ones), rank


def where_zero(inverse: Array) -> Array:
    """One where a pseudo-inverse has a zero, else zero: the projection on what it leaves out."""
    xp = namespace(inverse=inverse)
    return xp.astype(inverse == 0.0, inverse.dtype)


def logdet_of_spectrum(values: Array, damping: float, *, zeros: Array, roundoff: float) -> float:
    """``sum log(eigenvalue + a)``, or a NumericalError where one of them cannot be known.

    ``zeros``: which eigenvalues cannot be told from zero. They need an a that can be told from zero,
    above ``roundoff``; without one a larger a is never refused where a smaller one is not.
    """
    xp = namespace(values=values)
    shifted = values + damping
    unknown = damping <= roundoff and bool(xp.any(zeros))
    if unknown or not float(xp.min(shifted)) > 0.0:
        raise NumericalError(f"logdet at damping {damping:g}: the damped matrix is not positive definite")
    return float(xp.sum(xp.log(shifted)))


def solve_eigenbasis(matrix: Array, v: Array, *, damping: float, terms: float = 0.0) -> SolveResult:
    """Solve ``(M + a I) x = v`` for a symmetric positive semidefinite M (n, n) and v (n,).

    At a = 0 the minimum-norm solution, eigenvalues below ``n eps |M|`` taken as zero; a v outside the
    range of M is the status ``"outside_range"``. An a that is itself below that roundoff (RING near a
    stationary point) is treated alike: what it should divide cannot be told from zero. ``terms``: see
    `scaled_residual`.
    """
    values, vectors = eigh(matrix)
    matrix_norm, rank = norm(matrix), numerical_rank(values)

    def attempt(inverse: Array) -> SolveResult:
        return refine(
            lambda x: matrix @ x + damping * x,
            lambda r: vectors @ (inverse * (transpose(vectors) @ r)),
            v,
            matrix_norm=matrix_norm + damping,
            method="eigh",
            rank=rank,
            terms=terms,
            outside=_outside_range(vectors, rank, v) if damping == 0.0 else None,
        )

    result = failure(v, "not_positive_definite", "eigh")
    if damping <= values.shape[0] * epsilon(values) * matrix_norm:
        result = attempt(truncated_inverse(values, damping))
    if not result.success and damping > 0.0 and float(values[0]) + damping > 0.0:
        return attempt(1.0 / (values + damping))
    return result


def _outside_range(vectors: Array, rank: int, v: Array) -> Array:
    """The part of v along the eigenvectors (ascending) beyond the rank."""
    null = vectors[:, : vectors.shape[1] - rank]
    return null @ (transpose(null) @ v)
