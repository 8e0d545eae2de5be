"""The full belief in square-root information form: an upper triangular R with ``R^T R = Y``.

Everything is an orthogonal transformation of R, so nothing is squared and nothing is subtracted: the form
keeps its digits at prior-to-noise ratios where the covariance forms have none left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..arrays import (
    Array,
    NumericalError,
    check_choice,
    check_finite,
    check_real,
    check_representable,
    check_shape,
    epsilon,
    like,
    namespace,
)
from ..arrays.linalg import diagonal, identity, norm, qr_append, quiet, solve_triangular, transpose

FORMS = ("auto", "square_root_information")


@dataclass(frozen=True, eq=False)
class FullBelief:
    """A Gaussian with the information matrix ``Y = R^T R``.

    Attributes
    ----------
    root : array (P, P)
        R, upper triangular; the signs of its rows carry no meaning.
    """

    root: Array

    def __post_init__(self) -> None:
        namespace(root=self.root)
        check_shape("root", self.root, (None, *self.root.shape[:1]), "(parameters, parameters)")

    @property
    def size(self) -> int:
        """P."""
        return int(self.root.shape[0])

    def predict(self, *, noise: float = 0.0, forgetting: float = 1.0) -> FullBelief:
        """The belief after ``P <- P / forgetting + noise I``.

        Forgetting scales R by its square root. With noise, the old and the new parameters are joint
        Gaussian; a QR factorization of ``[[I/sqrt(q), 0], [-R, R]]`` eliminates the noise: O(P^3).

        Parameters
        ----------
        noise : float
            Variance q >= 0 of the random walk.
        forgetting : float
            phi in (0, 1].
        """
        q = check_real("noise", noise, minimum=0.0)
        phi = check_real("forgetting", forgetting, minimum=0.0, exclusive=True)
        if phi > 1.0:
            raise ValueError(f"forgetting must lie in (0, 1], got {phi}")
        xp = namespace(root=self.root)
        shrink = check_representable("forgetting", math.sqrt(phi), self.root)
        root = self.root if phi == 1.0 else shrink * self.root
        if q == 0.0:
            return FullBelief(root)
        zero = xp.zeros_like(root)
        deviation = check_representable("noise", q**-0.5, root)
        noise_rows = xp.concat([identity(self.size, root, deviation), zero], axis=1)
        state_rows = xp.concat([-root, root], axis=1)
        # The larger rows go first: appended to smaller ones they would drown them in their own roundoff.
        first, second = noise_rows, state_rows
        if norm(root) > norm(noise_rows):
            first, second = state_rows, noise_rows
        joint = qr_append(xp.concat([first, xp.concat([zero, zero], axis=1)]), second)
        return FullBelief(joint[self.size :, self.size :])

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[FullBelief, Array]:
        """The posterior and the step of its mean; see `Belief.update`.

        With targets the step is the least-squares solution of ``[R; rows] step = [0; targets]``, read off one
        QR factorization; otherwise two triangular solves. O(P^2 m), and O(P^3) with a precision.
        """
        xp = namespace(root=self.root, rows=rows, gradient=gradient, targets=targets)
        check_shape("rows", rows, (None, self.size), "(observations, parameters)")
        check_shape("gradient", gradient, (self.size,), "one entry a parameter")
        check_finite(rows=rows, gradient=gradient, targets=targets)
        precision = check_real("precision", precision, minimum=0.0)
        if targets is None:
            targets_column = xp.zeros((rows.shape[0], 1), **like(rows))
        else:
            check_shape("targets", targets, (rows.shape[0],), "one entry an observation")
            targets_column = targets[:, None]
        stacked = xp.concat([rows, targets_column], axis=1)
        if precision > 0.0:
            extra = identity(self.size, rows, math.sqrt(precision))
            zeros = xp.zeros((self.size, 1), **like(rows))
            stacked = xp.concat([stacked, xp.concat([extra, zeros], axis=1)])
        corner = xp.zeros((self.size + 1, 1), **like(rows))
        square = xp.concat([self.root, xp.zeros((1, self.size), **like(rows))])
        updated = qr_append(xp.concat([square, corner], axis=1), stacked)
        root, half = updated[: self.size, : self.size], updated[: self.size, self.size]
        _check_pivots(root)
        if targets is None:
            half = -solve_triangular(root, gradient, lower=False, transposed=True)
        step = solve_triangular(root, half, lower=False)
        if not bool(xp.all(xp.isfinite(step))):
            raise NumericalError("the information matrix is singular or overflowed in the update")
        return FullBelief(root), step

    def information(self) -> Array:
        """Y (P, P)."""
        with quiet():
            return _finite("information", transpose(self.root) @ self.root)

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P), by triangular solves: ``R^{-1} R^{-T}``."""
        with quiet():
            inverse = solve_triangular(self.root, identity(self.size, self.root), lower=False)
            return _finite("covariance", inverse @ transpose(inverse))


def _finite(name: str, matrix: Array) -> Array:
    xp = namespace(matrix=matrix)
    if not bool(xp.all(xp.isfinite(matrix))):
        raise NumericalError(
            f"the {name} overflowed: a direction that no observation reaches is forgotten without bound"
        )
    return matrix


def _check_pivots(root: Array) -> None:
    """Raise where a pivot of R is nothing but roundoff: below ``eps`` times the length of its column.

    The factorization is backward stable column by column, so such a matrix may as well be singular; a small
    pivot in a small column (parameters of different scales) is a good one.
    """
    xp = namespace(root=root)
    pivots = xp.abs(diagonal(root))
    suspicious = root.shape[0] * epsilon(root) * float(xp.max(pivots))
    smallest = float(xp.finfo(root.dtype).smallest_normal)  # what is below has lost its digits
    if float(xp.min(pivots)) > max(suspicious, smallest):  # O(P), and nearly always enough
        return
    lengths = xp.sqrt(xp.sum(root * root, axis=0))
    if not bool(xp.all((pivots > epsilon(root) * lengths) & (pivots >= smallest))):
        raise NumericalError(
            "the information matrix is singular to working precision: the rows and the prior leave a "
            "direction undetermined; lower the prior variance or use float64"
        )


def full_belief(mean_like: Array, *, prior_variance: float, form: str = "auto") -> FullBelief:
    """The prior belief ``P_0 = prior_variance I`` over parameters of the shape of ``mean_like`` (P,).

    Parameters
    ----------
    mean_like : array (P,)
        Gives the size, library, dtype and device.
    prior_variance : float
        p0 > 0.
    form : {"auto", "square_root_information"}

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: classical (square-root information filter, Bierman 1977).
    """
    namespace(mean_like=mean_like)
    check_shape("mean_like", mean_like, (None,), "one entry a parameter")
    variance = check_real("prior_variance", prior_variance, minimum=0.0, exclusive=True)
    check_choice("form", form, FORMS)
    deviation = check_representable("prior_variance", variance**-0.5, mean_like)
    return FullBelief(identity(mean_like.shape[0], mean_like, deviation))
