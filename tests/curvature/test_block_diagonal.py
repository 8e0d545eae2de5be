"""The block-diagonal Fisher: its blocks are the full Fisher's, and nothing else is in it."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Network, networks
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.curvature import BlockDiagonalFisher

NETWORKS = list(networks(per_pair=1))


def blocks_of(full: np.ndarray, sizes: tuple[int, ...]) -> list[slice]:
    ends = np.cumsum(sizes)
    assert ends[-1] == full.shape[0]
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_blocks_are_those_of_the_full_fisher(network: Network):
    C = gr.fisher(network.problem, network.theta, network.x, structure="block_diagonal")
    F = network.fisher
    expected = np.zeros_like(F)
    parts = blocks_of(F, C.sizes)
    assert len(parts) == len(network.problem.model.trainable)
    for block, part in zip(C.blocks, parts, strict=True):
        expected[part, part] = F[part, part]
        # each block on its own scale
        rtol = tolerance("float64", terms=network.theta.size)
        assert_values_close(block, F[part, part], dtype="float64", rtol=rtol)
    rtol = tolerance("float64", terms=network.theta.size)
    assert_values_close(C.to_dense(), expected, dtype="float64", rtol=rtol)
    assert_values_close(C.diagonal(), np.diag(F), dtype="float64", rtol=rtol)
    assert float(C.trace()) == pytest.approx(np.trace(F), rel=rtol)
    v = np.random.default_rng(0).standard_normal((network.theta.size, 2))
    atol = rtol * np.linalg.norm(F) * np.linalg.norm(v)
    assert_values_close(C @ v, expected @ v, dtype="float64", rtol=0.0, atol=atol)
    if len(parts) > 1 and np.abs(F - expected).max() > 1e-6 * np.abs(F).max():  # negative control
        with pytest.raises(AssertionError):
            assert_values_close(C.to_dense(), F, dtype="float64", rtol=rtol)


def two_blocks(backend: Backend) -> tuple[BlockDiagonalFisher, np.ndarray]:
    rng = np.random.default_rng(3)
    factors = [rng.standard_normal((6, 4)), rng.standard_normal((5, 3))]
    blocks = [B.T @ B for B in factors]
    dense = np.zeros((7, 7))
    dense[:4, :4], dense[4:, 4:] = blocks
    return BlockDiagonalFisher(tuple(backend.asarray(block) for block in blocks)), dense


@pytest.mark.parametrize("method", ["auto", "cholesky", "eigh", "newton_schulz"])
def test_solves_are_those_of_the_dense_matrix(method, backend: Backend):
    C, dense = two_blocks(backend)
    v = np.random.default_rng(4).standard_normal(7)
    damped = dense + 0.2 * np.eye(7)
    result = gr.solve(C, backend.asarray(v), damping=0.2, method=method)
    assert result.success
    backend.assert_close(
        result.x, np.linalg.solve(damped, v), rtol=tolerance(backend.dtype, np.linalg.cond(damped))
    )
    assert result.method == ("cholesky" if method == "auto" else method)
    sign, expected = np.linalg.slogdet(damped)
    assert C.logdet(damping=0.2) == pytest.approx(expected, abs=1e3 * tolerance(backend.dtype))
    assert sign == 1.0


def test_one_failed_block_fails_the_solve():
    """A dead layer (a zero block) at damping 0 has an answer only for a zero part of v."""
    C = BlockDiagonalFisher((np.eye(2), np.zeros((3, 3))))
    good = np.array([1.0, 2.0, 0.0, 0.0, 0.0])
    result = gr.solve(C, good, damping=0.0)
    assert result.success
    assert result.rank == 2
    np.testing.assert_array_equal(result.x, good)
    assert gr.solve(C, np.ones(5), damping=0.0).status == "outside_range"
    assert gr.solve(C, np.ones(5), damping=0.0, method="cholesky").status == "not_positive_definite"
    np.testing.assert_allclose(C.solve(np.ones(5), damping=0.5), [2 / 3, 2 / 3, 2, 2, 2])


def test_minimum_norm_at_zero_damping():
    network = Network("tanh", "categorical", sizes=(3, 4, 3), num_examples=6)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    C = gr.fisher(problem, theta, x, structure="block_diagonal")
    g = problem.gradient(theta, x, y)
    result = gr.solve(C, g, damping=0.0)
    assert result.success
    dense = C.to_dense()
    expected = np.linalg.pinv(dense, rcond=1e-12, hermitian=True) @ g
    kept = np.linalg.eigvalsh(dense)
    condition = kept[-1] / kept[kept > 1e-12 * kept[-1]][0]
    assert np.linalg.norm(result.x - expected) <= tolerance("float64", condition) * np.linalg.norm(expected)
    assert result.rank == int(np.sum(kept > 1e-12 * kept[-1]))
