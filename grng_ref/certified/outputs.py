"""What one example contributes, in balls: log density, loss gradient and output Fisher at its outputs f.

Every stored number is exact in the balls it enters, and no number close to another is subtracted from it
where that can be avoided, so that saturated outputs keep narrow balls.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, check_choice, check_shape, namespace_of_mixed, to_numpy
from .library import exact_number, load_flint, on_host
from .linear import rational

LIKELIHOODS = ("gaussian", "categorical", "bernoulli", "poisson")


class Outputs(NamedTuple):
    """One example with K outputs."""

    log_density: Any  # arb: log p(y | f), constants included
    gradient: list[Any]  # K times arb: of the loss -log p(y | f)
    fisher: list[list[Any]]  # K x K times arb


def read_likelihood(likelihood: Any, variance: Any) -> Callable[[np.ndarray, Any], Outputs]:
    """The function (f (K,), y of one example) -> `Outputs` of a likelihood with this name.

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


def _gaussian(f: np.ndarray, y: np.ndarray, variance: Fraction) -> Outputs:
    """``log p = -K log(2 pi s2) / 2 - |f - y|^2 / (2 s2)``, gradient ``(f - y) / s2``, Fisher ``I / s2``."""
    arb = load_flint().arb
    s2 = arb(rational(variance))
    differences = [arb(a) - arb(b) for a, b in _pairs(f, y)]
    squares = sum((d * d for d in differences), start=arb(0))
    log_density = -(len(f) * (2 * arb.pi() * s2).log() + squares / s2) / 2
    return Outputs(log_density, [d / s2 for d in differences], _diagonal([1 / s2 for _ in f]))


def _categorical(f: np.ndarray, y: Any) -> Outputs:
    """Softmax: gradient ``p - e_y``, Fisher ``diag p - p p^T``; ``1 - p_k`` is a sum of the others."""
    arb = load_flint().arb
    top, label = int(np.argmax(f)), int(y)
    shifts = [arb(float(value)) - arb(float(f[top])) for value in f]
    weights = [shift.exp() for shift in shifts]
    rest = sum((w for k, w in enumerate(weights) if k != top), start=arb(0))
    p = [w / (1 + rest) for w in weights]
    others = [sum((q for j, q in enumerate(p) if j != k), start=arb(0)) for k in range(len(p))]
    gradient = [-others[k] if k == label else p[k] for k in range(len(p))]
    fisher = [[p[k] * others[k] if j == k else -p[k] * p[j] for j in range(len(p))] for k in range(len(p))]
    return Outputs(shifts[label] - rest.log1p(), gradient, fisher)


def _bernoulli(f: np.ndarray, y: np.ndarray) -> Outputs:
    """Logistic s, ``t = 1 - 2y``: ``log p = log s(-t f)``, gradient ``t s(t f)``, Fisher ``s(f) s(-f)``."""
    arb = load_flint().arb
    log_density, gradient, fisher = arb(0), [], []
    for logit, label in _pairs(f, y):
        sign = 1 - 2 * int(label)
        decay = (-abs(arb(logit))).exp()  # never overflows
        larger, smaller = 1 / (1 + decay), decay / (1 + decay)
        wrong = larger if sign * logit > 0 else smaller  # s(t f), the probability of the other label
        log_density -= decay.log1p() + arb(max(sign * logit, 0.0))
        gradient.append(sign * wrong)
        fisher.append(larger * smaller)
    return Outputs(log_density, gradient, _diagonal(fisher))


def _poisson(f: np.ndarray, y: np.ndarray) -> Outputs:
    """``log p = y f - e^f - log y!``, gradient ``e^f - y``, Fisher ``e^f``."""
    arb = load_flint().arb
    log_density, rates = arb(0), [arb(float(value)).exp() for value in f]
    for rate, (logarithm, count) in zip(rates, _pairs(f, y), strict=True):
        log_density += arb(count) * arb(logarithm) - rate - (arb(count) + 1).lgamma()
    return Outputs(log_density, [r - arb(float(k)) for r, k in zip(rates, y, strict=True)], _diagonal(rates))


def _pairs(f: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in zip(f, y, strict=True)]


def _diagonal(entries: list[Any]) -> list[list[Any]]:
    zero = load_flint().arb(0)
    return [[entry if i == j else zero for j in range(len(entries))] for i, entry in enumerate(entries)]
