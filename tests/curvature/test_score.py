"""Score rows as layer factors, and the dense Fisher by layer pairs, against explicit loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.curvature import DenseRows, LayerRows, dense
from grng_ref.curvature.score import layer_rows

Shape = tuple[int, int, tuple[tuple[int, int], ...]]  # N, K', (d_in, d_out) of each layer
SHAPES: list[Shape] = [
    (3, 2, ((3, 4), (5, 2))),
    (1, 1, ((1, 1),)),
    (5, 1, ((2, 3), (4, 3), (4, 1))),
]


def factors(shape: Shape, seed: int = 0) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    n, k, layers = shape
    rng = np.random.default_rng(seed)
    activations = tuple(rng.standard_normal((n, d_in)) for d_in, _ in layers)
    signals = tuple(rng.standard_normal((n, k, d_out)) for _, d_out in layers)
    return activations, signals


def looped_rows(activations, signals) -> np.ndarray:
    """B, entry by entry: row (n, k), column (layer, output i, input j)."""
    n, k, _ = signals[0].shape
    rows = []
    for example, column in itertools.product(range(n), range(k)):
        row = []
        for a, d in zip(activations, signals, strict=True):
            for i, j in itertools.product(range(d.shape[2]), range(a.shape[1])):
                row.append(d[example, column, i] * a[example, j] / math.sqrt(n))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_layer_rows_are_the_rows(shape: Shape, backend: Backend):
    activations, signals = factors(shape)
    B = looped_rows(activations, signals)
    layers = LayerRows(*(tuple(backend.asarray(a) for a in part) for part in (activations, signals)))
    stored = DenseRows(backend.asarray(B))
    rows, size = B.shape
    assert layers.shape == stored.shape == (rows, size)
    rng = np.random.default_rng(1)
    rtol = tolerance(backend.dtype, 4.0, terms=rows + size)  # normal data: the sums cancel a little
    for form in (layers, stored):
        backend.assert_close(form.gram(), B @ B.T, rtol=rtol)
        backend.assert_close(form.normal(), B.T @ B, rtol=rtol)
        backend.assert_close(form.diagonal(), np.sum(B * B, axis=0), rtol=rtol)
        for tail in ((), (1,), (3,)):
            v, u = rng.standard_normal((size, *tail)), rng.standard_normal((rows, *tail))
            atol = rtol * np.linalg.norm(B) * max(np.linalg.norm(v), np.linalg.norm(u))
            backend.assert_close(form.matvec(backend.asarray(v)), B @ v, rtol=0.0, atol=atol)
            backend.assert_close(form.rmatvec(backend.asarray(u)), B.T @ u, rtol=0.0, atol=atol)
    backend.assert_close(layers.rows(), B)


@given(
    n=st.integers(1, 6),
    k=st.integers(1, 3),
    layers=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    strip=st.integers(1, 60),
    outer=st.integers(1, 60),
    seed=st.integers(0, 10**6),
)
def test_dense_fisher_at_every_chunk_boundary(n, k, layers, strip, outer, seed):
    """Strips of output units and parts of the batch of any size give B^T B, exactly symmetric."""
    activations, signals = factors((n, k, tuple(layers)), seed)
    B = looped_rows(activations, signals)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_STRIP", strip)
        patch.setattr(dense, "_OUTER", outer)
        F = dense.fisher_matrix(activations, signals)
    assert F.shape == (B.shape[1],) * 2
    np.testing.assert_array_equal(F, F.T)
    # entries are sums of n k products, of at most the size of |B|^2
    atol = tolerance("float64", terms=n * k) * float(np.max(np.sum(B * B, axis=0)))
    assert_values_close(F, B.T @ B, dtype="float64", rtol=0.0, atol=atol)


def test_one_strip_and_many_agree_on_every_backend(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    activations, signals = factors(SHAPES[2])
    arrays = [[backend.asarray(a) for a in part] for part in (activations, signals)]
    whole = dense.fisher_matrix(*arrays)
    B = looped_rows(activations, signals)
    backend.assert_close(whole, B.T @ B, rtol=tolerance(backend.dtype, 4.0, terms=5))
    monkeypatch.setattr(dense, "_STRIP", 7)
    monkeypatch.setattr(dense, "_OUTER", 2 * 16)
    backend.assert_close(
        dense.fisher_matrix(*arrays), backend.to_numpy(whole), rtol=tolerance(backend.dtype, 4.0, terms=5)
    )


def _swap_factors(activations, signals):
    """A (x) G in place of G (x) A."""
    return LayerRows(tuple(d[:, 0, :] for d in signals), tuple(a[:, None, :] for a in activations)).normal()


def _sum_not_mean(activations, signals):
    return LayerRows(activations, signals).normal() * activations[0].shape[0]


def _over_k(activations, signals):
    return LayerRows(activations, signals).normal() / signals[0].shape[1]


@pytest.mark.parametrize("wrong", [_swap_factors, _sum_not_mean, _over_k], ids=lambda f: f.__name__)
def test_planted_errors_are_caught(wrong):
    shape: Shape = (3, 1, ((3, 4), (4, 3))) if wrong is _swap_factors else (3, 2, ((3, 4), (4, 3)))
    activations, signals = factors(shape)
    B = looped_rows(activations, signals)
    with pytest.raises(AssertionError):
        assert_values_close(wrong(activations, signals), B.T @ B, dtype="float64", rtol=1e-3)


def test_checked_layer_factors():
    activations, signals = factors(SHAPES[0])
    assert layer_rows(activations, signals).shape == (6, 22)
    for bad in (
        (activations[:1], signals),
        (activations, (signals[0], signals[1][:, :1, :])),
        ((activations[0], activations[1][:2]), signals),
        ((), ()),
    ):
        with pytest.raises(ValueError):
            layer_rows(*bad)
    with pytest.raises(TypeError):
        layer_rows(activations[0], signals)


# --- rows that depend on the others of their example -----------------------------------------------------


def categorical_rows(scale: float, **arrays) -> tuple[LayerRows, np.ndarray]:
    """Score rows of a Categorical at outputs of a given size, and the roots of its probabilities."""
    problem = gr.Problem(gr.MLP((3, 4, 5), activation="tanh"), gr.Categorical())
    rng = np.random.default_rng(3)
    theta, x, y = problem.init(rng=rng), rng.standard_normal((6, 3)), rng.integers(0, 5, 6)
    theta = scale * theta
    at = problem.linearize(theta, x, y)
    outputs = problem.outputs(theta, x)
    return LayerRows(at.activations, at.signals), np.sqrt(problem.likelihood.mean(outputs))


@pytest.mark.parametrize("scale", [1.0, 10.0, 60.0])
def test_a_categorical_needs_one_row_less(scale, backend: Backend):
    """Also saturated, where the rows are tiny and of many sizes."""
    rows, roots = categorical_rows(scale)
    B = rows.rows()
    null = np.einsum("nk,nkp->np", roots, B.reshape(6, 5, -1))
    assert np.max(np.abs(null)) <= 64 * np.finfo(float).eps * np.max(np.abs(B))  # why one is too many
    form = LayerRows(*(tuple(backend.asarray(a) for a in part) for part in (rows.activations, rows.signals)))
    reduced, basis = form.reduced()
    assert reduced.shape[0] <= 6 * 4
    rtol = tolerance(backend.dtype, terms=30)
    backend.assert_close(reduced.normal(), B.T @ B, rtol=rtol)
    turned = np.einsum("nkr,nkp->nrp", backend.to_numpy(basis), B.reshape(6, 5, -1))
    atol = rtol * float(np.max(np.abs(B)))
    backend.assert_close(reduced.rows(), turned.reshape(reduced.shape), rtol=0.0, atol=atol)


@pytest.mark.parametrize("size", [1e-200, 1e-160, 1.0, 1e150])
def test_independent_rows_are_all_kept_at_any_size(size):
    activations, signals = factors((4, 3, ((3, 4), (5, 3))))
    signals = tuple(size * d for d in signals)
    rows = LayerRows(activations, signals)
    reduced, basis = rows.reduced()
    assert reduced is rows
    assert basis is None
    # one example is enough to keep a row, however small the others'
    dependent = tuple(d.copy() for d in signals)
    for d in dependent:
        d[1:, 2, :] = d[1:, 0, :] - d[1:, 1, :]
    assert LayerRows(activations, dependent).reduced()[0].shape[0] == 4 * 3
    for d in dependent:
        d[0, 2, :] = d[0, 0, :] + d[0, 1, :]
    assert LayerRows(activations, dependent).reduced()[0].shape[0] == 4 * 2


def test_a_row_that_only_an_earlier_layer_needs_is_kept():
    activations, signals = factors((4, 3, ((3, 4), (5, 3))))
    signals[1][:, 2, :] = signals[1][:, 0, :]
    rows = LayerRows(activations, signals)
    assert rows.reduced()[0] is rows


def test_zero_and_overflown_signals_reduce_to_themselves():
    activations, signals = factors((2, 3, ((3, 4), (5, 3))))
    nothing = LayerRows(activations, tuple(0.0 * d for d in signals)).reduced()[0]
    assert nothing.shape == (2, 27)
    assert not np.any(nothing.rows())
    broken = LayerRows(activations, tuple(d + np.inf for d in signals))
    assert broken.reduced()[0] is broken
