"""The block-diagonal Fisher: the exact block of every layer, nothing between layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, namespace
from ..arrays.linalg import diagonal
from ..solvers import SolveResult
from ..solvers.result import Apply
from .base import Curvature
from .dense import fisher_matrix
from .full import DENSE_SOLVERS, dense_inverse, logdet_dense
from .parts import blend, block_matrix, join_results, split
from .score import layer_rows


@dataclass(frozen=True, eq=False)
class BlockDiagonalFisher(Curvature):
    """``diag(F_00, F_11, ...)``, every block exact.

    ``F_ll = (1/N) sum_n (D_l,n^T D_l,n) (x) (abar_l,n abar_l,n^T)``.
    """

    blocks: tuple[Array, ...]

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {"exact": ("cholesky", "cg", "eigh", "newton_schulz")}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of each layer."""
        return tuple(int(block.shape[0]) for block in self.blocks)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return sum(self.sizes), sum(self.sizes)

    @property
    def _template(self) -> Array:
        return self.blocks[0]

    def _product(self, columns: Array) -> Array:
        xp = namespace(columns=columns)
        parts = split(columns, self.sizes)
        return xp.concat([block @ part for block, part in zip(self.blocks, parts, strict=True)])

    def to_dense(self) -> Array:
        """The matrix (P, P) with zeros between layers."""
        return block_matrix(self.blocks)

    def diagonal(self) -> Array:
        """The diagonal (P,)."""
        return namespace(block=self.blocks[0]).concat([diagonal(block) for block in self.blocks])

    def _logdet(self, damping: float, damping_kind: str) -> float:
        return sum(logdet_dense(block, damping) for block in self.blocks)

    def _auto(self, damping: float, damping_kind: str) -> str:
        return "cholesky" if damping > 0.0 else "eigh"

    def _inverse(self, damping: float) -> Apply:
        inverses = [dense_inverse(block, damping) for block in self.blocks]

        def apply(r: Array) -> Array:
            parts = zip(inverses, split(r, self.sizes), strict=True)
            return namespace(r=r).concat([inverse(part) for inverse, part in parts])

        return apply

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        solver, terms = DENSE_SOLVERS[method], self._terms(coefficients)
        parts = zip(self.blocks, split(v, self.sizes), strict=True)
        return join_results([solver(block, part, damping=damping, terms=terms) for block, part in parts])


@dataclass(frozen=True)
class BlockDiagonalStructure:
    """The factory of `BlockDiagonalFisher`."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = BlockDiagonalFisher.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> BlockDiagonalFisher:
        """The blocks from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        rows = layer_rows(activations, score_signals)
        pairs = zip(rows.activations, rows.signals, strict=True)
        return BlockDiagonalFisher(tuple(fisher_matrix([a], [d]) for a, d in pairs))

    def average(
        self, old: BlockDiagonalFisher, new: BlockDiagonalFisher, weight: float
    ) -> BlockDiagonalFisher:
        """``(1 - weight) old + weight new``, block by block."""
        return average_blocks(old, new, weight)


def average_blocks(old: BlockDiagonalFisher, new: BlockDiagonalFisher, weight: float) -> BlockDiagonalFisher:
    """``(1 - weight) old + weight new``, block by block."""
    pairs = zip(old.blocks, new.blocks, strict=True)
    return BlockDiagonalFisher(tuple(blend(one, other, weight) for one, other in pairs))
