"""Balls of python-flint as outward-rounded floats, and floats as exact integers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref import NumericalError
from grng_ref.certified.library import load_flint, working_precision
from grng_ref.certified.linear import ball_matrix
from grng_ref.certified.rounding import root_upward, upward

__all__ = [
    "ball_matrix",
    "downward",
    "integers",
    "root_downward",
    "root_upward",
    "sides",
    "symmetric_sides",
    "upward",
    "working_precision",
]

PRECISION = 256  # bits: products of four float64 numbers are exact


def downward(value: Fraction) -> float:
    """The greatest float64 that is at most the value."""
    return -upward(-value)


def root_downward(value: Fraction) -> float:
    """A float64 that is at most ``sqrt(value)``, and zero for a value <= 0."""
    if value <= 0:
        return 0.0
    root = math.nextafter(root_upward(value), 0.0)
    while Fraction(root) ** 2 > value:
        root = math.nextafter(root, 0.0)
    return root


def sides(ball: Any) -> tuple[Fraction, Fraction]:
    """The two ends of a finite ball, exactly or a little outside.

    Raises
    ------
    NumericalError
        The ball is not bounded.
    """
    if not ball.is_finite():
        raise NumericalError("a ball has no finite ends at this precision")
    return end(ball.lower(), up=False), end(ball.upper(), up=True)


def symmetric_sides(balls: Any) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and radii (n, n), symmetric in every bit, from the lower triangle of a matrix of balls.

    Raises
    ------
    NumericalError
        An entry is beyond the range of float64.
    """
    size = balls.nrows()
    middle, radius = np.zeros((size, size)), np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            low, high = sides(balls[i, j])
            m = _float((low + high) / 2)
            middle[i, j] = middle[j, i] = m
            radius[i, j] = radius[j, i] = upward(max(high - Fraction(m), Fraction(m) - low))
    return middle, radius


def integers(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Python integers I and an exponent e with ``values = I 2^e``, exactly."""
    flat = [float(value).as_integer_ratio() for value in np.ravel(values)]
    exponent = -max((denominator.bit_length() - 1 for _, denominator in flat), default=0)
    whole = np.empty(len(flat), dtype=object)
    whole[:] = [n << (1 - denominator.bit_length() - exponent) for n, denominator in flat]
    return whole.reshape(values.shape), exponent


def end(exact: Any, *, up: bool) -> Fraction:
    """An exact ball as a rational; one below 2^-5000, which would fill the memory, as the next one outwards.

    Raises
    ------
    NumericalError
        It is beyond 2^5000.
    """
    mantissa, exponent = (int(part) for part in exact.man_exp())
    size = mantissa.bit_length() + exponent
    if mantissa and size > 5000:
        raise NumericalError("an end of a ball leaves the range of float64")
    if mantissa and size < -5000:
        outwards = (mantissa > 0) == up
        return Fraction(1 if up else -1, 2**5000) if outwards else Fraction(0)
    return Fraction(mantissa) * Fraction(2) ** exponent


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise NumericalError("an entry leaves the range of float64") from error


def balls_of(values: np.ndarray) -> Any:
    """A vector of floats as a list of exact balls."""
    arb = load_flint().arb
    return [arb(float(value)) for value in values]
