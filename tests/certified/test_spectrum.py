"""Bounds of eigenvalues and norms: against known spectra, 80 digits, and the members of the balls."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grng_ref.arrays import NumericalError
from grng_ref.certified import (
    Enclosure,
    eigenvalue_bounds,
    eigenvalue_enclosure,
    gram_enclosure,
    norm_bounds,
    spectrum,
)

UNIT = 2.0**-53


def exact(matrix: np.ndarray) -> Enclosure:
    return Enclosure(matrix, np.zeros(matrix.shape))


def random_symmetric(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng([size, seed]).standard_normal((size, size))
    return root + root.T


def spectrum_in_digits(matrix: np.ndarray) -> list[Fraction]:
    """The eigenvalues of a float64 matrix, right to far more digits than float64 has."""
    with mpmath.workdps(80):
        values = mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True)
        return sorted(Fraction(*map(int, mpmath.libmp.to_rational(v._mpf_))) for v in values)


def holds(enclosure: Enclosure, truth: list[Fraction]) -> bool:
    triples = zip(truth, enclosure.midpoint, enclosure.radius, strict=True)
    return all(abs(t - Fraction(float(m))) <= Fraction(float(r)) for t, m, r in triples)


def hilbert(size: int) -> np.ndarray:
    return np.array([[1.0 / (i + j + 1) for j in range(size)] for i in range(size)])


MATRICES = {
    "one": np.array([[-0.3]]),
    "random": random_symmetric(7, 0),
    "larger": random_symmetric(30, 1),
    "rank one": np.full((6, 6), 0.1),
    "cluster": np.eye(5) + 1e-15 * np.round(random_symmetric(5, 2)),
    "diagonal": np.diag([3.0, -1e-200, 1e200]),
    "zero": np.zeros((3, 3)),
    "condition 1e10": hilbert(8),
}


@pytest.mark.parametrize("name", MATRICES)
def test_eigenvalues_lie_in_their_balls(name):
    matrix = MATRICES[name]
    found = eigenvalue_enclosure(exact(matrix))
    truth = spectrum_in_digits(matrix)
    assert holds(found, truth)
    size = len(matrix)
    # roundoff of an eigenbasis: a few n eps |M| in each of the n entries of a row
    assert np.all(found.radius <= 8 * size**2 * UNIT * np.max(np.abs(matrix)))
    lower, upper = eigenvalue_bounds(exact(matrix))
    assert Fraction(lower) <= truth[0]
    assert Fraction(upper) >= truth[-1]
    assert (lower, upper) == (found.lower[0], found.upper[-1])


def test_a_spectrum_in_closed_form():
    """The second difference matrix: 2 - 2 cos(k pi / (n + 1))."""
    size = 40
    matrix = 2.0 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    found = eigenvalue_enclosure(exact(matrix))
    with mpmath.workdps(60):
        angles = [mpmath.pi * k / (size + 1) for k in range(1, size + 1)]
        truth = [Fraction(*map(int, mpmath.libmp.to_rational((2 - 2 * mpmath.cos(a))._mpf_))) for a in angles]
    # 60 digits beside radii of 1e-14
    assert holds(found, truth)
    assert found.lower[0] > (1 - 1e-8) * float(truth[0])
    with pytest.raises(AssertionError):
        assert holds(found, [value + Fraction(1, 10**11) for value in truth])


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0])
def test_every_member_of_the_balls_is_covered(scale):
    rng = np.random.default_rng(3)
    middle, radius = random_symmetric(6, 4), scale * np.abs(random_symmetric(6, 5))
    found = eigenvalue_enclosure(Enclosure(middle, radius))
    for trial in range(60):
        ends = np.sign(random_symmetric(6, trial + 10)) if trial % 2 else rng.uniform(-1, 1) * np.ones((6, 6))
        values = np.linalg.eigvalsh(middle + ends * radius)
        # LAPACK's own roundoff, far below the radii
        assert np.all(np.abs(values - found.midpoint) <= found.radius + 1e-14 * np.linalg.norm(middle))
    # the worst member of a family with known ends: all of the radius along the leading eigenvector's signs
    vector = np.linalg.eigh(middle)[1][:, -1]
    worst = middle + np.sign(np.outer(vector, vector)) * radius
    assert np.linalg.eigvalsh(worst)[-1] > found.midpoint[-1] + 0.2 * found.radius[-1]


def test_a_gram_matrix_that_is_well_conditioned_keeps_eight_digits():
    import grng_ref as gr

    problem = gr.Problem(gr.two_layer(16, 256), gr.Gaussian())
    theta, x = problem.init(rng=0), np.random.default_rng(1).standard_normal((8, 16)) / 4
    found = gram_enclosure(problem, theta, x)
    lower, upper = eigenvalue_bounds(found)
    J = problem.jacobian(theta, x)[:, 0, :]
    values = np.linalg.svd(J, compute_uv=False) ** 2
    assert 0 < lower <= values[-1] * (1 + 1e-12)
    assert lower >= values[-1] * (1 - 1e-8)
    assert values[0] * (1 - 1e-12) <= upper <= values[0] * (1 + 1e-8)


@pytest.mark.parametrize("wide", [0.0, 1e-12])
def test_singular_matrices_are_not_certified(wide):
    vector = np.array([1.0, 2.0, -3.0, 0.5])
    matrix = np.outer(vector, vector)
    lower, upper = eigenvalue_bounds(Enclosure(matrix, np.full(matrix.shape, wide)))
    assert -1e-10 < lower <= 0.0
    assert upper >= 14.25


# --- planted errors -----------------------------------------------------------------------------------------


def without_radii(monkeypatch):
    old = spectrum._symmetric
    monkeypatch.setattr(spectrum, "_symmetric", lambda m: (old(m)[0], 0.0 * old(m)[1]))


def orthogonal_basis_taken_for_granted(monkeypatch):
    old = spectrum._eigenbasis
    monkeypatch.setattr(spectrum, "_eigenbasis", lambda m: 1.01 * old(m))
    monkeypatch.setattr(spectrum, "_row_sum", lambda m: 0)


def no_row_sums(monkeypatch):
    monkeypatch.setattr(spectrum, "_eigenbasis", lambda m: np.eye(len(m)))
    monkeypatch.setattr(spectrum, "_row_sum", lambda m: 0)


@pytest.mark.parametrize("plant", [without_radii, orthogonal_basis_taken_for_granted, no_row_sums])
def test_planted_errors_are_noticed(plant, monkeypatch):
    """A member of the balls at their ends, whose spectrum must be covered."""
    middle = np.round(random_symmetric(6, 4), 2)
    member = middle + 2.0**-20 * np.sign(random_symmetric(6, 9))
    balls = Enclosure(middle, np.full((6, 6), 2.0**-19))
    truth = spectrum_in_digits(member)
    assert holds(eigenvalue_enclosure(balls), truth)
    plant(monkeypatch)
    assert not holds(eigenvalue_enclosure(balls), truth)


@pytest.mark.parametrize("basis", [np.zeros((3, 3)), 2.0 * np.eye(3), np.ones((3, 3))])
def test_a_bad_basis_is_refused_and_a_poor_one_gives_wide_balls(basis, monkeypatch):
    matrix = random_symmetric(3, 0)
    truth = spectrum_in_digits(matrix)
    monkeypatch.setattr(spectrum, "_eigenbasis", lambda m: basis)
    with pytest.raises(NumericalError, match="the eigenbasis found in floating arithmetic is none"):
        eigenvalue_enclosure(exact(matrix))
    monkeypatch.setattr(spectrum, "_eigenbasis", lambda m: np.eye(3) + 0.1)
    found = eigenvalue_enclosure(exact(matrix))
    assert holds(found, truth)
    assert found.radius.max() > 0.1


# --- norms --------------------------------------------------------------------------------------------------


def test_norms_by_hand():
    assert norm_bounds(exact(np.array([3.0, -4.0]))) == (5.0, 5.0)
    assert norm_bounds(exact(np.zeros((2, 3)))) == (0.0, 0.0)
    assert norm_bounds(exact(np.array([[1e-320]]))) == (1e-320, 1e-320)
    assert norm_bounds(Enclosure(np.array(-2.0), np.array(0.5))) == (1.5, 2.5)
    lower, upper = norm_bounds(Enclosure(np.array([3.0, 4.0]), np.array([4.0, 1.0])))
    assert lower == 3.0
    assert upper == pytest.approx(math.sqrt(74.0), rel=1e-15)
    with pytest.raises(NumericalError, match="the norm leaves the range of float64"):
        norm_bounds(exact(np.full(2, 1.5e308)))


@given(
    m=st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=5),
    r=st.floats(0.0, 1e-3),
    position=st.floats(-1.0, 1.0),
)
def test_norm_bounds_are_bounds(m, r, position):
    middle = np.array(m)
    balls = Enclosure(middle, r * np.abs(middle))
    lower, upper = norm_bounds(balls)
    member = [
        Fraction(a) + Fraction(position) * Fraction(b) for a, b in zip(middle, balls.radius, strict=True)
    ]
    square = sum(value * value for value in member)
    assert Fraction(lower) ** 2 <= square <= Fraction(upper) ** 2
    # both are reached: at the ends of the balls, up to a few roundings
    ends = sum((abs(Fraction(a)) + Fraction(b)) ** 2 for a, b in zip(middle, balls.radius, strict=True))
    assert Fraction(upper) ** 2 <= ends * (1 + Fraction(16, 2**53))
    ends = sum((abs(Fraction(a)) - Fraction(b)) ** 2 for a, b in zip(middle, balls.radius, strict=True))
    assert Fraction(lower) ** 2 >= ends * (1 - Fraction(16, 2**53))
