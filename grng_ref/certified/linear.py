"""Small linear algebra on python-flint's matrices, of rationals (``fmpq_mat``) and of balls (``arb_mat``)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import NumericalError
from .library import load_flint


def rational(value: Fraction) -> Any:
    """A fraction as ``fmpq``."""
    return load_flint().fmpq(value.numerator, value.denominator)


def rational_matrix(values: np.ndarray) -> Any:
    """A host array as ``fmpq_mat``; a vector becomes a column."""
    flint = load_flint()
    columns = values.shape[1] if values.ndim == 2 else 1
    entries = [flint.fmpq(*float(value).as_integer_ratio()) for value in np.ravel(values)]
    return flint.fmpq_mat(values.shape[0], columns, entries)


def ball_matrix(values: np.ndarray) -> Any:
    """A host matrix as ``arb_mat``, exactly."""
    rows, columns = values.shape
    return load_flint().arb_mat(rows, columns, np.ravel(values).tolist())


def scaled_identity(size: int, scale: Any) -> Any:
    """``scale I`` as ``fmpq_mat`` or ``arb_mat``, after the kind of the scale."""
    flint = load_flint()
    kind = flint.arb_mat if isinstance(scale, flint.arb) else flint.fmpq_mat
    return kind(size, size, [scale if i == j else 0 for i in range(size) for j in range(size)])


def log_of_product(pivots: list[Any]) -> Any:
    """The sum of the logarithms of positive balls."""
    return sum((pivot.log() for pivot in pivots), start=load_flint().arb(0))


def inverse_in_balls(name: str, matrix: Any) -> Any:
    """The inverse of an ``arb_mat``; a NumericalError where the precision is too small for it."""
    try:
        return matrix.inv()
    except ZeroDivisionError as error:
        raise NumericalError(f"{name} could not be inverted in balls: raise precision") from error


def positive_pivots(name: str, matrix: Any) -> list[Any]:
    """The pivots of the elimination of a positive definite symmetric matrix, of rationals or of balls.

    ``det`` is their product. By halves: the pivots of A, then those of ``D - B^T A^{-1} B``.

    Raises
    ------
    ValueError
        A pivot is certainly not positive.
    NumericalError
        Balls: the precision does not decide it.
    """
    size = matrix.nrows()
    if size == 1:
        pivot = matrix[0, 0]
        if pivot > 0:
            return [pivot]
        if pivot <= 0:
            raise ValueError(f"{name} must be positive definite, got a matrix that has a pivot <= 0")
        raise NumericalError(
            f"{name} could not be certified positive definite: raise precision, unless it is singular"
        )
    half = size // 2
    corner, side = _block(matrix, 0, half, 0, half), _block(matrix, 0, half, half, size)
    first = positive_pivots(name, corner)
    try:
        complement = _block(matrix, half, size, half, size) - side.transpose() * corner.solve(side)
    except ZeroDivisionError as error:  # of balls alone: the pivots are certainly positive
        raise NumericalError(f"{name} could not be eliminated in balls: raise precision") from error
    return first + positive_pivots(name, complement)


def _block(matrix: Any, top: int, bottom: int, left: int, right: int) -> Any:
    return type(matrix)([[matrix[i, j] for j in range(left, right)] for i in range(top, bottom)])
