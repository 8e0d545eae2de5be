"""The passes below the problem: traces, signals, tangents, and their batch axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from networks import Network, networks
from support import assert_values_close, tolerance

from grng_ref.models import derivatives
from proofs_check import oracles

NETWORKS = list(networks(per_pair=1))


@pytest.fixture(params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    return request.param


def passes(network: Network):
    model = network.problem.model
    layers = model.all_layers(network.theta)
    return model, layers, derivatives.forward(model, layers, network.x)


def allowed(network: Network) -> float:
    return tolerance("float64", terms=network.theta.size)


def test_trace_holds_every_layer_input(network: Network):
    _, layers, trace = passes(network)
    for n, row in enumerate(network.x):
        f, inputs = oracles.forward_example(
            layers, row, network.activation, network.factors, bias=network.bias
        )
        assert_values_close(trace.outputs[n], f, dtype="float64", rtol=allowed(network))
        for ours, oracle in zip(trace.inputs, inputs, strict=True):
            assert_values_close(ours[n], oracle, dtype="float64", rtol=allowed(network))


def test_signals_are_slopes_by_preactivations(network: Network):
    """D_l for unit cotangents is df/ds_l, which the oracle finds by moving s_l."""
    model, layers, trace = passes(network)
    n, k = trace.outputs.shape
    signals = derivatives.backward(model, layers, trace, np.broadcast_to(np.eye(k), (n, k, k)))
    assert len(signals) == len(model.trainable)
    for index, signal in zip(model.trainable, signals, strict=True):
        for row, ours in zip(network.x, signal, strict=True):

            def moved(u, row=row, index=index):
                return oracles.forward_example(
                    layers, row, network.activation, network.factors, bias=network.bias, shift=(index, u)
                )[0]

            slope = oracles.complex_step_jacobian(moved, np.zeros(network.sizes[index + 1]))
            assert_values_close(ours, slope, dtype="float64", rtol=allowed(network), atol=1e-16)


def test_outer_rows_are_loops():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 3)), rng.standard_normal((2, 2))]
    signals = [rng.standard_normal((2, 4, 2)), rng.standard_normal((2, 4, 5))]
    rows = derivatives.outer_rows(inputs, signals)
    assert rows.shape == (2, 4, 16)
    for n, r in itertools.product(range(2), range(4)):
        expected = [
            d[n, r, i] * a[n, j]
            for a, d in zip(inputs, signals, strict=True)
            for i, j in itertools.product(range(d.shape[2]), range(a.shape[1]))
        ]
        np.testing.assert_array_equal(rows[n, r], expected)


def test_tangents_keep_leading_axes(network: Network):
    """Directions (2, 3, P) at once are the six directions one by one."""
    model, layers, trace = passes(network)
    directions = np.random.default_rng(1).standard_normal((2, 3, network.theta.size))
    problem, y = network.problem, network.y
    cotangent = problem.likelihood.gradient(trace.outputs, y)
    fisher = problem.likelihood.fisher(trace.outputs)

    def products(v):
        tangent = derivatives.jvp(model, layers, trace, v)
        moved = (fisher @ tangent.preactivations[-1][..., None])[..., 0]
        return tangent.preactivations[-1], derivatives.vjp_tangent(
            model, layers, trace, tangent, v, cotangent, moved
        )

    together = products(directions)
    assert together[0].shape == (2, 3, *trace.outputs.shape)
    assert together[1].shape == directions.shape
    for i, j in itertools.product(range(2), range(3)):
        for batch, single in zip(together, products(directions[i, j]), strict=True):
            assert_values_close(batch[i, j], single, dtype="float64")


def test_tangent_of_the_backward_pass_with_a_constant_cotangent():
    """d/dt J(theta + t v)^T u at fixed u, by complex steps of the oracle: the second-order term alone."""
    network = Network("gelu", "gaussian", "ntk", sizes=(2, 3, 3, 2))
    model, layers, trace = passes(network)
    rng = np.random.default_rng(3)
    v, u = rng.standard_normal(network.theta.size), rng.standard_normal(trace.outputs.shape)
    tangent = derivatives.jvp(model, layers, trace, v)
    got = derivatives.vjp_tangent(model, layers, trace, tangent, v, u, np.zeros_like(u))

    def pulled(theta):
        return oracles.complex_step_gradient(lambda z: np.sum(u * network.outputs(z)), theta)

    expected = oracles.central_directional(pulled, network.theta, v)
    assert_values_close(got, expected, dtype="float64", rtol=1e-10)
    # negative control: without the second derivative of the activation the comparison fails
    flat = derivatives.vjp_tangent(
        model,
        layers,
        trace,
        tangent._replace(preactivations=(0 * tangent.preactivations[0],) * 3),
        v,
        u,
        0 * u,
    )
    with pytest.raises(AssertionError):
        assert_values_close(flat, expected, dtype="float64", rtol=1e-10)
