"""The full belief that stores its information matrix Y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array
from ..arrays.linalg import (
    add_to_diagonal,
    cholesky_solve,
    identity,
    quiet,
    solve,
    solve_triangular,
    symmetrize,
    transpose,
)
from .base import check_observation, check_rows, check_square, require_finite, square_of
from .cholesky_root import inverse_of, positive_root
from .motion import Motion


@dataclass(frozen=True, eq=False)
class InformationBelief:
    """The information form: ``Y <- Y + rows^T rows``; a Cholesky factorization for every step, O(P^3).

    Attributes
    ----------
    matrix : array (P, P)
        Y, symmetric.
    """

    matrix: Array

    explicit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_square("matrix", self.matrix)

    @property
    def size(self) -> int:
        """P."""
        return int(self.matrix.shape[0])

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> InformationBelief:
        """The belief after ``P <- A P A^T / forgetting + Q``; see `Belief.predict`.

        ``M = A^{-T} (forgetting Y) A^{-1}``, then ``Y = (I + M Q)^{-1} M``; A may not be singular.
        """
        motion = Motion.checked(self.matrix, transition, offset, noise, forgetting)
        if motion.is_identity:
            return self
        matrix = motion.forgetting * self.matrix if motion.forgetting < 1.0 else self.matrix
        if motion.transition is not None:
            turned = solve("transition", transpose(motion.transition), matrix)
            matrix = symmetrize(solve("transition", transpose(motion.transition), transpose(turned)))
        noise_matrix = motion.noise(matrix)
        if noise_matrix is not None:
            spread = identity(self.size, matrix) + matrix @ noise_matrix
            matrix = symmetrize(solve("I + Y Q", spread, matrix))
        return InformationBelief(require_finite("information", matrix))

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[InformationBelief, Array]:
        """The posterior and the step of its mean; see `Belief.update`. It has no use for targets."""
        precision = check_observation(self.matrix[0, :], rows, gradient, targets, precision)
        with quiet():
            matrix = self.matrix if rows.shape[0] == 0 else self.matrix + transpose(rows) @ rows
            matrix = add_to_diagonal(matrix, precision)
            step = -cholesky_solve(positive_root("information matrix", matrix), gradient)
        return InformationBelief(matrix), require_finite("step", step)

    def observed_root(self, rows: Array) -> Array:
        """V (P, m) with ``V^T V = rows P rows^T``."""
        check_rows(self.matrix[0, :], rows)
        with quiet():
            root = positive_root("information matrix", self.matrix)
            return solve_triangular(root, transpose(rows), lower=True)

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m), the square of `observed_root`."""
        return square_of(self.observed_root(rows))

    def information(self) -> Array:
        """Y (P, P)."""
        return self.matrix

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P)."""
        return inverse_of("information matrix", self.matrix)
