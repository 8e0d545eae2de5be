"""Dense Fisher matrices from layer factors, without the N K' x P matrix of score rows."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import array_api_extra as xpx

from ..arrays import Array, device_of, like, namespace
from ..arrays.linalg import matmul, transpose

_STRIP = 2**20  # entries of F made by one matrix product: small enough to be rearranged in cache
_OUTER = 2**24  # entries of the products of inputs held at once; more examples are summed in parts


def fisher_matrix(activations: Sequence[Array], signals: Sequence[Array]) -> Array:
    """``F = (1/N) sum_n sum_k (D_nk (x) abar_n)(D_nk (x) abar_n)^T`` (P, P), by layer pairs.

    The block of layers l, m is ``(1/N) sum_n (D_l,n^T D_m,n) (x) (abar_l,n abar_m,n^T)``: with the sum over k
    done first, one product of a (d_l d_m) x N and an N x (d_in,l d_in,m) matrix, cut into strips of
    output units, so the cost has no factor K'. Only the lower triangle is computed, of output
    units and, within a layer, of pairs of inputs.
    """
    n = activations[0].shape[0]
    part = max(1, _OUTER // max(a.shape[1] for a in activations) ** 2)
    parts = (slice(start, min(start + part, n)) for start in range(0, n, part))
    sums = (
        _sum_of_examples([a[s, :] for a in activations], [d[s, :, :] / n**0.5 for d in signals])
        for s in parts
    )
    return functools.reduce(operator.add, sums)


def _sum_of_examples(activations: Sequence[Array], signals: Sequence[Array]) -> Array:
    """``sum_n sum_k (D_nk (x) abar_n)(D_nk (x) abar_n)^T``."""
    xp = namespace(activations=activations[0])
    offsets = [0]
    for a, d in zip(activations, signals, strict=True):
        offsets.append(offsets[-1] + a.shape[1] * d.shape[2])
    matrix = xp.empty((offsets[-1], offsets[-1]), **like(activations[0]))
    for lower in range(len(activations)):
        for upper in range(lower + 1):
            inputs = (activations[lower], activations[upper])
            cross = transpose(signals[lower]) @ signals[upper]  # (N, d_l, d_m)
            corner = (offsets[lower], offsets[upper])
            matrix = _fill_pair(matrix, cross, inputs, corner, symmetric=lower == upper)
    return matrix


def _fill_pair(
    matrix: Array, cross: Array, inputs: tuple[Array, Array], corner: tuple[int, int], *, symmetric: bool
) -> Array:
    """Write the block of one layer pair and its mirror image, strip by strip; returns the matrix."""
    xp = namespace(cross=cross)
    n, outputs, other_outputs = cross.shape
    left, right = inputs
    size, other_size = left.shape[1], right.shape[1]
    place = None
    if symmetric:  # a_i a_j and a_j a_i are one column
        first_input, second_input, place = _unordered_pairs(left)
        outer = xp.take(left, first_input, axis=1) * xp.take(left, second_input, axis=1)
    else:
        outer = xp.reshape(left[:, :, None] * right[:, None, :], (n, size * other_size))
    step = max(1, _STRIP // (other_outputs * size * other_size))
    for first in range(0, outputs, step):
        last = min(first + step, outputs)
        units, others = last - first, last if symmetric else other_outputs
        flat = xp.reshape(cross[:, first:last, :others], (n, units * others))
        products = matmul(transpose(flat), outer)
        if place is not None:
            products = xp.take(products, place, axis=1)
        blocks = xp.reshape(products, (units, others, size, other_size))
        strip = xp.reshape(xp.permute_dims(blocks, (0, 2, 1, 3)), (units * size, others * other_size))
        rows = slice(corner[0] + first * size, corner[0] + last * size)
        columns = slice(corner[1], corner[1] + others * other_size)
        matrix = xpx.at(matrix)[rows, columns].set(strip)
        matrix = xpx.at(matrix)[columns, rows].set(transpose(strip))
    return matrix


def _unordered_pairs(inputs: Array) -> tuple[Array, Array, Array]:
    """The pairs i >= j of columns, ordered by i and then j, and the place of every pair (i, j) in them."""
    xp = namespace(inputs=inputs)
    index = xp.arange(inputs.shape[1], device=device_of(inputs))
    rows, columns = index[:, None], index[None, :]
    high, low = xp.maximum(rows, columns), xp.minimum(rows, columns)
    first, second = xp.nonzero(rows >= columns)
    return first, second, xp.reshape(high * (high + 1) // 2 + low, (-1,))
