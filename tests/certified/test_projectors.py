"""Projectors and leading vectors in balls, against closed forms; equal eigenvalues are refused."""

import numpy as np
import pytest

flint = pytest.importorskip("flint")

from grng_ref import NumericalError  # noqa: E402
from grng_ref.certified.library import working_precision  # noqa: E402
from grng_ref.certified.projectors import leading_vector, projectors, unit_vector  # noqa: E402


def matrix(rows):
    return flint.arb_mat(rows)


def floats(balls):
    return np.array([[float(entry) for entry in row] for row in balls.tolist()])


def test_projectors_of_a_rotation_of_a_diagonal():
    """Eigenvectors (1, 1) and (1, -1) over the root of 2, of 5 and 1."""
    with working_precision(256):
        first, second = projectors("M", matrix([[3, 2], [2, 3]]))
        assert all(entry.contains(0.5) for entry in first.entries())
        assert second[0, 1].contains(-0.5)
        assert max(float(entry.rad()) for entry in first.entries()) < 1e-60
        q = unit_vector(first)
        assert q[0, 0].overlaps(flint.arb(0.5).sqrt())


@pytest.mark.parametrize("rows", [[[1, 0], [0, 1]], [[2, 0, 0], [0, 0, 0], [0, 0, 0]]])
def test_equal_eigenvalues_have_no_projectors(rows):
    with working_precision(256), pytest.raises(NumericalError, match="equal, or not proved to differ"):
        projectors("M", matrix(rows))


def test_leading_vector_needs_no_other_eigenvalue_to_be_simple():
    """``4 u u^T + I - u u^T`` with u = (2, 2, 1, 0) / 3: the eigenvalue 1 is there three times."""
    u = np.array([2, 2, 1, 0])
    M = matrix([[3 * int(a * b) + (9 if i == j else 0) for j, b in enumerate(u)] for i, a in enumerate(u)])
    with working_precision(256):
        found = leading_vector("M", M)
        sign = 1 if found[0, 0] > 0 else -1
        for entry, exact in zip(found.entries(), u, strict=True):
            assert (entry * sign - flint.arb(int(exact)) / 3).contains(0)
            assert float(entry.rad()) < 1e-60


@pytest.mark.parametrize("rows", [[[1, 0], [0, 1]], [[5, 0, 0], [0, 4, 0], [0, 0, 4]]])
def test_leading_vector_without_a_proved_gap_is_refused(rows):
    """Equal, or beside others that are too large together for the bound."""
    with working_precision(256), pytest.raises(NumericalError, match="no leading eigenvalue"):
        leading_vector("M", matrix(rows))


def test_balls_of_a_perturbed_matrix_hold_its_vector():
    """The radius covers every matrix in the balls: that of the midpoint and that of an end."""
    with working_precision(256):
        wide = matrix([[flint.arb(4, 1e-3), flint.arb(1, 1e-3)], [flint.arb(1, 1e-3), 2]])
        found = leading_vector("M", wide)
        for shift in (0.0, 9e-4):
            exact = np.linalg.eigh(np.array([[4 + shift, 1 - shift], [1 - shift, 2]]))[1][:, -1]
            exact = exact * np.sign(exact[0]) * (1 if found[0, 0] > 0 else -1)
            for entry, value in zip(found.entries(), exact, strict=True):
                assert abs(float(entry) - value) <= float(entry.rad()) + 1e-14
