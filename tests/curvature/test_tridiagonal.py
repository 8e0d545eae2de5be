"""Block-tridiagonal K-FAC against the dense recursion, damped on the diagonal blocks before it."""

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
    case,
    condition,
    drawn_batch,
    exact,
    kfac,
    kronecker_fisher,
    tridiagonal,
    with_dead_units,
)

import grng_ref as gr
from grng_ref.curvature import TridiagonalKFAC

DEEP = [(4, 3), (3, 4), (5, 2), (3, 3)]


def deep_batch(num_examples: int = 30):
    """Four layers, more examples than units: every factor is regular, also without damping."""
    return drawn_batch(DEEP, num_examples=num_examples, columns=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_it_is_the_dense_recursion(network, kind):
    C, batch = case(network, kind, "tridiagonal_kfac")
    damped, rtol = tridiagonal(batch, DAMPING), allowed(batch)
    loss = np.linalg.cond(damped)
    assert_operator(C.damped(DAMPING), damped, rtol=rtol * loss)
    for method in ("auto", "cholesky"):
        assert_solves(C, damped, rtol=rtol * loss, method=method)
    # undamped, with pseudo-inverses: singular factors are no reason not to multiply
    undamped = tridiagonal(batch)
    assert_operator(C, undamped, rtol=rtol * condition(kfac(batch)))
    if len(batch.sizes) == 1:
        assert_operator(C, kfac(batch), rtol=rtol)


@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
def test_four_layers(damping):
    batch = deep_batch()
    C, dense = batch.build("tridiagonal_kfac"), tridiagonal(batch, damping)
    rtol = allowed(batch) * np.linalg.cond(dense)
    assert_operator(C.damped(damping), dense, rtol=rtol)
    assert_solves(C, dense, damping=damping, rtol=rtol)
    parts, target = batch.slices, kronecker_fisher(batch, damping)
    inverse = np.column_stack([C.solve(e, damping=damping) for e in np.eye(len(dense))])
    for i, row in enumerate(parts):
        for j, column in enumerate(parts):
            scale = np.linalg.norm(target)
            same = (
                np.linalg.norm(C.damped(damping).to_dense()[row, column] - target[row, column])
                <= rtol * scale
            )
            gone = np.linalg.norm(inverse[row, column]) <= rtol * np.linalg.norm(inverse)
            assert same == (abs(i - j) <= 1)  # the tridiagonal blocks agree, and only those
            assert gone == (abs(i - j) > 1)  # the inverse is block-tridiagonal


def test_dead_units():
    batch = with_dead_units(deep_batch())
    C, damped = batch.build("tridiagonal_kfac"), tridiagonal(batch, DAMPING)
    rtol = allowed(batch) * np.linalg.cond(damped)
    assert_operator(C.damped(DAMPING), damped, rtol=rtol)
    assert_solves(C, damped, rtol=rtol)
    assert_operator(C, tridiagonal(batch), rtol=allowed(batch) * condition(kfac(batch)))
    batch.signals[1][...] = 0.0  # a dead layer is tied to nothing
    C, damped = batch.build("tridiagonal_kfac"), tridiagonal(batch, DAMPING)
    assert_solves(C, damped, rtol=allowed(batch) * np.linalg.cond(damped))


def test_singular_without_damping():
    """A softmax's last factor is singular: the product is defined, a solve and a logdet are refused."""
    C, batch = case(NETWORKS[0], "expected", "tridiagonal_kfac")
    v = np.ones(C.shape[0])
    expected = tridiagonal(batch) @ v
    rtol = allowed(batch) * condition(kfac(batch))
    assert np.linalg.norm(C @ v - expected) <= rtol * np.linalg.norm(expected)
    assert gr.solve(C, v, damping=0.0).status == "not_positive_definite"
    with pytest.raises(gr.NumericalError, match="raise the damping"):
        C.solve(v, damping=0.0)
    with pytest.raises(gr.NumericalError, match="needs damping"):
        C.logdet(damping=0.0)


def test_one_example_determines_every_layer():
    """N = K' = 1: each layer's factors are explained whole by the next layer's; it takes damping."""
    batch = drawn_batch([(1, 1), (1, 1)], num_examples=1, columns=1)
    C = batch.build("tridiagonal_kfac")
    assert gr.solve(C, np.ones(2), damping=0.0).status == "not_positive_definite"
    assert_solves(C, tridiagonal(batch, DAMPING), rtol=allowed(batch) * 100)


def test_exact_damping_and_other_methods_are_refused():
    C = deep_batch().build("tridiagonal_kfac")
    v = np.ones(C.shape[0])
    with pytest.raises(ValueError, match="damping_kind must be one of 'factored'; got 'exact'"):
        gr.solve(C, v, damping=0.1, damping_kind="exact")
    with pytest.raises(ValueError, match="damping_kind must be one of 'factored'; got 'exact'"):
        C.logdet(damping=0.1, damping_kind="exact")
    with pytest.raises(ValueError, match="method must be one of 'auto', 'cholesky'; got 'eigh'"):
        gr.solve(C, v, damping=0.1, method="eigh")


def test_planted_errors_are_caught():
    """Damping after the recursion or to its result; links transposed, swapped, negated, left out."""
    batch = drawn_batch([(3, 3), (3, 3), (3, 3)], num_examples=20, columns=2)
    C = batch.build("tridiagonal_kfac")
    damped = tridiagonal(batch, DAMPING)
    rtol = allowed(batch) * np.linalg.cond(damped)
    assert_solves(C, damped, rtol=rtol)
    damping_of_blocks = kronecker_fisher(batch, DAMPING) - kronecker_fisher(batch)
    for wrong in (
        tridiagonal(batch) + damping_of_blocks,
        exact(tridiagonal(batch)),
        kronecker_fisher(batch, DAMPING),
    ):
        with pytest.raises(AssertionError):
            assert_solves(C, wrong, rtol=rtol)

    def planted(change) -> TridiagonalKFAC:
        return TridiagonalKFAC(C.factors, tuple(change(A, G) for A, G in C.neighbours))

    for change in (
        lambda A, G: (A.T, G.T),
        lambda A, G: (G, A),
        lambda A, G: (0.0 * A, 0.0 * G),
        lambda A, G: (-A, G),
    ):
        with pytest.raises(AssertionError):
            assert_solves(planted(change), damped, rtol=rtol)
        with pytest.raises(AssertionError):
            assert_operator(planted(change).damped(DAMPING), damped, rtol=rtol)


@pytest.mark.parametrize("structure", ["tridiagonal_kfac", "kronecker_optimal", "kfac"])
def test_factors_whose_squares_overflow_a_float(structure):
    """|A| |G| is near 1e156, its square no float."""
    rng = np.random.default_rng(0)
    inputs, signals = 1e78 * rng.standard_normal((2, 2)), rng.standard_normal((2, 1, 2))
    C = gr.curvature((inputs, inputs), (signals, signals), structure=structure)
    v = rng.standard_normal(8)
    result = gr.solve(C, v, damping=1e150)
    assert result.success
    assert np.linalg.norm(result.x) > 0.0
