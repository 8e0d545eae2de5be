"""Derivatives of functions of one vector: complex step, circles in the complex plane, differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

COMPLEX_STEP = 1e-30
CIRCLE_POINTS = 32
EPS = float(np.finfo(np.float64).eps)


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


def circle_hessian(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Hessian (n, n) of a real-analytic scalar function, from its values alone and without differences.

    ``d^2/dt^2 f(x + t u)`` at 0 is ``2/m sum_k f(x + w^k u) w^(-2k)``, w the m-th root of unity (Cauchy's
    formula on the unit circle; Lyness and Moler 1967), for u = e_i and, by polarization, e_i + e_j. With
    m = 32 and f analytic up to the radius R > 1 the error is about R^-32 besides the rounding ``eps |f|``;
    the losses of `likelihoods` have R = pi at least.
    """
    roots = np.exp(2j * np.pi * np.arange(CIRCLE_POINTS) / CIRCLE_POINTS)

    def second(u: np.ndarray) -> float:
        terms = [complex(function(x + w * u)) * w**-2 for w in roots]
        return 2 * sum(terms).real / CIRCLE_POINTS

    unit = np.eye(x.size)
    own = [second(e) for e in unit]
    matrix = np.diag(own)
    for i in range(x.size):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = (second(unit[i] + unit[j]) - own[i] - own[j]) / 2
    return matrix


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
