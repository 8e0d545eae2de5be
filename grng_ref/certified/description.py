"""What a problem describes, read from its attributes as exact numbers: layers, scales, names.

Only data is read, never a function of the package: widths, names, stored arrays. A class, an activation or a
likelihood that is not one of the package's own may compute anything, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, check_choice
from .activations import Activation, read_activation
from .library import exact_number, on_host
from .outputs import Outputs, read_likelihood

_MODEL = "grng_ref.models.mlp.MLP"
_LIKELIHOODS = {
    f"grng_ref.likelihoods.{name.lower()}.{name}": name.lower()
    for name in ("Gaussian", "Categorical", "Bernoulli", "Poisson")
}


class Layer(NamedTuple):
    """One layer ``s = c W a + b``."""

    weights: np.ndarray  # W (d_out, d_in), float64, exact; or an object array of balls
    bias: np.ndarray | None  # b (d_out,)
    squared_scale: Fraction  # c^2, which is rational also where c is a root
    trainable: bool


class Network(NamedTuple):
    """The layers in order, with the activation between them."""

    layers: tuple[Layer, ...]
    activation: Activation

    @property
    def lowest(self) -> int:
        """The index of the first trainable layer."""
        return next(i for i, layer in enumerate(self.layers) if layer.trainable)

    @property
    def num_inputs(self) -> int:
        """d_0."""
        return int(self.layers[0].weights.shape[1])

    @property
    def num_outputs(self) -> int:
        """K."""
        return int(self.layers[-1].weights.shape[0])


def read_network(problem: Any, theta: Array) -> Network:
    """The network of a problem at theta.

    Raises
    ------
    TypeError
        Not a problem with an `MLP` of the package; an activation that is not a name; not an array.
    ValueError
        An unknown name, a wrong shape, entries that are not finite.
    """
    model = _part(problem, "model", {_MODEL})
    read_activation(model.activation)
    flat = on_host("theta", theta, (num_parameters(problem),), "one flat parameter vector")
    return network_at(problem, flat)


def num_parameters(problem: Any) -> int:
    """P."""
    return sum(
        math.prod(shape) for i, shape in enumerate(_shapes(problem.model)) if i not in problem.model.frozen
    )


def network_at(problem: Any, flat: np.ndarray) -> Network:
    """The network of a checked problem at theta (P,), given as floats or as an object array of balls."""
    model = problem.model
    activation, shapes = read_activation(model.activation), _shapes(model)
    trainable = [i for i in range(len(shapes)) if i not in model.frozen]
    matrices = {
        i: on_host(f"frozen[{i}]", value, shapes[i], "(outputs, inputs [+ 1 for the bias])")
        for i, value in model.frozen.items()
    }
    start = 0
    for i in trainable:
        stop = start + math.prod(shapes[i])
        matrices[i] = flat[start:stop].reshape(shapes[i])
        start = stop
    scales = _squared_scales(model)
    layers = [
        Layer(
            weights=matrices[i][:, : model.sizes[i]],
            bias=matrices[i][:, -1] if model.bias else None,
            squared_scale=scales[i],
            trainable=i in trainable,
        )
        for i in range(len(shapes))
    ]
    return Network(tuple(layers), activation)


def read_loss(problem: Any) -> tuple[str, Callable[[Sequence[Any], Any], Outputs]]:
    """The name of a problem's likelihood, and its function of (f, y) of one example."""
    likelihood = _part(problem, "likelihood", _LIKELIHOODS)
    name = _LIKELIHOODS[_class(likelihood)]
    return name, read_likelihood(name, likelihood.variance if name == "gaussian" else None)


def _shapes(model: Any) -> list[tuple[int, int]]:
    return [(out, into + int(model.bias)) for into, out in pairwise(model.sizes)]


def _squared_scales(model: Any) -> list[Fraction]:
    """The ``c_l^2``: of the scales as they are stored, else 1, or ``1 / d_l`` exactly."""
    check_choice("problem.model.parameterization", model.parameterization, ("standard", "ntk"))
    if model.scales is not None:
        return [exact_number(f"scales[{i}]", c) ** 2 for i, c in enumerate(model.scales)]
    return [Fraction(1, d) if model.parameterization == "ntk" else Fraction(1) for d in model.sizes[:-1]]


def _part(problem: Any, name: str, known: Collection[str]) -> Any:
    if not hasattr(problem, name):
        raise TypeError(f"problem must be a gr.Problem, which has a {name}, got {type(problem).__name__}")
    part = getattr(problem, name)
    if _class(part) not in known:
        ours = ", ".join(f"gr.{path.rpartition('.')[2]}" for path in known)
        raise TypeError(
            f"problem.{name} must be of the package itself ({ours}) to be enclosed, got {_class(part)}: "
            "another class may compute something else"
        )
    return part


def _class(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
