"""What a structure is tried on: batches of layer factors, small enough for dense matrices on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..curvature import Curvature, Structure
from .common import Host, Place, host, require_close

_WIDTHS = ((5, 3), (4, 2))  # (inputs, outputs) of the layers: no two sizes of a layer agree
_COLUMNS = 2
NUM_PARAMETERS = sum(inputs * outputs for inputs, outputs in _WIDTHS)


@dataclass(frozen=True)
class Batch:
    """Layer inputs and score signals of one batch, on the host."""

    activations: tuple[Host, ...]  # (N, d_in)
    signals: tuple[Host, ...]  # (N, K', d_out)

    def scaled(self, factor: float) -> Batch:
        """Signals times a factor."""
        return Batch(self.activations, tuple(factor * d for d in self.signals))

    def of_examples(self, index: Host) -> Batch:
        """The batch of the given examples, in the given order."""
        return Batch(tuple(a[index] for a in self.activations), tuple(d[index] for d in self.signals))

    def rows(self) -> Host:
        """The score rows B (N K', P), by an explicit loop over examples and factor columns."""
        n, columns = self.signals[0].shape[:2]
        layers = list(zip(self.activations, self.signals, strict=True))
        rows = [
            np.concatenate([np.outer(d[i, k], a[i]).ravel() for a, d in layers])
            for i in range(n)
            for k in range(columns)
        ]
        return np.array(rows) / math.sqrt(n)


@dataclass(frozen=True)
class CurvatureCase:
    """A structure with a small batch (fewer score rows than parameters) and a large one."""

    structure: Structure
    place: Place
    small: Batch
    large: Batch
    v: Host  # (P,)
    exact_for_one_example: bool

    def build(self, batch: Batch) -> Curvature:
        """The structure's curvature of a batch."""
        arrays = self.place.put((batch.activations, batch.signals))
        return self.structure.build(*arrays)

    def dense(self, batch: Batch) -> Host:
        """Its dense matrix on the host."""
        return host(self.build(batch).to_dense())

    def matrices(self) -> Iterator[tuple[str, Curvature, Host]]:
        """The curvatures of both batches with their dense matrices."""
        for name, batch in (("small batch", self.small), ("large batch", self.large)):
            built = self.build(batch)
            yield name, built, host(built.to_dense())


def random_batch(generator: np.random.Generator, *, examples: int) -> Batch:
    """A batch of well-conditioned layer inputs and score signals."""
    activations, signals = [], []
    for inputs, outputs in _WIDTHS:
        activations.append(_well_conditioned(generator, examples, inputs))
        flat = _well_conditioned(generator, examples * _COLUMNS, outputs)
        signals.append(flat.reshape(examples, _COLUMNS, outputs))
    return Batch(tuple(activations), tuple(signals))


def _well_conditioned(generator: np.random.Generator, rows: int, columns: int) -> Host:
    """A random matrix with singular values between 1 and 2 times sqrt(rows): entries of order one.

    The factors then have condition number at most 4 on their ranges, which leaves a gap between their
    eigenvalues and roundoff that tells the rank, in float32 too.
    """
    left, _, right = np.linalg.svd(generator.normal(0.0, 1.0, (rows, columns)), full_matrices=False)
    return math.sqrt(rows) * (left * np.linspace(1.0, 2.0, left.shape[1])) @ right


def typical_eigenvalue(matrix: Host) -> float:
    """The mean eigenvalue."""
    return float(np.trace(matrix)) / matrix.shape[0]


def require_same_matrix(case: CurvatureCase, name: str, actual: Host, expected: Host, terms: int) -> None:
    """Report a violation unless two matrices agree up to the rounding of sums over ``terms`` examples."""
    bound = case.place.rounding(float(np.max(np.abs(expected))), terms=terms)
    require_close(name, actual, expected, bound)


def solver_options(built: Curvature) -> Iterator[tuple[str, str]]:
    """Every damping kind with ``"auto"`` and each of its methods."""
    for kind, methods in built.solvers.items():
        for method in ("auto", *methods):
            yield kind, method
