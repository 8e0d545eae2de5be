"""Networks in balls: against plain loops in 300 digits, the package's floats, and planted errors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import flint
import mpmath
import numpy as np
import pytest
from networks import ACTIVATIONS, LIKELIHOODS, Network, networks
from networks_in_digits import DIGITS, Reference, holds
from support import Backend

import grng_ref as gr
from grng_ref.arrays import NumericalError
from grng_ref.certified import (
    activations,
    description,
    gram,
    gram_enclosure,
    network,
    network_enclosure,
    residual_enclosure,
)
from grng_ref.certified.activations import ACTIVATIONS as IN_BALLS
from grng_ref.certified.description import read_network
from grng_ref.certified.passes import forward, signals

RESULTS = ("outputs", "jacobian", "residuals", "loss", "gradient", "gram")


def enclosures(net: Network, **options: Any) -> dict[str, Any]:
    """All six results of a case, in balls."""
    found = network_enclosure(net.problem, net.theta, net.x, net.y, **options)
    return {name: getattr(found, name) for name in RESULTS[:-1]} | {
        "gram": gram_enclosure(net.problem, net.theta, net.x, **options)
    }


def floats(net: Network) -> dict[str, np.ndarray]:
    """All six results of a case, by the package."""
    arguments = (net.theta, net.x)
    J = net.problem.jacobian(*arguments)
    flat = J.reshape(-1, J.shape[2])
    return {
        "outputs": net.problem.outputs(*arguments),
        "jacobian": J,
        "residuals": net.problem.likelihood.gradient(net.problem.outputs(*arguments), net.y),
        "loss": np.asarray(net.problem.loss(*arguments, net.y)),
        "gradient": net.problem.gradient(*arguments, net.y),
        "gram": flat @ flat.T,
    }


def reference(net: Network) -> Reference:
    scales = (1.0, net.sizes[1] ** -0.5) if net.two_layer else net.scales
    if scales is None and net.parameterization == "standard":
        scales = (1.0,) * (len(net.sizes) - 1)
    return Reference(net.sizes, net.activation, net.likelihood, net.variance, net.bias, scales, net.data[3])


def narrow(enclosure: Any) -> bool:
    """Beside the rounding to float64 no more than 2^-200 is left of 256 bits."""
    return bool(np.all(enclosure.radius <= 2.0**-53 * (1 + 1e-9) * np.abs(enclosure.midpoint) + 2.0**-200))


def wrong(net: Network) -> list[str]:
    """The results that the reference in digits does not find in their balls."""
    with mpmath.workdps(DIGITS):
        truth = reference(net).results(net.theta, net.x, net.y)
        return [name for name, balls in enclosures(net).items() if not holds(balls, truth[name])]


# --- the truth in digits ------------------------------------------------------------------------------------

WAYS: list[dict[str, Any]] = [
    {"bias": True, "frozen": (1,)},
    {"bias": False, "parameterization": "ntk"},
    {"bias": True, "parameterization": "ntk", "frozen": (0,)},
    {"bias": True, "scales": (0.5, 1.5, 0.8)},
    {"bias": False, "frozen": (2,)},
    {"bias": False, "frozen": (1,), "sizes": (2, 4, 1), "two_layer": True},
    {"bias": True, "sizes": (3, 2), "parameterization": "ntk"},
]
CASES = [
    Network(
        act,
        "gaussian" if "two_layer" in way else LIKELIHOODS[i % 4],
        **({"sizes": (2, 3, 2, 2)} | way),
    )
    for i, (act, way) in enumerate(zip(ACTIVATIONS, WAYS, strict=True))
] + [
    Network("gelu", "categorical", sizes=(2, 3, 2, 3), scales=(0.5, 1.5, 0.8), num_examples=2),
    Network("silu", "bernoulli", sizes=(2, 3, 2), parameterization="ntk", num_examples=2),
    Network("relu", "poisson", sizes=(2, 3, 2), num_examples=2),
    Network("softplus", "poisson", sizes=(2, 3, 1), bias=False, frozen=(1,), two_layer=True),
]


@pytest.mark.parametrize("net", CASES, ids=str)
def test_results_hold_the_truth_in_digits(net):
    assert wrong(net) == []
    for name, balls in enclosures(net).items():
        assert narrow(balls), name


def test_shapes_and_what_is_not_asked():
    net = Network("tanh", "categorical", sizes=(3, 4, 2), num_examples=3)
    found = enclosures(net)
    P = net.theta.size
    shapes = {"outputs": (3, 2), "jacobian": (3, 2, P), "residuals": (3, 2), "loss": (), "gradient": (P,)}
    assert {name: balls.shape for name, balls in found.items()} == shapes | {"gram": (6, 6)}
    bare = network_enclosure(net.problem, net.theta, net.x, jacobian=False)
    assert (bare.jacobian, bare.residuals, bare.loss, bare.gradient) == (None, None, None, None)
    labelled = network_enclosure(net.problem, net.theta, net.x, net.y, jacobian=False)
    assert labelled.jacobian is None
    alone = residual_enclosure(net.problem, net.theta, net.x, net.y)
    assert np.array_equal(alone.midpoint, labelled.residuals.midpoint)
    assert np.array_equal(alone.radius, labelled.residuals.radius)
    assert np.array_equal(labelled.gradient.midpoint, found["gradient"].midpoint)
    assert np.array_equal(bare.outputs.midpoint, found["outputs"].midpoint)
    for part in (found["gram"].midpoint, found["gram"].radius):
        assert np.array_equal(part, part.T)


# --- the package's floats -----------------------------------------------------------------------------------


def disagreeing(net: Network, found: dict[str, Any]) -> list[str]:
    """The results where the package's float64 is farther from the ball than its roundings explain.

    A hundred roundings of the largest entry (of one, for numbers below it): three layers of sums of at most
    five terms, the slopes of activations, softmax.
    """
    allowed = 100 * 2.0**-52
    return [
        name
        for name, value in floats(net).items()
        if np.max(np.abs(value - found[name].midpoint)) > allowed * max(1.0, np.max(np.abs(value)))
    ]


@pytest.mark.parametrize("net", list(networks()), ids=str)
def test_floats_of_the_package_agree(net):
    found = enclosures(net)
    assert disagreeing(net, found) == []
    assert [name for name, balls in found.items() if not narrow(balls)] == []


def test_every_backend_gives_the_same_balls(backend: Backend):
    net = Network("gelu", "categorical", frozen=(1,), parameterization="ntk")
    problem, theta, x, y = (backend.asarray(value) for value in (net.problem, net.theta, net.x, net.y))
    found = network_enclosure(problem, theta, x, y)
    rounded = gr.asarray(
        (net.problem, net.theta, net.x), backend="numpy", dtype=backend.dtype
    )  # what is stored, on the host
    host = network_enclosure(*rounded, net.y)
    for name in RESULTS[:-1]:
        ours, theirs = getattr(found, name), getattr(host, name)
        assert type(ours.midpoint) is np.ndarray
        assert np.array_equal(ours.midpoint, theirs.midpoint)
        assert np.array_equal(ours.radius, theirs.radius)
    assert np.array_equal(gram_enclosure(problem, theta, x).midpoint, gram_enclosure(*rounded).midpoint)
    # the balls are those of the rounded numbers, which float32 shows
    assert (backend.dtype == "float32") != found.outputs.contains(
        network_enclosure(net.problem, net.theta, net.x).outputs.midpoint
    )


# --- precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_more_bits_stay_inside(activation):
    net = Network(activation, "gaussian", parameterization="ntk", sizes=(3, 5, 4, 2))
    found = {}
    for bits in (53, 128, 400):
        with flint.ctx.workprec(bits):
            described = read_network(net.problem, net.theta)
            trace = forward(described, net.x)
            found[bits] = [trace.outputs, *signals(described, trace)]
    for low, high in ((53, 128), (128, 400)):
        for wide, tight in zip(found[low], found[high], strict=True):
            assert wide.contains(tight)
            assert not tight.contains(wide) or wide.mid() == wide  # signals of the last layer are exact


def test_enclosures_at_any_precision_overlap():
    net = Network("silu", "bernoulli", sizes=(3, 4, 2))
    low, high = enclosures(net, precision=53), enclosures(net, precision=300)
    for name in RESULTS:
        distance = np.abs(low[name].midpoint - high[name].midpoint)
        assert np.all(distance <= low[name].radius + high[name].radius), name
        assert np.max(low[name].radius) < 1e-12, name


# --- the kink of relu ---------------------------------------------------------------------------------------


def one_unit(weights: list[float], bias: float, **options: Any) -> tuple[gr.Problem, np.ndarray]:
    """``f = relu(w . x + b)`` with a frozen last layer."""
    layer = np.array([[*weights, bias]])
    model = gr.MLP((len(weights), 1, 1), activation="relu", frozen={1: np.array([[1.0, 0.0]])}, **options)
    return gr.Problem(model, gr.Gaussian()), layer.ravel()


def test_a_preactivation_that_is_zero_has_slope_zero():
    """0.1 * 0.3 - 0.3 * 0.1: zero exactly, in numbers that have no finite product in float64."""
    problem, theta = one_unit([0.1, -0.3], 0.0)
    x = np.array([[0.3, 0.1]])
    found = network_enclosure(problem, theta, x)
    assert np.array_equal(found.jacobian.midpoint, np.zeros((1, 1, 3)))
    assert np.array_equal(found.jacobian.radius, np.zeros((1, 1, 3)))
    assert np.array_equal(gram_enclosure(problem, theta, x).midpoint, [[0.0]])
    assert np.array_equal(problem.jacobian(theta, np.zeros((1, 2)))[0, 0, :2], [0.0, 0.0])


def test_a_preactivation_that_53_bits_cannot_tell_from_zero():
    """1 + 2^-60 - 1 > 0: at 53 bits both slopes are in the balls, at 256 the right one alone."""
    problem, theta = one_unit([1.0, 2.0**-60], -1.0, scales=(1.0, 1.0))
    x = np.array([[1.0, 1.0]])
    # products of stored numbers are exact at 53 bits too; the sum is not
    wide, tight = (network_enclosure(problem, theta, x, precision=bits).jacobian for bits in (53, 256))
    for slope in (0.0, 1.0):
        assert wide.contains(slope * np.array([[[1.0, 1.0, 1.0]]]))
    assert np.array_equal(tight.midpoint, [[[1.0, 1.0, 1.0]]])
    assert np.array_equal(tight.radius, np.zeros((1, 1, 3)))
    low, high = (gram_enclosure(problem, theta, x, precision=bits) for bits in (53, 256))
    assert low.contains(np.array([[0.0]]))
    assert low.contains(np.array([[3.0]]))
    assert (high.midpoint, high.radius) == (3.0, 0.0)


@pytest.mark.parametrize("bits", [53, 256, 2000])
def test_a_preactivation_that_is_zero_in_balls_that_are_not(bits):
    """Two units that cancel behind an irrational scale: no precision decides, and no side is chosen."""
    frozen = {0: np.array([[0.7, 0.1], [0.7, 0.1]]), 2: np.array([[1.0]])}
    model = gr.MLP((2, 2, 1, 1), activation="relu", bias=False, parameterization="ntk", frozen=frozen)
    problem, theta, x = gr.Problem(model, gr.Gaussian()), np.array([0.3, -0.3]), np.array([[0.4, 0.9]])
    found = network_enclosure(problem, theta, x, precision=bits).jacobian
    assert np.all(found.radius > 0.1 * np.abs(found.midpoint))
    one_side = np.full((1, 1, 2), (0.7 * 0.4 + 0.1 * 0.9) / 2)  # c_1 c_0 (w . x), with slope 1
    assert found.contains(one_side)
    assert found.contains(0.0 * one_side)
    assert not found.contains(1.01 * one_side)
    assert not found.contains(-0.01 * one_side)


# --- saturation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [40.0, 2000.0])
def test_saturated_units(activation, size):
    """Preactivations of both signs, far out: balls as narrow as float64 lets them be, and right."""
    rng = np.random.default_rng(5)
    model = gr.MLP((2, 3, 1), activation=activation)
    theta, x, y = rng.standard_normal(13), size * rng.standard_normal((2, 2)), rng.standard_normal((2, 1))
    found = network_enclosure(gr.Problem(model, gr.Gaussian()), theta, x, y)
    plain = Reference((2, 3, 1), activation, "gaussian", 1.0, True, (1.0, 1.0), {})
    with mpmath.workdps(DIGITS):
        truth = plain.results(theta, x, y)
        for name in RESULTS[:-1]:
            assert holds(getattr(found, name), truth[name]), name
            assert narrow(getattr(found, name)), name


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_saturated_outputs(likelihood):
    """Probabilities near exp(-300): residuals have digits of their own, where a subtraction leaves none."""
    f = np.array([[300.0, 0.0, -2.0]])
    likelihoods = {"categorical": gr.Categorical(), "bernoulli": gr.Bernoulli()}
    problem = gr.Problem(gr.MLP((1, 3), bias=False), likelihoods[likelihood])
    y = np.array([0]) if likelihood == "categorical" else np.array([[1.0, 0.0, 0.0]])
    found = network_enclosure(problem, f[0], np.ones((1, 1)), y)
    small = float(found.residuals.midpoint[0, 0])
    assert found.residuals.radius[0, 0] <= 2.0**-53 * abs(small)
    with mpmath.workdps(400):
        e = [mpmath.exp(value) for value in f[0].tolist()]
        truth = -(e[1] + e[2]) / sum(e) if likelihood == "categorical" else -1 / (1 + e[0])
        assert abs(mpmath.mpf(small) / truth - 1) < mpmath.mpf(2) ** -52
    ours = problem.gradient(f[0], np.ones((1, 1)), y)
    assert found.gradient.relative_error_bound(ours) < 1e-14


def test_a_poisson_mean_beyond_float64_is_an_error():
    problem = gr.Problem(gr.MLP((1, 1), bias=False), gr.Poisson())
    with pytest.raises(NumericalError, match="residuals leaves the range of float64"):
        network_enclosure(problem, np.array([800.0]), np.ones((1, 1)), np.ones((1, 1)))


# --- planted errors -----------------------------------------------------------------------------------------

WITNESS = Network("tanh", "poisson", sizes=(2, 3, 2), parameterization="ntk", num_examples=2)


def doubled_slope(monkeypatch):
    def tanh(x):
        value, slope = activations._tanh(x)
        return value, 2 * slope

    monkeypatch.setitem(IN_BALLS, "tanh", tanh)


def change_layers(monkeypatch, change):
    def read(problem, theta):
        found = read_network(problem, theta)
        return found._replace(layers=tuple(change(layer) for layer in found.layers))

    for module in (network, gram):
        monkeypatch.setattr(module, "read_network", read)


def dropped_bias(monkeypatch):
    def change(layer):
        return layer._replace(bias=0.0 * layer.bias)

    change_layers(monkeypatch, change)


def scale_of_one(monkeypatch):
    change_layers(monkeypatch, lambda layer: layer._replace(squared_scale=Fraction(1)))


def scale_without_root(monkeypatch):
    change_layers(monkeypatch, lambda layer: layer._replace(squared_scale=layer.squared_scale**2))


def transposed_order(monkeypatch):
    old = description.on_host

    def read(name, value, shape, meaning):
        found = old(name, value, shape, meaning)
        return found[::-1].copy() if name == "theta" else found

    monkeypatch.setattr(description, "on_host", read)


def sum_of_losses(monkeypatch):
    old = network._gradient
    monkeypatch.setattr(network, "_gradient", lambda n, t, f, r: old(n, t, f, len(WITNESS.x) * r))


@pytest.mark.parametrize(
    ("plant", "noticed"),
    [
        (doubled_slope, {"jacobian", "gradient", "gram"}),
        (dropped_bias, set(RESULTS)),
        (scale_of_one, set(RESULTS)),
        (scale_without_root, set(RESULTS)),
        (transposed_order, set(RESULTS)),
        (sum_of_losses, {"gradient"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_errors_are_noticed(plant, noticed, monkeypatch):
    assert wrong(WITNESS) == disagreeing(WITNESS, enclosures(WITNESS)) == []
    plant(monkeypatch)
    assert set(wrong(WITNESS)) == set(disagreeing(WITNESS, enclosures(WITNESS))) == noticed


def test_shrunk_balls_are_noticed():
    with mpmath.workdps(DIGITS):
        truth = reference(WITNESS).results(WITNESS.theta, WITNESS.x, WITNESS.y)
        for name, balls in enclosures(WITNESS).items():
            assert not holds(replace(balls, radius=np.asarray(0.5 * balls.radius)), truth[name]), name


def test_a_gram_matrix_needs_the_products_of_the_biases():
    """``<abar, abar'>`` without its 1 would be that of a network without biases."""
    net = Network("tanh", "gaussian", sizes=(2, 3, 1), num_examples=2)
    J = network_enclosure(net.problem, net.theta, net.x).jacobian.midpoint.reshape(2, -1)
    found = gram_enclosure(net.problem, net.theta, net.x)
    weights_only = np.delete(J, [2, 5, 8, 12], axis=1)
    assert np.allclose(found.midpoint, J @ J.T, rtol=1e-14, atol=0)
    assert not np.allclose(found.midpoint, weights_only @ weights_only.T, rtol=0.1, atol=0)


# --- size ---------------------------------------------------------------------------------------------------


def test_a_wide_network_through_the_gram_form():
    problem = gr.Problem(gr.two_layer(16, 2**12), gr.Gaussian())
    theta, x = problem.init(rng=1), np.random.default_rng(2).standard_normal((8, 16))
    found = gram_enclosure(problem, theta, x)
    J = problem.jacobian(theta, x)[:, 0, :]
    # sums over 4096 units and 16 inputs
    assert np.allclose(found.midpoint, J @ J.T, rtol=0, atol=1e-14 * np.max(found.midpoint))
    assert np.all(found.radius <= 2.0**-52 * np.max(found.midpoint))
