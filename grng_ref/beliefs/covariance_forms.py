"""Full beliefs that store a covariance, or a square root of it: what most filters do.

They are here to be compared with: a covariance is made smaller by subtraction, and at a prior-to-noise
ratio of 1/eps nothing is left of it (the page on beliefs has the table). `FullBelief` is the one to use.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from ..arrays import Array, NumericalError, like, namespace
from ..arrays.linalg import (
    cholesky,
    cholesky_solve,
    identity,
    quiet,
    solve_triangular,
    subtract_square,
    symmetric_from_lower,
    symmetric_times,
    symmetrize,
    transpose,
)
from .base import check_observation, check_rows, check_square, require_finite, with_precision
from .cholesky_root import LOST, inverse_of
from .motion import Motion


class _CovarianceForm(ABC):
    """The motion and the observations that every form with a covariance shares."""

    explicit: ClassVar[bool] = True

    matrix: Array

    def __post_init__(self) -> None:
        check_square("matrix", self.matrix)

    @property
    def size(self) -> int:
        """P."""
        return int(self.matrix.shape[0])

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[Self, Array]:
        """The posterior and the step of its mean; see `Belief.update`.

        With targets the step is ``K t`` with the gain ``K = P rows^T (rows P rows^T + I)^{-1}``; without,
        ``-P_new gradient``. A precision is P more rows.
        """
        precision = check_observation(self.matrix[0, :], rows, gradient, targets, precision)
        rows, targets = with_precision(rows, targets, precision)
        with quiet():
            posterior, step = self, None if targets is None else 0.0 * gradient
            if rows.shape[0] > 0:
                posterior, step = self._condition(rows, targets)
            if step is None:
                step = -posterior._times(gradient)
        return posterior, require_finite("step", step)

    @abstractmethod
    def _condition(self, rows: Array, targets: Array | None) -> tuple[Self, Array | None]:
        """The posterior, and its step where targets are given."""

    @abstractmethod
    def _times(self, v: Array) -> Array:
        """``P v``."""

    @abstractmethod
    def covariance(self) -> Array:
        """P (P, P)."""

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m)."""
        check_rows(self.matrix[0, :], rows)
        with quiet():
            return require_finite("covariance", symmetrize(rows @ self._times(transpose(rows))))

    def information(self) -> Array:
        """``P^{-1}`` (P, P), by a Cholesky factorization.

        Raises
        ------
        NumericalError
            The covariance is not positive definite: this form has lost its digits.
        """
        return inverse_of("covariance", self.covariance())


@dataclass(frozen=True, eq=False)
class CovarianceBelief(_CovarianceForm):
    """The covariance form: ``P <- P - W S^{-1} W^T``, ``W = P rows^T``, ``S = rows W + I``; O(P^2 m).

    Attributes
    ----------
    matrix : array (P, P)
        P by its lower triangle; what is above is not read.
    """

    matrix: Array

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> Self:
        """The belief after ``P <- A P A^T / forgetting + Q``; see `Belief.predict`."""
        motion = Motion.checked(self.matrix, transition, offset, noise, forgetting)
        if motion.is_identity:
            return self
        return type(self)(require_finite("covariance", motion.moved(self.covariance())))

    def _condition(self, rows: Array, targets: Array | None) -> tuple[Self, Array | None]:
        spread, root = self._gain_factors(rows)
        half = transpose(solve_triangular(root, transpose(spread), lower=True))  # W L^{-T}
        step = None if targets is None else half @ solve_triangular(root, targets, lower=True)
        return type(self)(subtract_square(self.matrix, half)), step

    def _gain_factors(self, rows: Array) -> tuple[Array, Array]:
        """``W = P rows^T`` (P, m) and the lower Cholesky factor of ``S = rows W + I``."""
        spread = self._times(transpose(rows))
        root = cholesky(symmetrize(rows @ spread) + identity(rows.shape[0], rows))
        if root is None:
            raise NumericalError(f"the covariance is not positive definite: {LOST}")
        return spread, root

    def _times(self, v: Array) -> Array:
        return symmetric_times(self.matrix, v)

    def covariance(self) -> Array:
        """P (P, P)."""
        return symmetric_from_lower(self.matrix)


@dataclass(frozen=True, eq=False)
class JosephBelief(CovarianceBelief):
    """Joseph's form: ``P <- (I - K rows) P (I - K rows)^T + K K^T``, ``K = W S^{-1}``; O(P^2 m).

    Positive semidefinite up to roundoff for any gain K, but no more accurate than the covariance form where
    the gain is.
    """

    def _condition(self, rows: Array, targets: Array | None) -> tuple[Self, Array | None]:
        spread, root = self._gain_factors(rows)
        gain = transpose(cholesky_solve(root, transpose(spread)))
        kept = self.covariance() - gain @ transpose(spread)
        matrix = kept - (kept @ transpose(rows)) @ transpose(gain) + gain @ transpose(gain)
        return type(self)(symmetrize(matrix)), None if targets is None else gain @ targets


@dataclass(frozen=True, eq=False)
class SquareRootCovarianceBelief(_CovarianceForm):
    """The square-root covariance form: a lower triangular C with ``C C^T = P``, kept by QR; O(P^3).

    Attributes
    ----------
    matrix : array (P, P)
        C; the signs of its columns carry no meaning.
    """

    matrix: Array

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> Self:
        """The belief after ``P <- A P A^T / forgetting + Q``; see `Belief.predict`."""
        motion = Motion.checked(self.matrix, transition, offset, noise, forgetting)
        if motion.is_identity:
            return self
        xp = namespace(matrix=self.matrix)
        moved = self.matrix if motion.transition is None else motion.transition @ self.matrix
        moved = moved / math.sqrt(motion.forgetting)
        noise_root = motion.noise_root(moved)
        if noise_root is None:
            return type(self)(moved)
        return type(self)(_lower(xp.concat([transpose(moved), transpose(noise_root)])))

    def _condition(self, rows: Array, targets: Array | None) -> tuple[Self, Array | None]:
        xp = namespace(matrix=self.matrix)
        m = rows.shape[0]
        spread = transpose(rows @ self.matrix)  # C^T rows^T
        above = xp.concat([identity(m, rows), xp.zeros((m, self.size), **like(rows))], axis=1)
        array = _lower(xp.concat([above, xp.concat([spread, transpose(self.matrix)], axis=1)]))
        step = None
        if targets is not None:  # [[S^{1/2}, 0], [K S^{1/2}, C_new]]
            step = array[m:, :m] @ solve_triangular(array[:m, :m], targets, lower=True)
        return type(self)(xp.asarray(array[m:, m:], copy=True)), step  # a view would keep all of it

    def _times(self, v: Array) -> Array:
        return self.matrix @ (transpose(self.matrix) @ v)

    def covariance(self) -> Array:
        """``C C^T`` (P, P)."""
        with quiet():
            return require_finite("covariance", self.matrix @ transpose(self.matrix))


def _lower(rows: Array) -> Array:
    """The lower triangular C with ``C C^T = rows^T rows``."""
    return transpose(namespace(rows=rows).linalg.qr(rows, mode="reduced")[1])
