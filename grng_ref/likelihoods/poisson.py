"""The Poisson likelihood with the log link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, NumericalError, from_host, host_generator, namespace, to_numpy
from ..arrays.special import log_factorial
from .base import (
    ExponentialFamily,
    check_real_targets,
    check_values,
    checked_draws,
    diagonal_matrices,
    exp_or_inf,
    largest_exponent,
)

_LARGEST_DRAWN_MEAN = 9.0e18  # NumPy draws 64-bit integers


@dataclass(frozen=True)
class Poisson(ExponentialFamily):
    """Independent counts in their log rates: ``l(f, y) = sum_k exp(f_k) - y_k f_k``.

    Mean ``exp f``, gradient ``exp f - y``, ``Om = diag(exp f)``. Labels y are (N, K), nonnegative whole
    numbers in the dtype of f.

    Raises
    ------
    NumericalError
        By every method that evaluates f, if exp(f) overflows (f > 709.78 in float64, 88.72 in float32).
        The test costs one scalar synchronisation.

    Notes
    -----
    The gradient is right to a few roundings of ``max(exp f, y)``: where the rate equals the count to many
    digits, the difference is as uncertain as the rounding of exp(f). Likewise a log likelihood: the terms
    ``exp f``, ``y f`` and ``log y!`` of a large count cancel. Source: classical result.
    """

    def check_targets(self, f: Array, y: Array) -> None:
        """Raise unless y is an (N, K) array of nonnegative whole numbers in f's dtype, namespace, device.

        Raises
        ------
        TypeError
            Not an array, another dtype or namespace than f.
        ValueError
            Another shape or device than f, NaN or infinite entries, negative or fractional entries.
        """
        check_real_targets(f, y)
        whole = namespace(f=f, y=y).floor(y) == y
        check_values(y, (y >= 0) & whole, "nonnegative whole numbers (Poisson counts)")

    def loss(self, f: Array, y: Array) -> Array:
        """``sum_k exp(f_k) - y_k f_k``, without ``log y_k!``: shape (N,)."""
        return namespace(f=f, y=y).sum(_rate(f) - y * f, axis=1)

    def log_base(self, f: Array, y: Array) -> Array:
        """``-sum_k log y_k!``, so that ``log p(y_n | f_n) = -l_n + log_base_n``: shape (N,)."""
        return -namespace(f=f, y=y).sum(log_factorial(y), axis=1)

    def mean(self, f: Array) -> Array:
        """E[y | f] = exp(f): shape (N, K)."""
        return _rate(f)

    def gradient(self, f: Array, y: Array) -> Array:
        """``exp(f) - y``: shape (N, K)."""
        return _rate(f) - y

    def fisher(self, f: Array) -> Array:
        """``diag(exp f)``: shape (N, K, K)."""
        return diagonal_matrices(_rate(f))

    def factor(self, f: Array) -> Array:
        """``diag(exp(f / 2))``: shape (N, K, K)."""
        return diagonal_matrices(_root_rate(f))

    def coefficients(self, f: Array, y: Array) -> Array:
        """``e^{f/2} - y e^{-f/2}``: shape (N, K).

        Infinite where the second term overflows: a positive count at f below about -177 in float32,
        -1419 in float64. The caller then takes a route that does not need them.
        """
        xp = namespace(f=f, y=y)
        counted, zero = y > 0, xp.zeros_like(f)
        inverse_root = exp_or_inf(xp.where(counted, -0.5 * f, zero))
        # without a count there is no second term, though its exponential may be infinite
        return _root_rate(f) - xp.where(counted, y * inverse_root, zero)

    def sample(self, f: Array, *, num_samples: int, rng: int | np.random.Generator) -> Array:
        """Counts drawn with the rates exp(f): shape (num_samples, N, K), f's dtype and device.

        The rates travel to the host, NumPy draws there, and the counts come back.

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
        NumericalError
            A rate above 9e18, which NumPy cannot draw.
        """
        shape = checked_draws(f, num_samples)
        rates = to_numpy(self.mean(f))
        if rates.max() > _LARGEST_DRAWN_MEAN:
            raise NumericalError(
                f"Poisson draws need rates exp(f) <= {_LARGEST_DRAWN_MEAN:g}, got {rates.max():g}; "
                "give samples from outside, or keep f below 43"
            )
        return from_host(host_generator(rng).poisson(rates, size=shape).astype(np.float64), f)


def _rate(f: Array) -> Array:
    _check_rate(f)
    return namespace(f=f).exp(f)


def _root_rate(f: Array) -> Array:
    _check_rate(f)  # exp(f / 2) would still be finite, but it belongs to a mean that is not
    return namespace(f=f).exp(0.5 * f)


def _check_rate(f: Array) -> None:
    largest = float(namespace(f=f).max(f))
    if largest > largest_exponent(f):
        raise NumericalError(
            f"the Poisson mean exp(f) overflows {f.dtype}: the largest f is {largest:g}, it must be at most "
            f"{largest_exponent(f):.6g}; rescale the model's outputs, take smaller steps, or use float64"
        )
