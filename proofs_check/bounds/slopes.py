"""The change of the Jacobian between two points, from below, in balls."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref.certified.library import load_flint

from .balls import ball_matrix, balls_of, root_downward, sides, working_precision
from .two_layer import TwoLayer

_BITS = 160  # products of two float64 numbers are exact


def change_from_below(
    network: TwoLayer,
    x: np.ndarray,
    neurons: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    u: np.ndarray,
) -> float:
    """A number at most ``|(J' - J)^T u| / |u| <= |J' - J|_2``, for a network of which only some neurons move.

    ``(J' - J)^T u`` has the blocks ``c a_r sum_i u_i (act'(w'_r.x_i) - act'(w_r.x_i)) x_i``; neurons that
    do not move contribute nothing. ``before`` and ``after`` (k, d) are the weights of the k ``neurons``.
    """
    slope = SLOPES[network.activation]
    rows, n = len(neurons), len(x)
    with working_precision(_BITS) as flint:
        inputs = ball_matrix(x)
        first, second = (ball_matrix(w) * inputs.transpose() for w in (before, after))
        pairs = zip(first.entries(), second.entries(), strict=True)
        weights = balls_of(u)
        changes = [(slope(new) - slope(old)) * weights[k % n] for k, (old, new) in enumerate(pairs)]
        blocks = flint.arb_mat(rows, n, changes) * inputs
        total = flint.arb(0)
        for row, sign in zip(blocks.tolist(), balls_of(network.signs[neurons]), strict=True):
            total += sign * sign * sum((entry * entry for entry in row), start=flint.arb(0))
        low, _ = sides(total)
        length, _ = sides(1 / sum((w * w for w in weights), start=flint.arb(0)))
    return root_downward(max(low, Fraction(0)) * length * network.scale**2)


def _relu(z: Any) -> Any:
    arb = load_flint().arb
    if z > 0:
        return arb(1)
    return arb(0) if z <= 0 else arb(0.5, 0.5)


def _tanh(z: Any) -> Any:
    return z.sech() ** 2


def _logistic(z: Any) -> Any:
    """``1 / (1 + e^{-z})`` as ``(1 + tanh(z/2)) / 2``, which never overflows."""
    return (1 + (z / 2).tanh()) / 2


def _sigmoid(z: Any) -> Any:
    return (z / 2).sech() ** 2 / 4


def _gelu(z: Any) -> Any:
    arb = load_flint().arb
    density = (-z * z / 2).exp() / (2 * arb.pi()).sqrt()
    return (1 + (z / arb(2).sqrt()).erf()) / 2 + z * density


def _silu(z: Any) -> Any:
    return _logistic(z) + z * _sigmoid(z)


SLOPES: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: load_flint().arb(1),
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _logistic,
    "gelu": _gelu,
    "silu": _silu,
}
"""act' in balls."""
