"""Multilayer perceptrons: shapes, scales, frozen layers, and the flat parameter vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import (
    Array,
    asarray,
    check_choice,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    host_generator,
    namespace,
)
from .activations import Activation, find_activation


@dataclass(frozen=True, eq=False)
class MLP:
    """A multilayer perceptron with a linear last layer.

    Layer l = 0..L-1 computes ``s_l = c_l W_l a_l + b_l`` and ``a_{l+1} = act(s_l)``, with ``a_0 = x``; the
    output ``f = s_{L-1}`` is the natural parameter of the likelihood. Its matrix is ``Wbar_l = [W_l | b_l]``
    of shape ``(d_{l+1}, d_l + 1)``, bias last (``(d_{l+1}, d_l)`` without bias). The parameters ``theta`` are
    the trainable ``Wbar_l`` in order, each in row-major order, in one flat vector.

    Parameters
    ----------
    sizes : sequence of int
        Widths (d_0, ..., d_L), all at least 1; at least two of them.
    activation : {"identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu"} or Activation
    bias : bool
        Whether every layer has a bias column.
    parameterization : {"standard", "ntk"}
        Fixes the scales and the initialisation: ``c_l = 1`` and weights drawn from N(0, 1/d_l) (LeCun
        normal), or ``c_l = d_l^{-1/2}`` and weights drawn from N(0, 1). Biases start at zero.
    scales : sequence of float, optional
        The ``c_l``, in place of those of the parameterization.
    frozen : mapping of layer index to array, optional
        Layers whose ``Wbar`` belongs to the model; ``theta`` holds the others only. Move them to the
        library, dtype and device of theta with ``gr.asarray(problem, ...)``.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, an empty or zero width, an unknown name, a frozen layer of the
        wrong shape, or no trainable layer.
    """

    sizes: Sequence[int]
    activation: str | Activation = "tanh"
    bias: bool = True
    parameterization: str = "standard"
    scales: Sequence[float] | None = None
    frozen: Mapping[int, Array] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, list | tuple) or len(self.sizes) < 2:
            raise ValueError(f"sizes must list at least two widths (input, ..., output), got {self.sizes!r}")
        sizes = tuple(check_integer(f"sizes[{i}]", d, minimum=1) for i, d in enumerate(self.sizes))
        object.__setattr__(self, "sizes", sizes)
        find_activation(self.activation)
        if not isinstance(self.bias, bool):
            raise TypeError(f"bias must be True or False, got {self.bias!r}")
        check_choice("parameterization", self.parameterization, ("standard", "ntk"))
        if self.scales is not None:
            if not isinstance(self.scales, list | tuple) or len(self.scales) != self.num_layers:
                raise ValueError(f"scales must list {self.num_layers} numbers, got {self.scales!r}")
            scales = (
                check_real(f"scales[{i}]", c, minimum=0.0, exclusive=True) for i, c in enumerate(self.scales)
            )
            object.__setattr__(self, "scales", tuple(scales))
        object.__setattr__(self, "frozen", self._checked_frozen())
        if not self.trainable:
            raise ValueError("frozen must leave at least one trainable layer, got all layers")

    def _checked_frozen(self) -> dict[int, Array]:
        if not isinstance(self.frozen, Mapping | None):
            raise TypeError(f"frozen must map layer indices to arrays, got {type(self.frozen).__name__}")
        frozen = dict(self.frozen or {})
        for index, value in frozen.items():
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < self.num_layers:
                raise ValueError(f"frozen must have layer indices 0..{self.num_layers - 1}, got {index!r}")
            namespace(**{f"frozen[{index}]": value})
            check_shape(f"frozen[{index}]", value, self.shapes[index], "(outputs, inputs [+ 1 for the bias])")
            check_finite(**{f"frozen[{index}]": value})
        return frozen

    @property
    def num_layers(self) -> int:
        """Number of layers L, frozen ones included."""
        return len(self.sizes) - 1

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every ``Wbar_l``, frozen ones included."""
        return tuple((out, into + int(self.bias)) for into, out in pairwise(self.sizes))

    @property
    def trainable(self) -> tuple[int, ...]:
        """Indices of the trainable layers, in order."""
        return tuple(i for i in range(self.num_layers) if i not in (self.frozen or {}))

    @property
    def num_parameters(self) -> int:
        """Length P of theta."""
        return sum(math.prod(self.shapes[i]) for i in self.trainable)

    @property
    def layer_scales(self) -> tuple[float, ...]:
        """The input scale ``c_l`` of every layer."""
        if self.scales is not None:
            return tuple(self.scales)
        if self.parameterization == "ntk":
            return tuple(d**-0.5 for d in self.sizes[:-1])
        return (1.0,) * self.num_layers

    def init(
        self,
        rng: int | np.random.Generator = 0,
        *,
        backend: str = "numpy",
        dtype: str = "float64",
        device: Any = None,
    ) -> Array:
        """Draw theta (P,) on the host, and move it to the backend, dtype and device."""
        generator = host_generator(rng)
        parts = []
        for index in self.trainable:
            outputs, inputs = self.sizes[index + 1], self.sizes[index]
            deviation = inputs**-0.5 if self.parameterization == "standard" else 1.0
            weights = deviation * generator.standard_normal((outputs, inputs))
            if self.bias:
                weights = np.concatenate([weights, np.zeros((outputs, 1))], axis=1)
            parts.append(weights.ravel())
        return asarray(np.concatenate(parts), backend=backend, dtype=dtype, device=device)

    def unpack(self, theta: Array) -> tuple[Array, ...]:
        """The trainable ``Wbar_l`` of theta (..., P), leading axes kept; views where the library can."""
        xp = namespace(theta=theta)
        check_shape("theta", theta, (*theta.shape[:-1], self.num_parameters), "parameters")
        layers, start = [], 0
        for index in self.trainable:
            shape = self.shapes[index]
            stop = start + math.prod(shape)
            layers.append(xp.reshape(theta[..., start:stop], (*theta.shape[:-1], *shape)))
            start = stop
        return tuple(layers)

    def pack(self, layers: Sequence[Array | tuple[Array, Array]]) -> Array:
        """Join the trainable layers, given as ``Wbar`` or as pairs ``(W, b)``, into theta (..., P)."""
        if not isinstance(layers, tuple | list):
            raise TypeError(f"layers must be a tuple of layers, got {type(layers).__name__}")
        if len(layers) != len(self.trainable):
            raise ValueError(f"layers must hold {len(self.trainable)} trainable layers, got {len(layers)}")
        joined = {f"layers[{i}]": _join_bias(f"layers[{i}]", layer) for i, layer in enumerate(layers)}
        xp = namespace(**joined)
        batch = tuple(joined["layers[0]"].shape[:-2])
        parts = []
        for index, (name, layer) in zip(self.trainable, joined.items(), strict=True):
            check_shape(name, layer, (*batch, *self.shapes[index]), "(outputs, inputs [+ 1 for the bias])")
            parts.append(xp.reshape(layer, (*batch, math.prod(self.shapes[index]))))
        return xp.concat(parts, axis=-1)

    def all_layers(self, theta: Array) -> tuple[Array, ...]:
        """Every ``Wbar_l`` in order: the trainable ones from theta, the frozen ones from the model.

        Raises
        ------
        TypeError, ValueError
            A frozen layer differs from theta in library, dtype or device.
        """
        layers: list[Any] = [(self.frozen or {}).get(i) for i in range(self.num_layers)]
        for index, layer in zip(self.trainable, self.unpack(theta), strict=True):
            layers[index] = layer
        namespace(theta=theta, **{f"frozen[{i}]": value for i, value in (self.frozen or {}).items()})
        return tuple(layers)

    def weights(self, index: int, layer: Array) -> Array:
        """``c_l W_l``: the layer matrix without its bias column, scaled."""
        columns = layer[..., : self.sizes[index]]
        scale = self.layer_scales[index]
        return columns if scale == 1.0 else scale * columns

    def layer_input(self, index: int, activations: Array, last: float = 1.0) -> Array:
        """``abar_l = [c_l a_l; last]``; ``last`` is 1, or 0 for a tangent."""
        scale = self.layer_scales[index]
        scaled = activations if scale == 1.0 else scale * activations
        if not self.bias:
            return scaled
        xp = namespace(activations=activations)
        column = xp.full_like(scaled[..., :1], last)
        return xp.concat([scaled, column], axis=-1)


