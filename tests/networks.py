"""Small networks, their data, and the oracle's view of them: what the tests of the numerics run over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import oracles

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu")
LIKELIHOODS = ("gaussian", "categorical", "bernoulli", "poisson")
VARIANCE = 0.7
# Central differences step by at most a few 1e-3; a preactivation farther than this from the kink of relu
# never crosses it, and the complex step does not move the real part at all.
KINK_MARGIN = 0.02


def _labels(likelihood: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if likelihood == "gaussian":
        return rng.standard_normal(shape)
    if likelihood == "categorical":
        return rng.integers(0, shape[1], shape[0])
    if likelihood == "bernoulli":
        return rng.integers(0, 2, shape).astype(float)
    return rng.poisson(1.5, shape).astype(float)


@dataclass(frozen=True)
class Network:
    """One network with a likelihood, at one theta, on one batch."""

    activation: str = "tanh"
    likelihood: str = "gaussian"
    parameterization: str = "standard"
    scales: tuple[float, ...] | None = None
    bias: bool = True
    frozen: tuple[int, ...] = ()
    sizes: tuple[int, ...] = (3, 4, 3, 2)
    num_examples: int = 3
    two_layer: bool = False
    seed: int = 0

    def __str__(self) -> str:
        how = "two_layer" if self.two_layer else "scaled" if self.scales else self.parameterization
        frozen = "".join(map(str, self.frozen)) or "none"
        return f"{self.activation}-{self.likelihood}-{how}-{'' if self.bias else 'no'}bias-frozen_{frozen}"

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, np.ndarray]]:
        """theta, x, y and the frozen layers; drawn again until no relu is near its kink."""
        for attempt in itertools.count():
            rng = np.random.default_rng([self.seed, attempt])
            shapes = [(d, c + int(self.bias)) for c, d in itertools.pairwise(self.sizes)]
            layers = [0.7 * rng.standard_normal(shape) for shape in shapes]
            x = rng.standard_normal((self.num_examples, self.sizes[0]))
            outputs = (self.num_examples, self.sizes[-1])
            y = _labels(self.likelihood, rng, outputs)
            if self.two_layer:
                layers[1] = np.where(np.arange(self.sizes[1]) % 2 == 0, 1.0, -1.0)[None, :]
            frozen = {i: layers[i] for i in self.frozen}
            theta = np.concatenate([layers[i].ravel() for i in range(len(layers)) if i not in frozen])
            if self.activation != "relu" or self._margin(layers, x) > KINK_MARGIN:
                return theta, x, y, frozen
        raise AssertionError("unreachable")

    def _margin(self, layers: list[np.ndarray], x: np.ndarray) -> float:
        """The smallest hidden preactivation, in absolute value."""
        least = np.inf
        for row in x:
            inputs = oracles.forward_example(layers, row, "relu", self.factors, bias=self.bias)[1]
            for layer, abar in zip(layers[:-1], inputs[:-1], strict=True):
                least = min(least, float(np.abs(layer @ abar).min()))
        return least

    @property
    def factors(self) -> list[float]:
        """The c_l as the oracle wants them."""
        scales = (1.0, self.sizes[1] ** -0.5) if self.two_layer else self.scales
        return oracles.layer_scales(self.sizes, self.parameterization, scales)

    @property
    def variance(self) -> float:
        return VARIANCE if self.likelihood == "gaussian" else 1.0

    @property
    def theta(self) -> np.ndarray:
        return self.data[0]

    @property
    def x(self) -> np.ndarray:
        return self.data[1]

    @property
    def y(self) -> np.ndarray:
        return self.data[2]

    @cached_property
    def problem(self) -> gr.Problem:
        likelihood: Any = {
            "gaussian": gr.Gaussian(variance=VARIANCE),
            "categorical": gr.Categorical(),
            "bernoulli": gr.Bernoulli(),
            "poisson": gr.Poisson(),
        }[self.likelihood]
        if self.two_layer:
            return gr.Problem(gr.two_layer(self.sizes[0], self.sizes[1], self.activation), likelihood)
        model = gr.MLP(
            self.sizes,
            activation=self.activation,
            bias=self.bias,
            parameterization=self.parameterization,
            scales=self.scales,
            frozen=self.data[3],
        )
        return gr.Problem(model, likelihood)

    # --- the oracle's view, slow loops --------------------------------------------------------------

    def outputs(self, theta: np.ndarray) -> np.ndarray:
        return oracles.mlp_outputs(
            theta,
            self.x,
            self.sizes,
            self.activation,
            bias=self.bias,
            scales=self.factors,
            frozen=self.data[3],
        )

    def loss(self, theta: np.ndarray) -> complex:
        return oracles.mean_loss(self.likelihood, self.outputs(theta), self.y, self.variance)

    def losses(self, theta: np.ndarray) -> np.ndarray:
        pairs = zip(self.outputs(theta), self.y, strict=True)
        return np.array([oracles.example_loss(self.likelihood, f, y, self.variance) for f, y in pairs])

    @cached_property
    def jacobian(self) -> np.ndarray:
        """(N, K, P)"""
        return oracles.complex_step_jacobian(self.outputs, self.theta)

    @cached_property
    def gradients(self) -> np.ndarray:
        """(N, P)"""
        return oracles.complex_step_jacobian(self.losses, self.theta)

    def hvp(self, v: np.ndarray) -> np.ndarray:
        return oracles.central_directional(
            lambda z: oracles.complex_step_gradient(self.loss, z), self.theta, v
        )

    @cached_property
    def output_fishers(self) -> np.ndarray:
        """(N, K, K)"""
        outputs = self.outputs(self.theta)
        return np.array([oracles.output_fisher(self.likelihood, f, self.variance) for f in outputs])

    @cached_property
    def fisher(self) -> np.ndarray:
        return oracles.fisher(self.jacobian, self.output_fishers)


def structures() -> list[dict[str, Any]]:
    """Every combination of parameterization, bias and frozen layers."""
    ways = ({}, {"parameterization": "ntk"}, {"scales": (0.5, 1.5, 0.8)})
    frozen = ((), (0,), (1,), (2,), (0, 2))
    return [
        {**way, "bias": bias, "frozen": layers}
        for way, bias, layers in itertools.product(ways, (True, False), frozen)
    ]


def networks(per_pair: int = 3) -> Iterator[Network]:
    """Every activation with every likelihood, each with several structures; every structure comes up.

    The 30 structures are dealt out in turn, ``per_pair`` of them to each of the 28 pairs; and `two_layer` to
    every activation.
    """
    deal = itertools.cycle(structures())
    for activation, likelihood in itertools.product(ACTIVATIONS, LIKELIHOODS):
        for _ in range(per_pair):
            yield Network(activation, likelihood, **next(deal))
    for activation, likelihood in zip(ACTIVATIONS, itertools.cycle(LIKELIHOODS[:1] + LIKELIHOODS[2:])):
        yield Network(
            activation, likelihood, bias=False, frozen=(1,), sizes=(3, 4, 1), two_layer=True, num_examples=4
        )
