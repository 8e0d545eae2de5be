"""Likelihoods, example by example."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .differences import complex_step_gradient, complex_step_jacobian
from .network import forward_example, layer_matrices, layer_scales, pull_back_example, sigmoid, softplus


def log_sum_exp(f: np.ndarray) -> complex:
    """``log sum exp f``, without overflow."""
    top = max(f, key=lambda value: value.real)
    return top + np.log(sum(np.exp(value - top) for value in f))


def example_loss(likelihood: str, f: np.ndarray, y: Any, variance: float = 1.0) -> complex:
    """``l(f, y)`` of one example, without the terms that are constant in f.

    Gaussian ``|f - y|^2 / (2 variance)``; categorical (y a label) ``-log softmax(f)_y``; Bernoulli
    ``sum softplus(f) - y f``; Poisson ``sum exp f - y f``.
    """
    if likelihood == "gaussian":
        return sum((a - b) ** 2 for a, b in zip(f, y, strict=True)) / (2 * variance)
    if likelihood == "categorical":
        return log_sum_exp(f) - f[int(y)]
    if likelihood == "bernoulli":
        return sum(softplus(a) - b * a for a, b in zip(f, y, strict=True))
    if likelihood == "poisson":
        return sum(np.exp(a) - b * a for a, b in zip(f, y, strict=True))
    raise ValueError(f"likelihood must be gaussian, categorical, bernoulli or poisson, got {likelihood!r}")


def mean_loss(likelihood: str, outputs: np.ndarray, y: Sequence[Any], variance: float = 1.0) -> complex:
    """``L = (1/N) sum l_n``."""
    losses = [example_loss(likelihood, f, label, variance) for f, label in zip(outputs, y, strict=True)]
    return sum(losses) / len(losses)


def loss_slope(likelihood: str, f: np.ndarray, y: Any, variance: float = 1.0) -> np.ndarray:
    """``grad_f l(f, y)`` (K,) of one example, by complex step."""
    return complex_step_gradient(lambda z: example_loss(likelihood, z, y, variance), f)


def output_mean(likelihood: str, f: np.ndarray) -> np.ndarray:
    """``E[y | f]``, for a categorical label the vector of class probabilities."""
    if likelihood == "gaussian":
        return np.array(f)
    if likelihood == "categorical":
        return np.exp(f - log_sum_exp(f))
    if likelihood == "bernoulli":
        return np.array([sigmoid(value) for value in f])
    if likelihood == "poisson":
        return np.exp(f)
    raise ValueError(f"likelihood must be gaussian, categorical, bernoulli or poisson, got {likelihood!r}")


def output_fisher(likelihood: str, f: np.ndarray, variance: float = 1.0) -> np.ndarray:
    """``Om`` (K, K): the derivative of the mean by the natural parameter (over the Gaussian's variance)."""
    return complex_step_jacobian(lambda z: output_mean(likelihood, z), f) / (
        variance if likelihood == "gaussian" else 1.0
    )


def mean_minus_label(likelihood: str, f: np.ndarray, y: Any, variance: float = 1.0) -> np.ndarray:
    """``grad_f l`` (K,) as every exponential family in its natural parameter has it, complex-capable.

    ``E[y | f] - y``, over the variance of a Gaussian; a categorical label counts as its one-hot vector.
    """
    label = np.eye(len(f))[int(y)] if likelihood == "categorical" else np.asarray(y)
    return (output_mean(likelihood, f) - label) / (variance if likelihood == "gaussian" else 1.0)


def example_gradients(
    theta: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    likelihood: str,
    sizes: Sequence[int],
    activation: str = "tanh",
    *,
    variance: float = 1.0,
    bias: bool = True,
    parameterization: str = "standard",
) -> np.ndarray:
    """``grad l_n`` (N, P) by the chain rule, unit by unit.

    Complex-capable, so that its complex step is ``H v`` with the error of rounding alone: no stencil that a
    kink of relu could lie in, no step to choose.
    """
    layers = layer_matrices(theta, sizes, bias=bias)
    scales = layer_scales(sizes, parameterization)
    rows = []
    for row, label in zip(x, y, strict=True):
        f, _ = forward_example(layers, row, activation, scales, bias=bias)
        slope = mean_minus_label(likelihood, f, label, variance)
        parts = pull_back_example(layers, row, slope, activation, scales, bias=bias)
        rows.append(np.concatenate([part.ravel() for part in parts]))
    return np.stack(rows)


def labels_with_probabilities(likelihood: str, f: np.ndarray) -> list[tuple[Any, float]]:
    """Every label and its probability under the model: K classes, or the 2^K Bernoulli vectors."""
    mean = output_mean(likelihood, f)
    if likelihood == "categorical":
        return [(k, float(p)) for k, p in enumerate(mean)]
    if likelihood == "bernoulli":
        labels = itertools.product((0.0, 1.0), repeat=len(f))
        return [(y, math.prod(p if bit else 1 - p for bit, p in zip(y, mean, strict=True))) for y in labels]
    raise ValueError(f"likelihood must have finitely many labels, got {likelihood!r}")
