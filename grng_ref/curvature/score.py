"""The score rows B with F = B^T B, dense or as layer factors: the primitive of every structure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import array_api_extra as xpx

from ..arrays import Array, check_shape, epsilon, like, namespace
from ..arrays.linalg import left_singular, matmul, transpose
from ..models.derivatives import outer_rows
from .dense import fisher_matrix

_STRIP = 2**17  # entries of the Gram matrix made at once: small enough to stay in cache


@dataclass(frozen=True, eq=False)
class DenseRows:
    """Score rows given as a matrix B (rows, P)."""

    matrix: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, P)."""
        return tuple(self.matrix.shape)

    def matvec(self, v: Array) -> Array:
        """``B v`` for v (P,) or (P, R)."""
        return self.matrix @ v

    def rmatvec(self, u: Array) -> Array:
        """``B^T u`` for u (rows,) or (rows, R)."""
        return transpose(self.matrix) @ u

    def gram(self) -> Array:
        """``B B^T`` (rows, rows)."""
        return self.matrix @ transpose(self.matrix)

    def normal(self) -> Array:
        """``B^T B`` (P, P)."""
        return transpose(self.matrix) @ self.matrix

    def reduced(self) -> tuple[DenseRows, None]:
        """B itself: which rows belong to one example is not known here; see `LayerRows.reduced`."""
        return self, None

    def squared_norm(self) -> Array:
        """``|B|_F^2``, 0-d."""
        return namespace(B=self.matrix).sum(self.matrix * self.matrix)

    def diagonal(self) -> Array:
        """The diagonal of ``B^T B`` (P,)."""
        return namespace(B=self.matrix).sum(self.matrix * self.matrix, axis=0)


