"""The full Fisher, expected, Monte-Carlo and empirical, against its definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse.linalg
from networks import Network, networks
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.curvature import DenseRows, FullFisher
from proofs_check import oracles

NETWORKS = list(networks(per_pair=1))


@pytest.fixture(params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    return request.param


def allowed(network: Network) -> float:
    return tolerance("float64", terms=network.theta.size)


def test_expected_fisher_is_its_definition(network: Network):
    """``(1/N) sum J^T Om J`` by loops; dense = B^T B = matrix-free = diagonal = trace."""
    problem, theta, x = network.problem, network.theta, network.x
    C = gr.fisher(problem, theta, x)
    F = network.fisher
    assert C.shape == F.shape
    rtol = allowed(network)
    dense = C.to_dense()
    assert_values_close(dense, F, dtype="float64", rtol=rtol)
    np.testing.assert_array_equal(dense, dense.T)
    B = problem.score_rows(theta, x)
    assert_values_close(B.T @ B, F, dtype="float64", rtol=rtol)
    assert_values_close(C.diagonal(), np.diag(F), dtype="float64", rtol=rtol)
    assert float(C.trace()) == pytest.approx(np.trace(F), rel=rtol)
    V = np.random.default_rng(0).standard_normal((theta.size, 3))
    atol = rtol * np.linalg.norm(F) * np.linalg.norm(V)
    assert_values_close(C @ V, F @ V, dtype="float64", rtol=0.0, atol=atol)
    assert_values_close(C.matvec(V[:, 0]), F @ V[:, 0], dtype="float64", rtol=0.0, atol=atol)


def test_fisher_is_the_generalized_gauss_newton_matrix_and_not_the_hessian(network: Network):
    """H - F is the part of the loss gradient times the second derivatives of f; zero for a linear network."""
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    H, F = problem.hessian(theta, x, y), gr.fisher(problem, theta, x).to_dense()
    difference = np.abs(H - F).max()
    if len(network.problem.model.trainable) == 1 and network.activation == "identity":
        assert difference <= allowed(network) * np.abs(F).max()
    elif network.activation not in ("identity", "relu"):
        assert difference > 1e-6 * np.abs(F).max()


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_expected_fisher_is_the_mean_of_score_products_over_all_labels(likelihood):
    network = Network("gelu", likelihood, "ntk", sizes=(2, 3, 3))
    mean, second = oracles.score_moments(likelihood, network.outputs(network.theta), network.jacobian)
    F = gr.fisher(network.problem, network.theta, network.x).to_dense()
    assert_values_close(F, second, dtype="float64", rtol=allowed(network))
    assert np.abs(mean).max() <= allowed(network) * np.abs(network.jacobian).max()


def looped_fisher(network: Network, labels: np.ndarray) -> np.ndarray:
    """Mean over draws (M, N, ...) and examples of the products of the gradients on these labels."""
    outputs, size = network.outputs(network.theta), network.theta.size
    total = np.zeros((size, size))
    for draw in labels:
        for f, jacobian, y in zip(outputs, network.jacobian, draw, strict=True):
            score = jacobian.T @ oracles.loss_slope(network.likelihood, f, y, network.variance)
            total += np.outer(score, score)
    return total / (len(labels) * len(outputs))


def test_empirical_and_monte_carlo_fisher(network: Network):
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    rtol = allowed(network)
    empirical = gr.fisher(problem, theta, x, y, kind="empirical").to_dense()
    assert_values_close(empirical, looped_fisher(network, y[None]), dtype="float64", rtol=rtol)
    samples = problem.sample(theta, x, num_samples=4, rng=11)
    given = gr.fisher(problem, theta, x, kind="monte_carlo", samples=samples).to_dense()
    assert_values_close(given, looped_fisher(network, samples), dtype="float64", rtol=rtol)
    drawn = gr.fisher(problem, theta, x, kind="monte_carlo", num_samples=4, rng=11).to_dense()
    np.testing.assert_array_equal(drawn, given)
    # three objects, three names; and the scale of a draw is no K (negative controls)
    for other in (empirical, gr.fisher(problem, theta, x).to_dense(), given * problem.model.sizes[-1]):
        if np.abs(other).max() > 0.0 and (problem.model.sizes[-1] > 1 or other is empirical):
            assert np.abs(given - other).max() > 1e-6 * np.abs(other).max()


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical", "bernoulli", "poisson"])
def test_monte_carlo_fisher_is_unbiased(likelihood):
    """``v^T F_MC v`` over 3000 draws: within 5 standard errors of ``v^T F v`` (false alarm 6e-7 a case)."""
    network = Network("tanh", likelihood, sizes=(2, 3, 3), num_examples=2)
    problem, theta, x = network.problem, network.theta, network.x
    count = 3000
    samples = problem.sample(theta, x, num_samples=count, rng=5)
    B = problem.score_rows(theta, x, kind="monte_carlo", samples=samples)
    v = np.random.default_rng(6).standard_normal(theta.size)
    squares = (B @ v).reshape(2, count) ** 2 * count  # of each example and draw; their mean sums over n
    values = squares.sum(axis=0)
    error = values.std(ddof=1) / math.sqrt(count)
    expected = float(v @ network.fisher @ v)
    assert abs(values.mean() - expected) < 5 * error
    assert abs(values.mean() / 3 - expected) > 5 * error  # negative control: scaled by 1/K


def test_scipy_takes_the_operator():
    network = NETWORKS[9]
    C = gr.fisher(network.problem, network.theta, network.x)
    largest = scipy.sparse.linalg.eigsh(C, k=2, return_eigenvectors=False, v0=np.ones(C.shape[0]))
    expected = np.linalg.eigvalsh(network.fisher)[-2:]
    np.testing.assert_allclose(np.sort(largest), expected, rtol=1e-10)
    operator = scipy.sparse.linalg.aslinearoperator(C)
    np.testing.assert_allclose(
        operator @ np.ones(C.shape[0]), network.fisher @ np.ones(C.shape[0]), rtol=1e-10
    )


@pytest.mark.parametrize("rows, size", [(3, 7), (7, 7), (12, 5)])
def test_logdet(rows, size, backend: Backend):
    """By the smaller of F and B B^T; against the eigenvalues; singular at damping 0 unless F is regular."""
    B = np.random.default_rng(0).standard_normal((rows, size))
    C = FullFisher(DenseRows(backend.asarray(B)))
    F = B.T @ B
    for a in (1e-2, 1.0, 30.0):
        sign, expected = np.linalg.slogdet(F + a * np.eye(size))
        # d log det = tr((F + aI)^{-1} dF): an absolute error of eps |F| tr (F + aI)^{-1}
        atol = tolerance(backend.dtype) * np.linalg.norm(F) * np.trace(np.linalg.inv(F + a * np.eye(size)))
        assert sign == 1.0
        assert C.logdet(damping=a) == pytest.approx(expected, rel=0.0, abs=atol)
    if rows < size:
        with pytest.raises(gr.NumericalError, match="not positive definite"):
            C.logdet(damping=0.0)
    elif backend.dtype == "float64":
        assert C.logdet(damping=0.0) == pytest.approx(np.linalg.slogdet(F)[1], abs=1e-6)


def test_a_singular_fisher_has_no_logdet_and_no_cholesky_solve():
    """Roundoff lets about one in ten of these factorizations succeed; none may give an answer."""
    passed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 12))
        B = rng.standard_normal((int(rng.integers(1, size)), size))
        C, v = FullFisher(DenseRows(B)), B.T @ np.ones(B.shape[0])
        try:
            np.linalg.cholesky(B.T @ B)
            passed += 1
        except np.linalg.LinAlgError:
            pass
        assert gr.solve(C, v, damping=0.0, method="cholesky").status == "not_positive_definite"
        with pytest.raises(gr.NumericalError):
            C.logdet(damping=0.0)
    assert passed > 0  # the plain factorization is no test of singularity


@pytest.mark.parametrize("rows, size", [(3, 7), (12, 5)])
def test_every_method_solves_the_same_system(rows, size, backend: Backend):
    B = np.random.default_rng(1).standard_normal((rows, size))
    v = np.random.default_rng(2).standard_normal(size)
    a = 0.3
    expected = np.linalg.solve(B.T @ B + a * np.eye(size), v)
    C = FullFisher(DenseRows(backend.asarray(B)))
    rtol = tolerance(backend.dtype, np.linalg.cond(B.T @ B + a * np.eye(size)))
    for method in ("auto", "gram", "cholesky", "eigh", "newton_schulz"):
        result = gr.solve(C, backend.asarray(v), damping=a, method=method)
        assert result.success
        backend.assert_close(result.x, expected, rtol=rtol)
        if method == "auto":
            assert result.method == ("gram" if rows <= size else "cholesky")
    auto = gr.solve(C, backend.asarray(B.T @ np.ones(rows)), damping=0.0)
    assert auto.method == ("gram" if rows <= size else "eigh")
    doubled = np.linalg.solve(B.T @ B + 2 * a * np.eye(size), v)  # negative control: damping added twice
    with pytest.raises(AssertionError):
        backend.assert_close(gr.solve(C, backend.asarray(v), damping=a).x, doubled, rtol=rtol)


def test_damping_belongs_to_the_solve_and_not_to_the_product():
    network = NETWORKS[4]
    C = gr.fisher(network.problem, network.theta, network.x)
    v = np.ones(C.shape[0])
    before = C @ v
    C.solve(v, damping=10.0)
    np.testing.assert_array_equal(C @ v, before)
