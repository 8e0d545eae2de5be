"""Independent references: definitions written out, with slow loops, for tests and claims.

Imports nothing of grng_ref, and no array library but NumPy. Nothing here is fast or clever; each function is
its own definition. Vectors of parameters follow the project's convention: the trainable layer matrices
``Wbar = [W | b]`` in order, each row-major, with ``s_l = c_l W_l a_{l-1} + b_l``.

All functions of a parameter vector accept complex parameters, so that `complex_step_gradient` differentiates
them without subtraction: ``Im f(x + i h e) / h`` has the error O(h^2) and no cancellation, so with h = 1e-30
only the rounding of f itself is left. That rounding is relative to the largest term of a derivative, so the
tiny gradient of a saturated softmax or sigmoid needs another reference (high precision).
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import erf

COMPLEX_STEP = 1e-30
EPS = float(np.finfo(np.float64).eps)

# --- differences ---------------------------------------------------------------------------------------


def complex_step_jacobian(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Derivative of a real-analytic function, ``(*output shape, n)`` for x of shape (n,)."""
    columns = []
    for i in range(x.size):
        shifted = x.astype(complex)
        shifted[i] += 1j * COMPLEX_STEP
        columns.append(np.imag(function(shifted)) / COMPLEX_STEP)
    return np.stack(columns, axis=-1)


