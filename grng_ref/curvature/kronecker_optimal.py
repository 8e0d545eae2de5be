"""The Kronecker product nearest to every layer's exact block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, namespace
from ..arrays.linalg import identity, norm, transpose
from ..solvers.lanczos import leading_eigenvector
from .kfac import KroneckerFactored, average_factors, kfac_factors
from .score import layer_rows


@dataclass(frozen=True)
class OptimalKroneckerStructure:
    """The factory of curvatures ``G kron A`` with the least ``|F_l - G kron A|_F`` in every layer.

    In the rearrangement of Van Loan and Pitsianis (1993) a Kronecker product has rank one, and the best one
    is the leading singular pair of ``R = (1/N) sum_n vec(D_n^T D_n) vec(abar_n abar_n^T)^T``. It is found to
    roundoff by Lanczos iteration on the smaller of ``R R^T`` and ``R^T R``, by products with D and abar
    alone. Where the two leading singular values are equal the nearest product is not unique, and this is
    one of them; where they are nearly equal, it moves by roundoff over their relative distance, and its
    error does not.

    A step costs ``O(N (d_in^2 + K' d_out^2))``, like K-FAC's factors, and holds one matrix of
    ``min(d_in, d_out)^2`` entries. There are usually ten to thirty, and at most as many as examples.
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
    """The nearest pair (A, G), with ``|A| / |G|`` as K-FAC has it."""
    A, G = kfac_factors(a, d)
    if norm(A) == 0.0 or norm(G) == 0.0:
        return A, G
    inputs, signals, scale = _balanced(a, d)
    if scale == 0.0:  # every example has a side that is zero
        return 0.0 * A, 0.0 * G
    if d.shape[2] < a.shape[1]:
        G_unit, A_unit, size = _leading_pair(signals, inputs)
    else:
        A_unit, G_unit, size = _leading_pair(inputs, signals)
    length, ratio = math.sqrt(size) * scale, math.sqrt(norm(A)) / math.sqrt(norm(G))
    return A_unit * (length * ratio), G_unit * (length / ratio)


def _balanced(a: Array, d: Array) -> tuple[Array, Array, float]:
    """Rows (N, 1, d_in) and (N, K', d_out) of entries up to 1, and s: the block is s^2 times theirs.

    Fourth powers of the rows are summed later. Every example's scale is shared evenly between its two sides,
    which changes no product of them, so that what underflows is negligible.
    """
    xp = namespace(a=a)
    tops = [xp.max(xp.abs(rows), axis=tuple(range(1, rows.ndim))) for rows in (a, d)]
    scales = [float(xp.max(top)) for top in tops]
    shares = xp.sqrt(tops[0] / scales[0]) * xp.sqrt(tops[1] / scales[1])
    largest = float(xp.max(shares))
    shares = shares / (largest or 1.0)
    inputs, signals = (
        rows / xp.where(top > 0.0, top, xp.ones_like(top))[:, None, None] * shares[:, None, None]
        for rows, top in zip((a[:, None, :], d), tops, strict=True)
    )
    return inputs, signals, largest * scales[0] * (largest * scales[1])


def _leading_pair(small: Array, large: Array) -> tuple[Array, Array, float]:
    """The leading singular triple of ``(1/N) sum_n vec(S_n^T S_n) vec(L_n^T L_n)^T``, both matrices PSD.

    The start ``sum_n |L_n|^2 S_n^T S_n`` is never orthogonal to the leading pair: all products of positive
    semidefinite matrices are nonnegative, so the cosine between them is at least ``1 / (N sqrt(K'))``.
    """

    def apply(matrix: Array) -> Array:
        return _moment(small, _forms(large, _moment(large, _forms(small, matrix))))

    start = _moment(small, _forms(large, identity(large.shape[2], large)))
    rank = min(small.shape[0], small.shape[2] ** 2, large.shape[2] ** 2)
    found = leading_eigenvector(apply, start, max_steps=rank)
    # Two more half steps, with weights that are not negative, make sums of positive semidefinite matrices.
    other = _moment(large, _positive(_forms(small, found)))
    other = other / norm(other)
    own = _moment(small, _positive(_forms(large, other)))
    own = own / norm(own)
    weights = _forms(small, own) * _forms(large, other)
    return own, other, float(namespace(weights=weights).mean(weights))


def _forms(rows: Array, matrix: Array) -> Array:
    """``<R_n^T R_n, M>`` of every example (N,)."""
    return namespace(rows=rows).sum((rows @ matrix) * rows, axis=(1, 2))


def _moment(rows: Array, weights: Array) -> Array:
    """``(1/N) sum_n w_n R_n^T R_n``."""
    weighted = rows * weights[:, None, None]
    flat, other = (namespace(rows=rows).reshape(one, (-1, rows.shape[2])) for one in (rows, weighted))
    return transpose(flat) @ other / rows.shape[0]


def _positive(weights: Array) -> Array:
    """The weights of a positive semidefinite M, whose sign is arbitrary, without the roundoff below zero."""
    xp = namespace(weights=weights)
    signed = weights if float(xp.sum(weights)) >= 0.0 else -weights
    return xp.where(signed > 0.0, signed, 0.0 * signed)
