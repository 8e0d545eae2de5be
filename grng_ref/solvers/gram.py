"""Solve in the Gram (dual) form: with F = B^T B only the matrix B B^T is factored, never F."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from ..arrays import Array, namespace
from ..arrays.linalg import cholesky, cholesky_solve, diagonal, eigh, norm, transpose
from .eigenbasis import numerical_rank, truncated_inverse
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
    return GramSolver(factor, damping).solve(v, coefficients)


class GramSolver:
    """The solves of `solve_gram` for many v: each factorization of B B^T is made at most once."""

    def __init__(self, factor: RowFactor, damping: float) -> None:
        self.factor, self.damping = factor, damping
        gram = factor.gram()
        self.norm = norm(gram)  # |B B^T|_F equals |F|_F
        self.trace = float(namespace(gram=gram).sum(diagonal(gram)))  # |B|_F^2
        self.root = cholesky(gram, shift=damping, overwrite=True) if damping > 0.0 else None

    def solve(self, v: Array, coefficients: Array | None = None) -> SolveResult:
        """``(B^T B + a I) x = v``."""
        if self.root is not None:
            result = self._attempt(v, coefficients, self._woodbury, self._dual)
            if result.success:
                return result
        split = self._split
        outside = split.outside(v) if self.damping == 0.0 else None
        return self._attempt(v, coefficients, split.solve, split.dual, split.rank, outside)

    @functools.cached_property
    def _split(self) -> _Split:
        return _Split(self.factor, *eigh(self.factor.gram()), self.damping)

    def _dual(self, u: Array) -> Array:
        """``(B B^T + a I)^{-1} u`` by Cholesky."""
        return cholesky_solve(self.root, u)

    def _woodbury(self, r: Array) -> Array:
        return (r - self.factor.rmatvec(self._dual(self.factor.matvec(r)))) / self.damping

    def _attempt(
        self,
        v: Array,
        coefficients: Array | None,
        approximate: Apply,
        dual: Apply,
        rank: int | None = None,
        outside: Array | None = None,
    ) -> SolveResult:
        factor, start, terms = self.factor, None, 0.0
        if coefficients is not None:
            start = factor.rmatvec(dual(coefficients))
            terms = math.sqrt(self.trace) * norm(coefficients)
        return refine(
            lambda x: factor.rmatvec(factor.matvec(x)) + self.damping * x,
            approximate,
            v,
            matrix_norm=self.norm + self.damping,
            method="gram",
            start=start,
            rank=rank,
            terms=terms,
            outside=outside,
        )


@dataclass(frozen=True, eq=False)
class _Split:
    """Solves by the parts inside and outside the row space, in the eigenbasis of ``B B^T``.

    An eigenvector of B B^T beyond the numerical rank is mapped to (nearly) zero by B^T, so it is dropped, at
    any a.
    """

    factor: RowFactor
    values: Array
    vectors: Array
    damping: float

    @property
    def rank(self) -> int:
        return numerical_rank(self.values)

    def dual(self, u: Array) -> Array:
        """``(B B^T + a I)^{-1} u``."""
        return self._filtered(u, self.damping)

    def _filtered(self, u: Array, damping: float) -> Array:
        inverse = truncated_inverse(self.values, damping)
        return self.vectors @ (inverse * (transpose(self.vectors) @ u))

    def _inside(self, r: Array) -> Array:
        """U with ``B^T u`` the part of r in the row space."""
        return self._filtered(self.factor.matvec(r), 0.0)

    def outside(self, r: Array) -> Array:
        """The part of r outside the row space; projected twice, since roundoff leaves some of it inside."""
        once = r - self.factor.rmatvec(self._inside(r))
        return once - self.factor.rmatvec(self._inside(once))

    def solve(self, r: Array) -> Array:
        """``(F + a I)^{-1} r``; at a = 0 of the part inside. Outside it is a division by a."""
        x = self.factor.rmatvec(self.dual(self._inside(r)))
        return x if self.damping == 0.0 else x + self.outside(r) / self.damping