@dataclass(frozen=True, eq=False)
class LayerRows:
    """Score rows as layer factors: the block of row (n, k) is ``D_{l,n,k} (x) abar_{l,n} / sqrt(N)``.

    B (N K', P) is never formed. Rows are example-major: (n, k) -> n K' + k.
    """

    activations: tuple[Array, ...]  # (N, d_in[+1])
    signals: tuple[Array, ...]  # (N, K', d_out)

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.activations[0].shape[0])

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of parameters of each layer."""
        pairs = zip(self.activations, self.signals, strict=True)
        return tuple(int(a.shape[1] * d.shape[2]) for a, d in pairs)

    @property
    def shape(self) -> tuple[int, int]:
        """(N K', P)."""
        n, k, _ = self.signals[0].shape
        return int(n * k), sum(self.layer_sizes)

    def matvec(self, v: Array) -> Array:
        """``B v``: (rows,) for v (P,), (rows, R) for v (P, R)."""
        xp = namespace(v=v)
        tail = tuple(v.shape[1:])
        directions = xp.reshape(v, (v.shape[0], -1)).T
        total, start = 0.0, 0
        for a, d in zip(self.activations, self.signals, strict=True):
            stop = start + a.shape[1] * d.shape[2]
            layers = xp.reshape(directions[:, start:stop], (-1, a.shape[1]))  # (R d_out, d_in)
            moved = xp.reshape(matmul(a, transpose(layers)), (a.shape[0], -1, d.shape[2]))  # (N, R, d_out)
            total = total + d @ transpose(moved)  # (N, K', R)
            start = stop
        return xp.reshape(total / math.sqrt(self.num_examples), (self.shape[0], *tail))

    def rmatvec(self, u: Array) -> Array:
        """``B^T u``: (P,) for u (rows,), (P, R) for u (rows, R)."""
        xp = namespace(u=u)
        tail = tuple(u.shape[1:])
        n = self.num_examples
        weights = xp.permute_dims(xp.reshape(u, (n, self.shape[0] // n, -1)), (0, 2, 1))  # (N, R, K')
        blocks = []
        for a, d in zip(self.activations, self.signals, strict=True):
            mixed = xp.reshape(weights @ d, (n, -1))  # (N, R d_out)
            blocks.append(xp.reshape(matmul(transpose(mixed), a), (weights.shape[1], -1)))
        return xp.reshape(xp.concat(blocks, axis=1).T / math.sqrt(n), (self.shape[1], *tail))

    def gram(self) -> Array:
        """``B B^T``: ``(1/N) sum_l <abar_n, abar_m> <D_{n,k}, D_{m,j}>``, two products a layer."""
        xp = namespace(a=self.activations[0])
        n, rows = self.num_examples, self.shape[0]
        k = rows // n
        flat = [xp.reshape(d, (rows, d.shape[2])) for d in self.signals]
        inputs = [matmul(a, transpose(a)) / n for a in self.activations]
        matrix = xp.empty((rows, rows), **like(flat[0]))
        step = max(1, _STRIP // (k * rows))
        for first in range(0, n, step):  # strips of the lower triangle, and their mirror images
            last = min(first + step, n)
            strip = 0.0
            for d, inner in zip(flat, inputs, strict=True):
                products = matmul(d[first * k : last * k, :], transpose(d[: last * k, :]))
                by_example = xp.reshape(products, (last - first, k, last, k))
                strip = strip + by_example * inner[first:last, None, :last, None]
            strip = xp.reshape(strip, ((last - first) * k, last * k))
            own, others = slice(first * k, last * k), slice(0, last * k)
            matrix = xpx.at(matrix)[own, others].set(strip)
            matrix = xpx.at(matrix)[others, own].set(transpose(strip))
        return matrix

    def normal(self) -> Array:
        """``B^T B`` (P, P), layer pair by layer pair; see `fisher_matrix`."""
        return fisher_matrix(self.activations, self.signals)

    def reduced(self) -> tuple[LayerRows, Array | None]:
        """The same ``B^T B`` from r <= K' rows an example, and U (N, K', r) with ``B'_n = U_n^T B_n``.

        U_n holds the left singular vectors of the last layer's signals; rows are left out from the end while
        they are zero to working precision in every example: no entry exceeds ``max(K', P) eps`` times the
        largest one of ``B_n``. A Categorical's rows satisfy ``sqrt(p)^T B_n = 0``, so K - 1 of them remain.
        U is None where all K' are needed; nothing is left out where N alone exceeds P, since B B^T is of no
        use there.
        """
        xp = namespace(a=self.activations[0])
        last = self.signals[-1]
        columns = int(last.shape[1])
        if columns == 1 or self.num_examples > self.shape[1] or not bool(xp.all(xp.isfinite(last))):
            return self, None
        basis = left_singular(last, full_matrices=True)[0]
        turned = tuple(transpose(basis) @ d for d in self.signals)
        layers = zip(self.activations, turned, strict=True)
        sizes = [xp.max(xp.abs(a), axis=1)[:, None] * xp.max(xp.abs(d), axis=2) for a, d in layers]
        largest = functools.reduce(xp.maximum, sizes)  # (N, K'): of each row of U^T B
        cut = max(columns, self.shape[1]) * epsilon(last)
        zero = largest <= cut * xp.max(largest, axis=1, keepdims=True)
        kept = columns
        while kept > 1 and bool(xp.all(zero[:, kept - 1])):
            kept -= 1
        if kept == columns:
            return self, None
        return LayerRows(self.activations, tuple(d[:, :kept, :] for d in turned)), basis[:, :, :kept]

    def squared_norm(self) -> Array:
        """``|B|_F^2``, 0-d: ``(1/N) sum_n |abar_n|^2 |D_n|^2`` over the layers."""
        xp = namespace(a=self.activations[0])
        layers = zip(self.activations, self.signals, strict=True)
        parts = [xp.sum(xp.sum(a * a, axis=1) * xp.sum(d * d, axis=(1, 2))) for a, d in layers]
        return xp.sum(xp.stack(parts)) / self.num_examples

    def diagonal(self) -> Array:
        """The diagonal of ``B^T B`` (P,): ``(1/N) sum_n (sum_k D^2) (x) abar^2``."""
        xp = namespace(a=self.activations[0])
        parts = []
        for a, d in zip(self.activations, self.signals, strict=True):
            block = matmul(transpose(xp.sum(d * d, axis=1)), a * a)
            parts.append(xp.reshape(block / self.num_examples, (-1,)))
        return xp.concat(parts)

    def rows(self) -> Array:
        """B itself (rows, P)."""
        xp = namespace(a=self.activations[0])
        stacked = outer_rows(self.activations, self.signals) / math.sqrt(self.num_examples)
        return xp.reshape(stacked, self.shape)


def layer_rows(activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> LayerRows:
    """Checked layer factors: one entry a layer, the same N and K' everywhere."""
    if not isinstance(activations, tuple | list) or not isinstance(score_signals, tuple | list):
        raise TypeError(
            "activations and score_signals must be tuples of arrays, one entry a layer; got "
            f"{type(activations).__name__} and {type(score_signals).__name__}"
        )
    if len(activations) != len(score_signals) or not activations:
        raise ValueError(
            f"activations and score_signals must have one entry a layer each, got {len(activations)} and "
            f"{len(score_signals)}"
        )
    named = {f"activations[{i}]": a for i, a in enumerate(activations)}
    named |= {f"score_signals[{i}]": d for i, d in enumerate(score_signals)}
    namespace(**named)
    check_shape("activations[0]", activations[0], (None, None), "(examples, inputs [+ 1])")
    check_shape(
        "score_signals[0]", score_signals[0], (activations[0].shape[0], None, None), "(N, K', outputs)"
    )
    n, k = score_signals[0].shape[:2]
    for i, (a, d) in enumerate(zip(activations, score_signals, strict=True)):
        check_shape(f"activations[{i}]", a, (n, None), "(examples, inputs [+ 1])")
        check_shape(f"score_signals[{i}]", d, (n, k, None), "(examples, factor columns K', outputs)")
    return LayerRows(tuple(activations), tuple(score_signals))
