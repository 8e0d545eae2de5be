"""A multilayer perceptron, unit by unit, and its derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import erf


def _relu(z: complex) -> complex:
    return z if z.real > 0 else 0 * z


def sigmoid(z: complex) -> complex:
    """``1 / (1 + exp(-z))``, without overflow."""
    if z.real >= 0:
        return 1 / (1 + np.exp(-z))
    return np.exp(z) / (1 + np.exp(z))


def softplus(z: complex) -> complex:
    """``log(1 + exp z)``, without overflow."""
    return np.log1p(np.exp(-z)) + z if z.real > 0 else np.log1p(np.exp(z))


ACTIVATIONS: dict[str, Callable[[complex], complex]] = {
    "identity": lambda z: z,
    "relu": _relu,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "gelu": lambda z: z * (1 + erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z * sigmoid(z),
}


def _gelu_slope(z: complex) -> complex:
    return (1 + erf(z / math.sqrt(2))) / 2 + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _silu_slope(z: complex) -> complex:
    return sigmoid(z) * (1 + z * sigmoid(-z))


SLOPES: dict[str, Callable[[complex], complex]] = {
    "identity": lambda z: 1.0,
    "relu": lambda z: 1.0 if z.real > 0 else 0.0,
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "sigmoid": lambda z: sigmoid(z) * sigmoid(-z),
    "softplus": sigmoid,
    "gelu": _gelu_slope,
    "silu": _silu_slope,
}
"""Derivatives of `ACTIVATIONS`; complex-capable, so that a complex step gives the second derivatives."""


def layer_scales(
    sizes: Sequence[int], parameterization: str = "standard", scales: Sequence[float] | None = None
) -> list[float]:
    """The factors c_l: 1 (standard), fan-in^{-1/2} (ntk), or the given ones."""
    if scales is not None:
        return [float(c) for c in scales]
    return [1.0 if parameterization == "standard" else 1 / math.sqrt(d) for d in sizes[:-1]]


def layer_matrices(
    theta: np.ndarray,
    sizes: Sequence[int],
    *,
    bias: bool = True,
    frozen: Mapping[int, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """All ``Wbar_l``, the frozen ones with their own values, the others read from theta in order."""
    fixed = dict(frozen or {})
    layers, start = [], 0
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if index in fixed:
            layers.append(np.asarray(fixed[index]))
            continue
        columns = fan_in + int(bias)
        layer = np.zeros((fan_out, columns), dtype=theta.dtype)
        for i in range(fan_out):
            for j in range(columns):
                layer[i, j] = theta[start]
                start += 1
        layers.append(layer)
    if start != theta.size:
        raise ValueError(f"theta has {theta.size} entries, the layers take {start}")
    return layers


def forward_example(
    layers: Sequence[np.ndarray],
    x: np.ndarray,
    activation: str,
    scales: Sequence[float],
    *,
    bias: bool = True,
    shift: tuple[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One example's output f, and every layer's input ``abar = [c a; 1]`` with ``s = Wbar abar``.

    ``shift = (l, u)`` adds u to the pre-activations s_l, to differentiate by them.
    """
    act = ACTIVATIONS[activation]
    a, inputs = list(x), []
    for index, (layer, scale) in enumerate(zip(layers, scales, strict=True)):
        abar = [scale * value for value in a] + ([1.0] if bias else [])
        inputs.append(np.array(abar))
        s = []
        for i in range(layer.shape[0]):
            total = 0.0
            for j in range(layer.shape[1]):
                total = total + layer[i, j] * abar[j]
            s.append(total + (shift[1][i] if shift is not None and shift[0] == index else 0.0))
        a = s if index == len(layers) - 1 else [act(value) for value in s]
    return np.array(a), inputs


def mlp_outputs(
    theta: np.ndarray,
    x: np.ndarray,
    sizes: Sequence[int],
    activation: str = "tanh",
    *,
    bias: bool = True,
    parameterization: str = "standard",
    scales: Sequence[float] | None = None,
    frozen: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """Outputs f (N, K), the natural parameters of the likelihood."""
    layers = layer_matrices(theta, sizes, bias=bias, frozen=frozen)
    factors = layer_scales(sizes, parameterization, scales)
    return np.array([forward_example(layers, row, activation, factors, bias=bias)[0] for row in x])


def pull_back_example(
    layers: Sequence[np.ndarray],
    x: np.ndarray,
    cotangent: np.ndarray,
    activation: str,
    scales: Sequence[float],
    *,
    bias: bool = True,
) -> list[np.ndarray]:
    """``J^T u`` of one example by the chain rule, unit by unit: one matrix for each layer.

    ``d_L = u``, ``d_l = act'(s_l) * (c_{l+1} W_{l+1}^T d_{l+1})``, gradients ``d_l abar_l^T``.
    """
    _, inputs = forward_example(layers, x, activation, scales, bias=bias)
    signal, gradients = np.array(cotangent), []
    for index in reversed(range(len(layers))):
        gradients.append(np.outer(signal, inputs[index]))
        if index == 0:
            break
        before = layers[index - 1] @ inputs[index - 1]
        slopes = [SLOPES[activation](s) for s in before]
        signal = np.array([
            slope * scales[index] * sum(layers[index][i, j] * signal[i] for i in range(len(signal)))
            for j, slope in enumerate(slopes)
        ])  # fmt: skip
    return gradients[::-1]
