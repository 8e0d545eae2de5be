"""Averages of curvatures: of the factors, by formulas written out; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from support import tolerance

import grng_ref as gr
from grng_ref.curvature import STRUCTURES, BlockDiagonalFisher

WEIGHT = 0.3
RNG = np.random.default_rng(0)
PROBLEM = gr.Problem(gr.MLP((3, 4, 2)), gr.Categorical())
# two thetas and two batches: nothing of the two curvatures agrees, not even their eigenbases
OLD, NEW = (
    {name: gr.fisher(PROBLEM, PROBLEM.init(rng=seed), x, structure=name) for name in STRUCTURES}
    for seed, x in enumerate(RNG.standard_normal((2, 30, 3)))
)


def average(name, weight=WEIGHT):
    return STRUCTURES[name].average(OLD[name], NEW[name], weight)


def mixed(old, new):
    return (1.0 - WEIGHT) * old + WEIGHT * new


def blocks(matrix, sizes):
    """The matrix with zeros outside its diagonal blocks."""
    kept, start = np.zeros_like(matrix), 0
    for size in sizes:
        kept[start : start + size, start : start + size] = matrix[start : start + size, start : start + size]
        start += size
    return kept


def close(actual, expected, **options):
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance("float64", **options) * np.max(np.abs(expected))
    )


@pytest.mark.parametrize("name", ["full", "block_diagonal", "unitwise", "diagonal"])
def test_exact_matrices_are_averaged(name):
    F = mixed(OLD["full"].to_dense(), NEW["full"].to_dense())
    sizes = {"full": [26], "block_diagonal": [16, 10], "unitwise": [4] * 4 + [5] * 2, "diagonal": [1] * 26}
    close(average(name).to_dense(), blocks(F, sizes[name]), terms=30)


@pytest.mark.parametrize("name", ["kfac", "kronecker_optimal"])
def test_factors_of_kronecker_products_are_averaged_separately(name):
    expected = []
    for (A, G), (B, H) in zip(OLD[name].factors, NEW[name].factors, strict=True):
        expected.append(np.kron(mixed(G, H), mixed(A, B)))
    dense = average(name).to_dense()
    close(dense[:16, :16], expected[0])
    close(dense[16:, 16:], expected[1])
    assert not np.any(dense[:16, 16:])
    # negative control: the average of the products, which no Kronecker product is
    assert np.max(np.abs(dense - mixed(OLD[name].to_dense(), NEW[name].to_dense()))) > 1e-3 * np.max(dense)


def test_tridiagonal_factors_of_neighbours_are_averaged_too():
    got, old, new = average("tridiagonal_kfac"), OLD["tridiagonal_kfac"], NEW["tridiagonal_kfac"]
    for field in ("factors", "neighbours"):
        for mix, first, second in zip(*(getattr(c, field) for c in (got, old, new)), strict=True):
            for factor, one, other in zip(mix, first, second, strict=True):
                close(factor, mixed(one, other))


def test_ekfac_keeps_the_diagonal_in_the_eigenbasis_of_the_averaged_factors():
    """Moments: the diagonal of the averaged matrix in the new basis; off the diagonal nothing is kept."""
    got = average("ekfac")
    dense = mixed(OLD["ekfac"].to_dense(), NEW["ekfac"].to_dense())
    start, worst = 0, 0.0
    for layer, (A, G) in enumerate(average("kfac").factors):
        np.testing.assert_array_equal(got.factors[layer][0], A)
        np.testing.assert_array_equal(got.factors[layer][1], G)
        Q = np.kron(np.linalg.eigh(G)[1], np.linalg.eigh(A)[1])
        stop = start + len(Q)
        turned = Q.T @ dense[start:stop, start:stop] @ Q
        expected = Q @ np.diag(np.diag(turned)) @ Q.T
        # eigenvectors of nearly equal eigenvalues turn into each other: eps over the least relative gap,
        # and a softmax's G (2, 2) has eigenvalues 0 and g
        gaps = [np.min(np.diff(np.linalg.eigvalsh(M))) / np.linalg.norm(M) for M in (A, G)]
        close(got.to_dense()[start:stop, start:stop], expected, condition=1.0 / min(gaps))
        # negative control: the moments blended as they stand, entry by entry, without turning them
        one, other, mix = OLD["ekfac"].layers[layer], NEW["ekfac"].layers[layer], got.layers[layer]
        unturned = mixed(one.moments, other.moments)
        worst = max(worst, np.max(np.abs(unturned - mix.moments)) / np.max(unturned))
        start = stop
    assert worst > 1e-2
    np.testing.assert_allclose(np.trace(dense), got.trace(), rtol=1e-13)  # the trace has no basis


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_ends_are_old_and_new(name):
    """In every bit where nothing is decomposed again."""
    for weight, end in ((0.0, OLD[name]), (1.0, NEW[name])):
        got = average(name, weight)
        if name in ("kfac", "kronecker_optimal", "diagonal", "block_diagonal", "unitwise"):
            np.testing.assert_array_equal(got.to_dense(), end.to_dense())
        else:
            v = np.cos(np.arange(26.0))
            close(got.solve(v, damping=0.1), end.solve(v, damping=0.1), condition=100.0)


def test_the_average_of_full_matrices_is_one_block_without_score_rows():
    got = average("full")
    assert isinstance(got, BlockDiagonalFisher)
    assert "gram" not in got.solvers["exact"]
    again = STRUCTURES["full"].average(got, NEW["full"], 0.5)
    close(again.to_dense(), 0.5 * got.to_dense() + 0.5 * NEW["full"].to_dense())


@pytest.mark.parametrize("name", STRUCTURES)
def test_bad_averages_are_refused(name):
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="weight"):
            average(name, weight)
    other = gr.Problem(gr.MLP((3, 5, 2)), gr.Categorical())
    wider = gr.fisher(other, other.init(), RNG.standard_normal((4, 3)), structure=name)
    with pytest.raises(ValueError, match=r"old must have shape|zip"):
        STRUCTURES[name].average(wider, NEW[name], WEIGHT)
