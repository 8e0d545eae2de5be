"""Updates in whitened coordinates, shared by the beliefs that never form a P x P matrix.

With ``P^- = U U^T`` and ``V = U^T rows^T`` (P, m) the joint posterior is ``U (I + V V^T)^{-1} U^T``.
"""

from __future__ import annotations

from ..arrays import Array, namespace
from ..arrays.linalg import identity, solve_triangular, transpose
from ..directions import natural_direction


def compressed(rows: Array, targets: Array | None) -> tuple[Array, Array | None]:
    """At most P rows with the same ``rows^T rows`` and ``rows^T targets``."""
    xp = namespace(rows=rows)
    size = rows.shape[1]
    if rows.shape[0] <= size:
        return rows, targets
    basis, triangle = xp.linalg.qr(rows, mode="reduced")
    return triangle, None if targets is None else transpose(basis) @ targets


def stacked_basis(white: Array) -> tuple[Array, Array, Array]:
    """``[V; I] = [Q1; Q2] R``: orthonormal columns (P, m), (m, m), and R with ``R^T R = I + V^T V``."""
    xp = namespace(white=white)
    size, m = white.shape
    basis, triangle = xp.linalg.qr(xp.concat([white, identity(m, white)]), mode="reduced")
    return basis[:size, :], basis[size:, :], triangle


def whitened_step(white: Array, gradient: Array, targets: Array | None) -> Array:
    """``-(I + V V^T)^{-1} gradient``, for V (P, m) and a whitened gradient (P,).

    With targets, ``gradient = -V t``, it is the least-squares solution of ``[I; V^T] u = [0; t]``, that is
    ``Q1 R^{-T} t``: nothing is squared.
    """
    if white.shape[1] == 0:
        return -gradient
    if targets is None:
        return -natural_direction(transpose(white), gradient, damping=1.0)
    basis, _, triangle = stacked_basis(white)
    return basis @ solve_triangular(triangle, targets, lower=False, transposed=True)