def complex_step_gradient(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Gradient (n,) of a real-analytic scalar function."""
    return complex_step_jacobian(function, x)


def complex_step_directional(
    function: Callable[[np.ndarray], Any], x: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Directional derivative ``f'(x) v``, in the shape of f's output."""
    return np.imag(function(x + 1j * COMPLEX_STEP * v)) / COMPLEX_STEP


def central_directional(function: Callable[[np.ndarray], Any], x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five-point central difference of ``f'(x) v``, for functions that are not complex-capable.

    The stencil's truncation error is ``h^4 |f^(5)| / 30`` and its rounding error about ``eps |f| / h``; they
    balance at ``h = eps^(1/5)``, with the total near ``eps^(4/5) = 3e-13`` where f and its derivatives are
    of order one. The step is taken in units of ``max(1, |x|_inf) / |v|_inf``.
    """
    size = float(np.abs(v).max())
    if size == 0:
        return np.zeros(np.shape(function(x)))
    h = EPS**0.2 * max(1.0, float(np.abs(x).max())) / size
    near = np.asarray(function(x + h * v)) - np.asarray(function(x - h * v))
    far = np.asarray(function(x + 2 * h * v)) - np.asarray(function(x - 2 * h * v))
    return (8 * near - far) / (12 * h)


def central_jacobian(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Derivative by five-point central differences, ``(*output shape, n)``."""
    return np.stack([central_directional(function, x, e) for e in np.eye(x.size)], axis=-1)


def hessian(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Hessian (n, n): central differences of the complex-step gradient; error near 1e-12."""
    return central_jacobian(lambda z: complex_step_gradient(function, z), x)


# --- a multilayer perceptron, unit by unit -------------------------------------------------------------


def _relu(z: complex) -> complex:
    return z if z.real > 0 else 0 * z


def _sigmoid(z: complex) -> complex:
    if z.real >= 0:
        return 1 / (1 + np.exp(-z))
    return np.exp(z) / (1 + np.exp(z))


def _softplus(z: complex) -> complex:
    return np.log1p(np.exp(-z)) + z if z.real > 0 else np.log1p(np.exp(z))


ACTIVATIONS: dict[str, Callable[[complex], complex]] = {
    "identity": lambda z: z,
    "relu": _relu,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": lambda z: z * (1 + erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z * _sigmoid(z),
}


def layer_scales(
    sizes: Sequence[int], parameterization: str = "standard", scales: Sequence[float] | None = None
) -> list[float]:
    """The factors c_l: 1 (standard), fan-in^{-1/2} (ntk), or the given ones."""
    if scales is not None:
        return [float(c) for c in scales]
    return [1.0 if parameterization == "standard" else 1 / math.sqrt(d) for d in sizes[:-1]]


def layer_matrices(
    theta: np.ndarray,
    sizes: Sequence[int],
    *,
    bias: bool = True,
    frozen: Mapping[int, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """All ``Wbar_l``, the frozen ones with their own values, the others read from theta in order."""
    fixed = dict(frozen or {})
    layers, start = [], 0
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if index in fixed:
            layers.append(np.asarray(fixed[index]))
            continue
        columns = fan_in + int(bias)
        layer = np.zeros((fan_out, columns), dtype=theta.dtype)
        for i in range(fan_out):
            for j in range(columns):
                layer[i, j] = theta[start]
                start += 1
        layers.append(layer)
    if start != theta.size:
        raise ValueError(f"theta has {theta.size} entries, the layers take {start}")
    return layers


def forward_example(
    layers: Sequence[np.ndarray],
    x: np.ndarray,
    activation: str,
    scales: Sequence[float],
    *,
    bias: bool = True,
    shift: tuple[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One example's output f, and every layer's input ``abar = [c a; 1]`` with ``s = Wbar abar``.

    ``shift = (l, u)`` adds u to the pre-activations s_l, to differentiate by them.
    """
    act = ACTIVATIONS[activation]
    a, inputs = list(x), []
    for index, (layer, scale) in enumerate(zip(layers, scales, strict=True)):
        abar = [scale * value for value in a] + ([1.0] if bias else [])
        inputs.append(np.array(abar))
        s = []
        for i in range(layer.shape[0]):
            total = 0.0
            for j in range(layer.shape[1]):
                total = total + layer[i, j] * abar[j]
            s.append(total + (shift[1][i] if shift is not None and shift[0] == index else 0.0))
        a = s if index == len(layers) - 1 else [act(value) for value in s]
    return np.array(a), inputs


def mlp_outputs(
    theta: np.ndarray,
    x: np.ndarray,
    sizes: Sequence[int],
    activation: str = "tanh",
    *,
    bias: bool = True,
    parameterization: str = "standard",
    scales: Sequence[float] | None = None,
    frozen: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """Outputs f (N, K), the natural parameters of the likelihood."""
    layers = layer_matrices(theta, sizes, bias=bias, frozen=frozen)
    factors = layer_scales(sizes, parameterization, scales)
    return np.array([forward_example(layers, row, activation, factors, bias=bias)[0] for row in x])


# --- likelihoods, example by example -------------------------------------------------------------------


def _log_sum_exp(f: np.ndarray) -> complex:
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
        return _log_sum_exp(f) - f[int(y)]
    if likelihood == "bernoulli":
        return sum(_softplus(a) - b * a for a, b in zip(f, y, strict=True))
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
        return np.exp(f - _log_sum_exp(f))
    if likelihood == "bernoulli":
        return np.array([_sigmoid(value) for value in f])
    if likelihood == "poisson":
        return np.exp(f)
    raise ValueError(f"likelihood must be gaussian, categorical, bernoulli or poisson, got {likelihood!r}")


def output_fisher(likelihood: str, f: np.ndarray, variance: float = 1.0) -> np.ndarray:
    """``Om`` (K, K): the derivative of the mean by the natural parameter (over the Gaussian's variance)."""
    return complex_step_jacobian(lambda z: output_mean(likelihood, z), f) / (
        variance if likelihood == "gaussian" else 1.0
    )


def labels_with_probabilities(likelihood: str, f: np.ndarray) -> list[tuple[Any, float]]:
    """Every label and its probability under the model: K classes, or the 2^K Bernoulli vectors."""
    mean = output_mean(likelihood, f)
    if likelihood == "categorical":
        return [(k, float(p)) for k, p in enumerate(mean)]
    if likelihood == "bernoulli":
        labels = itertools.product((0.0, 1.0), repeat=len(f))
        return [(y, math.prod(p if bit else 1 - p for bit, p in zip(y, mean, strict=True))) for y in labels]
    raise ValueError(f"likelihood must have finitely many labels, got {likelihood!r}")


# --- Fisher matrices -----------------------------------------------------------------------------------


def fisher(jacobians: np.ndarray, output_fishers: np.ndarray) -> np.ndarray:
    """``F = (1/N) sum J_n^T Om_n J_n`` (P, P), from (N, K, P) and (N, K, K), one product at a time."""
    num_examples, num_outputs, size = jacobians.shape
    total = np.zeros((size, size))
    for n in range(num_examples):
        for k, m in itertools.product(range(num_outputs), repeat=2):
            total += output_fishers[n, k, m] * np.outer(jacobians[n, k], jacobians[n, m])
    return total / num_examples


def score_moments(
    likelihood: str, outputs: np.ndarray, jacobians: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and second moment of the score, by summing over every label of every example.

    ``(1/N) sum_n E_{y ~ p(.|f_n)}[u]`` (P,) and ``(1/N) sum_n E[u u^T]`` (P, P), with the score
    ``u = J_n^T grad_f l(f_n, y)``; the second is the Fisher matrix, the first is zero.
    """
    size = jacobians.shape[-1]
    first, second = np.zeros(size), np.zeros((size, size))
    for f, jacobian in zip(outputs, jacobians, strict=True):
        for y, probability in labels_with_probabilities(likelihood, f):
            slope = loss_slope(likelihood, f, y)
            score = jacobian.T @ slope
            first += probability * score
            second += probability * np.outer(score, score)
    return first / len(outputs), second / len(outputs)


def kronecker(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left (x) right``: entry ((i, k), (j, l)) is ``left[i, j] right[k, l]``."""
    (m, n), (p, q) = left.shape, right.shape
    product = np.zeros((m * p, n * q))
    for i, j, k, l in itertools.product(range(m), range(n), range(p), range(q)):
        product[i * p + k, j * q + l] = left[i, j] * right[k, l]
    return product


def kfac_factors(
    layers: Sequence[np.ndarray],
    x: np.ndarray,
    activation: str,
    scales: Sequence[float],
    likelihood: str,
    *,
    bias: bool = True,
    variance: float = 1.0,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """``(A_l, G_l)`` of every layer: means over examples of ``abar abar^T`` and of
    ``(df/ds_l)^T Om (df/ds_l)``.
    """
    factors = [(np.zeros((layer.shape[1],) * 2), np.zeros((layer.shape[0],) * 2)) for layer in layers]
    for row in x:
        f, inputs = forward_example(layers, row, activation, scales, bias=bias)
        omega = output_fisher(likelihood, f, variance)
        for index, (a_factor, g_factor) in enumerate(factors):
            slope = _output_slope(layers, row, activation, scales, bias, index)
            a_factor += np.outer(inputs[index], inputs[index]) / len(x)
            g_factor += slope.T @ omega @ slope / len(x)
    return factors


def _output_slope(
    layers: Sequence[np.ndarray],
    row: np.ndarray,
    activation: str,
    scales: Sequence[float],
    bias: bool,
    index: int,
) -> np.ndarray:
    """``df/ds_l`` (K, d_l) of one example."""

    def shifted(u: np.ndarray) -> np.ndarray:
        return forward_example(layers, row, activation, scales, bias=bias, shift=(index, u))[0]

    return complex_step_jacobian(shifted, np.zeros(layers[index].shape[0]))


# --- Bayes ---------------------------------------------------------------------------------------------


def linear_gaussian_posterior(
    design: np.ndarray,
    targets: np.ndarray,
    prior_mean: np.ndarray,
    prior_covariance: np.ndarray,
    noise_variance: float,
    *,
    digits: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and covariance of ``y = design theta + noise`` by the normal equations.

    ``Y = P0^{-1} + X^T X / s2``, ``mean = Y^{-1} (P0^{-1} m0 + X^T y / s2)``, covariance ``Y^{-1}``.
    ``digits`` asks for mpmath with so many decimal digits (rounded to float64 at the end), for problems
    whose condition number defeats float64.
    """
    if digits is None:
        prior = np.linalg.inv(prior_covariance)
        information = prior + design.T @ design / noise_variance
        right = prior @ prior_mean + design.T @ targets / noise_variance
        return np.linalg.solve(information, right), np.linalg.inv(information)
    mpmath: Any = importlib.import_module("mpmath")  # only this reference needs it
    with mpmath.workdps(digits):
        x, y = mpmath.matrix(design.tolist()), mpmath.matrix(targets.tolist())
        prior = mpmath.matrix(prior_covariance.tolist()) ** -1
        variance = mpmath.mpf(float(noise_variance))
        covariance = (prior + x.T * x / variance) ** -1
        mean = covariance * (prior * mpmath.matrix(prior_mean.tolist()) + x.T * y / variance)
        size = len(prior_mean)
        return (
            np.array([float(mean[i]) for i in range(size)]),
            np.array([[float(covariance[i, j]) for j in range(size)] for i in range(size)]),
        )


def ekf_update(
    mean: np.ndarray, covariance: np.ndarray, jacobian: np.ndarray, innovation: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One update of the extended Kalman filter by its definition, in covariance form.

    ``S = H P H^T + R``, ``K = P H^T S^{-1}``; mean ``m + K (y - h(m))``, covariance ``P - K S K^T``.

    Parameters
    ----------
    jacobian : (M, P)
        ``H = dh/dtheta`` of the observed *mean*, all examples stacked.
    innovation : (M,)
        ``y - h(m)``.
    noise : (M, M)
        Covariance R of the observation.
    """
    spread = jacobian @ covariance @ jacobian.T + noise
    gain = np.linalg.solve(spread, jacobian @ covariance).T
    return mean + gain @ innovation, covariance - gain @ spread @ gain.T


def mean_space_observation(
    likelihood: str, outputs: np.ndarray, jacobians: np.ndarray, y: np.ndarray, variance: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(H, y - h, R)`` of a batch, for `ekf_update`: the mean is observed with the likelihood's covariance.

    ``h = E[y|f]``, ``H = (dh/df) J``, R block-diagonal with ``Cov[y|f]``. A categorical R is singular, so
    the covariance form does not exist for it.
    """
    if likelihood == "categorical":
        raise ValueError("likelihood must have a regular observation covariance, got 'categorical'")
    num_examples, num_outputs, size = jacobians.shape
    rows = np.zeros((num_examples * num_outputs, size))
    innovation = np.zeros(num_examples * num_outputs)
    noise = np.zeros((num_examples * num_outputs,) * 2)
    for n, (f, jacobian) in enumerate(zip(outputs, jacobians, strict=True)):
        part = slice(n * num_outputs, (n + 1) * num_outputs)
        slope = complex_step_jacobian(lambda z: output_mean(likelihood, z), f)
        rows[part] = slope @ jacobian
        innovation[part] = y[n] - output_mean(likelihood, f)
        # in an exponential family with natural parameter f the slope of the mean is the covariance
        noise[part, part] = variance * np.eye(num_outputs) if likelihood == "gaussian" else slope
    return rows, innovation, noise
