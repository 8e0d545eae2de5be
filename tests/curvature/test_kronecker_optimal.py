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
    rtol = allowed(batch) / (1.0 - ratio)  # a singular vector moves by the perturbation over the gap
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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ratio", [0.9, 0.999, 0.9999, 1.0 - 2.0**-20])
def test_it_does_not_stop_short_of_a_near_tie(ratio, dtype):
    """Two examples with nothing in common: singular values 1/2 and ratio^2/2, the first is best."""
    inputs, signals = np.eye(2, dtype=dtype), np.array([[[1.0, 0.0]], [[0.0, ratio]]], dtype=dtype)
    C = gr.curvature((inputs,), (signals,), structure="kronecker_optimal")
    eps = np.finfo(dtype).eps
    expected = np.diag([0.5, 0.0, 0.0, 0.0])
    assert np.linalg.norm(C.to_dense() - expected) <= 8 * eps / (1.0 - ratio)


def test_of_a_tie_it_is_a_nearest_product():
    inputs, signals = np.eye(2), np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    C = gr.curvature((inputs,), (signals,), structure="kronecker_optimal")
    error = np.linalg.norm(C.to_dense() - np.diag([0.5, 0.0, 0.0, 0.5]))
    assert error <= 0.5 * (1.0 + 8 * np.finfo(float).eps)  # by Eckart and Young: the second singular value


@pytest.mark.parametrize(
    ("dtype", "scales"),
    [("float32", [1e-15, 1e-11, 1e-6, 1e9]), ("float64", [1e-150, 1e-90, 1e-60, 1e40, 1e140])],
)
def test_no_scale_of_either_side_costs_a_digit(dtype, scales):
    """No power of a row above the second leaves the range of the dtype where the factors do not."""
    rng = np.random.default_rng(4)
    inputs, signals = rng.standard_normal((5, 3)), rng.standard_normal((5, 2, 4))
    exact_product = gr.curvature((inputs,), (signals,), structure="kronecker_optimal").to_dense()
    for scale in scales:
        for a_scale, d_scale in ((1.0, scale), (scale, 1.0), (scale, 1.0 / scale)):
            a, d = (inputs * a_scale).astype(dtype), (signals * d_scale).astype(dtype)
            C = gr.curvature((a,), (d,), structure="kronecker_optimal")
            (A, G) = C.factors[0]
            shrunk = np.kron(G.astype(float) / d_scale**2, A.astype(float) / a_scale**2)
            distance = np.linalg.norm(shrunk - exact_product) / np.linalg.norm(exact_product)
            assert distance <= 64 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_scales_of_single_examples_do_not_hide_each_other(dtype):
    """The larger inputs belong to the smaller product: 1e-4 of the other one's."""
    inputs = np.array([[1e15, 0.0], [0.0, 1.0]], dtype=dtype)
    signals = np.array([[[1e-17, 0.0]], [[0.0, 1.0]]], dtype=dtype)
    C = gr.curvature((inputs,), (signals,), structure="kronecker_optimal")
    assert np.linalg.norm(C.to_dense() - np.diag([0.0, 0.0, 0.0, 0.5])) <= 8 * np.finfo(dtype).eps


def test_examples_with_a_side_of_zeros():
    """Every product is zero, though neither factor of K-FAC is."""
    inputs, signals = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[[0.0]], [[3.0]]])
    C = gr.curvature((inputs,), (signals,), structure="kronecker_optimal")
    assert np.all(C.to_dense() == 0.0)


def test_a_confident_softmax_in_float32():
    """The signals are near 1e-12, their fourth powers below the range of float32."""
    problem = gr.Problem(gr.MLP((4, 3)), gr.Categorical())
    layer = np.zeros((3, 5), dtype=np.float32)
    layer[:, -1] = [55.0, 0.0, 0.5]
    theta, x = problem.pack([layer]), np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    C = gr.fisher(problem, theta, x, structure="kronecker_optimal")
    exact_block = gr.fisher(problem, theta.astype(float), x.astype(float)).to_dense()
    # one layer with the same outputs for every input: K-FAC's product, and so the nearest, is exact
    error = np.linalg.norm(C.to_dense().astype(float) - exact_block) / np.linalg.norm(exact_block)
    assert error <= 64 * np.finfo(np.float32).eps
    optimizer = gr.ngd(problem, lr=1.0, damping=1e-3, structure="kronecker_optimal")
    optimizer.update(theta, optimizer.init(theta), x, np.array([0, 1, 2, 0]))  # a warning is an error


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
    assert_operator(C, dense, rtol=allowed(batch) / (1.0 - ratio))
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
    rtol = allowed(batch) / (1.0 - ratio)
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
