"""Eigenvalues and residuals of inverses: the truth, from 80 digits, lies between the sides."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend

from grng_ref import NumericalError
from grng_ref.certified import Enclosure, eigenvalue_bounds
from proofs_check.bounds import (
    check_witness,
    eigenvalue_max,
    eigenvalue_min,
    newton_schulz_residual,
    positive_definite,
    spectra,
)


def true_eigenvalues(matrix: np.ndarray) -> list[mpmath.mpf]:
    with mpmath.workdps(80):
        return sorted(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))


def symmetric(rng: np.random.Generator, size: int, spread: float) -> np.ndarray:
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    values = np.logspace(0.0, spread, size) * rng.choice([-1.0, 1.0], size=size)
    M = (basis * values) @ basis.T
    return (M + M.T) / 2


def hilbert(size: int) -> np.ndarray:
    return 1.0 / (np.arange(1, size + 1)[:, None] + np.arange(size))


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 7),
    spread=st.floats(0.0, 12.0),
    exponent=st.integers(-300, 300),
)
def test_the_truth_lies_between_the_sides(seed, size, spread, exponent):
    M = np.ldexp(symmetric(np.random.default_rng(seed), size, spread), exponent)
    truth = true_eigenvalues(M)
    for bound, value in ((eigenvalue_min(M), truth[0]), (eigenvalue_max(M), truth[-1])):
        assert bound.lower <= value <= bound.upper
        # the rounding of either side, and the first candidate's distance, 2^-51
        width = mpmath.mpf(bound.upper) - mpmath.mpf(bound.lower)
        assert width <= 2.0**-48 * abs(value)
        assert bound.rigorous


def test_ill_conditioned_matrices_keep_their_digits():
    M = hilbert(12)  # condition number 1e16: floating arithmetic has no digit of the least eigenvalue
    truth = true_eigenvalues(M)[0]
    bound = positive_definite(M)
    assert bound.lower <= truth <= bound.upper
    assert bound.upper < 1.001 * bound.lower
    assert bound.method.startswith("certified")
    # the rougher bounds of the enclosures agree as far as they go
    low, high = eigenvalue_bounds(Enclosure(M, np.zeros_like(M)))
    assert low <= bound.lower
    assert high >= eigenvalue_max(M).lower


def test_equal_eigenvalues_and_zero():
    for value in (0.0, 1.0, -3.0, 2.0**-1000, -(2.0**1000)):
        M = value * np.eye(5)
        for bound in (eigenvalue_min(M), eigenvalue_max(M)):
            assert bound.lower <= value <= bound.upper
            assert bound.upper - bound.lower <= 2.0**-48 * abs(value)


def test_refutation_by_an_exact_vector():
    M = np.eye(4) - 0.25 * (1 + 2.0**-50) * np.ones((4, 4))  # the least eigenvalue is -2^-50
    bound = positive_definite(M)
    assert bound.method.startswith("refuted")
    assert bound.upper < 0.0
    v = [Fraction(value) for value in bound.witness["vector"]]
    form = sum(Fraction(M[i, j]) * v[i] * v[j] for i in range(4) for j in range(4))
    assert form < 0


def test_a_singular_matrix_is_no_positive_definite_one():
    plain = positive_definite(np.ones((2, 2)))  # (1, -1) / sqrt 2 shows it exactly
    assert plain.method.startswith("refuted")
    w = np.array([1.0, 3.0, 7.0])
    hidden = positive_definite(np.outer(w, w))  # no vector of floats lies in the null space exactly enough
    assert not hidden.method.startswith("certified")
    assert hidden.lower <= 0.0


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_one_unit_beyond_the_truth_is_caught(side):
    M = np.array([[2.0, 1.0], [1.0, 2.0]])  # eigenvalues 1 and 3, eigenvectors (1, -1) and (1, 1)
    beyond = {"lower": math.nextafter(1.0, 2.0), "upper": math.nextafter(1.0, 0.0)}[side]
    exact = dataclasses.replace(eigenvalue_min(M), lower=1.0, upper=1.0, witness={"vector": [1.0, -1.0]})
    assert check_witness(exact, "eigenvalue_min", M).holds
    sides = {"lower": 0.5, "upper": 2.0, side: beyond}
    assert not check_witness(dataclasses.replace(exact, **sides), "eigenvalue_min", M).holds


def test_a_bound_that_is_not_rounded_is_caught(monkeypatch):
    """Planted: the candidate is the float next to the Rayleigh quotient, taken without proof."""
    M = symmetric(np.random.default_rng(3), 6, 4.0)
    assert check_witness(eigenvalue_min(M), "eigenvalue_min", M).holds
    monkeypatch.setattr(spectra, "_candidates", lambda matrix, q: iter([math.nextafter(float(q), 1e9)]))
    monkeypatch.setattr(spectra, "_definite_above", lambda matrix, value: True)
    monkeypatch.setattr(spectra, "upward", lambda value: 2 * abs(float(value)))
    assert not check_witness(eigenvalue_min(M), "eigenvalue_min", M).holds


def test_elimination_never_certifies_an_indefinite_matrix():
    rng = np.random.default_rng(4)
    for _ in range(40):
        M = symmetric(rng, int(rng.integers(1, 9)), 3.0)
        with spectra.working_precision(64):
            certified = spectra.positive_pivots(spectra.ball_matrix(M))
        assert certified == (true_eigenvalues(M)[0] > 0)


# --- inverses ---------------------------------------------------------------------------------------------


def true_norm(A: np.ndarray, X: np.ndarray) -> mpmath.mpf:
    with mpmath.workdps(80):
        E = mpmath.eye(len(A)) - mpmath.matrix(A.tolist()) * mpmath.matrix(X.tolist())
        return max(mpmath.svd_r(E, compute_uv=False))


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6), error=st.sampled_from([0.0, 1e-10, 1e-3, 3.0]))
def test_residual_of_an_inverse(seed, size, error):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(size, size)) + 2.0 * np.eye(size)
    X = np.linalg.pinv(A) + error * rng.normal(size=(size, size))
    bound, truth = newton_schulz_residual(A, X), true_norm(A, X)
    assert bound.lower <= truth <= bound.upper
    assert bound.upper <= (1 + 1e-12) * bound.lower or bound.upper == 0.0
    assert check_witness(bound, "newton_schulz_residual", A, X).holds
    if bound.upper > 0.0:
        less = dataclasses.replace(bound, lower=0.0, upper=0.999 * bound.lower)
        assert not check_witness(less, "newton_schulz_residual", A, X).holds
        more = dataclasses.replace(bound, lower=1.001 * bound.upper, upper=math.inf)
        assert not check_witness(more, "newton_schulz_residual", A, X).holds


def test_an_exact_inverse_has_no_residual():
    bound = newton_schulz_residual(np.diag([2.0, 4.0]), np.diag([0.5, 0.25]))
    assert (bound.lower, bound.upper) == (0.0, 0.0)


# --- arguments --------------------------------------------------------------------------------------------


def test_arrays_of_any_backend(backend: Backend):
    M = np.array([[2.0, 0.5], [0.5, 1.0]])
    for function in (eigenvalue_min, eigenvalue_max, positive_definite):
        assert function(backend.asarray(M)) == function(M)
        assert check_witness(function(M), function.__name__, backend.asarray(M)).holds
    assert newton_schulz_residual(backend.asarray(M), backend.asarray(M)) == newton_schulz_residual(M, M)


@pytest.mark.parametrize("function", [eigenvalue_min, eigenvalue_max, positive_definite])
@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        ([[1.0]], TypeError, "matrix must be an array"),
        (np.ones((2, 3)), ValueError, "matrix must be a square matrix"),
        (np.ones((0, 0)), ValueError, r"matrix must have shape .* got \(0, 0\)"),
        (np.ones(3), ValueError, "matrix must have shape"),
        (np.array([[1.0, 2.0], [3.0, 1.0]]), ValueError, "matrix must equal its transpose exactly, got 2.0"),
        (np.array([[np.nan]]), ValueError, "matrix"),
        (np.array([[1]]), TypeError, "matrix"),
    ],
)
def test_bad_matrices(function, matrix, error, message):
    with pytest.raises(error, match=message):
        function(matrix)


def test_entries_at_the_end_of_the_range():
    M = np.array([[1.0, 0.5], [0.5, 1.0]])
    big = eigenvalue_min(2.0**1020 * M)
    assert big.lower <= 2.0**1019 <= big.upper
    with pytest.raises(NumericalError, match="scale the matrix"):
        eigenvalue_min(2.0**1023 * M)


def test_bad_inverse():
    with pytest.raises(ValueError, match="inverse"):
        newton_schulz_residual(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="matrix must be a square matrix"):
        newton_schulz_residual(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(NumericalError, match="range of float64"):
        newton_schulz_residual(1e200 * np.eye(2), np.eye(2))


def test_the_checker_refuses_a_matrix_that_is_not_symmetric_and_a_vector_of_zeros():
    M = np.array([[2.0, 1.0], [1.0, 2.0]])
    bound, skew = eigenvalue_min(M), np.array([[2.0, 1.5], [0.5, 2.0]])
    assert "not symmetric" in check_witness(bound, "eigenvalue_min", skew).reason
    assert "not symmetric" in check_witness(eigenvalue_max(M), "eigenvalue_max", skew).reason
    residual = newton_schulz_residual(M, 0.3 * np.eye(2))
    planted = dataclasses.replace(residual, lower=residual.upper, witness={"vector": [0.0, 0.0]})
    assert "zero" in check_witness(planted, "newton_schulz_residual", M, 0.3 * np.eye(2)).reason
