"""Structured Fisher matrices by their definitions, dense and slow, and one check of a whole operator.

A `Batch` holds layer inputs and score signals: of a network by the oracle's derivatives, or drawn. Everything
else here is a matrix (P, P) computed from them, without any of the package's formulas.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
from networks import Network
from support import assert_values_close, tolerance

import grng_ref as gr
from proofs_check import oracles

DAMPING = 0.05
KINDS = ("expected", "monte_carlo", "empirical")
NETWORKS = (
    Network("tanh", "categorical", num_examples=4),
    Network("gelu", "bernoulli", "ntk", bias=False, num_examples=5),
    Network("relu", "poisson", frozen=(1,), num_examples=5),
    Network("silu", "gaussian", frozen=(0, 2)),  # one trainable layer, in the middle
    Network("tanh", "categorical", sizes=(3, 4), num_examples=6),  # one layer only
    Network("sigmoid", "bernoulli", sizes=(3, 4, 1), num_examples=7),  # K = 1
    Network("softplus", "poisson", sizes=(2, 3, 2), num_examples=1),
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Layer inputs (N, d_in) and score signals (N, K', d_out), NumPy float64."""

    activations: tuple[np.ndarray, ...]
    signals: tuple[np.ndarray, ...]

    @property
    def num_examples(self) -> int:
        return len(self.activations[0])

    @property
    def sizes(self) -> list[int]:
        """Parameters of each layer."""
        return [a.shape[1] * d.shape[2] for a, d in zip(self.activations, self.signals, strict=True)]

    @property
    def slices(self) -> list[slice]:
        ends = np.cumsum(self.sizes)
        return [slice(int(end - size), int(end)) for end, size in zip(ends, self.sizes, strict=True)]

    @cached_property
    def fisher(self) -> np.ndarray:
        """``(1/N) sum b b^T`` over the score rows b, row by row."""
        total = np.zeros((sum(self.sizes),) * 2)
        for n, k in itertools.product(range(self.num_examples), range(self.signals[0].shape[1])):
            layers = [np.outer(d[n, k], a[n]) for a, d in zip(self.activations, self.signals, strict=True)]
            row = np.concatenate([layer.ravel() for layer in layers])
            total += np.outer(row, row)
        return total / self.num_examples

    @property
    def blocks(self) -> list[np.ndarray]:
        """The layers' blocks of the Fisher."""
        return [self.fisher[part, part] for part in self.slices]

    def input_factor(self, i: int, j: int) -> np.ndarray:
        """``A_ij = (1/N) sum_n abar_i abar_j^T``."""
        pairs = zip(self.activations[i], self.activations[j], strict=True)
        return np.sum([np.outer(a, b) for a, b in pairs], axis=0) / self.num_examples

    def signal_factor(self, i: int, j: int) -> np.ndarray:
        """``G_ij = (1/N) sum_n D_i^T D_j``."""
        pairs = zip(self.signals[i], self.signals[j], strict=True)
        return np.sum([d.T @ e for d, e in pairs], axis=0) / self.num_examples

    def build(self, structure: Any) -> Any:
        return gr.curvature(self.activations, self.signals, structure=structure)


def batch_of(network: Network, kind: str = "expected", samples: np.ndarray | None = None) -> Batch:
    """The network's layer inputs and signals, from the oracle's forward pass and complex-step Jacobian."""
    layers = network.problem.model.all_layers(network.theta)
    traces = [
        oracles.forward_example(layers, row, network.activation, network.factors, bias=network.bias)
        for row in network.x
    ]
    if kind == "expected":
        roots = []
        for omega in network.output_fishers:
            values, vectors = np.linalg.eigh(omega)
            roots.append(vectors * np.sqrt(np.maximum(values, 0.0)))
        columns = np.array(roots)
    else:
        labels = network.y[None] if kind == "empirical" else samples
        slopes = [
            [oracles.loss_slope(network.likelihood, f, y, network.variance) for y in own]
            for (f, _), own in zip(traces, np.moveaxis(labels, 0, 1), strict=True)
        ]
        columns = np.moveaxis(np.array(slopes), 1, 2) / math.sqrt(len(labels))
    rows = np.moveaxis(columns, 1, 2) @ network.jacobian  # (N, K', P)
    inputs, signals, start = [], [], 0
    for index in network.problem.model.trainable:
        a = np.array([abars[index] for _, abars in traces])
        size = layers[index].size
        block = rows[:, :, start : start + size].reshape(*rows.shape[:2], *layers[index].shape)
        start += size
        inputs.append(a)
        # a row's block is D (x) abar, so D is its product with abar / |abar|^2
        signals.append(np.einsum("nkij,nj->nki", block, a / np.sum(a * a, axis=1, keepdims=True)))
    return Batch(tuple(inputs), tuple(signals))


