"""The low-rank belief: an information matrix that is diagonal plus a few columns squared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, check_representable, check_shape, like, namespace, row_major_copy
from ..arrays.linalg import identity, left_singular, qr_append, quiet, solve_triangular, transpose
from .base import check_observation, check_random_walk, check_rows, require_finite, square_of
from .full import FullBelief
from .whitened import Stacked, compressed


@dataclass(frozen=True, eq=False)
class LowRankBelief:
    """A Gaussian with the information ``Y = diag(d) + W W^T``.

    - Mean step: with the joint posterior, before it is truncated.
    - Projection: of ``[W, rows^T]`` the singular vectors of the r largest singular values are kept; the
      diagonal of what is left out is added to d, so that the diagonal of Y is exact.

    With r = P it is the full belief.

    Attributes
    ----------
    precisions : array (P,)
        d.
    columns : array (P, r)
        W, the largest columns first.

    Notes
    -----
    Source: our reconstruction; low-rank plus diagonal filters of this kind are classical by now (L-RVGA,
    Lambert, Bonnabel and Bach 2023; LO-FI, Chang et al. 2023).
    """

    precisions: Array
    columns: Array

    explicit: ClassVar[bool] = False

    def __post_init__(self) -> None:
        namespace(precisions=self.precisions, columns=self.columns)
        check_shape("precisions", self.precisions, (None,), "one entry a parameter")
        check_shape("columns", self.columns, (self.size, None), "(parameters, rank)")

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
    ) -> LowRankBelief:
        """The belief after ``P <- P / forgetting + noise I``; a number for the noise, no transition.

        Exact: with ``E = (I + q diag(d))^{-1}`` the new information has the diagonal ``E d`` and the columns
        ``E W R^{-1}``, ``R^T R = I + q W^T E W``.
        """
        q, phi = check_random_walk(
            "low-rank",
            self.precisions,
            transition=transition,
            offset=offset,
            noise=noise,
            forgetting=forgetting,
        )
        xp = namespace(precisions=self.precisions)
        precisions, columns = self.precisions, self.columns
        if phi < 1.0:
            precisions = check_representable("forgetting", phi, precisions) * precisions
            columns = phi**0.5 * columns
        if q > 0.0:
            shrink = 1.0 / (1.0 + check_representable("noise", q, precisions) * precisions)
            weighted = xp.sqrt(q * shrink)[:, None] * columns
            root, _ = qr_append(identity(columns.shape[1], columns), weighted)
            shrunk = shrink[:, None] * columns
            columns = transpose(solve_triangular(root, transpose(shrunk), lower=False, transposed=True))
            precisions = shrink * precisions
        return LowRankBelief(precisions, columns)

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[LowRankBelief, Array]:
        """The truncated posterior and the joint step of the mean; see the class and `Belief.update`.

        O(P (r + m)^2).
        """
        precision = check_observation(self.precisions, rows, gradient, targets, precision)
        xp = namespace(rows=rows)
        rank = self.columns.shape[1]
        with quiet():
            precisions = self.precisions + precision
            if targets is not None:
                targets = xp.concat([targets, xp.zeros(rank, **like(rows))])
            observed, targets = compressed(xp.concat([rows, transpose(self.columns)]), targets)
            columns = transpose(observed)
            deviations = 1.0 / xp.sqrt(precisions)
            white = deviations[:, None] * columns
            step = deviations * Stacked.of(white).step(deviations * gradient, targets)
            vectors, values = left_singular(columns)
            columns = row_major_copy(vectors * values[None, :])  # as a loaded state is
            left_out = columns[:, rank:]
            precisions = precisions + xp.sum(left_out * left_out, axis=1)
            require_finite("information", precisions)
        kept = xp.asarray(columns[:, :rank], copy=True)  # a view would keep the rest too
        return LowRankBelief(precisions, kept), require_finite("step", step)

    def observed_root(self, rows: Array) -> Array:
        """V (P + r, m) with ``V^T V = rows P rows^T``."""
        check_rows(self.precisions, rows)
        with quiet():
            deviations = 1.0 / namespace(rows=rows).sqrt(self.precisions)
            stacked = Stacked.of(deviations[:, None] * self.columns)
            return stacked.complement(deviations[:, None] * transpose(rows))

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m), the square of `observed_root`."""
        return square_of(self.observed_root(rows))

    def information(self) -> Array:
        """Y (P, P)."""
        diagonal = identity(self.size, self.precisions) * self.precisions[None, :]
        return require_finite("information", diagonal + self.columns @ transpose(self.columns))

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P)."""
        xp = namespace(precisions=self.precisions)
        diagonal = identity(self.size, self.precisions) * xp.sqrt(self.precisions)[None, :]
        return FullBelief(qr_append(diagonal, transpose(self.columns))[0]).covariance()
