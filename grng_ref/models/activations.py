"""Elementwise activations with their first and second derivatives, accurate where they saturate.

Derivatives are computed from exponentials that decay (``tanh' = 1/cosh^2``), never as a small difference
(``1 - tanh^2``), so that they keep relative accuracy in both tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import Array, check_choice, namespace
from ..arrays.special import erf, sigmoid, softplus

_NO_DENSITY = 40.0  # exp(-x^2/2) underflows beyond, in both dtypes


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivatives, each a callable of the preactivation array.

    Parameters
    ----------
    name : str
    value, first, second : callable
        The function, its first and its second derivative: an array in, an array of the same shape, dtype
        and device out.
    """

    name: str
    value: Callable[[Array], Array]
    first: Callable[[Array], Array]
    second: Callable[[Array], Array]

    def __post_init__(self) -> None:
        for part in ("value", "first", "second"):
            if not callable(getattr(self, part)):
                raise TypeError(f"{part} must be a callable, got {type(getattr(self, part)).__name__}")


def find_activation(activation: str | Activation) -> Activation:
    """The activation of that name; an `Activation` is returned as it is.

    The names are identity, relu (``relu'(0) = 0``), tanh, sigmoid, softplus, gelu (the erf form) and silu.
    All are right to a few roundings relative to the value, with two exceptions. gelu and its derivatives are
    right to a few roundings of ``max(1, |x|)`` (absolute accuracy): ``1 + erf`` has no more in the left
    tail. The derivatives of silu are, near their zeros, right relative to the terms that cancel there.

    Raises
    ------
    ValueError
        Neither a known name nor an `Activation`.
    """
    if isinstance(activation, Activation):
        return activation
    return ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]


def _identity(x: Array) -> Array:
    return x


def _one(x: Array) -> Array:
    return namespace(x=x).ones_like(x)


def _zero(x: Array) -> Array:
    return namespace(x=x).zeros_like(x)


def _relu(x: Array) -> Array:
    return namespace(x=x).where(x < 0, _zero(x), x)  # a NaN stays a NaN


def _relu_first(x: Array) -> Array:
    return namespace(x=x).where(x > 0, _one(x), _zero(x))  # relu'(0) = 0


def _tanh(x: Array) -> Array:
    return namespace(x=x).tanh(x)


def _tanh_first(x: Array) -> Array:
    """1 / cosh(x)^2."""
    xp = namespace(x=x)
    decay = xp.exp(-2.0 * xp.abs(x))
    return 4.0 * decay / ((1.0 + decay) * (1.0 + decay))


def _tanh_second(x: Array) -> Array:
    return -2.0 * _tanh(x) * _tanh_first(x)


def _sigmoid_first(x: Array) -> Array:
    """sigmoid(x) sigmoid(-x)."""
    xp = namespace(x=x)
    decay = xp.exp(-xp.abs(x))
    return decay / ((1.0 + decay) * (1.0 + decay))


def _sigmoid_second(x: Array) -> Array:
    """``s' (1 - 2 s) = -s' tanh(x/2)``."""
    return -_tanh(0.5 * x) * _sigmoid_first(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + erf(x * math.sqrt(0.5)))


def _normal_density(x: Array) -> Array:
    return namespace(x=x).exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def _gelu(x: Array) -> Array:
    """``x Phi(x)``."""
    return x * _normal_cdf(x)


def _gelu_first(x: Array) -> Array:
    """``Phi + x phi``."""
    bounded = _clip_to_density(x)
    return _normal_cdf(x) + bounded * _normal_density(bounded)


def _gelu_second(x: Array) -> Array:
    """``phi (2 - x^2)``."""
    bounded = _clip_to_density(x)
    return _normal_density(bounded) * (2.0 - bounded * bounded)


def _clip_to_density(x: Array) -> Array:
    """x, bounded where phi(x) is zero anyway, so that its square does not overflow."""
    return namespace(x=x).clip(x, -_NO_DENSITY, _NO_DENSITY)


def _silu(x: Array) -> Array:
    """``x s(x)``."""
    return x * sigmoid(x)


def _silu_first(x: Array) -> Array:
    """``s(x) (1 + x s(-x))``."""
    return sigmoid(x) * (1.0 + x * sigmoid(-x))


def _silu_second(x: Array) -> Array:
    """``2 s' + x s'' = s' (2 - x tanh(x/2))``."""
    return _sigmoid_first(x) * (2.0 - x * _tanh(0.5 * x))


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("identity", _identity, _one, _zero),
        Activation("relu", _relu, _relu_first, _zero),
        Activation("tanh", _tanh, _tanh_first, _tanh_second),
        Activation("sigmoid", sigmoid, _sigmoid_first, _sigmoid_second),
        Activation("softplus", softplus, sigmoid, _sigmoid_first),
        Activation("gelu", _gelu, _gelu_first, _gelu_second),
        Activation("silu", _silu, _silu_first, _silu_second),
    )
}
"""The activations that a model takes by name."""