def drawn_batch(shapes: list[tuple[int, int]], *, num_examples: int, columns: int, seed: int = 0) -> Batch:
    """Factors of no network: layers of (d_in, d_out)."""
    rng = np.random.default_rng(seed)
    inputs = tuple(rng.standard_normal((num_examples, d_in)) for d_in, _ in shapes)
    signals = tuple(rng.standard_normal((num_examples, columns, d_out)) for _, d_out in shapes)
    return Batch(inputs, signals)


def with_dead_units(batch: Batch) -> Batch:
    """The second input of every layer and the first output are dead: zeros for all examples."""
    inputs, signals = [a.copy() for a in batch.activations], [d.copy() for d in batch.signals]
    for a, d in zip(inputs, signals, strict=True):
        a[:, 1] = 0.0
        d[:, :, 0] = 0.0
    return Batch(tuple(inputs), tuple(signals))


def case(network: Network, kind: str, structure: str) -> tuple[gr.Curvature, Batch]:
    """A curvature by `gr.fisher`, and the batch of the same network by the oracle."""
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    samples = problem.sample(theta, x, num_samples=3, rng=11) if kind == "monte_carlo" else None
    labels = y if kind == "empirical" else None
    C = gr.fisher(problem, theta, x, labels, structure=structure, kind=kind, samples=samples)
    return C, batch_of(network, kind, samples)


def block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    size = sum(len(block) for block in blocks)
    matrix, start = np.zeros((size, size)), 0
    for block in blocks:
        stop = start + len(block)
        matrix[start:stop, start:stop] = block
        start = stop
    return matrix


def diagonal_blocks_of(matrix: np.ndarray, size: int) -> np.ndarray:
    """The matrix with everything but its diagonal blocks of one size set to zero."""
    place = np.arange(len(matrix)) // size
    return np.where(place[:, None] == place[None, :], matrix, 0.0)


def unitwise(batch: Batch) -> np.ndarray:
    """The incoming parameters of each unit: consecutive d_in entries of theta."""
    return block_diagonal(
        [
            diagonal_blocks_of(block, a.shape[1])
            for block, a in zip(batch.blocks, batch.activations, strict=True)
        ]
    )


def kfac(batch: Batch) -> np.ndarray:
    layers = range(len(batch.sizes))
    return block_diagonal(
        [oracles.kronecker(batch.signal_factor(i, i), batch.input_factor(i, i)) for i in layers]
    )


def rearranged(block: np.ndarray, outputs: int, inputs: int) -> np.ndarray:
    """Van Loan and Pitsianis: row (i, i'), column (j, j') holds entry ((i, j), (i', j')) of the block."""
    four = block.reshape(outputs, inputs, outputs, inputs)
    return np.moveaxis(four, 1, 2).reshape(outputs**2, inputs**2)


def nearest_kronecker(batch: Batch) -> tuple[np.ndarray, float]:
    """The nearest Kronecker product of every block by the SVD, and the largest ratio of s_2 to s_1."""
    blocks, ratio = [], 0.0
    for block, a, d in zip(batch.blocks, batch.activations, batch.signals, strict=True):
        outputs, inputs = d.shape[2], a.shape[1]
        left, values, right = np.linalg.svd(rearranged(block, outputs, inputs), full_matrices=False)
        G, A = left[:, 0].reshape(outputs, outputs), right[0].reshape(inputs, inputs)
        blocks.append(values[0] * oracles.kronecker(G, A))
        ratio = max(ratio, values[1] / values[0] if len(values) > 1 else 0.0)
    return block_diagonal(blocks), ratio


