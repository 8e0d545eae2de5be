"""The Gram form: minimum norm at zero damping, and right-hand sides near the row space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, tolerance

from grng_ref.curvature import DenseRows, LayerRows
from grng_ref.solvers import ACCEPTED_RESIDUAL, scaled_residual, solve_eigenbasis, solve_gram
from grng_ref.solvers.eigenbasis import numerical_rank


def rows_with(singular: np.ndarray, rows: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, rows)))[0][:, : singular.size]
    right = np.linalg.qr(rng.standard_normal((size, size)))[0][:, : singular.size]
    return (left * singular) @ right.T


@given(
    rows=st.integers(1, 8),
    size=st.integers(1, 8),
    rank=st.integers(1, 8),
    log_condition=st.floats(0, 3),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 10**6),
)
def test_minimum_norm_is_the_pseudo_inverse(rows, size, rank, log_condition, exponent, seed):
    """At a = 0, by both routes and by the eigenbasis, against the SVD of B."""
    rank = min(rank, rows, size)
    singular = np.geomspace(1.0, 10.0**-log_condition, rank) * 10.0**exponent
    B = rows_with(singular, rows, size, seed)
    c = np.random.default_rng(seed).standard_normal(rows)
    v = B.T @ c
    pinv = np.linalg.pinv(B, rcond=1e-9)  # between the least singular value, 1e-3, and roundoff
    expected = pinv @ (pinv.T @ v)
    # F has the square of B's condition number, and v may be small by cancellation in B^T c
    condition = (singular[0] / singular[-1]) ** 2
    size_of_v = np.linalg.norm(B, 2) * np.linalg.norm(c) / np.linalg.norm(v)
    if condition * size_of_v > 1e11:
        return
    rtol = tolerance("float64", condition * size_of_v, terms=rows)
    results = [
        solve_gram(DenseRows(B), v, damping=0.0),
        solve_gram(DenseRows(B), v, damping=0.0, coefficients=c),
        solve_eigenbasis(B.T @ B, v, damping=0.0),
    ]
    for result in results:
        if not result.success:  # v = B^T c left the range by more than roundoff of the solution allows
            assert size_of_v > 5.0
            continue
        assert result.rank == rank
        assert np.linalg.norm(result.x - expected) <= rtol * np.linalg.norm(expected)
    # negative control: a solution that is not the shortest one is told apart
    null = np.eye(size) - pinv @ B
    other = expected + null @ np.ones(size) * np.linalg.norm(expected)
    if rank < size and np.linalg.norm(other - expected) > 1e-3 * np.linalg.norm(expected):
        assert not np.linalg.norm(other - expected) <= rtol * np.linalg.norm(expected)


def test_a_side_outside_the_range_is_refused(backend: Backend):
    B = rows_with(np.array([1.0, 0.5]), 3, 5)
    inside = B.T @ np.array([1.0, -2.0, 0.5])
    outside = np.linalg.svd(B)[2][-1]
    factor = DenseRows(backend.asarray(B))
    for weight, status in ((0.0, "converged"), (1e-3, "outside_range"), (1.0, "outside_range")):
        v = backend.asarray(inside + weight * outside)
        assert solve_gram(factor, v, damping=0.0).status == status
        assert solve_eigenbasis(factor.normal(), v, damping=0.0).status == status
    assert solve_gram(factor, backend.asarray(inside + outside), damping=1e-2).status == "converged"


def woodbury(B: np.ndarray, v: np.ndarray, a: float) -> np.ndarray:
    """The textbook formula, once."""
    return (v - B.T @ np.linalg.solve(B @ B.T + a * np.eye(B.shape[0]), B @ v)) / a


@pytest.mark.parametrize("relative", [1e-15, 1e-12, 1e-8, 1e-4])
@pytest.mark.parametrize("distance", [0.0, 1e-15, 1e-12, 1e-6])
def test_sides_near_the_row_space(relative, distance):
    """With c and without: the scaled residual is accepted at a/|F| down to 1e-12 and below."""
    B = rows_with(np.geomspace(1.0, 1e-3, 6), 6, 20, seed=3)
    rng = np.random.default_rng(4)
    c = rng.standard_normal(6)
    away = np.linalg.svd(B)[2][-1]
    v = B.T @ c
    v = v + distance * np.linalg.norm(v) * away
    F = B.T @ B
    a = relative * np.linalg.norm(F)
    routes = [None] if distance > 0.0 else [None, c]
    for coefficients in routes:
        result = solve_gram(DenseRows(B), v, damping=a, coefficients=coefficients)
        assert result.status == "converged"
        remainder = v - (B.T @ (B @ result.x) + a * result.x)
        assert scaled_residual(remainder, result.x, np.linalg.norm(F) + a) <= ACCEPTED_RESIDUAL
    if relative <= 1e-12 and distance <= 1e-12:  # negative control: the formula alone has no digit left
        x = woodbury(B, v, a)
        remainder = v - (F @ x + a * x)
        assert scaled_residual(remainder, x, np.linalg.norm(F) + a) > 1e3


def test_without_refinement_the_null_space_part_is_kept():
    """(F + aI)^{-1} v has the part v_perp / a; a low-rank solve that drops it is wrong."""
    B = rows_with(np.array([1.0, 0.5]), 2, 6)
    v = np.random.default_rng(0).standard_normal(6)
    a = 0.1
    x = solve_gram(DenseRows(B), v, damping=a).x
    expected = np.linalg.solve(B.T @ B + a * np.eye(6), v)
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    dropped = B.T @ np.linalg.solve(B @ B.T + a * np.eye(2), np.linalg.pinv(B.T) @ v)
    assert not np.allclose(dropped, expected, rtol=0.1)


def test_layer_rows_and_dense_rows_give_the_same_answer():
    rng = np.random.default_rng(5)
    layers = LayerRows(
        (rng.standard_normal((4, 3)), rng.standard_normal((4, 2))),
        (rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 2))),
    )
    v = rng.standard_normal(layers.shape[1])
    for a in (0.01, 1.0):
        one = solve_gram(layers, v, damping=a).x
        two = solve_gram(DenseRows(layers.rows()), v, damping=a).x
        np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-13)


def test_zero_rows_and_zero_sides():
    """A dead network: F = 0. Then x = v / a; at a = 0 only v = 0 has an answer."""
    B, v = np.zeros((2, 4)), np.ones(4)
    np.testing.assert_array_equal(solve_gram(DenseRows(B), v, damping=0.5).x, 2.0 * v)
    assert solve_gram(DenseRows(B), v, damping=0.0).status == "outside_range"
    none = solve_gram(DenseRows(B), 0.0 * v, damping=0.0)
    assert none.success
    assert none.rank == 0
    assert np.all(none.x == 0.0)


def test_numerical_rank_counts_above_roundoff():
    eps = float(np.finfo(float).eps)
    values = np.array([-eps, eps, 2 * eps, 1e3 * eps, 0.5, 1.0])
    assert numerical_rank(values) == 3  # the cut is n eps = 6 eps
    assert numerical_rank(1e-30 * values) == 3
    assert numerical_rank(np.zeros(3)) == 0
