"""One linearisation of a problem in balls: Jacobian, residuals, and the weights of each kind of Fisher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .description import Network, network_at, read_loss
from .library import load_flint
from .outputs import Outputs, read_targets
from .passes import Trace, forward, layer_inputs, signals


@dataclass(frozen=True, eq=False)
class Point:
    """A problem at a theta of balls, and a batch; everything ``arb_mat``."""

    problem: Any
    network: Network
    x: np.ndarray
    trace: Trace
    terms: list[Outputs]  # one an example
    jacobian: Any  # J (N K, P)
    inputs: list[Any]  # abar (N, d_in [+ 1]) a trainable layer
    signals: list[Any]  # df/ds (N K, d_out) a trainable layer

    @property
    def examples(self) -> int:
        """N."""
        return len(self.x)

    @property
    def gradient(self) -> Any:
        """``J^T r / N`` (P, 1)."""
        slopes = [[slope] for term in self.terms for slope in term.gradient]
        return self.jacobian.transpose() * load_flint().arb_mat(slopes) / self.examples

    @property
    def loss(self) -> Any:
        """The mean loss."""
        return sum((term.loss for term in self.terms), start=load_flint().arb(0)) / self.examples

    def weights(self, kind: str, samples: np.ndarray | None) -> Any:
        """W (N K, N K), block diagonal, with ``F = J^T W J / N``: no factor of the output Fisher."""
        if kind == "expected":
            return block_diagonal([load_flint().arb_mat(term.fisher) for term in self.terms])
        rows = self.cotangents(kind, samples)
        return rows.transpose() * rows

    def cotangents(self, kind: str, samples: np.ndarray | None) -> Any:
        """C (N K', N K), block diagonal: ``B = C J / sqrt(N)``, ``D_l = C df/ds_l``."""
        flint = load_flint()
        if kind == "expected":
            name, _ = read_loss(self.problem)
            return block_diagonal([flint.arb_mat(_factor(name, term)).transpose() for term in self.terms])
        if kind == "empirical":
            return block_diagonal([flint.arb_mat([term.gradient]) for term in self.terms])
        if samples is None:
            raise ValueError("samples must be given for kind='monte_carlo', got None")
        name, output_terms = read_loss(self.problem)
        k, outputs = self.network.num_outputs, self.trace.outputs.tolist()
        labels = [read_targets(name, sample, self.examples, k) for sample in samples]
        root = flint.arb(len(labels)).sqrt()
        blocks = [
            flint.arb_mat([output_terms(f, sample[n]).gradient for sample in labels]) / root
            for n, f in enumerate(outputs)
        ]
        return block_diagonal(blocks)


def linearize(problem: Any, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> Point:
    """The point of a checked problem at theta (P,), floats or an object array of balls."""
    network = network_at(problem, theta)
    name, output_terms = read_loss(problem)
    labels = read_targets(name, y, len(x), network.num_outputs)
    trace = forward(network, x)
    found = signals(network, trace)
    trained = [i for i, layer in enumerate(network.layers) if layer.trainable]
    inputs = [layer_inputs(network, trace, i) for i in trained]
    terms = [output_terms(*pair) for pair in zip(trace.outputs.tolist(), labels, strict=True)]
    jacobian = rows_of_layers(inputs, [found[i] for i in trained], network.num_outputs)
    return Point(problem, network, x, trace, terms, jacobian, inputs, [found[i] for i in trained])


def rows_of_layers(inputs: list[Any], cotangents: list[Any], repeat: int) -> Any:
    """Rows ``d (x) a``, the layers side by side; ``repeat`` rows an example."""
    rows: list[list[Any]] = [[] for _ in range(cotangents[0].nrows())]
    for a, d in zip(inputs, cotangents, strict=True):
        examples = a.tolist()
        for index, signal in enumerate(d.tolist()):
            rows[index].extend(s * entry for s in signal for entry in examples[index // repeat])
    return load_flint().arb_mat(rows)


def block_diagonal(blocks: list[Any]) -> Any:
    """Blocks on the diagonal, exact zeros elsewhere."""
    matrix = load_flint().arb_mat(sum(b.nrows() for b in blocks), sum(b.ncols() for b in blocks))
    top = left = 0
    for block in blocks:
        for i, row in enumerate(block.tolist()):
            for j, entry in enumerate(row):
                matrix[top + i, left + j] = entry
        top, left = top + block.nrows(), left + block.ncols()
    return matrix


def _factor(name: str, term: Outputs) -> list[list[Any]]:
    """S with ``S S^T = Om``: ``diag(Om)^{1/2}``, categorical ``(I - p 1^T) diag(sqrt p)``."""
    flint = load_flint()
    k = len(term.gradient)
    if name != "categorical":
        return [[term.fisher[i][i].sqrt() if i == j else flint.arb(0) for j in range(k)] for i in range(k)]
    p = _probabilities(term)
    root = [q.sqrt() for q in p]
    rest = [sum((q for j, q in enumerate(p) if j != i), start=flint.arb(0)) for i in range(k)]
    return [[root[i] * rest[i] if i == j else -p[i] * root[j] for j in range(k)] for i in range(k)]


def _probabilities(term: Outputs) -> list[Any]:
    """p, with ``p_y = exp(-loss)`` and the other entries of the gradient."""
    label = next((i for i, slope in enumerate(term.gradient) if slope <= 0), 0)
    return [(-term.loss).exp() if i == label else slope for i, slope in enumerate(term.gradient)]
