"""Block-tridiagonal K-FAC against the dense recursion, damped on the diagonal blocks before it."""

from __future__ import annotations

import mpmath
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
from grng_ref.curvature.tridiagonal import _FactoredChain

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


def graded(rng: np.random.Generator, rows: int, columns: int, decades: float) -> np.ndarray:
    """A matrix with singular values from ``sqrt(rows)`` down by so many decades."""
    left, _, right = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
    return rows**0.5 * (left * np.logspace(0.0, -decades, columns)) @ right


def graded_batch(decades: list[tuple[float, float]], seed: int) -> Batch:
    """Layers whose factors A, G have condition numbers of 10 to twice these powers."""
    rng = np.random.default_rng(seed)
    return Batch(
        tuple(graded(rng, 12, 4, inputs) for inputs, _ in decades),
        tuple(graded(rng, 24, 3, signals).reshape(12, 2, 3) for _, signals in decades),
    )


def exact_image(C: TridiagonalKFAC, x: np.ndarray) -> np.ndarray:
    """``F x`` with 80 digits, from ``F_ij = Psi_i F_{i+1,j}``; entries are mpmath numbers."""
    count = len(C.factors)
    cut = np.split(x, np.cumsum([A.shape[0] * G.shape[0] for A, G in C.factors])[:-1])
    with mpmath.workdps(80):
        factors = [[mpmath.matrix(M.tolist()) for M in pair] for pair in C.factors]
        pairs = {(i, i): factors[i] for i in range(count)}
        for i, cross in enumerate(C.neighbours):
            pairs[i, i + 1] = [mpmath.matrix(X.tolist()) for X in cross]
        for gap in range(2, count):
            for i in range(count - gap):
                links = zip(pairs[i, i + 1], factors[i + 1], pairs[i + 1, i + gap], strict=True)
                pairs[i, i + gap] = [X * M**-1 * F for X, M, F in links]
        layers = [
            mpmath.matrix(part.reshape(G.shape[0], A.shape[0]).tolist())
            for part, (A, G) in zip(cut, C.factors, strict=True)
        ]
        image = []
        for i in range(count):
            parts = []
            for j, layer in enumerate(layers):
                A, G = pairs[i, j] if i <= j else [M.T for M in pairs[j, i]]
                parts.append(G * layer * A.T)
            image += list(sum(parts[1:], parts[0]))
        return np.array(image)


def exact_residual(C: TridiagonalKFAC, v: np.ndarray, x: np.ndarray) -> float:
    """The scaled residual of an undamped solve, by the norm of the tridiagonal blocks."""
    own = sum(np.linalg.norm(np.kron(G, A)) ** 2 for A, G in C.factors)
    between = sum(np.linalg.norm(np.kron(G, A)) ** 2 for A, G in C.neighbours)
    remainder = np.linalg.norm((v - exact_image(C, x)).astype(float))
    size = np.sqrt(own + 2.0 * between) * np.linalg.norm(x) * x.size * np.finfo(float).eps
    return float(remainder / size)


@pytest.mark.parametrize(
    "decades", [[(1, 2), (1, 5.5)], [(1, 2), (5.5, 1)], [(1, 1), (5, 1), (1, 1)]], ids=str
)
def test_near_singular_factors_and_a_residual_of_80_digits(decades):
    """Factors of condition 1e11: the recursion from the next layer is wrong by up to 1e11 eps."""
    for seed in range(8):
        batch = graded_batch(decades, seed)
        C, v = batch.build("tridiagonal_kfac"), np.random.default_rng(seed).standard_normal(sum(batch.sizes))
        result = gr.solve(C, v, damping=0.0)
        assert result.success
        true = exact_residual(C, v, result.x)
        # three refinements reach 1; between the two residuals is the roundoff of the product, below 1
        assert true <= 2.0
        assert true <= result.residual + 1.0
        # negative control: an x that is off by 1000 times what the scaled residual is measured in
        off = np.random.default_rng(seed + 100).standard_normal(v.size)
        off *= 1e3 * v.size * np.finfo(float).eps * np.linalg.norm(result.x) / np.linalg.norm(off)
        assert exact_residual(C, v, result.x + off) > 30.0


@pytest.mark.parametrize("decades", [[(1, 1), (6, 1), (1, 1)], [(3, 6), (6, 1), (1, 6), (3, 3)]], ids=str)
def test_the_doubt_in_a_product_is_its_error(decades):
    """Divisions by inner factors of condition 1e12: two values of the product tell how wrong they are."""
    for seed in range(8):
        C = graded_batch(decades, seed).build("tridiagonal_kfac")
        chain = _FactoredChain.of(C)
        x = chain.solve(np.random.default_rng(seed).standard_normal(C.shape[0]))
        error = np.linalg.norm((chain.product(x) - exact_image(C, x)).astype(float))
        doubt = np.linalg.norm(chain.doubt(x))
        assert 0.0 < error <= 10.0 * doubt  # both are samples of the same roundoff


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
