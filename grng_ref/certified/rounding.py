"""Exact rationals to float64, to the nearest number or upwards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from ..arrays import NumericalError


def nearest(value: Fraction) -> float:
    """The float64 nearest to the value.

    Raises
    ------
    NumericalError
        The value is beyond the largest float64.
    """
    try:
        return value.numerator / value.denominator  # Python rounds the quotient of two integers correctly
    except OverflowError as error:
        raise NumericalError("the exact value leaves the range of float64") from error


def upward(value: Fraction) -> float:
    """The least float64 that is at least the value; infinite beyond the largest."""
    if value > Fraction(np.finfo(np.float64).max):
        return math.inf
    rounded = nearest(value)
    return rounded if Fraction(rounded) >= value else math.nextafter(rounded, math.inf)


def root_upward(value: Fraction) -> float:
    """A float64 that is at least ``sqrt(value)``, within two units in its last place; value >= 0."""
    if value == 0:
        return 0.0
    # value * 4^shift has at least 128 bits, so the integer root has at least 64
    shift = max(0, (130 - value.numerator.bit_length() + value.denominator.bit_length()) // 2 + 1)
    root = math.isqrt((value.numerator << (2 * shift)) // value.denominator)
    return upward(Fraction(root + 1, 1 << shift))


def sum_of_squares(values: Iterable[Fraction]) -> Fraction:
    """The sum of the squares, exactly."""
    return sum((value * value for value in values), start=Fraction(0))


def fractions(values: np.ndarray) -> list[Fraction]:
    """The entries of a finite floating array in row-major order, exactly."""
    return [Fraction(float(value)) for value in np.ravel(values)]
