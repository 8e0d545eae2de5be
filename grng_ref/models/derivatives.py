"""Derivatives of a multilayer perceptron by hand-written passes; no loss, no likelihood here.

Notation: ``abar_l`` is the input of layer l with a 1 appended, ``s_l`` its preactivation, ``D_l`` the
derivative of a scalar (a cotangent applied to the outputs) with respect to ``s_l``. The derivative with
respect to ``Wbar_l`` is the outer product of the two, example by example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..arrays import Array, namespace
from ..arrays.linalg import matmul, transpose
from .activations import find_activation
from .mlp import MLP

Layers = tuple[Any, ...]
"""One array a layer; None for a frozen layer where only trainable ones count."""


class Trace(NamedTuple):
    """What the forward pass leaves behind, one entry a layer."""

    inputs: Layers  # abar_l, (N, d_in[+1])
    preactivations: Layers  # s_l, (N, d_out); the last one is the output

    @property
    def outputs(self) -> Array:
        """The network outputs f (N, K)."""
        return self.preactivations[-1]


class Tangent(NamedTuple):
    """Directional derivatives of a trace; None where the direction does not reach."""

    inputs: Layers  # (..., N, d_in[+1])
    preactivations: Layers  # (..., N, d_out)


def forward(model: MLP, layers: Layers, x: Array) -> Trace:
    """The forward pass: ``s_l = Wbar_l abar_l``, ``a_{l+1} = act(s_l)``."""
    act = find_activation(model.activation)
    inputs, preactivations, a = [], [], x
    for index, layer in enumerate(layers):
        inputs.append(model.layer_input(index, a))
        preactivations.append(matmul(inputs[-1], transpose(layer)))
        if index + 1 < model.num_layers:
            a = act.value(preactivations[-1])
    return Trace(tuple(inputs), tuple(preactivations))


def backward(model: MLP, layers: Layers, trace: Trace, cotangents: Array) -> Layers:
    """The backward pass: signals ``D_l = cotangents^T df/ds_l`` (N, R, d_out) of the trainable layers.

    ``D_{l-1} = (D_l c_l W_l) act'(s_{l-1})``, for R cotangents (N, R, K) an example at once.
    """
    act = find_activation(model.activation)
    signals: list[Any] = [None] * model.num_layers
    signal = signals[-1] = cotangents
    for index in range(model.num_layers - 1, model.trainable[0], -1):
        signal = _rows_times(signal, model.weights(index, layers[index]))
        signal *= act.first(trace.preactivations[index - 1])[:, None, :]  # in place where arrays can be
        signals[index - 1] = signal
    return tuple(signals[i] for i in model.trainable)


def _rows_times(rows: Array, matrix: Array) -> Array:
    """``rows @ matrix`` for rows (N, R, d) in one product, where a stack of matrices would take N."""
    xp = namespace(rows=rows)
    n, r, d = rows.shape
    return xp.reshape(matmul(xp.reshape(rows, (n * r, d)), matrix), (n, r, matrix.shape[1]))


def trainable_inputs(model: MLP, trace: Trace) -> Layers:
    """The inputs ``abar_l`` (N, d_in[+1]) of the trainable layers."""
    return tuple(trace.inputs[i] for i in model.trainable)


def outer_rows(inputs: Sequence[Array], signals: Sequence[Array]) -> Array:
    """Rows ``D_l (x) abar_l`` of all layers side by side: (N, R, P) from (N, d_in) and (N, R, d_out)."""
    xp = namespace(inputs=inputs[0])
    blocks = []
    for a, d in zip(inputs, signals, strict=True):
        block = d[:, :, :, None] * a[:, None, None, :]
        blocks.append(xp.reshape(block, (d.shape[0], d.shape[1], d.shape[2] * a.shape[1])))
    return xp.concat(blocks, axis=-1)


def sum_outer(inputs: Sequence[Array], signals: Sequence[Array]) -> Array:
    """The sum over examples of ``D_l (x) abar_l``: (P,) from (N, d_in) and (N, d_out)."""
    xp = namespace(inputs=inputs[0])
    blocks = [matmul(transpose(d), a) for a, d in zip(inputs, signals, strict=True)]
    return xp.concat([xp.reshape(b, (math.prod(b.shape),)) for b in blocks])


def vjp(model: MLP, layers: Layers, trace: Trace, cotangent: Array) -> Array:
    """``J^T u`` (P,), summed over examples, for a cotangent u (N, K)."""
    signals = backward(model, layers, trace, cotangent[:, None, :])
    return sum_outer(trainable_inputs(model, trace), [d[:, 0, :] for d in signals])


def jvp(model: MLP, layers: Layers, trace: Trace, direction: Array) -> Tangent:
    """The forward tangent pass along direction (..., P), leading axes kept; outputs are ``J v``."""
    act = find_activation(model.activation)
    steps = _spread(model, direction)
    inputs: list[Any] = [None] * model.num_layers
    preactivations: list[Any] = [None] * model.num_layers
    for index, layer in enumerate(layers):
        moved = None
        if index > 0 and preactivations[index - 1] is not None:
            a = act.first(trace.preactivations[index - 1]) * preactivations[index - 1]
            inputs[index] = model.layer_input(index, a, last=0.0)
            moved = inputs[index] @ transpose(layer)
        if steps[index] is not None:
            own = trace.inputs[index] @ transpose(steps[index])
            moved = own if moved is None else moved + own
        preactivations[index] = moved
    return Tangent(tuple(inputs), tuple(preactivations))


def vjp_tangent(
    model: MLP,
    layers: Layers,
    trace: Trace,
    tangent: Tangent,
    direction: Array,
    cotangent: Array,
    cotangent_tangent: Array,
) -> Array:
    """The derivative of ``theta -> J(theta)^T u(theta)`` along a direction: (..., P).

    Forward over reverse: every line of the backward pass is differentiated. ``cotangent`` is u (N, K),
    ``cotangent_tangent`` its own derivative (..., N, K). With u the gradient of a summed loss with respect
    to the outputs, this is the Hessian-vector product; it costs a few gradients.
    """
    xp = namespace(cotangent=cotangent)
    act = find_activation(model.activation)
    steps = _spread(model, direction)
    lowest = model.trainable[0]
    signal, moved = cotangent, cotangent_tangent
    blocks: list[Any] = [None] * model.num_layers
    for index in range(model.num_layers - 1, lowest - 1, -1):
        if steps[index] is not None:
            block = transpose(moved) @ trace.inputs[index]
            if tangent.inputs[index] is not None:
                block = block + transpose(signal) @ tangent.inputs[index]
            blocks[index] = xp.reshape(block, (*block.shape[:-2], math.prod(block.shape[-2:])))
        if index > lowest:
            s, ds = trace.preactivations[index - 1], tangent.preactivations[index - 1]
            weights = model.weights(index, layers[index])
            pulled, moved = signal @ weights, moved @ weights
            if steps[index] is not None:
                moved = moved + signal @ model.weights(index, steps[index])
            slope = act.first(s)
            moved = moved * slope + pulled * (act.second(s) * ds)
            signal = pulled * slope
    return xp.concat([blocks[i] for i in model.trainable], axis=-1)


def _spread(model: MLP, direction: Array) -> list[Any]:
    """A parameter direction as one entry a layer, None for the frozen ones."""
    steps: list[Any] = [None] * model.num_layers
    for index, step in zip(model.trainable, model.unpack(direction), strict=True):
        steps[index] = step
    return steps
