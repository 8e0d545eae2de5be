"""The full belief in square-root information form, its default: an upper triangular R with ``R^T R = Y``.

Everything is an orthogonal transformation of R, so nothing is squared and nothing is subtracted: the form
keeps its digits at prior-to-noise ratios where the covariance forms have none left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, NumericalError, check_representable, namespace
from ..arrays.linalg import (
    has_roundoff_pivot,
    identity,
    qr_append,
    qr_by_size,
    quiet,
    solve,
    solve_triangular,
    transpose,
)
from .base import check_observation, check_rows, check_square, require_finite, square_of, with_precision
from .motion import Motion


@dataclass(frozen=True, eq=False)
class FullBelief:
    """A Gaussian with the information matrix ``Y = R^T R``.

    Attributes
    ----------
    root : array (P, P)
        R, upper triangular; the signs of its rows carry no meaning.
    """

    root: Array

    explicit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_square("root", self.root)

    @property
    def size(self) -> int:
        """P."""
        return int(self.root.shape[0])

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> FullBelief:
        """The belief after ``P <- A P A^T / forgetting + Q``; see `Belief.predict`.

        Forgetting scales R by its square root. With ``M = R A^{-1}`` and noise ``w = C u``, u ~ N(0, I), old
        and new parameters are joint Gaussian; a QR factorization of ``[[I, 0], [-M C, M]]`` eliminates u:
        O(P^3). Q may be singular, A may not.
        """
        motion = Motion.checked(self.root, transition, offset, noise, forgetting)
        if motion.is_identity:
            return self
        xp = namespace(root=self.root)
        shrink = check_representable("forgetting", math.sqrt(motion.forgetting), self.root)
        root = self.root if motion.forgetting == 1.0 else shrink * self.root
        if motion.transition is not None:
            root = transpose(solve("transition", transpose(motion.transition), transpose(root)))
        if motion.is_still:
            return FullBelief(root if motion.transition is None else qr_by_size(root)[1])
        zero = xp.zeros_like(root)
        if motion.deviation is None:  # Q = q I: u scaled like the parameters
            scale = check_representable("noise", motion.variance**-0.5, root)
            noise_rows = xp.concat([identity(self.size, root, scale), zero], axis=1)
            state_rows = xp.concat([-root, root], axis=1)
        else:
            noise_rows = xp.concat([identity(self.size, root), zero], axis=1)
            state_rows = xp.concat([-(root @ motion.deviation), root], axis=1)
        _, joint = qr_by_size(xp.concat([noise_rows, state_rows]))
        return FullBelief(
            xp.asarray(joint[self.size :, self.size :], copy=True)
        )  # a view would keep all of it

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[FullBelief, Array]:
        """The posterior and the step of its mean; see `Belief.update`.

        With targets the step is the least-squares solution of ``[R; rows] step = [0; targets]``, read off one
        QR factorization; otherwise two triangular solves. O(P^2 m), and O(P^3) with a precision.
        """
        precision = check_observation(self.root[0, :], rows, gradient, targets, precision)
        with quiet():
            after, half = self.observed(*with_precision(rows, targets, precision))
            if half is None:
                half = -solve_triangular(after.root, gradient, lower=False, transposed=True)
            step = solve_triangular(after.root, half, lower=False)
        return after, require_finite("step", step)

    def observed(self, rows: Array, targets: Array | None = None) -> tuple[FullBelief, Array | None]:
        """The posterior of checked rows, and with targets R step; see `qr_append`."""
        root, half = qr_append(self.root, rows, targets)
        if has_roundoff_pivot(root):
            raise NumericalError(
                "the information matrix overflowed or is singular to working precision: the rows and the "
                "prior leave a direction undetermined; lower the prior variance or use float64"
            )
        return FullBelief(root), half

    def whiten(self, rows: Array) -> Array:
        """``V = R^{-T} rows^T`` (P, m): ``V^T V = rows P rows^T``."""
        return solve_triangular(self.root, transpose(rows), lower=False, transposed=True)

    def observed_root(self, rows: Array) -> Array:
        """V (P, m) with ``V^T V = rows P rows^T``."""
        check_rows(self.root[0, :], rows)
        with quiet():
            return self.whiten(rows)

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m), the square of `observed_root`."""
        return square_of(self.observed_root(rows))

    def information(self) -> Array:
        """Y (P, P)."""
        with quiet():
            return require_finite("information", transpose(self.root) @ self.root)

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P), by triangular solves: ``R^{-1} R^{-T}``."""
        with quiet():
            inverse = solve_triangular(self.root, identity(self.size, self.root), lower=False)
            return require_finite("covariance", inverse @ transpose(inverse))
