"""The Gaussian likelihood with a known variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, check_real, from_host, host_generator, like, namespace, to_numpy
from .base import ExponentialFamily, check_real_targets, checked_draws


@dataclass(frozen=True)
class Gaussian(ExponentialFamily):
    """Independent Gaussian outputs: ``l(f, y) = |f - y|^2 / (2 s2)``, ``Om = I / s2``.

    Parameters
    ----------
    variance : float, default 1.0
        s2 > 0, the variance of each output; the same for all.

    Raises
    ------
    TypeError, ValueError
        ``variance`` is not a finite number > 0.

    Notes
    -----
    Labels y are (N, K), of the dtype of f. The outputs f are the mean, which is s2 times the natural
    parameter: a constant factor, so that output Fisher and output Hessian agree all the same. Source:
    classical result.
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        value = check_real("variance", self.variance, minimum=0.0, exclusive=True)
        object.__setattr__(self, "variance", value)

    def check_targets(self, f: Array, y: Array) -> None:
        """Raise unless y is a finite (N, K) array of f's dtype, namespace and device.

        Raises
        ------
        TypeError
            Not an array, another dtype or namespace than f.
        ValueError
            Another shape or device than f, NaN or infinite entries.
        """
        check_real_targets(f, y)

    def loss(self, f: Array, y: Array) -> Array:
        """``|f_n - y_n|^2 / (2 s2)``, without ``K log(2 pi s2) / 2``: shape (N,)."""
        xp = namespace(f=f, y=y)
        residual = f - y
        return xp.sum(residual * residual, axis=1) / (2.0 * self.variance)

    def log_base(self, f: Array, y: Array) -> Array:
        """``-K log(2 pi s2) / 2``, so that ``log p(y_n | f_n) = -l_n + log_base_n``: shape (N,)."""
        size, outputs = f.shape
        # not the logarithm of the product, which may overflow
        value = -0.5 * outputs * (math.log(2.0 * math.pi) + math.log(self.variance))
        return namespace(f=f, y=y).full((size,), value, **like(f))

    def mean(self, f: Array) -> Array:
        """E[y | f] = f: shape (N, K)."""
        return f

    def gradient(self, f: Array, y: Array) -> Array:
        """``(f_n - y_n) / s2``: shape (N, K)."""
        return (f - y) / self.variance

    def fisher(self, f: Array) -> Array:
        """``I / s2``: shape (N, K, K)."""
        return _scaled_identities(f, self.variance)

    def factor(self, f: Array) -> Array:
        """``I / sqrt(s2)``: shape (N, K, K)."""
        return _scaled_identities(f, math.sqrt(self.variance))

    def coefficients(self, f: Array, y: Array) -> Array:
        """``(f_n - y_n) / sqrt(s2)``: shape (N, K)."""
        return (f - y) / math.sqrt(self.variance)

    def sample(self, f: Array, *, num_samples: int, rng: int | np.random.Generator) -> Array:
        """Draws ``f + sqrt(s2) z``, z standard normal: shape (num_samples, N, K), f's dtype and device.

        The outputs travel to the host, NumPy draws there, and the draws come back, so that every backend
        sees the same z.

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
        shape = checked_draws(f, num_samples)
        noise = host_generator(rng).standard_normal(shape)
        return from_host(to_numpy(self.mean(f)) + math.sqrt(self.variance) * noise, f)


def _scaled_identities(f: Array, divisor: float) -> Array:
    xp = namespace(f=f)
    size, outputs = f.shape
    return xp.broadcast_to(xp.eye(outputs, **like(f)) / divisor, (size, outputs, outputs))
