"""Forward and backward passes of a multilayer perceptron in balls, at the working precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .description import Layer, Network
from .library import load_flint
from .linear import ball_matrix, rational


class Trace(NamedTuple):
    """What a forward pass leaves; arb_mat each, one row an example."""

    inputs: list[Any]  # a_l (N, d_l), without scale and bias, a layer
    slopes: list[Any]  # act'(s_l) (N, d_{l+1}) as a list of rows, a hidden layer
    outputs: Any  # f (N, K)


def scale_of(layer: Layer) -> Any:
    """The scale c as a ball."""
    return load_flint().arb(rational(layer.squared_scale)).sqrt()


def forward(network: Network, x: np.ndarray) -> Trace:
    """``s_l = c_l (W_l a_l) + b_l``, the scale last: what cancels in a product of stored numbers is zero."""
    arb_mat = load_flint().arb_mat
    inputs: list[Any] = []
    slopes: list[Any] = []
    a = ball_matrix(x)
    for index, layer in enumerate(network.layers):
        inputs.append(a)
        s = a * ball_matrix(layer.weights.T) * scale_of(layer)
        if layer.bias is not None:
            s += ball_matrix(np.broadcast_to(layer.bias, (len(x), len(layer.bias))))
        if index + 1 == len(network.layers):
            return Trace(inputs, slopes, s)
        pairs = [network.activation(entry) for entry in s.entries()]
        a = arb_mat(s.nrows(), s.ncols(), [value for value, _ in pairs])
        slopes.append(rows_of([slope for _, slope in pairs], s.ncols()))
    raise AssertionError("unreachable: a network has a layer")


def signals(network: Network, trace: Trace) -> list[Any]:
    """``D_l = df_{n,k} / ds_l`` (N K, d_{l+1}), example-major, of each layer from the first trainable one."""
    arb_mat = load_flint().arb_mat
    n, k = trace.outputs.nrows(), trace.outputs.ncols()
    signal = arb_mat(n * k, k, [int(row % k == column) for row in range(n * k) for column in range(k)])
    found: list[Any] = [None] * len(network.layers)
    found[-1] = signal
    for index in range(len(network.layers) - 1, network.lowest, -1):
        layer = network.layers[index]
        pulled = rows_of(
            (signal * ball_matrix(layer.weights) * scale_of(layer)).entries(), layer.weights.shape[1]
        )
        slopes = [row for row in trace.slopes[index - 1] for _ in range(k)]
        products = [
            p * d for row, slope in zip(pulled, slopes, strict=True) for p, d in zip(row, slope, strict=True)
        ]
        signal = found[index - 1] = arb_mat(n * k, layer.weights.shape[1], products)
    return found


def layer_inputs(network: Network, trace: Trace, index: int) -> Any:
    """``abar_l = [c_l a_l; 1]`` (N, d_l [+ 1]) as ``arb_mat``."""
    layer = network.layers[index]
    scaled = trace.inputs[index] * scale_of(layer)
    if layer.bias is None:
        return scaled
    return load_flint().arb_mat([[*row, 1] for row in scaled.tolist()])


def rows_of(entries: Sequence[Any], columns: int) -> list[list[Any]]:
    """Entries in row-major order as rows."""
    return [list(entries[start : start + columns]) for start in range(0, len(entries), columns)]
