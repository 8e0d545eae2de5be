"""Small linear algebra of the checker, in rationals: no rounding, and nothing of the code that it checks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref.certified.library import load_flint

Rows = list[list[Fraction]]


class DamagedError(Exception):
    """A witness that is none: missing, of a wrong shape, or not of finite numbers."""


def vector(values: Any) -> list[Fraction]:
    """The numbers of an array or a list, in order, exactly."""
    try:
        return [Fraction(float(value)) for value in np.ravel(np.asarray(values, dtype=np.float64))]
    except (TypeError, ValueError, OverflowError) as error:
        raise DamagedError(str(error)) from error


def matrix(values: Any) -> Rows:
    """The rows of a matrix, exactly."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise DamagedError(f"a matrix has two axes, got shape {array.shape}")
    return [vector(row) for row in array]


def transposed(rows: Rows) -> Rows:
    """The transpose."""
    return [list(column) for column in zip(*rows, strict=True)]


def dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    """The scalar product."""
    if len(a) != len(b):
        raise DamagedError(f"vectors of {len(a)} and {len(b)} entries have no product")
    return sum((p * q for p, q in zip(a, b, strict=True)), start=Fraction(0))


def product(a: Rows, b: Rows) -> Rows:
    """``A B``."""
    columns = transposed(b)
    return [[dot(row, column) for column in columns] for row in a]


def whole_products(a: Rows, b: Rows) -> tuple[list[list[int]], int]:
    """Integers Z and an exponent e with ``A B^T = Z 2^e``, for entries that are floats."""
    flint = load_flint()
    (p, e), (q, f) = _whole(a), _whole(b)
    if not p or not q:
        return [[] for _ in p], 0
    return [
        [int(entry) for entry in row] for row in (flint.fmpz_mat(p) * flint.fmpz_mat(q).transpose()).tolist()
    ], e + f


def as_float(whole: int, exponent: int) -> float:
    """The float64 nearest to ``whole 2^exponent``, exponent <= 0."""
    return whole / (1 << -exponent)


def _whole(rows: Rows) -> tuple[list[list[int]], int]:
    scale = max((entry.denominator for row in rows for entry in row), default=1)  # a power of two
    return [
        [entry.numerator * (scale // entry.denominator) for entry in row] for row in rows
    ], 1 - scale.bit_length()


def quadratic(rows: Rows, v: list[Fraction]) -> Fraction:
    """``v^T M v``."""
    return dot(v, [dot(row, v) for row in rows])


def shifted(rows: Rows, value: Fraction) -> Rows:
    """``M - value I``."""
    return [[entry - value if i == j else entry for j, entry in enumerate(row)] for i, row in enumerate(rows)]


def semidefinite(rows: Rows) -> bool:
    """Whether a symmetric matrix is positive semidefinite, by fraction-free elimination (Bareiss)."""
    scale = math.lcm(*(entry.denominator for row in rows for entry in row))
    M = [[int(entry * scale) for entry in row] for row in rows]
    last = 1
    while M:
        pivot, *rest = M[0]
        if pivot < 0 or (pivot == 0 and any(rest)):
            return False
        if pivot == 0:
            M = [row[1:] for row in M[1:]]
            continue
        M = [[(pivot * a - row[0] * b) // last for a, b in zip(row[1:], rest, strict=True)] for row in M[1:]]
        last = pivot
    return True
