"""Exact posteriors of linear-Gaussian models from the stored floats, in rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np


def rational(matrix: np.ndarray) -> flint.fmpq_mat:
    """The floats of a matrix, exactly."""
    entries = [flint.fmpq(*float(value).as_integer_ratio()) for value in np.ravel(matrix)]
    rows, columns = np.atleast_2d(matrix).shape
    return flint.fmpq_mat(rows, columns, entries)


def exact_covariance(rows: np.ndarray, precisions: np.ndarray) -> flint.fmpq_mat:
    """``(diag(precisions) + rows^T rows)^{-1}``."""
    B = rational(rows)
    return (rational(np.diag(precisions)) + B.transpose() * B).inv()


def block(matrix: flint.fmpq_mat, first: int, last: int) -> flint.fmpq_mat:
    """The block of the rows and columns first..last-1 on the diagonal."""
    places = range(first, last)
    return flint.fmpq_mat(len(places), len(places), [matrix[i, j] for i in places for j in places])


def relative_error(actual: np.ndarray, exact: flint.fmpq_mat) -> float:
    """``|actual - exact| / |exact|`` in the Frobenius norm."""

    def norm(matrix: flint.fmpq_mat) -> float:
        values = [Fraction(int(e.p), int(e.q)) for e in matrix.entries()]
        return math.sqrt(float(sum(v * v for v in values)))

    return norm(rational(actual) - exact) / norm(exact)
