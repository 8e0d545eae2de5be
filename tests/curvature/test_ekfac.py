"""EKFAC: an eigenbasis of K-FAC's factors, and on its diagonal that of the exact block in this basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dense_structures import (
    DAMPING,
    KINDS,
    NETWORKS,
    Batch,
    allowed,
    assert_operator,
    assert_solves,
    block_diagonal,
    case,
    drawn_batch,
    exact,
    kfac,
    with_dead_units,
)

import grng_ref as gr
from grng_ref.curvature import EKFAC
from proofs_check import oracles


def is_off_diagonal_zero(basis: np.ndarray, factor: np.ndarray, rtol: float) -> bool:
    """Whether the columns are orthonormal eigenvectors of the factor."""
    turned = basis.T @ factor @ basis
    unit = np.linalg.norm(basis.T @ basis - np.eye(len(basis))) <= rtol
    return unit and bool(np.linalg.norm(turned - np.diag(np.diag(turned))) <= rtol * np.linalg.norm(factor))


def dense_ekfac(C: EKFAC, batch: Batch) -> np.ndarray:
    """``Q diag(Q^T F_l Q) Q^T``; the basis may be free, so it is C's, once it is shown to be one."""
    blocks = []
    for index, (layer, block) in enumerate(zip(C.layers, batch.blocks, strict=True)):
        rtol = allowed(batch)
        assert is_off_diagonal_zero(layer.a_basis, batch.input_factor(index, index), rtol)
        assert is_off_diagonal_zero(layer.g_basis, batch.signal_factor(index, index), rtol)
        q = oracles.kronecker(layer.g_basis, layer.a_basis)
        blocks.append(q @ np.diag(np.diag(q.T @ block @ q)) @ q.T)
    return block_diagonal(blocks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_it_is_its_definition(network, kind):
    C, batch = case(network, kind, "ekfac")
    dense, rtol = dense_ekfac(C, batch), allowed(batch)
    assert_operator(C, dense, rtol=rtol)
    for method in ("auto", "eigh"):
        assert_solves(C, exact(dense), rtol=rtol, method=method)
    exact_blocks = block_diagonal(batch.blocks)
    error = np.linalg.norm(dense - exact_blocks)
    assert error <= np.linalg.norm(kfac(batch) - exact_blocks) + rtol * np.linalg.norm(exact_blocks)
    if batch.num_examples == 1:
        assert error <= rtol * np.linalg.norm(exact_blocks)


def test_dead_units():
    batch = with_dead_units(drawn_batch([(4, 3), (3, 2)], num_examples=9, columns=2))
    C = batch.build("ekfac")
    dense = dense_ekfac(C, batch)
    assert_operator(C, dense, rtol=allowed(batch))
    assert_solves(C, exact(dense), rtol=allowed(batch))
    assert gr.solve(C, np.ones(C.shape[0]), damping=0.0).status == "outside_range"
    with pytest.raises(gr.NumericalError):
        C.logdet(damping=0.0)


def test_an_undamped_softmax_is_honest():
    """Singular factors: the minimum-norm solution in the range, a refusal outside, a product all the same."""
    network = NETWORKS[0]
    C, batch = case(network, "expected", "ekfac")
    dense = dense_ekfac(C, batch)
    v = np.random.default_rng(3).standard_normal(len(dense))
    np.testing.assert_allclose(
        C @ v, dense @ v, rtol=0.0, atol=allowed(batch) * np.linalg.norm(dense) * np.linalg.norm(v)
    )
    with pytest.raises(gr.NumericalError, match="outside_range"):
        C.solve(v, damping=0.0)
    inside = dense @ v
    result = gr.solve(C, inside, damping=0.0)
    assert result.success
    kept = np.linalg.eigvalsh(dense)
    kept = kept[kept > 1e-12 * kept[-1]]
    expected = np.linalg.pinv(dense, rcond=1e-12, hermitian=True) @ inside
    rtol = allowed(batch) * kept[-1] / kept[0]
    assert np.linalg.norm(result.x - expected) <= rtol * np.linalg.norm(expected)
    assert result.rank == len(kept)


def test_planted_errors_are_caught():
    """No refit (K-FAC itself); products without the transposes; the factors' order; damping twice."""
    batch = drawn_batch([(3, 3), (3, 3)], num_examples=7, columns=2)
    C, rtol = batch.build("ekfac"), allowed(batch)
    dense = dense_ekfac(C, batch)
    assert_operator(C, dense, rtol=rtol)

    def planted(change) -> EKFAC:
        return EKFAC(tuple(change(i, layer) for i, layer in enumerate(C.layers)), C.factors)

    def without_refit(index, layer):
        a, g = (
            np.diag(basis.T @ factor @ basis)
            for basis, factor in (
                (layer.a_basis, batch.input_factor(index, index)),
                (layer.g_basis, batch.signal_factor(index, index)),
            )
        )
        return replace(layer, moments=np.outer(g, a))

    def without_transpose(index, layer):
        return replace(layer, a_basis=layer.a_basis.T, g_basis=layer.g_basis.T)

    def swapped(index, layer):
        return replace(layer, a_basis=layer.g_basis, g_basis=layer.a_basis, moments=layer.moments.T)

    for change in (without_refit, without_transpose, swapped):
        with pytest.raises(AssertionError):
            assert_operator(planted(change), dense, rtol=rtol)
        with pytest.raises(AssertionError):
            assert_solves(planted(change), exact(dense), rtol=rtol)
    with pytest.raises(AssertionError):
        assert_solves(C, exact(dense, 2 * DAMPING), rtol=rtol)
