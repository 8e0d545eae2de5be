"""Rigorous bounds of eigenvalues and norms of what an enclosure holds."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from ..arrays import NumericalError, check_shape
from .enclosure import Enclosure, enclose
from .library import check_precision, load_flint, working_precision
from .linear import ball_matrix


def eigenvalue_enclosure(matrix: Enclosure, *, precision: int = 256) -> Enclosure:
    """Enclosures of all eigenvalues (n,), ascending, of every symmetric matrix in the balls.

    With an approximate eigenbasis Q from floating arithmetic, in balls: ``B = Q^T M Q``, ``S = Q^T Q``, M
    the midpoints. ``lambda_i(B)`` is within ``|B - diag B|`` of the i-th least diagonal entry (Weyl), and
    ``lambda_i(M)`` is ``lambda_i(B)`` over a number within ``|S - I|`` of 1 (Ostrowski); the radii R add
    ``|R|``. All norms are row sums. So every eigenvalue is known to about ``n eps |M|``, and the least one
    has lost as many digits as the condition number has.

    Parameters
    ----------
    matrix : Enclosure (n, n)
        Midpoint and radius equal their transposes in every bit.
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    Enclosure

    Raises
    ------
    TypeError, ValueError
        Not an enclosure of a square, symmetric matrix.
    BackendError
        python-flint is not installed.
    NumericalError
        No eigenbasis was found in floating arithmetic: entries out of its range.

    Notes
    -----
    Source: classical (Weyl's and Ostrowski's theorems: Horn and Johnson 2013, sections 4.3 and 4.5).
    """
    bits = check_precision(precision)
    middle, radius = _symmetric(matrix)
    size = len(middle)
    basis = _eigenbasis(middle)
    with working_precision(bits) as flint:
        Q = ball_matrix(basis)
        B = Q.transpose() * ball_matrix(middle) * Q
        diagonal = [B[i, i] for i in range(size)]
        off = _row_sum(B - flint.arb_mat(size, size, _on_diagonal(diagonal)))
        ones = flint.arb_mat(size, size, _on_diagonal([flint.arb(1)] * size))
        defect = _row_sum(Q.transpose() * Q - ones)
        if not defect < 1:
            raise NumericalError("the eigenbasis found in floating arithmetic is none: scale the matrix")
        spread, shift = flint.arb(0, off), flint.arb(0, _row_sum(ball_matrix(radius)))
        stretch = flint.arb(1) + flint.arb(0, defect)
        # the i-th of the true diagonal entries lies between the i-th of the lower and of the upper ends
        lower = sorted(entry.lower() for entry in diagonal)
        upper = sorted(entry.upper() for entry in diagonal)
        ordered = [low.union(high) for low, high in zip(lower, upper, strict=True)]
        values = [(value + spread) / stretch + shift for value in ordered]
        return enclose("the eigenvalues", flint.arb_mat(1, size, values), (size,))


def eigenvalue_bounds(matrix: Enclosure, *, precision: int = 256) -> tuple[float, float]:
    """A lower bound of the least and an upper bound of the greatest eigenvalue: ``(lower, upper)``.

    Of every symmetric matrix in the balls; the ends of `eigenvalue_enclosure`, rounded outwards. A positive
    lower bound proves that the matrix is positive definite.

    Parameters
    ----------
    matrix, precision
        As for `eigenvalue_enclosure`.

    Returns
    -------
    tuple of float

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As `eigenvalue_enclosure`.

    Notes
    -----
    Source: classical, as `eigenvalue_enclosure`.
    """
    values = eigenvalue_enclosure(matrix, precision=precision)
    return float(values.lower[0]), float(values.upper[-1])


def norm_bounds(array: Enclosure, *, precision: int = 256) -> tuple[float, float]:
    """Bounds ``(lower, upper)`` of the Euclidean norm of every array in the balls.

    ``(sum max(|m| - r, 0)^2)^{1/2}`` and ``(sum (|m| + r)^2)^{1/2}`` over all entries (Frobenius for a
    matrix), in balls and rounded outwards: the best bounds to a few units in their last place.

    Parameters
    ----------
    array : Enclosure
        Of any shape.
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    tuple of float

    Raises
    ------
    TypeError, ValueError
        Not an enclosure; a bad precision.
    BackendError
        python-flint is not installed.
    NumericalError
        The norm leaves the range of float64.

    Notes
    -----
    Source: classical.
    """
    bits = check_precision(precision)
    _check_enclosure("array", array)
    sizes, radii = np.ravel(np.abs(array.midpoint)).tolist(), np.ravel(array.radius).tolist()
    with working_precision(bits) as flint:
        arb = flint.arb
        pairs = list(zip(map(arb, sizes), map(arb, radii), strict=True))
        least = _norm([(size - radius).max(arb(0)) for size, radius in pairs])
        greatest = _norm([size + radius for size, radius in pairs])
        return float(enclose("the norm", least, ()).lower), float(enclose("the norm", greatest, ()).upper)


def _norm(entries: list[Any]) -> Any:
    """The root of the sum of squares of balls."""
    row = load_flint().arb_mat(1, len(entries), entries)
    return (row * row.transpose())[0, 0].sqrt()


def _check_enclosure(name: str, value: Any) -> None:
    if not isinstance(value, Enclosure):
        raise TypeError(f"{name} must be an Enclosure, got {type(value).__name__}")


def _symmetric(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    _check_enclosure("matrix", matrix)
    size = matrix.shape[0] if matrix.shape else 0
    check_shape("matrix", matrix.midpoint, (size or None, size or None), "a square matrix")
    for part in (matrix.midpoint, matrix.radius):
        if not np.array_equal(part, part.T):
            i, j = np.argwhere(part != part.T)[0]
            raise ValueError(
                f"matrix must equal its transpose in every bit of midpoint and radius, got {part[i, j]!r} at "
                f"[{i}, {j}] and {part[j, i]!r} at [{j}, {i}]"
            )
    return matrix.midpoint, matrix.radius


def _eigenbasis(middle: np.ndarray) -> np.ndarray:
    try:
        basis = np.linalg.eigh(middle)[1]
    except np.linalg.LinAlgError as error:
        raise NumericalError(f"no eigenbasis was found in floating arithmetic ({error})") from error
    if not np.all(np.isfinite(basis)):
        raise NumericalError("no eigenbasis was found in floating arithmetic: scale the matrix")
    return basis


def _on_diagonal(entries: list[Any]) -> list[Any]:
    size = len(entries)
    return [entries[i] if i == j else 0 for i in range(size) for j in range(size)]


def _row_sum(matrix: Any) -> Any:
    """The greatest sum of the magnitudes of a row, an exact number: a bound of the 2-norm if symmetric."""
    zero = load_flint().arb(0)
    sums = (sum((abs(entry) for entry in row), start=zero).abs_upper() for row in matrix.tolist())
    return reduce(lambda largest, other: largest.max(other), sums)
