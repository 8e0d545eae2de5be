"""K-FAC against loops: its factors, the cases where it is exact, one where it is not, and its solves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Network, networks
from support import Backend, assert_values_close, tolerance

import grng_ref as gr
from grng_ref.curvature import KroneckerFactored
from grng_ref.curvature.kfac import damped_factors
from proofs_check import oracles

NETWORKS = list(networks(per_pair=1))


def kfac(network: Network) -> KroneckerFactored:
    return gr.fisher(network.problem, network.theta, network.x, structure="kfac")


def true_blocks(network: Network) -> list[np.ndarray]:
    C = gr.fisher(network.problem, network.theta, network.x, structure="block_diagonal")
    return list(C.blocks)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_factors_are_their_definition(network: Network):
    layers = network.problem.model.all_layers(network.theta)
    expected = oracles.kfac_factors(
        layers,
        network.x,
        network.activation,
        network.factors,
        network.likelihood,
        bias=network.bias,
        variance=network.variance,
    )
    C = kfac(network)
    rtol = tolerance("float64", terms=network.theta.size)
    trainable = network.problem.model.trainable
    assert len(C.factors) == len(trainable)
    for index, (A, G) in zip(trainable, C.factors, strict=True):
        assert_values_close(A, expected[index][0], dtype="float64", rtol=rtol)
        assert_values_close(G, expected[index][1], dtype="float64", rtol=rtol)
    blocks = [oracles.kronecker(G, A) for A, G in (expected[i] for i in trainable)]
    dense = np.zeros(C.shape)
    start = 0
    for block in blocks:
        stop = start + block.shape[0]
        dense[start:stop, start:stop] = block
        start = stop
    assert_values_close(C.to_dense(), dense, dtype="float64", rtol=rtol)
    assert_values_close(C.diagonal(), np.diag(dense), dtype="float64", rtol=rtol)
    assert float(C.trace()) == pytest.approx(np.trace(dense), rel=rtol)
    V = np.random.default_rng(0).standard_normal((C.shape[0], 2))
    atol = rtol * np.linalg.norm(dense) * np.linalg.norm(V)
    assert_values_close(C @ V, dense @ V, dtype="float64", rtol=0.0, atol=atol)
    assert_values_close(C @ V[:, 0], dense @ V[:, 0], dtype="float64", rtol=0.0, atol=atol)


def test_other_conventions_are_caught():
    """Negative controls: A (x) G, G summed over examples, G divided by K."""
    network = Network("tanh", "categorical")
    C, block = kfac(network), oracles.kronecker
    for A, G in C.factors:
        right = block(G, A)
        for wrong in (block(A, G), block(3 * G, A), block(G / 2, A)):
            with pytest.raises(AssertionError):
                assert_values_close(wrong, right, dtype="float64", rtol=1e-3)


# --- where it is exact ---------------------------------------------------------------------------------


def errors(network: Network) -> list[float]:
    """``|G (x) A - F_l| / |F_l|`` of every layer."""
    found = []
    for (A, G), block in zip(kfac(network).factors, true_blocks(network), strict=True):
        found.append(float(np.linalg.norm(oracles.kronecker(G, A) - block) / np.linalg.norm(block)))
    return found


@pytest.mark.parametrize(
    "activation, likelihood", list(itertools.product(("tanh", "gelu"), ("categorical", "poisson")))
)
def test_exact_for_one_example(activation, likelihood):
    network = Network(activation, likelihood, num_examples=1)
    assert max(errors(network)) <= tolerance("float64", terms=network.theta.size)


def test_exact_for_deep_linear_networks_with_a_gaussian_likelihood():
    network = Network("identity", "gaussian", "ntk", num_examples=7)
    assert max(errors(network)) <= tolerance("float64", terms=network.theta.size)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_exact_for_the_last_layer_of_a_gaussian_network(activation):
    network = Network(activation, "gaussian", num_examples=7)
    *hidden, last = errors(network)
    assert last <= tolerance("float64", terms=network.theta.size)
    assert min(hidden) > 1e-3  # and not exact below it


@pytest.mark.parametrize("activation, likelihood", [("tanh", "categorical"), ("identity", "poisson")])
def test_not_exact_elsewhere(activation, likelihood):
    assert min(errors(Network(activation, likelihood, num_examples=7))) > 1e-3


# --- damping and solves ----------------------------------------------------------------------------------


def factor_pair(d_in: int, d_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, d = rng.standard_normal((9, d_in)), rng.standard_normal((9, 2, d_out))
    return gr.kfac_factors(a, d)


def factored_dense(A: np.ndarray, G: np.ndarray, a: float) -> np.ndarray:
    pi = math.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
    left = G + math.sqrt(a) / pi * np.eye(len(G))
    return oracles.kronecker(left, A + pi * math.sqrt(a) * np.eye(len(A)))


@pytest.mark.parametrize(
    "kind, method",
    [
        ("exact", "auto"),
        ("exact", "eigh"),
        ("factored", "auto"),
        ("factored", "cholesky"),
        ("factored", "eigh"),
        ("factored", "newton_schulz"),
    ],
)
def test_solves_against_the_dense_formula(kind, method, backend: Backend):
    pairs = [factor_pair(4, 3), factor_pair(2, 5, seed=1)]
    a = 0.05
    blocks = [
        oracles.kronecker(G, A) + a * np.eye(A.shape[0] * G.shape[0])
        if kind == "exact"
        else factored_dense(A, G, a)
        for A, G in pairs
    ]
    C = KroneckerFactored(tuple((backend.asarray(A), backend.asarray(G)) for A, G in pairs))
    v = np.random.default_rng(2).standard_normal(C.shape[0])
    split = len(blocks[0])
    expected = np.concatenate([np.linalg.solve(blocks[0], v[:split]), np.linalg.solve(blocks[1], v[split:])])
    rtol = tolerance(backend.dtype, max(np.linalg.cond(block) for block in blocks))
    result = gr.solve(C, backend.asarray(v), damping=a, damping_kind=kind, method=method)
    assert result.success
    backend.assert_close(result.x, expected, rtol=rtol)
    if method == "auto":
        assert result.method == ("eigh" if kind == "exact" else "cholesky")
    layer = gr.kronecker_solve(
        *(backend.asarray(m) for m in pairs[0]),
        backend.asarray(v[:split].reshape(3, 4)),
        damping=a,
        damping_kind=kind,
        method=method,
    )
    backend.assert_close(layer, expected[:split].reshape(3, 4), rtol=rtol)
    logdet = sum(np.linalg.slogdet(block)[1] for block in blocks)
    atol = tolerance(backend.dtype) * sum(np.linalg.cond(block) * len(block) for block in blocks)
    assert C.logdet(damping=a, damping_kind=kind) == pytest.approx(logdet, rel=0.0, abs=atol)
    # negative controls: the other kind of damping; an eigenbasis product without the transpose
    other = (
        factored_dense(*pairs[0], a)
        if kind == "exact"
        else blocks[0] * 0 + oracles.kronecker(pairs[0][1], pairs[0][0]) + a * np.eye(split)
    )
    with pytest.raises(AssertionError):
        backend.assert_close(layer, np.linalg.solve(other, v[:split]).reshape(3, 4), rtol=rtol)


def test_zero_damping_is_the_pseudo_inverse():
    """Softmax factors are singular: the minimum-norm solution in the range, a refusal outside."""
    network = Network("tanh", "categorical", sizes=(3, 4, 3), num_examples=9)
    C = kfac(network)
    dense = C.to_dense()
    for kind in ("exact", "factored"):
        inside = dense @ np.random.default_rng(3).standard_normal(C.shape[0])
        result = gr.solve(C, inside, damping=0.0, damping_kind=kind)
        assert result.success
        assert result.method == "eigh"
        values = np.linalg.eigvalsh(dense)
        kept = values[values > 1e-12 * values[-1]]
        expected = np.linalg.pinv(dense, rcond=1e-12, hermitian=True) @ inside
        rtol = tolerance("float64", kept[-1] / kept[0])
        assert np.linalg.norm(result.x - expected) <= rtol * np.linalg.norm(expected)
        assert result.rank == len(kept)
        assert gr.solve(C, np.ones(C.shape[0]), damping=0.0, damping_kind=kind).status == "outside_range"
        with pytest.raises(gr.NumericalError):
            C.logdet(damping=0.0, damping_kind=kind)


def test_two_ill_conditioned_factors_are_not_a_singular_product():
    """cond A = cond G = 1e9: the product has 1e18, but each factor its digits, and so has the answer."""
    rng = np.random.default_rng(4)
    pair = []
    for n in (4, 3):
        q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        M = (q * np.geomspace(1.0, 1e-9, n)) @ q.T
        pair.append(0.5 * (M + M.T))
    A, G = pair
    x = rng.standard_normal((3, 4))
    v = G @ x @ A
    C = KroneckerFactored(((A, G),))
    for kind, method in (("exact", "eigh"), ("factored", "cholesky"), ("factored", "eigh")):
        result = gr.solve(C, v.reshape(-1), damping=0.0, damping_kind=kind, method=method)
        assert result.success, (kind, method)
        assert method != "eigh" or result.rank == 12
    expected = 3 * np.linalg.slogdet(A)[1] + 4 * np.linalg.slogdet(G)[1]
    for kind in ("exact", "factored"):
        assert C.logdet(damping=0.0, damping_kind=kind) == pytest.approx(expected, rel=1e-6)


def test_damping_below_roundoff_leaves_the_null_space_alone():
    """RING near a stationary point: singular factors, a = 1e-20 |C|, a side in the range up to roundoff."""
    network = Network("tanh", "categorical", sizes=(3, 4, 3), num_examples=9)
    C = kfac(network)
    dense = C.to_dense()
    values, vectors = np.linalg.eigh(dense)
    null = vectors[:, values < 1e-12 * values[-1]]
    inside = dense @ np.random.default_rng(5).standard_normal(C.shape[0])
    for relative in (1e-14, 1e-17, 1e-20, 1e-30):
        result = gr.solve(C, inside, damping=relative * values[-1])
        assert result.success
        if relative < 1e-16:
            assert np.linalg.norm(null.T @ result.x) <= 1e-10 * np.linalg.norm(result.x)


def test_an_indefinite_factor_is_refused():
    A, G = np.diag([1.0, -0.5]), np.eye(3)
    C = KroneckerFactored(((A, G),))
    for kind, method in (("exact", "eigh"), ("factored", "cholesky")):
        result = gr.solve(C, np.ones(6), damping=0.01, damping_kind=kind, method=method)
        assert result.status == "not_positive_definite"
    with pytest.raises(gr.NumericalError):
        C.logdet(damping=0.01)
    assert gr.solve(C, np.ones(6), damping=1.0).success  # C + I is definite


@given(
    d_in=st.integers(1, 5),
    d_out=st.integers(1, 5),
    exponents=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
)
def test_factored_damping_at_any_scale_of_the_factors(d_in, d_out, exponents):
    """The scale may move between A and G: the damped product stays the same; damping 0 changes nothing."""
    A, G = factor_pair(d_in, d_out)
    one, two = 10.0 ** exponents[0], 10.0 ** exponents[1]
    damped = damped_factors(one * A, two * G, 0.3 * one * two)
    moved = damped_factors(one * two * A, G, 0.3 * one * two)
    left, right = np.kron(damped[1], damped[0]), np.kron(moved[1], moved[0])
    assert_values_close(left, right, dtype="float64", rtol=1e-12)
    assert_values_close(left, factored_dense(A, G, 0.3) * one * two, dtype="float64", rtol=1e-12)
    same = damped_factors(A, G, 0.0)
    np.testing.assert_array_equal(same[0], A)
    np.testing.assert_array_equal(same[1], G)


def test_dead_units_have_pi_one():
    """A dead layer: G = 0 has no trace to balance; damping sqrt(a) goes to each factor."""
    A, G = np.eye(2), np.zeros((3, 3))
    damped = damped_factors(A, G, 0.04)
    np.testing.assert_allclose(damped[0], 1.2 * np.eye(2))
    np.testing.assert_allclose(damped[1], 0.2 * np.eye(3))
    v = np.ones((3, 2))
    np.testing.assert_allclose(gr.kronecker_solve(A, G, v, damping=0.04), v / 0.04)
    factored = gr.kronecker_solve(A, G, v, damping=0.04, damping_kind="factored")
    np.testing.assert_allclose(factored, v / 0.24)
    zero = gr.solve(KroneckerFactored(((A, G),)), np.zeros(6), damping=0.0)
    assert zero.success
    assert np.all(zero.x == 0.0)


def test_dead_relu_network_end_to_end():
    problem = gr.Problem(gr.MLP((2, 3, 2), activation="relu"), gr.Gaussian())
    theta = problem.pack([(-np.ones((3, 2)), np.zeros(3)), (np.ones((2, 3)), np.array([0.5, -0.5]))])
    x, y = np.array([[1.0, 2.0], [0.3, 0.1]]), np.zeros((2, 2))
    for structure, kind in (
        ("full", None),
        ("block_diagonal", None),
        ("kfac", "exact"),
        ("kfac", "factored"),
    ):
        for damping in (0.0, 1e-3):
            opt = gr.ngd(problem, lr=1.0, damping=damping, structure=structure, damping_kind=kind)
            delta, _, info = opt.update(theta, opt.init(theta), x, y)
            assert info.solve.status == "converged"
            assert np.all(np.isfinite(delta))
            assert np.all(problem.unpack(delta)[0] == 0.0)  # nothing moves in a dead layer


def test_damping_is_not_added_to_the_factors_for_good():
    network = Network("tanh", "bernoulli")
    C = kfac(network)
    before = C.to_dense()
    C.solve(np.ones(C.shape[0]), damping=1.0, damping_kind="factored")
    np.testing.assert_array_equal(C.to_dense(), before)
