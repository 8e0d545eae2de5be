"""The Kronecker product nearest to every layer's exact block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, epsilon, namespace
from ..arrays.linalg import norm, transpose
from .kfac import KroneckerFactored, average_factors, kfac_factors
from .score import layer_rows

_MAX_ITERATIONS = 500


@dataclass(frozen=True)
class OptimalKroneckerStructure:
    """The factory of curvatures ``G kron A`` with the least ``|F_l - G kron A|_F`` in every layer.

    In the rearrangement of Van Loan and Pitsianis (1993) a Kronecker product has rank one, and the best one
    is the leading singular pair. It is found by power iteration on the factors themselves, without the
    rearranged matrix:
    ``A <- (1/N) sum_n tr(D_n G D_n^T) abar_n abar_n^T / |G|^2`` and
    ``G <- (1/N) sum_n (abar_n^T A abar_n) D_n^T D_n / |A|^2``.
    Every half step is a least-squares fit, so the error never rises; the start is K-FAC.
    """

    solvers: ClassVar[dict[str, tuple[str, ...]]] = KroneckerFactored.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> KroneckerFactored:
        """The factors from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        rows = layer_rows(activations, score_signals)
        pairs = zip(rows.activations, rows.signals, strict=True)
        return KroneckerFactored(tuple(_nearest_factors(a, d) for a, d in pairs))

    def average(self, old: KroneckerFactored, new: KroneckerFactored, weight: float) -> KroneckerFactored:
        """``(1 - weight) old + weight new`` of every A and G; not the average of their products."""
        return KroneckerFactored(average_factors(old.factors, new.factors, weight))


def _nearest_factors(a: Array, d: Array) -> tuple[Array, Array]:
    """The nearest pair (A, G), the sizes of both alike as in K-FAC's G."""
    A, G = kfac_factors(a, d)
    if norm(A) == 0.0 or norm(G) == 0.0:
        return A, G
    xp = namespace(a=a)
    n = a.shape[0]
    flat = xp.reshape(d, (-1, d.shape[2]))
    tolerance = epsilon(a)
    for _ in range(_MAX_ITERATIONS):
        before, size = A, norm(G) ** 2
        signal_weights = xp.sum((d @ G) * d, axis=(1, 2)) / (n * size)
        A = transpose(a * signal_weights[:, None]) @ a
        input_weights = xp.sum((a @ A) * a, axis=1) / (n * norm(A) ** 2)
        G = transpose(flat * xp.repeat(input_weights, d.shape[1])[:, None]) @ flat
        if norm(A - before) <= tolerance * norm(A):
            break
    return A, G
