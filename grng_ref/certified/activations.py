"""Activations and their slopes in balls, one number at a time.

Both hold for every number of the argument's ball. Where the ball crosses the kink of relu the slope is a ball
that holds 0 and 1: no side is chosen. At an argument that is exactly zero (of radius 0) it is the package's
convention, ``relu'(0) = 0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import check_choice

Activation = Callable[[Any], tuple[Any, Any]]  # arb -> (value, slope)


def read_activation(activation: Any) -> Activation:
    """The function of an activation's name.

    Raises
    ------
    TypeError
        Not a name: a function of the user's has no enclosure here.
    ValueError
        Another name.
    """
    if not isinstance(activation, str):
        raise TypeError(
            f"problem.model.activation must be a name ({', '.join(map(repr, ACTIVATIONS))}) to be enclosed, "
            f"got {type(activation).__name__}: nothing is known here about functions of one's own"
        )
    return ACTIVATIONS[check_choice("problem.model.activation", activation, ACTIVATIONS)]


def logistic(x: Any) -> Any:
    """``1 / (1 + e^{-x})``, with digits of its own in both tails; no exponential overflows."""
    if x >= 0:
        return 1 / (1 + (-x).exp())
    if x <= 0:
        grown = x.exp()
        return grown / (1 + grown)
    return _between_ends(logistic, x)


def softplus(x: Any) -> Any:
    """``log(1 + e^x)``, likewise."""
    if x >= 0:
        return x + (-x).exp().log1p()
    if x <= 0:
        return x.exp().log1p()
    return _between_ends(softplus, x)


def _between_ends(increasing: Callable[[Any], Any], x: Any) -> Any:
    """All values of an increasing function on a ball that holds zero."""
    if not x.is_finite():
        return type(x).nan()
    return increasing(x.lower()).union(increasing(x.upper()))


def _identity(x: Any) -> tuple[Any, Any]:
    return x, type(x)(1)


def _relu(x: Any) -> tuple[Any, Any]:
    arb = type(x)
    if x > 0:
        return x, arb(1)
    if x <= 0:
        return arb(0), arb(0)
    return x.max(arb(0)), arb(0.5, 0.5)


def _tanh(x: Any) -> tuple[Any, Any]:
    root = x.sech()
    return x.tanh(), root * root


def _sigmoid(x: Any) -> tuple[Any, Any]:
    value = logistic(x)
    return value, value * logistic(-x)


def _softplus(x: Any) -> tuple[Any, Any]:
    return softplus(x), logistic(x)


def _gelu(x: Any) -> tuple[Any, Any]:
    """``x Phi(x)`` with ``Phi(x) = erfc(-x / sqrt 2) / 2``, and ``Phi + x phi``."""
    arb = type(x)
    distribution = (-x / arb(2).sqrt()).erfc() / 2
    density = (-x * x / 2).exp() / (2 * arb.pi()).sqrt()
    return x * distribution, distribution + x * density


def _silu(x: Any) -> tuple[Any, Any]:
    """``x s(x)``, and ``s + x s'``."""
    value, slope = _sigmoid(x)
    return x * value, value + x * slope


ACTIVATIONS: dict[str, Activation] = {
    "identity": _identity,
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
}
