"""Inverses of the matrices that beliefs store squared, refused where roundoff has eaten them."""

from __future__ import annotations

from ..arrays import Array, NumericalError, epsilon, namespace
from ..arrays.linalg import cholesky, diagonal, identity, quiet, solve_triangular, transpose
from .base import require_finite

LOST = "this form has lost its digits; 'square_root_information' keeps them"


def positive_root(name: str, matrix: Array) -> Array:
    """The lower Cholesky factor; a NumericalError where a pivot is missing, or nothing but roundoff.

    The diagonal of the matrix is the size of what a squared pivot is left of, so this does not depend on the
    units of the parameters.
    """
    root = cholesky(matrix)
    if root is not None:
        xp = namespace(matrix=matrix)
        pivots, roundoff = diagonal(root), matrix.shape[0] * epsilon(matrix) * diagonal(matrix)
        if bool(xp.all(pivots * pivots > roundoff)):
            return root
    raise NumericalError(f"the {name} is not positive definite to working precision: {LOST}")


def inverse_of(name: str, matrix: Array) -> Array:
    """The inverse of a symmetric matrix, by its Cholesky factor."""
    with quiet():
        root = positive_root(name, matrix)
        half = solve_triangular(root, identity(matrix.shape[0], matrix), lower=True)
        return require_finite(f"inverse of the {name}", transpose(half) @ half)
