"""EKFAC: K-FAC's eigenbasis with the exact second moments on its diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, epsilon, namespace
from ..arrays.linalg import eigh, kron, norm, transpose
from ..solvers import SolveResult, logdet_of_spectrum, refine, spectral_inverse
from ..solvers.eigenbasis import where_zero
from ..solvers.result import Apply
from .base import Curvature
from .kfac import average_factors, kfac_factors
from .parts import blend, block_matrix, join_results, layer_matrices
from .score import layer_rows


@dataclass(frozen=True, eq=False)
class EigenbasisLayer:
    """One layer: ``(Q_G kron Q_A) diag(s) (Q_G kron Q_A)^T``."""

    a_basis: Array  # Q_A (d_in[+1], d_in[+1])
    g_basis: Array  # Q_G (d_out, d_out)
    moments: Array  # s (d_out, d_in[+1]), nonnegative

    def rotate(self, v: Array) -> Array:
        """``Q_G^T V Q_A`` for V (..., d_out, d_in)."""
        return transpose(self.g_basis) @ v @ self.a_basis

    def rotate_back(self, v: Array) -> Array:
        """``Q_G V Q_A^T``."""
        return self.g_basis @ v @ transpose(self.a_basis)

    def moments_in(self, a_basis: Array, g_basis: Array) -> Array:
        """The diagonal of this matrix in another basis ``Q_G' kron Q_A'``.

        ``(Q_G'^T Q_G)^2 s ((Q_A'^T Q_A)^2)^T``, the squares entry by entry.
        """
        a_turn, g_turn = transpose(a_basis) @ self.a_basis, transpose(g_basis) @ self.g_basis
        return g_turn**2 @ self.moments @ transpose(a_turn**2)

    @property
    def roundoff(self) -> float:
        """A damping up to this cannot be told from zero."""
        largest = float(namespace(s=self.moments).max(self.moments))
        return max(self.moments.shape) * epsilon(self.moments) * largest

    def zero_up_to(self, A: Array, G: Array) -> Array:
        """Moments up to this (d_out, d_in[+1]) cannot be told from zero: ``n eps (g_i a_max + g_max a_j)``.

        With the factors' eigenvalues, each at least its own roundoff: an eigenvector of a_j turns by
        ``eps a_max / a_j``, and the moment, of size ``g_i a_j``, moves by as much.
        """
        xp = namespace(A=A)
        unit = max(self.moments.shape) * epsilon(A)

        def spectrum(factor: Array, basis: Array) -> tuple[Array, float]:
            values = xp.sum(basis * (factor @ basis), axis=0)
            top = float(xp.max(values))
            return xp.where(values > unit * top, values, xp.full_like(values, unit * top)), top

        (a_values, a_top), (g_values, g_top) = spectrum(A, self.a_basis), spectrum(G, self.g_basis)
        return unit * (a_top * g_values[:, None] + g_top * a_values[None, :])


@dataclass(frozen=True, eq=False)
class EKFAC(Curvature):
    """``diag_l (Q_G kron Q_A) diag(s) (Q_G kron Q_A)^T`` with the eigenbasis of K-FAC's factors.

    ``s_ij = (1/N) sum_n sum_k ((Q_G^T D_nk)_i (Q_A^T abar_n)_j)^2`` is the best diagonal in that basis, so no
    farther from the exact block (Frobenius) than K-FAC.

    Attributes
    ----------
    layers : tuple of EigenbasisLayer
    factors : tuple of (A, G)
        K-FAC's factors, whose eigenbasis this is.
    """

    layers: tuple[EigenbasisLayer, ...]
    factors: tuple[tuple[Array, Array], ...]

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {"exact": ("eigh",)}

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer matrix."""
        return tuple((int(one.moments.shape[0]), int(one.moments.shape[1])) for one in self.layers)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        size = sum(rows * columns for rows, columns in self.shapes)
        return size, size

    @property
    def _template(self) -> Array:
        return self.layers[0].moments

    def _product(self, columns: Array) -> Array:
        xp = namespace(columns=columns)
        parts = []
        for one, layer in zip(self.layers, layer_matrices(columns, self.shapes), strict=True):
            product = one.rotate_back(one.moments * one.rotate(layer))
            parts.append(xp.reshape(product, (product.shape[0], -1)).T)
        return xp.concat(parts)

    def to_dense(self) -> Array:
        """The matrix (P, P); for small problems and tests."""
        xp = namespace(s=self._template)
        bases = [kron(one.g_basis, one.a_basis) for one in self.layers]
        moments = [xp.reshape(one.moments, (-1,)) for one in self.layers]
        return block_matrix([(q * s) @ transpose(q) for q, s in zip(bases, moments, strict=True)])

    def diagonal(self) -> Array:
        """The diagonal (P,)."""
        xp = namespace(s=self._template)
        squares = [(one.g_basis**2) @ one.moments @ transpose(one.a_basis**2) for one in self.layers]
        return xp.concat([xp.reshape(square, (-1,)) for square in squares])

    def _logdet(self, damping: float, damping_kind: str) -> float:
        total = 0.0
        for one, pair in zip(self.layers, self.factors, strict=True):
            zeros = one.moments <= one.zero_up_to(*pair)
            total += logdet_of_spectrum(one.moments, damping, zeros=zeros, roundoff=one.roundoff)
        return total

    def _auto(self, damping: float, damping_kind: str) -> str:
        return "eigh"

    def _inverse(self, damping: float) -> Apply:
        inverses = [spectral_inverse(one.moments, damping, cut=one.roundoff)[0] for one in self.layers]

        def apply(r: Array) -> Array:
            xp, layers = namespace(r=r), layer_matrices(r[:, None], self.shapes)
            parts = zip(self.layers, inverses, layers, strict=True)
            return xp.concat(
                [xp.reshape(one.rotate_back(inverse * one.rotate(v)), (-1,)) for one, inverse, v in parts]
            )

        return apply

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        matrices = [layer[0, :, :] for layer in layer_matrices(v[:, None], self.shapes)]
        layers, terms = zip(self.layers, self.factors, matrices, strict=True), self._terms(coefficients)
        return join_results(
            [_solve_layer(one, part, damping, terms, one.zero_up_to(*pair)) for one, pair, part in layers]
        )


