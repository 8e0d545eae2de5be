"""Solve in the Gram (dual) form: with F = B^T B only the matrix B B^T is factored, never F."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ..arrays import Array
from ..arrays.linalg import add_to_diagonal, cholesky, cholesky_solve, eigh, norm, transpose
from .eigenbasis import numerical_rank, truncated_inverse
from .result import SolveResult, refine


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
    space; refinement with the true residual cures both. At a = 0 the minimum-norm solution; a v outside
    the row space is the status ``"outside_range"``.

    Parameters
    ----------
    factor : RowFactor
        B (rows, P).
    v : array (P,)
    coefficients : array (rows,), optional
    """
    gram = factor.gram()
    gram_norm = norm(gram)  # equals |F|_F
    dual, rank = _dual_solver(gram, damping)

    def approximate(r: Array) -> Array:
        half = dual(factor.matvec(r))
        if damping == 0.0:
            return factor.rmatvec(dual(half))
        return (r - factor.rmatvec(half)) / damping

    result = refine(
        lambda x: factor.rmatvec(factor.matvec(x)) + damping * x,
        approximate,
        v,
        matrix_norm=gram_norm + damping,
        method="gram",
        start=None if coefficients is None else factor.rmatvec(dual(coefficients)),
        rank=rank,
    )
    if damping == 0.0 and result.status == "inaccurate":
        return replace(result, status="outside_range")
    return result


def _dual_solver(gram: Array, damping: float) -> tuple[Callable[[Array], Array], int | None]:
    """``u -> (B B^T + a I)^{-1} u`` by Cholesky; by eigenvalues, with the rank, where a is below roundoff.

    An eigenvector of B B^T beyond the numerical rank is mapped to (nearly) zero by B^T, so dropping it
    changes nothing that can be computed, at any a.
    """
    factor = cholesky(add_to_diagonal(gram, damping)) if damping > 0.0 else None
    if factor is not None:
        return (lambda u: cholesky_solve(factor, u)), None
    values, vectors = eigh(gram)
    inverse = truncated_inverse(values, damping)
    return (lambda u: vectors @ (inverse * (transpose(vectors) @ u))), numerical_rank(values)
