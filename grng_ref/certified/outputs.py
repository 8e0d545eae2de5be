"""What one example contributes, in balls: loss, its gradient, log density and Fisher at its outputs f.

The outputs are balls, or stored numbers, which are exact in the balls they enter. No number close to another
is subtracted from it where that can be avoided, so that saturated outputs keep narrow balls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, check_choice, check_shape, namespace_of_mixed, to_numpy
from .activations import logistic, softplus
from .library import exact_number, load_flint, on_host
from .linear import rational

LIKELIHOODS = ("gaussian", "categorical", "bernoulli", "poisson")


class Outputs(NamedTuple):
    """One example with K outputs."""

    loss: Any  # arb: -log p(y | f) without the terms that do not depend on f
    log_density: Any  # arb: log p(y | f), those terms included
    gradient: list[Any]  # K times arb: of the loss
    fisher: list[list[Any]]  # K x K times arb


def read_likelihood(likelihood: Any, variance: Any) -> Callable[[Sequence[Any], Any], Outputs]:
    """The function (f, K numbers or balls; y of one example) -> `Outputs` of a likelihood with this name.

    Raises
    ------
    ValueError
        Another name; a variance that is not > 0, or given to a likelihood that has none.
    """
    check_choice("likelihood", likelihood, LIKELIHOODS)
    if likelihood == "gaussian":
        exact = Fraction(1) if variance is None else exact_number("variance", variance)
        return lambda f, y: _gaussian(f, y, exact)
    if variance is not None:
        raise ValueError(f"variance must be None for the likelihood {likelihood!r}, got {variance!r}")
    return {"categorical": _categorical, "bernoulli": _bernoulli, "poisson": _poisson}[likelihood]


def read_targets(likelihood: str, y: Array, examples: int, outputs: int) -> np.ndarray:
    """The labels on the host: (N,) integers for a categorical likelihood, else (N, K) floating numbers."""
    if likelihood != "categorical":
        values = on_host("y", y, (examples, outputs), "(examples, outputs), the shape of f")
        allowed = {
            "gaussian": np.ones(values.shape, dtype=bool),
            "bernoulli": (values == 0.0) | (values == 1.0),
            "poisson": (values >= 0.0) & (values == np.floor(values)),
        }[likelihood]
        needed = {"bernoulli": "zeros and ones only", "poisson": "nonnegative whole numbers"}
        if not np.all(allowed):
            raise ValueError(f"y must hold {needed[likelihood]}, got an entry {values[~allowed][0]:g}")
        return values
    xp = namespace_of_mixed(y=y)
    if not xp.isdtype(y.dtype, "integral"):
        raise TypeError(f"y must have an integer dtype (class labels 0..{outputs - 1}), got {y.dtype}")
    check_shape("y", y, (examples,), "one class label an example")
    labels = np.asarray(to_numpy(y))
    if labels.min() < 0 or labels.max() >= outputs:
        raise ValueError(
            f"y must hold class labels 0..{outputs - 1}, got labels from {labels.min()} to {labels.max()}"
        )
    return labels


# --- the four likelihoods ----------------------------------------------------------------------------------


def _gaussian(f: Sequence[Any], y: np.ndarray, variance: Fraction) -> Outputs:
    """Loss ``|f - y|^2 / (2 s2)``, constant ``K log(2 pi s2) / 2``, gradient ``(f - y) / s2``, ``I / s2``."""
    arb = load_flint().arb
    s2 = arb(rational(variance))
    differences = [a - b for a, b in _pairs(f, y)]
    squares = sum((d * d for d in differences), start=arb(0))
    loss, constant = squares / (2 * s2), len(differences) * (2 * arb.pi() * s2).log() / 2
    slopes = [d / s2 for d in differences]
    return Outputs(loss, -(loss + constant), slopes, _diagonal([1 / s2 for _ in slopes]))


def _categorical(f: Sequence[Any], y: Any) -> Outputs:
    """Softmax: gradient ``p - e_y``, Fisher ``diag p - p p^T``; ``1 - p_k`` is a sum of the others."""
    arb = load_flint().arb
    logits, label = _balls(f), int(y)
    top = max(range(len(logits)), key=lambda k: float(logits[k]))  # about the largest: any would be right
    shifts = [arb(0) if k == top else logit - logits[top] for k, logit in enumerate(logits)]
    weights = [shift.exp() for shift in shifts]
    rest = sum((w for k, w in enumerate(weights) if k != top), start=arb(0))
    p = [w / (1 + rest) for w in weights]
    others = [sum((q for j, q in enumerate(p) if j != k), start=arb(0)) for k in range(len(p))]
    gradient = [-others[k] if k == label else p[k] for k in range(len(p))]
    fisher = [[p[k] * others[k] if j == k else -p[k] * p[j] for j in range(len(p))] for k in range(len(p))]
    loss = rest.log1p() - shifts[label]
    return Outputs(loss, -loss, gradient, fisher)


def _bernoulli(f: Sequence[Any], y: np.ndarray) -> Outputs:
    """Logistic s, ``t = 1 - 2y``: loss ``-log s(-t f)``, gradient ``t s(t f)``, Fisher ``s(f) s(-f)``."""
    arb = load_flint().arb
    signs = [1 - 2 * int(label) for label in y]
    logits = _balls(f)
    losses = (softplus(sign * logit) for sign, logit in zip(signs, logits, strict=True))
    loss = sum(losses, start=arb(0))
    gradient = [sign * logistic(sign * logit) for sign, logit in zip(signs, logits, strict=True)]
    fisher = [logistic(logit) * logistic(-logit) for logit in logits]
    return Outputs(loss, -loss, gradient, _diagonal(fisher))


def _poisson(f: Sequence[Any], y: np.ndarray) -> Outputs:
    """Loss ``e^f - y f``, constant ``log y!``, gradient ``e^f - y``, Fisher ``e^f``."""
    arb = load_flint().arb
    rates = [logarithm.exp() for logarithm in _balls(f)]
    counted = [count * logarithm for logarithm, count in _pairs(f, y)]
    loss = sum((rate - c for rate, c in zip(rates, counted, strict=True)), start=arb(0))
    constant = sum(((count + 1).lgamma() for count in _balls(y)), start=arb(0))
    gradient = [rate - count for rate, count in zip(rates, _balls(y), strict=True)]
    return Outputs(loss, -(loss + constant), gradient, _diagonal(rates))


def _balls(f: Iterable[Any]) -> list[Any]:
    arb = load_flint().arb
    return [value if isinstance(value, arb) else arb(float(value)) for value in f]


def _pairs(f: Sequence[Any], y: np.ndarray) -> list[tuple[Any, Any]]:
    return list(zip(_balls(f), _balls(y), strict=True))


def _diagonal(entries: list[Any]) -> list[list[Any]]:
    zero = load_flint().arb(0)
    return [[entry if i == j else zero for j in range(len(entries))] for i, entry in enumerate(entries)]