def _join_bias(name: str, layer: Array | Sequence[Array]) -> Array:
    """``[W | b]`` of a pair; anything else as it is."""
    if not isinstance(layer, tuple | list):
        return layer
    if len(layer) != 2:
        raise ValueError(f"{name} must be Wbar or a pair (W, b), got {len(layer)} entries")
    weights, bias = layer
    xp = namespace(**{f"{name}[0]": weights, f"{name}[1]": bias})
    check_shape(f"{name}[0]", weights, (*weights.shape[:-2], None, None), "W (outputs, inputs)")
    check_shape(f"{name}[1]", bias, tuple(weights.shape[:-1]), "b (outputs,), one entry a row of W")
    return xp.concat([weights, bias[..., None]], axis=-1)


def two_layer(
    d: int,
    m: int,
    activation: str | Activation = "tanh",
    signs: Array | None = None,
) -> MLP:
    """The network of the convergence theory, ``f(x) = m^{-1/2} sum_r a_r act(w_r . x)``.

    No bias, first layer unscaled with weights drawn from N(0, 1), output signs a_r frozen.

    Parameters
    ----------
    d, m : int
        Input dimension and width.
    activation : str or Activation
        As in `MLP`.
    signs : array (m,), optional
        The a_r; alternating +1, -1 (a NumPy float64 array) unless given.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: classical (Du and others 2019).
    """
    check_integer("d", d, minimum=1)
    check_integer("m", m, minimum=1)
    if signs is None:
        signs = np.where(np.arange(m) % 2 == 0, 1.0, -1.0)
    namespace(signs=signs)
    check_shape("signs", signs, (m,), "one sign a hidden unit")
    check_finite(signs=signs)
    return MLP(
        (d, m, 1),
        activation=activation,
        bias=False,
        parameterization="ntk",
        scales=(1.0, m**-0.5),
        frozen={1: signs[None, :]},
    )