def _solve_layer(one: EigenbasisLayer, v: Array, damping: float, terms: float, cut: Array) -> SolveResult:
    inverse, rank = spectral_inverse(one.moments, damping, cut=cut)
    undamped = damping == 0.0
    return refine(
        lambda x: one.rotate_back(one.moments * one.rotate(x)) + damping * x,
        lambda r: one.rotate_back(inverse * one.rotate(r)),
        v,
        matrix_norm=norm(one.moments) + damping,
        method="eigh",
        rank=rank,
        terms=terms,
        outside=one.rotate_back(where_zero(inverse) * one.rotate(v)) if undamped else None,
    )


@dataclass(frozen=True)
class EKFACStructure:
    """The factory of `EKFAC`."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = EKFAC.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> EKFAC:
        """From layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        rows = layer_rows(activations, score_signals)
        pairs = list(zip(rows.activations, rows.signals, strict=True))
        factors = tuple(kfac_factors(a, d) for a, d in pairs)
        layers = tuple(_refit(a, d, *pair) for (a, d), pair in zip(pairs, factors, strict=True))
        return EKFAC(layers, factors)

    def average(self, old: EKFAC, new: EKFAC, weight: float) -> EKFAC:
        """Factors averaged, their eigenbasis Q, and in it the diagonal of ``(1 - weight) old + weight new``.

        Of the matrices, that is: ``s = diag(Q^T ((1 - weight) old + weight new) Q)``. What is off the
        diagonal in the new basis is dropped at every average, so a moving average of moments is this
        recursion, and the weighted sum of its terms only as far as the basis does not turn. The factors'
        average is linear.
        """
        factors = average_factors(old.factors, new.factors, weight)
        layers = []
        for (A, G), one, other in zip(factors, old.layers, new.layers, strict=True):
            a_basis, g_basis = eigh(A)[1], eigh(G)[1]
            before, now = one.moments_in(a_basis, g_basis), other.moments_in(a_basis, g_basis)
            layers.append(EigenbasisLayer(a_basis, g_basis, blend(before, now, weight)))
        return EKFAC(tuple(layers), factors)


def _refit(a: Array, d: Array, A: Array, G: Array) -> EigenbasisLayer:
    """The exact second moments of one layer in the eigenbasis of its factors."""
    a_basis, g_basis = eigh(A)[1], eigh(G)[1]
    inputs, signals = a @ a_basis, d @ g_basis
    squares = namespace(d=d).sum(signals * signals, axis=1)  # (N, d_out)
    return EigenbasisLayer(a_basis, g_basis, transpose(squares) @ (inputs * inputs) / a.shape[0])
