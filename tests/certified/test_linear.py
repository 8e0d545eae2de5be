"""Pivots of rational matrices and of balls."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest

from grng_ref.arrays import NumericalError
from grng_ref.certified.library import working_precision
from grng_ref.certified.linear import inverse_in_balls, positive_pivots, rational_matrix, scaled_identity


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_pivots_multiply_to_the_determinant(size):
    root = np.random.default_rng(size).integers(-3, 4, (size + 2, size)).astype(float)
    matrix = rational_matrix(root.T @ root + np.eye(size))
    pivots = positive_pivots("matrix", matrix)
    assert len(pivots) == size
    assert math.prod(Fraction(int(p.p), int(p.q)) for p in pivots) == Fraction(int(matrix.det().p))
    with working_precision(128):
        product = math.prod(positive_pivots("matrix", flint.arb_mat(matrix)))
        assert product.contains(matrix.det())
        assert product.rel_accuracy_bits() > 100


# indefinite, singular in two ways (the second loses its last pivot only), negative
NOT_POSITIVE = (
    [[1.0, 2.0], [2.0, 1.0]],
    [[1.0, 1.0], [1.0, 1.0]],
    [[2.0, 1.0, 3.0], [1.0, 1.0, 2.0], [3.0, 2.0, 5.0]],
    [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    [[-1.0]],
)


@pytest.mark.parametrize("entries", NOT_POSITIVE)
def test_matrices_that_are_not_positive_definite(entries):
    matrix = rational_matrix(np.array(entries))
    with pytest.raises(ValueError, match="prior must be positive definite"):
        positive_pivots("prior", matrix)
    with pytest.raises(ValueError, match="prior must be positive definite"), working_precision(128):
        positive_pivots("prior", flint.arb_mat(matrix))


def test_balls_that_decide_nothing_ask_for_precision():
    with pytest.raises(NumericalError, match="raise precision"), working_precision(53):
        positive_pivots("prior", flint.arb_mat([[flint.arb(1, 2)]]))
    with pytest.raises(NumericalError, match="raise precision"), working_precision(53):
        inverse_in_balls("prior", flint.arb_mat([[flint.arb(1, 2)]]))


def test_scaled_identity_keeps_the_kind():
    exact = scaled_identity(2, flint.fmpq(1, 3))
    assert exact == flint.fmpq_mat([[flint.fmpq(1, 3), 0], [0, flint.fmpq(1, 3)]])
    balls = scaled_identity(2, flint.arb(3))
    assert isinstance(balls, flint.arb_mat)
    assert balls.contains(flint.fmpq_mat([[3, 0], [0, 3]]))
