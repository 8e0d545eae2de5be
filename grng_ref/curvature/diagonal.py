"""The diagonal of the Fisher: the cheapest structure, exact entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array
from ..arrays.linalg import identity, norm
from ..solvers import SolveResult, logdet_of_spectrum, refine, spectral_inverse
from ..solvers.eigenbasis import where_zero
from .base import Curvature
from .parts import blend
from .score import layer_rows


@dataclass(frozen=True, eq=False)
class DiagonalFisher(Curvature):
    """``diag(F)``: the mean over examples of the squared score rows' entries.

    A diagonal matrix is its own eigendecomposition, so its one method is called ``"eigh"``.
    """

    values: Array  # (P,)

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {"exact": ("eigh",)}

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return int(self.values.shape[0]), int(self.values.shape[0])

    @property
    def _template(self) -> Array:
        return self.values

    def _product(self, columns: Array) -> Array:
        return self.values[:, None] * columns

    def to_dense(self) -> Array:
        """The matrix (P, P); for small problems and tests."""
        return identity(self.shape[0], self.values) * self.values

    def diagonal(self) -> Array:
        """The diagonal (P,)."""
        return self.values

    def _logdet(self, damping: float, damping_kind: str) -> float:
        return logdet_of_spectrum(self.values, damping, zeros=self.values <= 0.0, roundoff=0.0)

    def _auto(self, damping: float, damping_kind: str) -> str:
        return "eigh"

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        inverse, rank = spectral_inverse(self.values, damping, cut=0.0)
        return refine(
            lambda x: self.values * x + damping * x,
            lambda r: inverse * r,
            v,
            matrix_norm=norm(self.values) + damping,
            method="eigh",
            rank=rank,
            terms=self._terms(coefficients),
            outside=where_zero(inverse) * v if damping == 0.0 else None,
        )


@dataclass(frozen=True)
class DiagonalStructure:
    """The factory of `DiagonalFisher`."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = DiagonalFisher.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> DiagonalFisher:
        """``(1/N) sum_n (sum_k D_nk^2) (x) abar_n^2``, without forming B."""
        return DiagonalFisher(layer_rows(activations, score_signals).diagonal())

    def average(self, old: DiagonalFisher, new: DiagonalFisher, weight: float) -> DiagonalFisher:
        """``(1 - weight) old + weight new``."""
        return DiagonalFisher(blend(old.values, new.values, weight))
