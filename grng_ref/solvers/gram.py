"""Solve in the Gram (dual) form: with F = B^T B only the matrix B B^T is factored, never F."""

from __future__ import annotations

from typing import Protocol

from ..arrays import Array
from ..arrays.linalg import add_to_diagonal, cholesky, cholesky_solve, eigh, norm, transpose
from .eigenbasis import numerical_rank, truncated_inverse, unsolved_status
from .result import Apply, SolveResult, refine


class RowFactor(Protocol):
    """A matrix B (rows, P), dense or implicit."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, P)."""

    def matvec(self, v: Array) -> Array:
        """``B v``."""

    def rmatvec(self, u: Array) -> Array:
        """``B^T u``."""

    def gram(self) -> Array:
        """``B B^T`` (rows, rows)."""


def solve_gram(
    factor: RowFactor, v: Array, *, damping: float, coefficients: Array | None = None
) -> SolveResult:
    """Solve ``(B^T B + a I) x = v`` with factorizations of the size of B's rows only.

    With ``v = B^T c`` and c given: ``x = B^T (B B^T + a I)^{-1} c``. Otherwise the Woodbury form
    ``x = (v - B^T (B B^T + a I)^{-1} B v) / a``, which alone loses every digit when v is nearly in the row
    space; refinement with the true residual cures both. Where it does not (a near the roundoff of F), v is
    split in the eigenbasis of B B^T into its parts inside and outside the row space. At a = 0 the
    minimum-norm solution; a v outside the row space is the status ``"outside_range"``.

    Parameters
    ----------
    factor : RowFactor
        B (rows, P).
    v : array (P,)
    coefficients : array (rows,), optional
    """
    gram = factor.gram()
    matrix_norm = norm(gram) + damping  # |B B^T|_F equals |F|_F

    def attempt(approximate: Apply, dual: Apply, rank: int | None) -> SolveResult:
        return refine(
            lambda x: factor.rmatvec(factor.matvec(x)) + damping * x,
            approximate,
            v,
            matrix_norm=matrix_norm,
            method="gram",
            start=None if coefficients is None else factor.rmatvec(dual(coefficients)),
            rank=rank,
            unsolved=unsolved_status(damping),
        )

    root = cholesky(add_to_diagonal(gram, damping)) if damping > 0.0 else None
    if root is not None:

        def dual(u: Array) -> Array:
            return cholesky_solve(root, u)

        result = attempt(lambda r: (r - factor.rmatvec(dual(factor.matvec(r)))) / damping, dual, None)
        if result.success:
            return result
    return attempt(*_split_solver(factor, gram, damping))


def _split_solver(factor: RowFactor, gram: Array, damping: float) -> tuple[Apply, Apply, int]:
    """An approximate solver ``r -> x``, the dual solver ``u -> (B B^T + a I)^{-1} u``, and the rank.

    An eigenvector of B B^T beyond the numerical rank is mapped to (nearly) zero by B^T, so the dual solver
    drops it, at any a. The part of r outside the row space is divided by a, which may be tiny: it is
    projected twice, since roundoff leaves some of the row space in it after the first time.
    """
    values, vectors = eigh(gram)
    inverse, damped_inverse = truncated_inverse(values, 0.0), truncated_inverse(values, damping)

    def dual(u: Array, scale: Array = damped_inverse) -> Array:
        return vectors @ (scale * (transpose(vectors) @ u))

    def approximate(r: Array) -> Array:
        inside = dual(factor.matvec(r), inverse)  # B^T inside is the part of r in the row space
        x = factor.rmatvec(dual(inside))
        if damping == 0.0:
            return x
        outside = r - factor.rmatvec(inside)
        outside = outside - factor.rmatvec(dual(factor.matvec(outside), inverse))
        return x + outside / damping

    return approximate, dual, numerical_rank(values)
