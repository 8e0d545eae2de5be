"""The Gram matrix of a network's Jacobian in ball arithmetic, without the Jacobian."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from .description import Network, read_network
from .enclosure import Enclosure, enclose
from .library import check_precision, load_flint, on_host, working_precision
from .linear import rational
from .passes import Trace, forward, signals


def gram_enclosure(problem: Any, theta: Array, x: Array, *, precision: int = 256) -> Enclosure:
    """The enclosure of ``J J^T`` (N K, N K), J the Jacobian of the outputs; rows in the order (n, k).

    ``(J J^T)[(n,k),(m,j)] = sum_l <abar_{l,n}, abar_{l,m}> <D_{l,n,k}, D_{l,m,j}>`` over the trainable
    layers, with the input ``abar_l = [c_l a_l; 1]`` and the signal ``D_l = df / ds_l``: two products and an
    elementwise product a layer. No division by N, no likelihood.

    Parameters
    ----------
    problem : gr.Problem
        Its model is read, as by `network_enclosure`.
    theta : array (P,)
    x : array (N, d_0)
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    Enclosure
        Of a matrix that equals its transpose in every bit, as `eigenvalue_bounds` asks.

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As `network_enclosure`.

    Notes
    -----
    Stored numbers, scales and the kink of relu as in `network_enclosure`.

    Source: classical (kernel form of a tangent kernel; Hadamard product of Gram matrices).
    """
    bits = check_precision(precision)
    network = read_network(problem, theta)
    inputs = on_host("x", x, (None, network.num_inputs), "(examples, inputs)")
    size = len(inputs) * network.num_outputs
    with working_precision(bits):
        trace = forward(network, inputs)
        return enclose("the Gram matrix", _gram(network, trace), (size, size))


def _gram(network: Network, trace: Trace) -> Any:
    flint = load_flint()
    k = trace.outputs.ncols()
    size = trace.outputs.nrows() * k
    found = signals(network, trace)
    total = [[flint.arb(0)] * size for _ in range(size)]
    for index, layer in enumerate(network.layers):
        if layer.trainable:
            a, d = trace.inputs[index], found[index]
            of_inputs, of_signals = a * a.transpose(), d * d.transpose()
            square, one = flint.arb(rational(layer.squared_scale)), int(layer.bias is not None)
            for i in range(size):
                for j in range(i + 1):
                    total[i][j] += (square * of_inputs[i // k, j // k] + one) * of_signals[i, j]
    return flint.arb_mat([[total[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)])