def kronecker_fisher(batch: Batch, damping: float = 0.0) -> np.ndarray:
    """The Kronecker-approximated Fisher, blocks ``G_ij kron A_ij``; factored damping on the diagonal ones."""
    layers = range(len(batch.sizes))
    rows = []
    for i in layers:
        row = []
        for j in layers:
            G, A = batch.signal_factor(i, j), batch.input_factor(i, j)
            if i == j:
                mean_a, mean_g = np.trace(A) / len(A), np.trace(G) / len(G)
                pi = math.sqrt(mean_a / mean_g) if mean_a > 0 and mean_g > 0 else 1.0
                A = A + pi * math.sqrt(damping) * np.eye(len(A))
                G = G + math.sqrt(damping) / pi * np.eye(len(G))
            row.append(oracles.kronecker(G, A))
        rows.append(row)
    return np.block(rows)


def tridiagonal(batch: Batch, damping: float = 0.0) -> np.ndarray:
    """``Xi^{-1} Sigma Xi^{-T}`` by the dense recursion from the last layer to the first."""
    full, parts = kronecker_fisher(batch, damping), batch.slices
    xi, sigma = np.eye(len(full)), np.zeros_like(full)
    for index, part in enumerate(parts):
        sigma[part, part] = full[part, part]
        if index + 1 < len(parts):
            after = parts[index + 1]
            psi = full[part, after] @ np.linalg.pinv(full[after, after], rcond=1e-12, hermitian=True)
            xi[part, after] = -psi
            sigma[part, part] -= psi @ full[after, after] @ psi.T
    inverse = np.linalg.inv(xi)
    return inverse @ sigma @ inverse.T


def condition(matrix: np.ndarray) -> float:
    """The largest eigenvalue over the least that is not zero to roundoff."""
    values = np.linalg.eigvalsh(matrix)
    return float(values[-1] / values[values > 1e-12 * values[-1]][0])


# --- the check -------------------------------------------------------------------------------------------


def assert_operator(C: Any, dense: np.ndarray, *, rtol: float) -> None:
    """Everything that C does without a solve is what the dense matrix does."""
    size = len(dense)
    assert C.shape == dense.shape
    assert_values_close(C.to_dense(), dense, dtype="float64", rtol=rtol)
    assert_values_close(C.diagonal(), np.diag(dense), dtype="float64", rtol=rtol)
    assert float(C.trace()) == pytest.approx(np.trace(dense), rel=rtol)
    V = np.random.default_rng(0).standard_normal((size, 3))
    atol = rtol * np.linalg.norm(dense) * np.linalg.norm(V)
    assert_values_close(C @ V, dense @ V, dtype="float64", rtol=0.0, atol=atol)
    assert_values_close(C @ V[:, 0], dense @ V[:, 0], dtype="float64", rtol=0.0, atol=atol)
    assert_values_close(C.matvec(V[:, 0]), dense @ V[:, 0], dtype="float64", rtol=0.0, atol=atol)
    found = scipy.sparse.linalg.eigsh(C, k=1, return_eigenvectors=False, v0=V[:, 0])
    assert found[0] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=max(rtol, 1e-10))


def assert_solves(
    C: Any, damped: np.ndarray, *, damping: float = DAMPING, rtol: float, **options: Any
) -> None:
    """``solve`` and ``logdet`` are those of the dense damped matrix."""
    v = np.random.default_rng(1).standard_normal(len(damped))
    loss = float(np.linalg.cond(damped))
    result = gr.solve(C, v, damping=damping, **options)
    assert result.success
    expected = np.linalg.solve(damped, v)
    assert np.linalg.norm(result.x - expected) <= rtol * loss * np.linalg.norm(expected)
    sign, logdet = np.linalg.slogdet(damped)
    assert sign == 1.0
    kind = {"damping_kind": options["damping_kind"]} if "damping_kind" in options else {}
    assert C.logdet(damping=damping, **kind) == pytest.approx(logdet, rel=0.0, abs=rtol * loss * len(damped))


def exact(dense: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """``C + a I``."""
    return dense + damping * np.eye(len(dense))


def allowed(batch: Batch) -> float:
    """Roundoff of sums over examples, columns and parameters."""
    return tolerance("float64", terms=sum(batch.sizes))
