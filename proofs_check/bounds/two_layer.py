"""The network of the convergence theory, read from a problem as exact numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from grng_ref.arrays import Array
from grng_ref.certified.library import on_host

# sup |act''|^2 as (a number at most, a number at least); exact but for pi. None: no finite supremum.
_PI = (Fraction(314159265358979323846, 10**20), Fraction(314159265358979323847, 10**20))
SQUARED_BENDING: dict[str, tuple[Fraction, Fraction] | None] = {
    "identity": (Fraction(0), Fraction(0)),
    "relu": None,
    "tanh": (Fraction(16, 27), Fraction(16, 27)),
    "sigmoid": (Fraction(1, 108), Fraction(1, 108)),
    "softplus": (Fraction(1, 16), Fraction(1, 16)),
    "gelu": (2 / _PI[1], 2 / _PI[0]),
    "silu": (Fraction(1, 4), Fraction(1, 4)),
}

# a number at least sup act' - inf act'. gelu: erf(1) + 2/(e sqrt pi); silu: z/2 where z tanh(z/2) = 2.
SLOPE_RANGE: dict[str, Fraction] = {
    "identity": Fraction(0),
    "tanh": Fraction(1),
    "sigmoid": Fraction(1, 4),
    "softplus": Fraction(1),
    "gelu": Fraction(12578083, 10**7),
    "silu": Fraction(11996787, 10**7),
}


class TwoLayer(NamedTuple):
    """``f(x) = c sum_r a_r act(w_r . x)``; its Jacobian has the rows ``c a_r act'(w_r . x_i) x_i``."""

    activation: str
    scale: Fraction  # c, the stored float
    signs: np.ndarray  # a (m,)
    num_inputs: int  # d

    @property
    def width(self) -> int:
        """The width m."""
        return len(self.signs)

    @property
    def largest_sign(self) -> Fraction:
        """``max_r |a_r|``."""
        return Fraction(float(np.max(np.abs(self.signs))))

    def weights(self, theta: Array) -> np.ndarray:
        """The rows w_r (m, d) of theta."""
        size = self.width * self.num_inputs
        flat = on_host("theta", theta, (size,), "one flat parameter vector")
        return flat.reshape(self.width, self.num_inputs)


def read_two_layer(problem: Any) -> TwoLayer | None:
    """The two-layer network of a problem, or None for a network of another kind.

    Raises
    ------
    TypeError
        Not a problem with an `MLP` of the package.
    """
    model: Any = getattr(problem, "model", None)
    if f"{type(model).__module__}.{type(model).__qualname__}" != "grng_ref.models.mlp.MLP":
        raise TypeError(f"problem must be a gr.Problem with a gr.MLP, got {type(problem).__name__}")
    alike = (
        len(model.sizes) == 3
        and model.sizes[-1] == 1
        and not model.bias
        and set(model.frozen) == {1}
        and model.layer_scales[0] == 1.0
        and model.scales is not None
        and isinstance(model.activation, str)
    )
    if not alike:
        return None
    d, m, _ = model.sizes
    signs = on_host("frozen[1]", model.frozen[1], (1, m), "(1, width)")[0]
    return TwoLayer(model.activation, Fraction(model.layer_scales[1]), signs, d)


NOT_TWO_LAYER = (
    "no bound is known for this model: it is not gr.two_layer (one hidden layer, no bias, its second layer "
    "frozen, one output, an activation by name)"
)
