"""The Bernoulli likelihood in its logits, accurate where they saturate.

With the sign ``t = 1 - 2y`` (+1 for y = 0, -1 for y = 1), ``sigmoid(f) - y = t sigmoid(t f)``: one formula
without the cancellation of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, from_host, host_generator, like, namespace, to_numpy
from ..arrays.special import sigmoid, softplus
from .base import (
    ExponentialFamily,
    check_real_targets,
    check_values,
    checked_draws,
    diagonal_matrices,
    exp_or_inf,
)


@dataclass(frozen=True)
class Bernoulli(ExponentialFamily):
    """Independent binary outputs in their logits: ``l(f, y) = sum_k softplus(f_k) - y_k f_k``.

    With ``s = sigmoid(f)``: mean s, gradient ``s - y``, ``Om = diag(s (1 - s))``. Labels y are (N, K), zeros
    and ones in the dtype of f.

    Notes
    -----
    Componentwise relative accuracy of a few roundings for every finite f; below exp(-745) (float64) or
    exp(-103) (float32) values underflow. Source: classical result.
    """

    def check_targets(self, f: Array, y: Array) -> None:
        """Raise unless y is an (N, K) array of zeros and ones in f's dtype, namespace and device.

        Raises
        ------
        TypeError
            Not an array, another dtype or namespace than f.
        ValueError
            Another shape or device than f, NaN or infinite entries, entries other than 0 and 1.
        """
        check_real_targets(f, y)
        check_values(y, (y == 0) | (y == 1), "zeros and ones only (Bernoulli labels)")

    def loss(self, f: Array, y: Array) -> Array:
        """``sum_k softplus(t_k f_k)``, ``t = 1 - 2y``, which is ``softplus(f) - y f``: shape (N,)."""
        return namespace(f=f, y=y).sum(softplus(_sign(y) * f), axis=1)

    def log_base(self, f: Array, y: Array) -> Array:
        """Zero: the loss is all of ``-log p(y_n | f_n)``: shape (N,)."""
        return namespace(f=f, y=y).zeros((f.shape[0],), **like(f))

    def mean(self, f: Array) -> Array:
        """E[y | f] = sigmoid(f): shape (N, K)."""
        return sigmoid(f)

    def gradient(self, f: Array, y: Array) -> Array:
        """``t sigmoid(t f)``, ``t = 1 - 2y``, which is ``sigmoid(f) - y``: shape (N, K)."""
        sign = _sign(y)
        return sign * sigmoid(sign * f)

    def fisher(self, f: Array) -> Array:
        """``diag(sigmoid(f) sigmoid(-f))``: shape (N, K, K)."""
        return diagonal_matrices(sigmoid(f) * sigmoid(-f))

    def factor(self, f: Array) -> Array:
        """``diag(exp(-|f|/2) / (1 + exp(-|f|)))``, the root of s (1 - s): shape (N, K, K)."""
        xp = namespace(f=f)
        half = xp.exp(-0.5 * xp.abs(f))
        return diagonal_matrices(half / (1.0 + half * half))

    def coefficients(self, f: Array, y: Array) -> Array:
        """``t exp(t f / 2)``, ``t = 1 - 2y``, which is ``(1-y) e^{f/2} - y e^{-f/2}``: shape (N, K).

        Infinite where that overflows: a label whose probability is below about exp(-177) in float32,
        exp(-1419) in float64. The caller then takes a route that does not need them.
        """
        sign = _sign(y)
        return sign * exp_or_inf(0.5 * sign * f)

    def sample(self, f: Array, *, num_samples: int, rng: int | np.random.Generator) -> Array:
        """Zeros and ones, one with probability sigmoid(f): shape (num_samples, N, K), f's dtype and device.

        The means travel to the host, NumPy draws uniform numbers there, and the labels come back, so that
        every backend sees the same numbers.

        Parameters
        ----------
        f : array (N, K)
        num_samples : int
            M >= 1.
        rng : int or numpy.random.Generator
            A seed, or a generator that is advanced.

        Raises
        ------
        TypeError, ValueError
            f is not a finite (N, K) array, ``num_samples`` < 1, or ``rng`` is something else.
        """
        uniform = host_generator(rng).random(checked_draws(f, num_samples))
        return from_host((uniform < to_numpy(self.mean(f))).astype(np.float64), f)


def _sign(y: Array) -> Array:
    return 1.0 - 2.0 * y
