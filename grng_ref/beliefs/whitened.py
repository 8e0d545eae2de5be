"""Updates in whitened coordinates, shared by the beliefs that never form a P x P matrix.

With ``P^- = U U^T`` and ``V = U^T rows^T`` (P, m) the joint posterior is ``U (I + V V^T)^{-1} U^T``.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, like, namespace
from ..arrays.linalg import identity, qr_by_size, solve_triangular, transpose


def compressed(rows: Array, targets: Array | None) -> tuple[Array, Array | None]:
    """At most P rows with the same ``rows^T rows`` and ``rows^T targets``."""
    if rows.shape[0] <= rows.shape[1]:
        return rows, targets
    basis, triangle = qr_by_size(rows)
    return triangle, None if targets is None else transpose(basis) @ targets


class Stacked(NamedTuple):
    """``[V; I] = basis triangle`` for V (P, m), so that ``triangle^T triangle = I + V^T V``.

    Columns of zeros go last: in front they would exchange the largest rows with those of the identity, which
    `qr_by_size` keeps apart.
    """

    basis: Array  #: (P + m, m), orthonormal columns
    triangle: Array  #: (m, m), upper triangular

    @classmethod
    def of(cls, white: Array) -> Stacked:
        """The factorization for V, m > 0."""
        xp = namespace(white=white)
        return cls(*qr_by_size(xp.concat([white, identity(white.shape[1], white)])))

    def whiten(self, columns: Array) -> Array:
        """Z with ``Z^T Z = X^T (I + V^T V)^{-1} X`` for X (m,) or (m, k)."""
        return solve_triangular(self.triangle, columns, lower=False, transposed=True)

    def leverages(self, size: int) -> Array:
        """The diagonal of ``V (I + V^T V)^{-1} V^T`` (P,)."""
        xp = namespace(basis=self.basis)
        own = self.basis[:size, :]
        return xp.sum(own * own, axis=1)

    def complement(self, columns: Array) -> Array:
        """``[X; 0]`` without its part in the range of ``[V; I]``: Z with ``Z^T Z = X^T (I + V V^T)^{-1} X``.

        Its first P rows are ``(I + V V^T)^{-1} X``.
        """
        xp = namespace(basis=self.basis, columns=columns)
        zeros = xp.zeros((self.triangle.shape[0], *columns.shape[1:]), **like(columns))
        left = xp.concat([columns, zeros])
        for _ in range(2):  # the first subtraction leaves roundoff in the range, where it is large
            left = left - self.basis @ (transpose(self.basis) @ left)
        return left

    def step(self, gradient: Array, targets: Array | None) -> Array:
        """``-(I + V V^T)^{-1} gradient``, for a whitened gradient (P,).

        With targets, ``gradient = -V t``, it is the least-squares solution of ``[I; V^T] u = [0; t]``, that
        is ``V (I + V^T V)^{-1} t``: nothing is squared and nothing subtracted.
        """
        size = gradient.shape[0]
        if targets is None:
            return -self.complement(gradient)[:size]
        return self.basis[:size, :] @ self.whiten(targets)
