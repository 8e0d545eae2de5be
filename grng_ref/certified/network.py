"""Outputs, Jacobian, loss and gradient of a network in ball arithmetic, from stored floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from .description import Network, read_loss, read_network
from .enclosure import Enclosure, enclose
from .library import check_precision, load_flint, on_host, working_precision
from .outputs import Outputs, read_targets
from .passes import Trace, forward, layer_inputs, rows_of, signals


@dataclass(frozen=True, eq=False)
class NetworkEnclosures:
    """What a network computes, each as an `Enclosure` of its exact value; None for what was not asked."""

    outputs: Enclosure  #: f (N, K)
    jacobian: Enclosure | None  #: df / dtheta (N, K, P)
    residuals: Enclosure | None  #: ``d l_n / d f_n`` (N, K), of each example, not divided by N
    loss: Enclosure | None  #: the mean loss, shape ()
    gradient: Enclosure | None  #: of the mean loss (P,)


def network_enclosure(
    problem: Any,
    theta: Array,
    x: Array,
    y: Array | None = None,
    *,
    jacobian: bool = True,
    precision: int = 256,
) -> NetworkEnclosures:
    """Enclosures of outputs and Jacobian, and with labels of residuals, loss and gradient.

    ``f_n = f(theta, x_n)``, ``J_n = df_n / dtheta``, ``r_n = d l(f_n, y_n) / d f_n``,
    ``L = (1/N) sum_n l(f_n, y_n)``, ``g = (1/N) sum_n J_n^T r_n``: as `Problem` defines them, in its order of
    parameters, and without the terms of the loss that do not depend on theta.

    Parameters
    ----------
    problem : gr.Problem
        Its data is read: widths, scales, frozen layers, the names of activation and likelihood, a variance.
    theta : array (P,)
    x : array (N, d_0)
    y : array, optional
        Integers (N,) for a categorical likelihood, else floating (N, K).
    jacobian : bool
        Whether the Jacobian is wanted, the one result of N K P balls, about 5 microseconds each.
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    NetworkEnclosures

    Raises
    ------
    TypeError, ValueError
        Bad arguments; an activation, a likelihood or a model that is not the package's own.
    BackendError
        python-flint is not installed.
    NumericalError
        The precision is too small for a finite ball, or a result leaves the range of float64.

    Notes
    -----
    Arrays are of any backend, float32 or float64 and also mixed: copied to the host and taken as the exact
    numbers that they store. So are ``scales`` (those of `two_layer` are 1 and the float next to
    ``m^{-1/2}``); the scales ``d_l^{-1/2}`` of the NTK parameterization are exact roots.

    Where the ball of a preactivation of relu holds zero, and more than zero, its slope is the ball [0, 1]: no
    side is chosen. A higher precision makes it narrow again, unless the true value is zero. A ball that is
    zero and nothing else, as sums of stored numbers may be, has the slope 0, the package's convention.

    Source: classical (the chain rule; midpoint-radius arithmetic: Johansson 2017).
    """
    bits = check_precision(precision)
    if not isinstance(jacobian, bool):
        raise TypeError(f"jacobian must be True or False, got {jacobian!r}")
    network, inputs, labels, output_terms = _read(problem, theta, x, y)
    n, k = len(inputs), network.num_outputs
    with working_precision(bits) as flint:
        trace = forward(network, inputs)
        outputs = enclose("outputs", trace.outputs, (n, k))
        found = signals(network, trace) if jacobian or labels is not None else []
        rows = _jacobian(network, trace, found) if jacobian else None
        if labels is None:
            return NetworkEnclosures(outputs, rows, None, None, None)
        terms = [output_terms(*pair) for pair in zip(trace.outputs.tolist(), labels, strict=True)]
        residuals = flint.arb_mat([term.gradient for term in terms])
        return NetworkEnclosures(
            outputs=outputs,
            jacobian=rows,
            residuals=enclose("residuals", residuals, (n, k)),
            loss=enclose("loss", sum((term.loss for term in terms), start=flint.arb(0)) / n, ()),
            gradient=_gradient(network, trace, found, residuals),
        )


def residual_enclosure(problem: Any, theta: Array, x: Array, y: Array, *, precision: int = 256) -> Enclosure:
    """The enclosure of the residuals ``d l_n / d f_n`` (N, K) alone, which needs no pass backwards.

    Parameters
    ----------
    problem, theta, x, y, precision
        As for `network_enclosure`, with labels.

    Returns
    -------
    Enclosure

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As `network_enclosure`; labels of None.

    Notes
    -----
    Source: classical, as `network_enclosure`.
    """
    bits = check_precision(precision)
    network, inputs, labels, output_terms = _read(problem, theta, x, y)
    if labels is None:
        raise TypeError("y must be given, got None")
    with working_precision(bits) as flint:
        rows = forward(network, inputs).outputs.tolist()
        residuals = [output_terms(*pair).gradient for pair in zip(rows, labels, strict=True)]
        return enclose("residuals", flint.arb_mat(residuals), (len(inputs), network.num_outputs))


def _read(
    problem: Any, theta: Array, x: Array, y: Array | None
) -> tuple[Network, np.ndarray, np.ndarray | None, Callable[[Sequence[Any], Any], Outputs]]:
    """Network, inputs, labels and the terms of a likelihood, as exact numbers."""
    network = read_network(problem, theta)
    name, output_terms = read_loss(problem)
    inputs = on_host("x", x, (None, network.num_inputs), "(examples, inputs)")
    labels = None if y is None else read_targets(name, y, len(inputs), network.num_outputs)
    return network, inputs, labels, output_terms


def _jacobian(network: Network, trace: Trace, found: list[Any]) -> Enclosure:
    """Rows ``D_l (x) abar_l`` of the trainable layers side by side."""
    n, k = trace.outputs.nrows(), trace.outputs.ncols()
    rows: list[list[Any]] = [[] for _ in range(n * k)]
    for index, layer in enumerate(network.layers):
        if layer.trainable:
            inputs = layer_inputs(network, trace, index).tolist()
            for row, signal in enumerate(found[index].tolist()):
                rows[row].extend(d * a for d in signal for a in inputs[row // k])
    return enclose("jacobian", load_flint().arb_mat(rows), (n, k, len(rows[0])))


def _gradient(network: Network, trace: Trace, found: list[Any], residuals: Any) -> Enclosure:
    """Blocks ``(1/N) sum_n (r_n^T D_{l,n}) (x) abar_{l,n}`` of the trainable layers, one after the other."""
    arb_mat = load_flint().arb_mat
    n, k = residuals.nrows(), residuals.ncols()
    weights = arb_mat(n, n * k)
    for example, row in enumerate(rows_of(residuals.entries(), k)):
        for output, residual in enumerate(row):
            weights[example, example * k + output] = residual / n
    entries: list[Any] = []
    for index, layer in enumerate(network.layers):
        if layer.trainable:
            pulled = weights * found[index]  # (N, d_out)
            entries.extend((pulled.transpose() * layer_inputs(network, trace, index)).entries())
    return enclose("gradient", arb_mat(1, len(entries), entries), (len(entries),))
