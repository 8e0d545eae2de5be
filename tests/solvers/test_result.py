"""How solves are judged, and the refinement that they share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grng_ref.solvers import ACCEPTED_RESIDUAL, failure, scaled_residual
from grng_ref.solvers.result import refine

EPS = float(np.finfo(float).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scaled_residual_is_its_formula(dtype):
    remainder, x = np.array([3e-7, 4e-7], dtype=dtype), np.array([6.0, 8.0], dtype=dtype)
    expected = 5e-7 / (2.5 * 10.0 * 2 * float(np.finfo(dtype).eps))
    assert scaled_residual(remainder, x, 2.5) == pytest.approx(expected, rel=1e-6)


def test_scaled_residual_where_its_product_overflows_or_underflows():
    """|C| |x| = 1e400 and 1e-400: the quotient is still right."""
    for scale in (1e200, 1e-200):
        remainder = np.array([1e-10]) * scale
        assert scaled_residual(remainder, np.array([scale]), 1.0) == pytest.approx(1e-10 / EPS)
        assert scaled_residual(np.array([1e-10]), np.array([scale]), 1.0 / scale) == pytest.approx(
            1e-10 / EPS
        )
    assert scaled_residual(np.array([1e300]), np.array([1e200]), 1e200) > 0.0
    assert scaled_residual(np.array([1.0]), np.array([0.0]), 1.0) == math.inf
    assert scaled_residual(np.array([1.0]), np.array([1.0]), 0.0) == math.inf
    assert scaled_residual(np.array([0.0]), np.array([0.0]), 0.0) == 0.0
    assert math.isnan(scaled_residual(np.array([np.nan]), np.array([1.0]), 1.0))


def solve_two_by_two(approximate, **options):
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    v = np.array([1.0, -1.0])
    norm = float(np.linalg.norm(matrix))
    return matrix, v, refine(lambda x: matrix @ x, approximate, v, matrix_norm=norm, method="test", **options)


def test_refinement_repairs_an_approximate_solver_and_counts():
    inverse = np.linalg.inv(np.array([[2.0, 0.5], [0.5, 1.0]]))
    matrix, v, result = solve_two_by_two(lambda r: (1 + 1e-6) * inverse @ r)
    assert result.success
    assert result.residual <= 1.0
    assert 1 <= result.iterations <= 3
    np.testing.assert_allclose(matrix @ result.x, v, rtol=1e-15)


def test_refinement_that_does_not_help_keeps_the_best_and_says_so():
    inverse = np.linalg.inv(np.array([[2.0, 0.5], [0.5, 1.0]]))
    seen = []

    def diverging(r):
        seen.append(r)
        return 3.0 * inverse @ r

    _, v, result = solve_two_by_two(diverging)
    assert result.status == "inaccurate"
    assert result.residual > ACCEPTED_RESIDUAL
    np.testing.assert_allclose(result.x, 3.0 * inverse @ v)  # x after one more step is farther away
    assert result.iterations == 0


def test_refinement_stops_after_three_steps():
    inverse = np.linalg.inv(np.array([[2.0, 0.5], [0.5, 1.0]]))
    _, _, result = solve_two_by_two(lambda r: 0.5 * inverse @ r)
    assert result.status == "inaccurate"
    assert result.iterations == 3


def test_a_given_start_is_refined():
    inverse = np.linalg.inv(np.array([[2.0, 0.5], [0.5, 1.0]]))
    start = inverse @ np.array([1.0, -1.0]) + 1e-3
    _, _, result = solve_two_by_two(lambda r: inverse @ r, start=start)
    assert result.success
    assert result.iterations >= 1


def test_not_finite_is_a_status():
    _, _, result = solve_two_by_two(lambda r: r * np.nan)
    assert result.status == "not_finite"
    assert not result.success


def test_failure_carries_no_answer():
    result = failure(np.ones(3), "not_positive_definite", "cholesky")
    assert not result.success
    assert result.residual == math.inf
    assert np.all(result.x == 0.0)
