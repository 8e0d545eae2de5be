"""The optimal Kronecker product: the leading singular pair of the rearranged block, by NumPy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
from dense_structures import (
    KINDS,
    NETWORKS,
    allowed,
    assert_operator,
    assert_solves,
    block_diagonal,
    case,
    drawn_batch,
    exact,
    kfac,
    kronecker_fisher,
    nearest_kronecker,
    with_dead_units,
)

import grng_ref as gr
from grng_ref.curvature import KroneckerFactored
from proofs_check import oracles


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_it_is_the_leading_singular_pair(network, kind):
    C, batch = case(network, kind, "kronecker_optimal")
    dense, ratio = nearest_kronecker(batch)
    # a singular vector moves by the perturbation over the gap; the iteration stops when steps of this
    # geometric sequence, of ratio (s_2 / s_1)^2, are at eps
    rtol = allowed(batch) / (1.0 - ratio) ** 2
    assert_operator(C, dense, rtol=rtol)
    for method in ("auto", "eigh"):
        assert_solves(C, exact(dense), rtol=rtol, method=method)
    blocks = block_diagonal(batch.blocks)
    error, kfacs = (np.linalg.norm(matrix - blocks) for matrix in (C.to_dense(), kfac(batch)))
    assert error <= kfacs + allowed(batch) * np.linalg.norm(blocks)
    for A, G in C.factors:  # positive semidefinite, and so a curvature
        for factor in (A, G):
            values = np.linalg.eigvalsh(factor)
            assert values[0] >= -allowed(batch) * values[-1]


def test_factored_damping_is_that_of_its_own_factors():
    batch = drawn_batch([(4, 3), (3, 2)], num_examples=9, columns=2)
    C = batch.build("kronecker_optimal")
    blocks = []
    for A, G in C.factors:
        pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
        root = np.sqrt(0.05)
        blocks.append(oracles.kronecker(G + root / pi * np.eye(len(G)), A + pi * root * np.eye(len(A))))
    for method in ("cholesky", "eigh", "newton_schulz"):
        options = {"damping_kind": "factored", "method": method}
        assert_solves(C, block_diagonal(blocks), rtol=allowed(batch), **options)


def test_dead_units_and_a_dead_layer():
    batch = with_dead_units(drawn_batch([(4, 3), (3, 2)], num_examples=9, columns=2))
    C = batch.build("kronecker_optimal")
    dense, ratio = nearest_kronecker(batch)
    assert_operator(C, dense, rtol=allowed(batch) / (1.0 - ratio) ** 2)
    assert gr.solve(C, np.ones(C.shape[0]), damping=0.0).status == "outside_range"
    batch.signals[0][...] = 0.0  # nothing to be near to: the product is zero, and no division by its norm
    C = batch.build("kronecker_optimal")
    assert np.all(C.to_dense()[:12, :12] == 0.0)
    assert_solves(C, exact(C.to_dense()), rtol=allowed(batch))


def test_an_undamped_softmax_is_honest():
    C, batch = case(NETWORKS[0], "expected", "kronecker_optimal")
    v = np.random.default_rng(3).standard_normal(C.shape[0])
    assert np.all(np.isfinite(C @ v))
    with pytest.raises(gr.NumericalError, match="outside_range"):
        C.solve(v, damping=0.0)
    result = gr.solve(C, C @ v, damping=0.0)
    assert result.success
    dense = nearest_kronecker(batch)[0]
    assert result.rank == np.linalg.matrix_rank(dense, tol=1e-12 * np.linalg.norm(dense), hermitian=True)


def test_planted_errors_are_caught():
    """Stopped at K-FAC; the factors in the other order; the scale of the pair left out."""
    batch = drawn_batch([(3, 3), (3, 3)], num_examples=7, columns=2)
    C = batch.build("kronecker_optimal")
    dense, ratio = nearest_kronecker(batch)
    rtol = allowed(batch) / (1.0 - ratio) ** 2
    assert_operator(C, dense, rtol=rtol)
    stopped = batch.build("kfac")
    swapped = KroneckerFactored(tuple((G, A) for A, G in C.factors))
    unscaled = KroneckerFactored(tuple((A / np.linalg.norm(A), G) for A, G in C.factors))
    for wrong in (stopped, swapped, unscaled):
        with pytest.raises(AssertionError):
            assert_operator(wrong, dense, rtol=rtol)
        with pytest.raises(AssertionError):
            assert_solves(wrong, exact(dense), rtol=rtol)
    assert_operator(stopped, block_diagonal([kronecker_fisher(batch)[s, s] for s in batch.slices]), rtol=rtol)
