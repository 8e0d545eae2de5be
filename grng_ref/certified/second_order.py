"""The Hessian of the mean loss times a vector, in balls: the derivative of both passes along a direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from .activations import logistic
from .description import network_at
from .library import load_flint
from .linear import ball_matrix
from .passes import scale_of
from .point import Point


def hessian_product(point: Point, direction: Any) -> Any:
    """``H v`` (P, 1) for v (P, 1): the R-operator (Pearlmutter 1994), layer by layer."""
    flint = load_flint()
    arb_mat = flint.arb_mat
    moved = np.array(direction.entries(), dtype=object)
    layers, tangents = point.network.layers, network_at(point.problem, moved).layers
    n = point.examples
    a, ra = ball_matrix(point.x), arb_mat(n, point.x.shape[1])
    kept: list[tuple[Any, ...]] = []
    rs = arb_mat(1, 1)
    for index, (layer, tangent) in enumerate(zip(layers, tangents, strict=True)):
        w = ball_matrix(layer.weights)
        rw = ball_matrix(tangent.weights) if layer.trainable else arb_mat(w.nrows(), w.ncols())
        c = scale_of(layer)
        s = a * w.transpose() * c
        rs = (ra * w.transpose() + a * rw.transpose()) * c
        if layer.bias is not None and tangent.bias is not None:
            s += ball_matrix(np.broadcast_to(layer.bias, (n, len(layer.bias))))
            if layer.trainable:
                rs += ball_matrix(np.broadcast_to(tangent.bias, (n, len(tangent.bias))))
        before = (a, ra, w, rw, c)
        if index + 1 == len(layers):
            kept.append((*before, None, None))
            break
        entries = s.entries()
        pairs = [point.network.activation(entry) for entry in entries]
        bends = [CURVATURES[point.problem.model.activation](entry) for entry in entries]
        shape = (s.nrows(), s.ncols())
        slopes = arb_mat(*shape, [slope for _, slope in pairs])
        kept.append((*before, slopes, _times(arb_mat(*shape, bends), rs)))
        a, ra = arb_mat(*shape, [value for value, _ in pairs]), _times(slopes, rs)
    u = arb_mat([term.gradient for term in point.terms]) / n
    ru = (
        arb_mat(
            [
                (arb_mat(term.fisher) * arb_mat([[entry] for entry in row])).entries()
                for term, row in zip(point.terms, rs.tolist(), strict=True)
            ]
        )
        / n
    )
    found: list[list[Any]] = []
    for index in range(len(layers) - 1, -1, -1):
        a, ra, w, rw, c, _, _ = kept[index]
        if layers[index].trainable:
            bias = layers[index].bias is not None
            block = ru.transpose() * _with(a * c, 1, bias) + u.transpose() * _with(ra * c, 0, bias)
            found.insert(0, block.entries())
        if index == 0:
            break
        pulled, moving = u * w * c, (ru * w + u * rw) * c
        slopes, bend = kept[index - 1][5:]
        u, ru = _times(pulled, slopes), _times(moving, slopes) + _times(pulled, bend)
    flat = [entry for block in found for entry in block]
    return arb_mat(len(flat), 1, flat)


def hessian(point: Point) -> Any:
    """H (P, P), a column at a time."""
    arb_mat = load_flint().arb_mat
    size = point.jacobian.ncols()
    columns = [
        hessian_product(point, arb_mat(size, 1, [int(i == j) for i in range(size)])).entries()
        for j in range(size)
    ]
    return arb_mat(columns)  # its own transpose


def _with(matrix: Any, last: int, bias: bool) -> Any:
    return load_flint().arb_mat([[*row, last] for row in matrix.tolist()]) if bias else matrix


def _times(a: Any, b: Any) -> Any:
    """Entry by entry."""
    products = [p * q for p, q in zip(a.entries(), b.entries(), strict=True)]
    return load_flint().arb_mat(a.nrows(), a.ncols(), products)


# --- second derivatives of the activations -----------------------------------------------------------------


def _zero(x: Any) -> Any:
    return load_flint().arb(0)


def _relu(x: Any) -> Any:
    arb = load_flint().arb
    return arb(0) if x > 0 or x <= 0 else arb.nan()  # across the kink there is no second derivative


def _tanh(x: Any) -> Any:
    root = x.sech()
    return -2 * x.tanh() * root * root


def _sigmoid(x: Any) -> Any:
    up, down = logistic(x), logistic(-x)
    return up * down * (down - up)


def _softplus(x: Any) -> Any:
    return logistic(x) * logistic(-x)


def _gelu(x: Any) -> Any:
    arb = load_flint().arb
    return (-x * x / 2).exp() / (2 * arb.pi()).sqrt() * (2 - x * x)


def _silu(x: Any) -> Any:
    return 2 * _softplus(x) + x * _sigmoid(x)


CURVATURES = {
    "identity": _zero,
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
}
