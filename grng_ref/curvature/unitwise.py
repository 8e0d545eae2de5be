"""The unit-wise Fisher: one exact block for the incoming parameters of every unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, namespace
from ..arrays.linalg import transpose
from .block_diagonal import BlockDiagonalFisher, average_blocks
from .score import layer_rows


@dataclass(frozen=True)
class UnitwiseStructure:
    """The factory of unit-wise curvatures.

    The block of unit i is ``(1/N) sum_n (sum_k D_nki^2) abar_n abar_n^T``. A row of Wbar holds the incoming
    parameters of one unit, so these are consecutive blocks of theta, finer than the layers'.
    """

    solvers: ClassVar[dict[str, tuple[str, ...]]] = BlockDiagonalFisher.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> BlockDiagonalFisher:
        """One block (d_in[+1], d_in[+1]) a unit, from layer inputs and score signals."""
        rows = layer_rows(activations, score_signals)
        blocks: list[Array] = []
        for a, d in zip(rows.activations, rows.signals, strict=True):
            weights = namespace(d=d).sum(d * d, axis=1) / rows.num_examples  # (N, d_out)
            blocks += [transpose(a * weights[:, i, None]) @ a for i in range(d.shape[2])]
        return BlockDiagonalFisher(tuple(blocks))

    def average(
        self, old: BlockDiagonalFisher, new: BlockDiagonalFisher, weight: float
    ) -> BlockDiagonalFisher:
        """``(1 - weight) old + weight new``, block by block."""
        return average_blocks(old, new, weight)
