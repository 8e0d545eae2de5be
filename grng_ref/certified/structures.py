"""Curvatures in balls, dense or as pairs of factors: from the Jacobian, by the masks that define them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import NumericalError
from .library import load_flint
from .linear import inverse_in_balls, scaled_identity
from .point import Point, block_diagonal
from .projectors import Pair, ekfac_block, kron, nearest_pair

MASKED = ("full", "block_diagonal", "unitwise", "diagonal")
PRODUCTS = ("kfac", "kronecker_optimal")


@dataclass(frozen=True, eq=False)
class BallCurvature:
    """C of one structure: a matrix; or pairs (A, G) a layer, with those of neighbours for the chain."""

    structure: str
    matrix: Any = None
    factors: tuple[Pair, ...] = ()
    neighbours: tuple[Pair, ...] = ()
    rows: Any = None  # B, of the full structure alone

    def average(self, new: BallCurvature, weight: Any) -> BallCurvature:
        """``(1 - w) self + w new`` of what is held."""
        if self.structure == "ekfac":
            raise NumericalError("a moving average of EKFAC is not enclosed: its basis turns at each step")

        def mix(a: Any, b: Any) -> Any:
            return a * (1 - weight) + b * weight

        def pairs(old: tuple[Pair, ...], other: tuple[Pair, ...]) -> tuple[Pair, ...]:
            return tuple((mix(a, b), mix(g, h)) for (a, g), (b, h) in zip(old, other, strict=True))

        matrix = None if self.matrix is None else mix(self.matrix, new.matrix)
        return BallCurvature(
            self.structure, matrix, pairs(self.factors, new.factors), pairs(self.neighbours, new.neighbours)
        )

    def product(self, v: Any) -> Any:
        """``C v``."""
        return self._dense(self.factors) * v

    def solve(self, v: Any, damping: Any, damping_kind: str) -> Any:
        """``(C + a I)^{-1} v``, or by factored damping; at a = 0 the least norm (full only)."""
        if damping_kind == "factored":
            damped = tuple(_damped(a, g, damping) for a, g in self.factors)
            if self.structure in PRODUCTS:
                return _by_layers(damped, v)
            return _solve(self._dense(damped), v)
        if damping == 0 and self.rows is not None:
            gram = self.rows * self.rows.transpose()
            return self.rows.transpose() * _solve(gram, _solve(gram, self.rows * v))
        size = v.nrows()
        return _solve(self._dense(self.factors) + scaled_identity(size, damping), v)

    def _dense(self, factors: tuple[Pair, ...]) -> Any:
        if self.structure in PRODUCTS:
            return block_diagonal([kron(g, a) for a, g in factors])
        if self.structure == "tridiagonal_kfac":
            return _chain(factors, self.neighbours)
        return self.matrix


def build(point: Point, structure: str, kind: str, samples: np.ndarray | None) -> BallCurvature:
    """C of a structure at a point."""
    weights, n = point.weights(kind, samples), point.examples
    if structure in MASKED:
        fisher = point.jacobian.transpose() * (weights * point.jacobian) / n
        rows = None
        if structure == "full":
            rows = point.cotangents(kind, samples) * point.jacobian / load_flint().arb(n).sqrt()
        return BallCurvature(structure, masked(point, fisher, structure), rows=rows)
    pairs = list(zip(point.inputs, point.signals, strict=True))

    def pair(one: Pair, other: Pair) -> Pair:
        (a, d), (b, e) = one, other
        return a.transpose() * b / n, d.transpose() * (weights * e) / n

    neighbours = pairwise(pairs) if structure == "tridiagonal_kfac" else ()
    factors = tuple(pair(p, p) for p in pairs)
    matrix = None
    if structure == "ekfac":
        fisher = point.jacobian.transpose() * (weights * point.jacobian) / n
        matrix = block_diagonal(
            [ekfac_block(one, block) for one, block in zip(factors, _blocks(fisher, factors), strict=True)]
        )
    elif structure == "kronecker_optimal":
        factors = tuple(
            nearest_pair(one, *_by_example(*layer, weights, n))
            for one, layer in zip(factors, pairs, strict=True)
        )
    return BallCurvature(structure, matrix, factors, tuple(pair(p, q) for p, q in neighbours))


def _blocks(matrix: Any, factors: tuple[Pair, ...]) -> list[Any]:
    """The layers' blocks on the diagonal."""
    rows, start, found = matrix.tolist(), 0, []
    for a, g in factors:
        stop = start + a.nrows() * g.nrows()
        found.append(load_flint().arb_mat([row[start:stop] for row in rows[start:stop]]))
        start = stop
    return found


