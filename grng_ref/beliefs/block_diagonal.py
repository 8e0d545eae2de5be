"""The block-diagonal belief: the decoupled extended Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar

from ..arrays import Array, like, namespace
from ..arrays.linalg import quiet, solve_triangular
from .base import check_observation, check_random_walk, check_rows, precision_rows, require_finite, square_of
from .full import FullBelief
from .whitened import Stacked, compressed


@dataclass(frozen=True, eq=False)
class BlockDiagonalBelief:
    """Independent groups of parameters, each with a full belief in square-root information form.

    - Mean step: the *joint* gain, ``-(Y^- + rows^T rows)^{-1} gradient`` with all blocks at once.
    - Projection: the covariance of every block is its block of the joint posterior covariance.

    A block's marginal information is that of its own rows, with what the other blocks leave unexplained
    as their noise, ``Y_b + rows_b^T (I + sum_{c != b} rows_c P_c rows_c^T)^{-1} rows_b``: a sum, so
    nothing is subtracted.

    Attributes
    ----------
    blocks : tuple of FullBelief
        In the order of the parameters.

    Notes
    -----
    Source: classical (decoupled extended Kalman filter, Puskorius and Feldkamp 1991).
    """

    blocks: tuple[FullBelief, ...]

    explicit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("blocks must hold at least one belief, got none")

    @property
    def size(self) -> int:
        """P."""
        return sum(block.size for block in self.blocks)

    @property
    def _template(self) -> Array:
        """A vector of P entries, of the belief's kind."""
        xp = namespace(root=self.blocks[0].root)
        return xp.zeros(self.size, **like(self.blocks[0].root))

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> BlockDiagonalBelief:
        """The belief after ``P <- P / forgetting + noise I``; a number for the noise, no transition."""
        q, phi = check_random_walk(
            "block-diagonal",
            self._template,
            transition=transition,
            offset=offset,
            noise=noise,
            forgetting=forgetting,
        )
        return BlockDiagonalBelief(tuple(one.predict(noise=q, forgetting=phi) for one in self.blocks))

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[BlockDiagonalBelief, Array]:
        """The projected posterior and the joint step of the mean; see the class and `Belief.update`.

        O(P m^2 + sum P_b^2 m) for m <= P rows, and O(sum P_b^3) more with a precision.
        """
        precision = check_observation(self._template, rows, gradient, targets, precision)
        xp = namespace(rows=rows)
        rows, targets = compressed(rows, targets)
        with quiet():
            blocks = self.blocks
            if precision > 0.0:
                blocks = tuple(b.observed(precision_rows(precision, b.root))[0] for b in blocks)
            own_rows = self._split(rows)
            whites = [b.whiten(r) for b, r in zip(blocks, own_rows, strict=True)]
            own_gradients = self._split(gradient[None, :])
            white_gradients = [b.whiten(g)[:, 0] for b, g in zip(blocks, own_gradients, strict=True)]
            white_step = _step(xp.concat(whites), xp.concat(white_gradients), targets)
            steps = [
                solve_triangular(b.root, part[0, :], lower=False)
                for b, part in zip(blocks, self._split(white_step[None, :]), strict=True)
            ]
            posterior = tuple(
                b.observed(own)[0] for b, own in zip(blocks, _unexplained(own_rows, whites), strict=True)
            )
        return BlockDiagonalBelief(posterior), require_finite("step", xp.concat(steps))

    def observed_root(self, rows: Array) -> Array:
        """V (P, m) with ``V^T V = rows P rows^T``."""
        check_rows(self._template, rows)
        parts = zip(self.blocks, self._split(rows), strict=True)
        return namespace(rows=rows).concat([b.observed_root(r) for b, r in parts])

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m), the square of `observed_root`."""
        return square_of(self.observed_root(rows))

    def information(self) -> Array:
        """Y (P, P), with zeros between the blocks."""
        return self._dense([block.information() for block in self.blocks])

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P), with zeros between the blocks."""
        return self._dense([block.covariance() for block in self.blocks])

    def _split(self, rows: Array) -> list[Array]:
        """The columns of every block."""
        bounds = accumulate((block.size for block in self.blocks), initial=0)
        return [rows[:, first:last] for first, last in pairwise(bounds)]

    def _dense(self, matrices: list[Array]) -> Array:
        xp = namespace(matrix=matrices[0])
        bands = []
        first = 0
        for matrix in matrices:
            height = matrix.shape[0]
            left = xp.zeros((height, first), **like(matrix))
            right = xp.zeros((height, self.size - first - height), **like(matrix))
            bands.append(xp.concat([left, matrix, right], axis=1))
            first += height
        return xp.concat(bands)


def _step(white: Array, gradient: Array, targets: Array | None) -> Array:
    return -gradient if white.shape[1] == 0 else Stacked.of(white).step(gradient, targets)


def _unexplained(rows: list[Array], whites: list[Array]) -> list[Array]:
    """Z_b with ``Z_b^T Z_b = rows_b^T (I + sum_{c != b} V_c^T V_c)^{-1} rows_b``, for every block."""
    xp = namespace(rows=rows[0])
    if len(rows) == 1 or rows[0].shape[0] == 0:
        return rows
    made = []
    for index, own in enumerate(rows):
        others = xp.concat([white for other, white in enumerate(whites) if other != index])
        made.append(Stacked.of(others).whiten(own))
    return made
