"""The Gaussian prior that a caller gives in one of three forms, as an information matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arrays import Array
from .library import exact_number, load_flint, symmetric
from .linear import (
    inverse_in_balls,
    log_of_product,
    positive_pivots,
    rational,
    rational_matrix,
    scaled_identity,
)


@dataclass(frozen=True, eq=False)
class Prior:
    """What was given: under which name, the exact matrix (P, P), and whether that is the covariance."""

    name: str
    matrix: Any  # fmpq_mat
    is_covariance: bool

    def exact_information(self) -> Any:
        """Y0 as ``fmpq_mat``; a ValueError unless the matrix is positive definite."""
        positive_pivots(self.name, self.matrix)
        return self.matrix.inv() if self.is_covariance else self.matrix

    def information_in_balls(self) -> tuple[Any, Any]:
        """Y0 as ``arb_mat`` and ``log det Y0`` as ``arb``, at the working precision.

        Raises
        ------
        ValueError
            The matrix is not positive definite.
        NumericalError
            The precision does not decide it, or is too small for the inverse.
        """
        balls = load_flint().arb_mat(self.matrix)
        logdet = log_of_product(positive_pivots(self.name, balls))
        if not self.is_covariance:
            return balls, logdet
        return inverse_in_balls(self.name, balls), -logdet


def read_prior(size: int, *, variance: Any, information: Array | None, covariance: Array | None) -> Prior:
    """The prior ``p0 I``, ``Y0^{-1}`` or ``P0`` of P parameters; exactly one must be given.

    Raises
    ------
    TypeError, ValueError
        None or several were given; a bad number; not a (P, P) array that equals its transpose.
    """
    matrices = {"prior_information": information, "prior_covariance": covariance}
    given = [name for name, value in {"prior_variance": variance, **matrices}.items() if value is not None]
    if len(given) != 1:
        raise ValueError(
            "exactly one of prior_variance, prior_information, prior_covariance must be given, got "
            f"{' and '.join(given) or 'none'}"
        )
    (name,) = given
    if name == "prior_variance":
        inverse = 1 / exact_number(name, variance)
        return Prior(name, scaled_identity(size, rational(inverse)), is_covariance=False)
    matrix = rational_matrix(symmetric(name, matrices[name], size))
    return Prior(name, matrix, is_covariance=name == "prior_covariance")
