"""Exact rationals to float64: to nearest, upwards, roots upwards."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grng_ref.arrays import NumericalError
from grng_ref.certified.rounding import fractions, nearest, root_upward, sum_of_squares, upward

LARGEST = Fraction(np.finfo(np.float64).max)
RATIONALS = st.builds(
    lambda p, q, e: Fraction(p, q) * Fraction(2) ** e,
    st.integers(0, 10**30),
    st.integers(1, 10**30),
    st.integers(-900, 900),
)


@given(RATIONALS)
def test_rounding_directions(value):
    up, near = upward(value), nearest(value)
    assert Fraction(up) >= value
    assert up == 0.0 or Fraction(math.nextafter(up, -math.inf)) < value  # the least such number
    for other in (math.nextafter(near, -math.inf), math.nextafter(near, math.inf)):
        assert abs(Fraction(near) - value) <= abs(Fraction(other) - value)


@given(RATIONALS)
def test_root_is_an_upper_bound_within_two_units(value):
    root = root_upward(value)
    assert Fraction(root) ** 2 >= value
    below = math.nextafter(math.nextafter(root, 0.0), 0.0)
    assert value == 0 or below == 0.0 or Fraction(below) ** 2 < value


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(2, 3), Fraction(1, 10)])
def test_upward_is_not_nearest(value):
    """One of the three has its nearest number below it, where nearest alone would be no bound."""
    assert Fraction(upward(value)) > value
    assert any(Fraction(nearest(v)) < v for v in (Fraction(1, 3), Fraction(2, 3), Fraction(1, 10)))


def test_ends_of_the_range():
    assert upward(LARGEST) == float(LARGEST)
    assert upward(LARGEST + 1) == math.inf
    assert upward(Fraction(1, 10**400)) == 5e-324
    assert nearest(Fraction(1, 10**400)) == 0.0
    with pytest.raises(NumericalError, match="leaves the range of float64"):
        nearest(LARGEST * 2)
    assert root_upward(Fraction(10) ** 800) == math.inf
    assert root_upward(Fraction(10) ** 600) == pytest.approx(1e300, rel=1e-15)


def test_entries_are_exact():
    third = np.float32(1.0) / np.float32(3.0)
    assert fractions(np.array([[0.1, third]])) == [
        Fraction(3602879701896397, 2**55),
        Fraction(11184811, 2**25),
    ]
    assert sum_of_squares([Fraction(1, 2), Fraction(-1, 3)]) == Fraction(13, 36)
