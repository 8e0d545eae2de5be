"""Leading eigenvectors by Lanczos iteration, against matrices with known eigenvectors."""

from __future__ import annotations

import numpy as np
import pytest
from support import Backend, tolerance

from grng_ref.solvers.lanczos import leading_eigenvector


def known(values: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors (columns)."""
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return (vectors * np.array(values)) @ vectors.T, vectors


def test_it_finds_the_eigenvector_on_every_backend(backend: Backend) -> None:
    values = [1.0, 0.9, 0.5, 0.1, 0.0, 0.0]
    matrix, vectors = known(values)
    M, start = backend.asarray(matrix), backend.asarray(vectors.sum(axis=1))
    found = leading_eigenvector(lambda x: M @ x, start, max_steps=6)
    # the perturbation theory of eigenvectors: roundoff over the gap
    backend.assert_close(found, vectors[:, 0], rtol=tolerance(backend.dtype, 10.0, terms=6))


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8])
def test_a_small_gap_costs_its_condition_and_no_more(gap: float) -> None:
    matrix, vectors = known([1.0, 1.0 - gap, *np.linspace(0.99, 0.0, 40)])
    found = leading_eigenvector(lambda x: matrix @ x, vectors.sum(axis=1), max_steps=42)
    assert np.linalg.norm(found - vectors[:, 0]) <= 42 * np.finfo(float).eps / gap


def test_of_a_multiple_eigenvalue_it_is_the_part_of_the_start() -> None:
    matrix, vectors = known([2.0, 2.0, 0.5, 0.0])
    found = leading_eigenvector(lambda x: matrix @ x, vectors @ [3.0, 4.0, 1.0, 1.0], max_steps=4)
    assert np.linalg.norm(found - vectors @ [0.6, 0.8, 0.0, 0.0]) <= 32 * np.finfo(float).eps


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_of_a_multiple_eigenvalue_the_start_decides_whatever_the_roundoff(dtype):
    """Random spectra: the vector that roundoff adds beside the start's part is another in every processor."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 9))
        basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
        values = np.concatenate([[2.0, 2.0], rng.uniform(0.0, 1.5, n - 2)])
        matrix = ((basis * values) @ basis.T).astype(dtype)
        parts = rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n)
        start = (basis @ parts).astype(dtype)
        found = leading_eigenvector(lambda x, matrix=matrix: matrix @ x, start, max_steps=n)
        expected = basis[:, :2] @ parts[:2] / np.linalg.norm(parts[:2])
        # the gap is at least 0.5 of a norm of 2, the start's other parts at most 3 n times those two
        assert np.linalg.norm(found - expected) <= tolerance(dtype, 4.0, terms=n * n)


def test_zero_has_no_direction_and_one_step_is_a_rayleigh_quotient() -> None:
    start = np.array([3.0, 4.0])
    for steps in (1, 2):
        assert np.allclose(leading_eigenvector(lambda x: 0.0 * x, start, max_steps=steps), [0.6, 0.8])


def test_too_few_steps_are_caught() -> None:
    """Planted: stopped before the Krylov space holds the eigenvector."""
    matrix, vectors = known([1.0, 0.999, 0.5, 0.1])
    found = leading_eigenvector(lambda x: matrix @ x, vectors.sum(axis=1), max_steps=2)
    assert np.linalg.norm(found - vectors[:, 0]) > 0.1


def test_the_shape_is_the_starts() -> None:
    matrix, vectors = known([1.0, 0.5, 0.2, 0.1])
    start = vectors.sum(axis=1).reshape(2, 2)
    found = leading_eigenvector(lambda x: (matrix @ x.ravel()).reshape(2, 2), start, max_steps=4)
    assert np.linalg.norm(found.ravel() - vectors[:, 0]) <= 32 * np.finfo(float).eps