def _by_example(a: Any, d: Any, weights: Any, n: int) -> tuple[list[Any], list[Any]]:
    """``a_n a_n^T`` and ``D_n^T W_n D_n`` of every example; W is block diagonal."""
    arb_mat = load_flint().arb_mat
    per, signals, whole = d.nrows() // n, d.tolist(), weights.tolist()
    inputs, outer = [], []
    for index, row in enumerate(a.tolist()):
        places = slice(index * per, (index + 1) * per)
        own, weight = arb_mat(signals[places]), arb_mat([line[places] for line in whole[places]])
        inputs.append(arb_mat([[x * y for y in row] for x in row]))
        outer.append(own.transpose() * (weight * own))
    return inputs, outer


def masked(point: Point, matrix: Any, structure: str) -> Any:
    """The matrix with exact zeros outside of the structure's blocks."""
    if structure == "full":
        return matrix
    group: list[tuple[int, ...]] = []
    for layer, (a, d) in enumerate(zip(point.inputs, point.signals, strict=True)):
        for unit in range(d.ncols()):
            for entry in range(a.ncols()):
                place = {
                    "block_diagonal": (layer,),
                    "unitwise": (layer, unit),
                    "diagonal": (layer, unit, entry),
                }
                group.append(place[structure])
    size = len(group)
    rows = matrix.tolist()
    return load_flint().arb_mat(
        [[rows[i][j] if group[i] == group[j] else 0 for j in range(size)] for i in range(size)]
    )


def _damped(a: Any, g: Any, damping: Any) -> Pair:
    flint = load_flint()

    def mean(matrix: Any) -> Any:
        size = matrix.nrows()
        return sum((matrix[i, i] for i in range(size)), start=flint.arb(0)) / size

    pi, root = (mean(a) / mean(g)).sqrt(), damping.sqrt()
    return a + scaled_identity(a.nrows(), pi * root), g + scaled_identity(g.nrows(), root / pi)


def _by_layers(factors: tuple[Pair, ...], v: Any) -> Any:
    """``G^{-1} V A^{-1}`` of every layer, without their product."""
    arb_mat, entries = load_flint().arb_mat, v.entries()
    found: list[Any] = []
    for a, g in factors:
        size = a.nrows() * g.nrows()
        part, entries = arb_mat(g.nrows(), a.nrows(), entries[:size]), entries[size:]
        found.extend(_solve(a, _solve(g, part).transpose()).transpose().entries())
    return arb_mat(len(found), 1, found)


def _chain(factors: tuple[Pair, ...], neighbours: tuple[Pair, ...]) -> Any:
    """``F_ij = F_{i,i+1} F_{i+1,i+1}^{-1} F_{i+1,j}`` for j > i + 1, from the tridiagonal blocks."""
    count = len(factors)
    blocks: dict[tuple[int, int], Any] = {(i, i): kron(g, a) for i, (a, g) in enumerate(factors)}
    blocks |= {(i, i + 1): kron(g, a) for i, (a, g) in enumerate(neighbours)}
    for distance in range(2, count):
        for i in range(count - distance):
            j = i + distance
            blocks[i, j] = blocks[i, i + 1] * _solve(blocks[i + 1, i + 1], blocks[i + 1, j])
    for i in range(count):
        for j in range(i):
            blocks[i, j] = blocks[j, i].transpose()
    parts = [[blocks[i, j].tolist() for j in range(count)] for i in range(count)]
    return load_flint().arb_mat(
        [[entry for block in line for entry in block[row]] for line in parts for row in range(len(line[0]))]
    )


def _solve(matrix: Any, v: Any) -> Any:
    try:
        return matrix.solve(v)
    except ZeroDivisionError as error:
        raise NumericalError("a matrix is singular, or too ill-conditioned for this precision") from error


def inverse(matrix: Any) -> Any:
    """The inverse, or a NumericalError."""
    return inverse_in_balls("a matrix", matrix)
