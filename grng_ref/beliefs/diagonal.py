"""The diagonal belief: one variance a parameter, in memory and time linear in P."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, check_choice, check_representable, check_shape, namespace
from ..arrays.linalg import identity, quiet, transpose
from .base import check_observation, check_random_walk, check_rows, require_finite, square_of
from .whitened import Stacked, compressed

PROJECTIONS = ("covariance", "precision")

_NEAR_ONE = 0.99  # leverages beyond it are recomputed without a subtraction; fewer than m / 0.99 can be


@dataclass(frozen=True, eq=False)
class DiagonalBelief:
    """Independent parameters, each with its own precision.

    Projection ``"covariance"``:
        The mean moves by the joint gain ``-(Y^- + rows^T rows)^{-1} gradient``; the variances are the
        diagonal of the joint posterior covariance.
    Projection ``"precision"``:
        The precisions are the diagonal of the posterior information, ``y + sum_k rows_k^2``; the mean moves
        by the belief's own gain, ``-gradient / y_new``.

    Attributes
    ----------
    precisions : array (P,)
        The diagonal of Y.
    projection : {"covariance", "precision"}

    Notes
    -----
    Source: the covariance projection is the fully decoupled extended Kalman filter (Puskorius and Feldkamp
    1991), the precision projection that of online diagonal approximations of the natural gradient
    (Ollivier 2018).
    """

    precisions: Array
    projection: str

    explicit: ClassVar[bool] = False

    def __post_init__(self) -> None:
        namespace(precisions=self.precisions)
        check_shape("precisions", self.precisions, (None,), "one entry a parameter")
        check_choice("projection", self.projection, PROJECTIONS)

    @property
    def size(self) -> int:
        """P."""
        return int(self.precisions.shape[0])

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> DiagonalBelief:
        """The belief after ``P <- P / forgetting + noise I``; a number for the noise, no transition."""
        q, phi = check_random_walk(
            "diagonal",
            self.precisions,
            transition=transition,
            offset=offset,
            noise=noise,
            forgetting=forgetting,
        )
        precisions = self.precisions
        if phi < 1.0:
            precisions = check_representable("forgetting", phi, precisions) * precisions
        if q > 0.0:
            precisions = precisions / (1.0 + check_representable("noise", q, precisions) * precisions)
        return DiagonalBelief(precisions, self.projection)

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[DiagonalBelief, Array]:
        """The projected posterior and the step of the mean; see the class and `Belief.update`.

        O(P m) for the precision projection, O(P m^2) for the covariance projection.
        """
        precision = check_observation(self.precisions, rows, gradient, targets, precision)
        xp = namespace(rows=rows)
        with quiet():
            prior = self.precisions + precision
            if self.projection == "precision" or rows.shape[0] == 0:
                posterior = prior + xp.sum(rows * rows, axis=0)
                step = -gradient / posterior
            else:
                rows, targets = compressed(rows, targets)
                deviations = 1.0 / xp.sqrt(prior)
                white = deviations[:, None] * transpose(rows)
                stacked = Stacked.of(white)
                step = deviations * stacked.step(deviations * gradient, targets)
                posterior = prior / _posterior_shares(white, stacked)
            require_finite("information", posterior)
        return DiagonalBelief(posterior, self.projection), require_finite("step", step)

    def observed_root(self, rows: Array) -> Array:
        """V (P, m) with ``V^T V = rows P rows^T``."""
        check_rows(self.precisions, rows)
        with quiet():
            return transpose(rows) / namespace(rows=rows).sqrt(self.precisions)[:, None]

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m), the square of `observed_root`."""
        return square_of(self.observed_root(rows))

    def information(self) -> Array:
        """Y (P, P), a diagonal matrix."""
        return _diagonal_matrix(self.precisions)

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P), a diagonal matrix."""
        with quiet():
            return _diagonal_matrix(require_finite("covariance", 1.0 / self.precisions))


def _diagonal_matrix(entries: Array) -> Array:
    return identity(entries.shape[0], entries) * entries[None, :]


def _posterior_shares(white: Array, stacked: Stacked) -> Array:
    """The diagonal of ``(I + V V^T)^{-1}``: what is left of every variance, for V (P, m).

    ``1 - h`` with the leverages h of V's rows in ``[V; I]``. Where h is near one, that subtraction would
    lose its digits: those few parameters (the leverages add up to less than m) get the information of
    their own block instead, ``I + V_b S^{-1} V_b^T`` with ``S = I + V_o^T V_o`` of the other ones.
    """
    xp = namespace(white=white)
    leverages = stacked.leverages(white.shape[0])
    shares = 1.0 - leverages
    near = leverages > _NEAR_ONE
    (places,) = xp.nonzero(near)
    if places.shape[0] == 0:
        return shares
    others = Stacked.of(xp.where(near[:, None], 0.0 * white, white))
    own = xp.take(white, places, axis=0)
    unexplained = others.whiten(transpose(own))  # (m, near)
    half = Stacked.of(unexplained).whiten(identity(own.shape[0], own))
    recomputed = xp.sum(half * half, axis=0)
    # back to their places, without assignment to an array of integers, which the standard lacks
    rank = xp.cumulative_sum(xp.astype(near, places.dtype)) - 1
    return xp.where(near, xp.take(recomputed, xp.where(near, rank, 0 * rank), axis=0), shares)
