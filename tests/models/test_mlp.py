"""The layout of theta, the scales and the initialisation, against the oracle's reading of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Network, structures
from support import Backend

import grng_ref as gr
from proofs_check import oracles


@pytest.mark.parametrize("structure", structures(), ids=lambda s: str(Network(**s)))
def test_layout_of_theta(structure):
    """Trainable [W | b] in order, row-major, bias last; frozen layers are not in theta."""
    network = Network(**structure)
    model = network.problem.model
    theta = np.arange(model.num_parameters, dtype=float)
    expected = oracles.layer_matrices(theta, network.sizes, bias=network.bias, frozen=network.data[3])
    for ours, oracle in zip(model.all_layers(theta), expected, strict=True):
        np.testing.assert_array_equal(ours, oracle)
    kept = [layer for i, layer in enumerate(expected) if i not in network.frozen]
    for ours, oracle in zip(model.unpack(theta), kept, strict=True):
        np.testing.assert_array_equal(ours, oracle)
    np.testing.assert_array_equal(model.pack(model.unpack(theta)), theta)
    if network.bias:
        pairs = [(layer[:, :-1], layer[:, -1]) for layer in kept]
        np.testing.assert_array_equal(model.pack(pairs), theta)
    assert model.layer_scales == pytest.approx(network.factors, rel=1e-15)  # d**-0.5 or 1 / sqrt(d)


def test_a_transposed_layout_would_be_noticed():
    """Negative control: column-major layers are another theta."""
    model = gr.MLP((3, 2, 2))
    theta = np.arange(model.num_parameters, dtype=float)
    wrong = np.concatenate([layer.ravel(order="F") for layer in model.unpack(theta)])
    assert not np.array_equal(wrong, theta)


@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    bias=st.booleans(),
)
def test_pack_and_unpack_keep_leading_axes(leading, widths, bias):
    model = gr.MLP(tuple(widths), bias=bias)
    theta = np.random.default_rng(0).standard_normal((*leading, model.num_parameters))
    layers = model.unpack(theta)
    assert [layer.shape for layer in layers] == [(*leading, *shape) for shape in model.shapes]
    np.testing.assert_array_equal(model.pack(layers), theta)


def test_layer_input_scales_the_activations_and_not_the_one(backend: Backend):
    model = gr.MLP((4, 2), parameterization="ntk")
    a = backend.asarray(np.array([[2.0, 4.0, -6.0, 8.0]]))
    backend.assert_close(model.layer_input(0, a), np.array([[1.0, 2.0, -3.0, 4.0, 1.0]]), rtol=0.0)
    backend.assert_close(model.layer_input(0, a, last=0.0), np.array([[1.0, 2.0, -3.0, 4.0, 0.0]]), rtol=0.0)


@pytest.mark.parametrize(
    "options, variances",
    [({}, (1 / 400, 1 / 300)), ({"parameterization": "ntk"}, (1.0, 1.0))],
    ids=["standard", "ntk"],
)
def test_initialisation(options, variances):
    """LeCun normal or N(0, 1), zero biases: each sample variance within 5 standard errors."""
    model = gr.MLP((400, 300, 200), **options)
    for layer, variance in zip(model.unpack(model.init(3)), variances, strict=True):
        weights = layer[:, :-1]
        assert np.all(layer[:, -1] == 0.0)
        # the relative standard error of a Gaussian's sample variance is sqrt(2/n)
        spread = 5 * math.sqrt(2 / weights.size)
        assert abs(weights.var() / variance - 1) < spread
        assert abs(weights.var() / (2 * variance) - 1) > spread  # negative control: He's variance
        assert abs(weights.mean()) < 5 * math.sqrt(variance / weights.size)


def test_every_backend_draws_the_same_numbers(backend: Backend):
    model = gr.MLP((3, 4, 2))
    theta = model.init(7, backend=backend.library, dtype=backend.dtype, device=backend.device)
    expected = model.init(7).astype(backend.dtype)
    if not backend.read_only:  # a read-only array has the same namespace and device
        backend.assert_close(theta, expected, rtol=0.0)
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(model.init(generator), model.init(7))
    assert not np.array_equal(model.init(generator), model.init(7))  # a generator moves on


def test_two_layer_is_the_network_of_the_theory():
    d, m = 3, 5
    model = gr.two_layer(d, m, "softplus")
    w = model.init(1)
    x = np.random.default_rng(2).standard_normal((4, d))
    signs = [1.0, -1.0, 1.0, -1.0, 1.0]
    W = w.reshape(m, d)
    expected = [
        sum(a * math.log1p(math.exp(W[r] @ row)) for r, a in enumerate(signs)) / math.sqrt(m) for row in x
    ]
    outputs = gr.Problem(model, gr.Gaussian()).outputs(w, x)
    np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-14, atol=1e-14)
    given_signs = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
    other = gr.Problem(gr.two_layer(d, m, "softplus", signs=given_signs), gr.Gaussian()).outputs(w, x)
    assert not np.allclose(other, outputs)
    assert model.num_parameters == m * d
    many = gr.two_layer(50, 400).init(0)
    assert abs(many.var() - 1) < 5 * math.sqrt(2 / many.size)
