"""The full Fisher: the exact reference, matrix-free, dense or in Gram form."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, NumericalError, check_shape, namespace
from ..arrays.linalg import (
    add_to_diagonal,
    cholesky,
    cholesky_solve,
    diagonal,
    eigh,
    is_singular,
    norm,
    quiet,
    transpose,
)
from ..solvers import (
    SolveResult,
    check_row_coefficients,
    solve_cholesky,
    solve_eigenbasis,
    solve_gram,
    solve_newton_schulz,
)
from ..solvers.gram import GramSolver
from ..solvers.result import Apply
from .base import Curvature
from .parts import blend
from .score import DenseRows, LayerRows, layer_rows

DENSE_SOLVERS = {
    "cholesky": solve_cholesky,
    "eigh": solve_eigenbasis,
    "newton_schulz": solve_newton_schulz,
}


@dataclass(frozen=True, eq=False)
class FullFisher(Curvature):
    """``F = B^T B`` (P, P), held as the rows B (dense or in layer factors), never formed unless asked.

    ``"auto"`` takes the Gram form where B has no more rows than columns, else Cholesky (the eigenbasis at
    zero damping). Rows that depend on the others of their example are not counted, and the Gram form leaves
    them out: a Categorical of K classes has K - 1 rows an example, see `LayerRows.reduced`.
    """

    rows: DenseRows | LayerRows

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {
        "exact": ("gram", "cholesky", "cg", "eigh", "newton_schulz"),
    }

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self.rows.shape[1], self.rows.shape[1]

    @property
    def _template(self) -> Array:
        return self.rows.matrix if isinstance(self.rows, DenseRows) else self.rows.activations[0]

    def _product(self, columns: Array) -> Array:
        return self.rows.rmatvec(self.rows.matvec(columns))

    def to_dense(self) -> Array:
        """F (P, P)."""
        return self.rows.normal()

    def diagonal(self) -> Array:
        """The diagonal of F (P,), without forming F."""
        return self.rows.diagonal()

    def trace(self) -> Array:
        """The trace, 0-d: the squared norm of B."""
        return self.rows.squared_norm()

    @functools.cached_property
    def _reduced(self) -> tuple[DenseRows | LayerRows, Array | None]:
        return self.rows.reduced()

    def _logdet(self, damping: float, damping_kind: str) -> float:
        reduced, _ = self._reduced
        rows, size = reduced.shape
        if damping > 0.0 and rows < size:  # Sylvester's determinant identity
            return (size - rows) * math.log(damping) + logdet_dense(reduced.gram(), damping)
        return logdet_dense(self.to_dense(), damping)

    def _check_coefficients(self, v: Array, coefficients: Array) -> None:
        """Raise a ValueError unless ``v = B^T c``, see `check_row_coefficients`."""
        check_shape("coefficients", coefficients, self.rows.shape[:1], "one entry a score row")
        with quiet():
            product, terms = self.rows.rmatvec(coefficients), self._terms(coefficients)
            check_row_coefficients("v", v, product, size=max(self.rows.shape), terms=terms)

    def _auto(self, damping: float, damping_kind: str) -> str:
        rows, size = self._reduced[0].shape
        if rows <= size:
            return "gram"
        return "cholesky" if damping > 0.0 else "eigh"

    def _inverse(self, damping: float) -> Apply:
        if self._auto(damping, "exact") == "gram":
            solver = GramSolver(self._reduced[0], damping)
            return lambda r: solver.solve(r).x
        return dense_inverse(self.to_dense(), damping)

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        if method == "gram":
            reduced, basis = self._reduced
            if coefficients is not None and basis is not None:  # B^T c = B'^T U^T c
                by_example = namespace(c=coefficients).reshape(coefficients, (basis.shape[0], -1, 1))
                coefficients = namespace(c=coefficients).reshape(transpose(basis) @ by_example, (-1,))
            return solve_gram(reduced, v, damping=damping, coefficients=coefficients)
        return DENSE_SOLVERS[method](self.to_dense(), v, damping=damping, terms=self._terms(coefficients))


@dataclass(frozen=True)
class FullStructure:
    """The factory of `FullFisher`."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = FullFisher.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> FullFisher:
        """F from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        return FullFisher(layer_rows(activations, score_signals))

    def average(self, old: Curvature, new: FullFisher, weight: float) -> Curvature:
        """``(1 - weight) old + weight new``, dense: one block without score rows, so without a Gram form."""
        from .block_diagonal import BlockDiagonalFisher  # which itself needs the solvers of this module

        return BlockDiagonalFisher((blend(old.to_dense(), new.to_dense(), weight),))


def dense_inverse(matrix: Array, damping: float) -> Apply:
    """``r -> (M + a I)^{-1} r`` for many r and a > 0, by Cholesky, else in the eigenbasis.

    Eigenvalues that roundoff has made negative count as zero.
    """
    factor = cholesky(matrix, shift=damping)
    if factor is not None:
        return lambda r: cholesky_solve(factor, r)
    values, vectors = eigh(matrix)
    values = namespace(values=values).where(values > 0.0, values, 0.0 * values)
    return lambda r: vectors @ ((transpose(vectors) @ r) / (values + damping))


def logdet_dense(matrix: Array, damping: float) -> float:
    """``log det(M + a I)`` by Cholesky; a NumericalError where that is (numerically) singular."""
    damped = add_to_diagonal(matrix, damping)
    factor = cholesky(damped)
    if factor is None or is_singular(factor, norm(damped)):
        raise NumericalError(f"logdet at damping {damping:g}: the damped matrix is not positive definite")
    xp = namespace(factor=factor)
    return 2.0 * float(xp.sum(xp.log(diagonal(factor))))
