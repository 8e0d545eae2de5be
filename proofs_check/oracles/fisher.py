"""Fisher matrices and K-FAC's factors by their definitions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .differences import complex_step_jacobian
from .likelihoods import labels_with_probabilities, loss_slope, output_fisher
from .network import forward_example


def fisher(jacobians: np.ndarray, output_fishers: np.ndarray) -> np.ndarray:
    """``F = (1/N) sum J_n^T Om_n J_n`` (P, P), from (N, K, P) and (N, K, K), one product an example."""
    size = jacobians.shape[-1]
    total = np.zeros((size, size))
    for jacobian, omega in zip(jacobians, output_fishers, strict=True):
        total += jacobian.T @ omega @ jacobian
    return total / len(jacobians)


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


def nearest_kronecker(block: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The Kronecker product nearest to a block (Frobenius), and the singular values of its rearrangement.

    Row (i, j) of the rearrangement is the sub-block of outputs i and j, one row; a Kronecker product has rank
    one there. The nearest leaves ``(s_2^2 + s_3^2 + ...)^(1/2)`` of the block.
    """
    inputs = len(block) // outputs
    rows = [
        block[i * inputs : (i + 1) * inputs, j * inputs : (j + 1) * inputs].ravel()
        for i, j in itertools.product(range(outputs), repeat=2)
    ]
    left, values, right = np.linalg.svd(np.array(rows), full_matrices=False)
    G, A = left[:, 0].reshape(outputs, outputs), right[0].reshape(inputs, inputs)
    return values[0] * np.kron(G, A), values


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
