"""Small linear algebra of the checker, in rationals: no rounding, and nothing of the code that it checks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

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


def floats(values: Any, ndim: int) -> np.ndarray:
    """A float64 array of finite numbers."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DamagedError(str(error)) from error
    if array.ndim != ndim or not np.all(np.isfinite(array)):
        raise DamagedError(f"finite numbers with {ndim} axes were expected, got shape {array.shape}")
    return array


def products(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs (m, n) of ``a_r . b_i``, exact, and numbers at most ``|a_r . b_i|/2^(e_r + f_i)``.

    The greatest entry of a row of a or b lies below ``2^e`` and not below half of it. Rows are cut into
    digits, whose products and sums are integers of 64 bits. The magnitude is rounded where its digits, none
    of them negative, are put together: by 2^-53 for each of them and each sum, next to what is left of it
    there, which halves at least and then falls by ``2^-bits``. So by less than 2^-50 in all.
    """
    bits = (54 - a.shape[1].bit_length()) // 2
    left, right = _digits(a, bits), _digits(b, bits)
    if len(left) + len(right) > 256:  # so that sums of their products stay below 2^63
        raise DamagedError("entries of one row are too far apart")
    total = np.zeros((len(left) + len(right) - 1, len(a), len(b)), dtype=np.int64)
    for k, p in enumerate(left):
        for l, q in enumerate(right):
            total[k + l] += p @ q.T
    positive, negative = _carried(total, bits), _carried(-total, bits)
    signs = (negative[0] < 0).astype(int) - (positive[0] < 0)
    size = np.zeros(signs.shape)
    for digit in np.where(signs < 0, negative, positive)[::-1]:
        size = digit + np.ldexp(size, -bits)
    size = np.ldexp(size, -2 * bits) * (1.0 - 2.0**-50)
    return signs, np.where(size < 2.0**-900, 0.0, size)


def exponents(rows: np.ndarray) -> np.ndarray:
    """The e of each row, whose greatest entry lies in ``[2^(e-1), 2^e)``; 0 for a row of zeros."""
    return np.frexp(np.max(np.abs(rows), axis=1))[1]


def _digits(rows: np.ndarray, bits: int) -> np.ndarray:
    """Integers D (t, m, d), below ``2^bits``, with ``rows = 2^e sum_t D_t 2^(-bits (t + 1))`` exactly."""
    fractions, places = np.frexp(rows)
    whole = np.ldexp(np.abs(fractions), 53).astype(np.int64)
    behind = np.where(whole, exponents(rows)[:, None] - places, 0) + 53  # whole 2^-behind
    found = []
    for t in range(1, 1 + -(-int(behind.max()) // bits)):
        shift = behind - bits * t
        high = whole >> np.clip(shift, 0, 63)
        low = (whole & ((1 << bits) - 1)) << np.clip(-shift, 0, bits)
        found.append(np.where(shift >= 0, high, low) & ((1 << bits) - 1))
    return np.where(rows < 0, -1, 1) * np.array(found)


def _carried(total: np.ndarray, bits: int) -> np.ndarray:
    """The same numbers with all digits but the first in ``[0, 2^bits)``."""
    digits = total.copy()
    for t in range(len(digits) - 1, 0, -1):
        digits[t - 1] += digits[t] >> bits
        digits[t] &= (1 << bits) - 1
    return digits


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
