"""The unit-wise Fisher: the exact blocks of every unit's incoming parameters, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from dense_structures import (
    DAMPING,
    KINDS,
    NETWORKS,
    allowed,
    assert_operator,
    assert_solves,
    block_diagonal,
    case,
    condition,
    diagonal_blocks_of,
    drawn_batch,
    exact,
    unitwise,
    with_dead_units,
)

import grng_ref as gr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_blocks_are_those_of_the_full_fisher(network, kind):
    C, batch = case(network, kind, "unitwise")
    dense, rtol = unitwise(batch), allowed(batch)
    assert len(C.blocks) == sum(d.shape[2] for d in batch.signals)
    assert_operator(C, dense, rtol=rtol)
    for method in ("auto", "cholesky", "eigh", "newton_schulz"):
        assert_solves(C, exact(dense), rtol=rtol, method=method)


def test_dead_units():
    batch = with_dead_units(drawn_batch([(4, 3), (3, 2)], num_examples=9, columns=2))
    C, dense = batch.build("unitwise"), unitwise(batch)
    assert_operator(C, dense, rtol=allowed(batch))
    assert_solves(C, exact(dense), rtol=allowed(batch))
    outside = np.ones(C.shape[0])
    assert gr.solve(C, outside, damping=0.0).status == "outside_range"
    inside = dense @ outside
    found = gr.solve(C, inside, damping=0.0)
    assert found.success
    live = dense.diagonal() > 0.0
    loss = condition(dense)
    np.testing.assert_allclose(found.x, 1.0 * live, rtol=0.0, atol=allowed(batch) * loss)  # dead ones stay
    with pytest.raises(gr.NumericalError):
        C.logdet(damping=0.0)


def test_planted_errors_are_caught():
    """Outgoing parameters in place of incoming ones; whole layers; the mean taken as a sum; damping twice."""
    batch = drawn_batch([(3, 3), (3, 3)], num_examples=7, columns=2)
    C, dense, rtol = batch.build("unitwise"), unitwise(batch), allowed(batch)
    assert_operator(C, dense, rtol=rtol)
    turn = np.arange(9).reshape(3, 3).T.ravel()
    outgoing = []
    for block in batch.blocks:
        turned = diagonal_blocks_of(block[np.ix_(turn, turn)], 3)
        outgoing.append(turned[np.ix_(turn, turn)])
    for wrong in (block_diagonal(outgoing), block_diagonal(batch.blocks), 7 * dense):
        with pytest.raises(AssertionError):
            assert_operator(C, wrong, rtol=rtol)
    with pytest.raises(AssertionError):
        assert_solves(C, exact(dense, 2 * DAMPING), rtol=rtol)
