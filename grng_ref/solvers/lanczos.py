"""The leading eigenvector of an operator given by its products."""

from __future__ import annotations

from ..arrays import Array, epsilon, namespace
from ..arrays.linalg import leading_pair_of_tridiagonal, norm
from .result import Apply


def leading_eigenvector(apply: Apply, start: Array, *, max_steps: int) -> Array:
    """The unit eigenvector of the largest eigenvalue of a symmetric positive semidefinite M.

    Lanczos iteration with full reorthogonalization, until ``|M x - value x| <= eps value``. Among the
    eigenvectors of a multiple eigenvalue it is the one along the start's part in their space. The start must
    have a part there, well above roundoff: what it does not contain cannot be found.

    Parameters
    ----------
    apply : callable
        ``x -> M x``, x an array of any shape.
    start : array
        Not zero.
    max_steps : int
        At least the rank of M, after which the Krylov space is exhausted and the answer exact. A step takes
        one product, and holds one vector.

    Notes
    -----
    Source: classical (Lanczos 1950; Paige 1971).
    """
    xp = namespace(start=start)

    def inner(x: Array, y: Array) -> float:
        return float(xp.sum(x * y))

    basis = [start / norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = apply(basis[-1])
        diagonal.append(inner(basis[-1], image))
        for one in basis + basis:  # once more: what roundoff left of the basis
            image = image - inner(one, image) * one
        left = norm(image)
        # Roundoff gives a multiple eigenvalue a second, arbitrary vector once the Krylov space is exhausted.
        split = 64 * len(basis) * epsilon(start)
        value, weights = leading_pair_of_tridiagonal(diagonal, beside, roundoff=split)
        if left * abs(weights[-1]) <= epsilon(start) * value or len(basis) >= max_steps:
            break
        beside.append(left)
        basis.append(image / left)
    found = 0.0 * start
    for weight, one in zip(weights, basis, strict=True):
        found = found + weight * one
    return found / norm(found)
