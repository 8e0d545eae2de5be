"""Elementwise functions that the array standard lacks, accurate where they saturate."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping

from .namespaces import Array, array_namespace, backend_name

_ERF = {
    "numpy": ("scipy.special", "erf"),
    "cupy": ("cupyx.scipy.special", "erf"),
    "torch": ("torch.special", "erf"),
    "jax": ("jax.scipy.special", "erf"),
}
# Not JAX's: its log 0! is 4 eps in float32, its log 2! wrong by 8 eps in float64.
_LOG_GAMMA = {
    "numpy": ("scipy.special", "gammaln"),
    "cupy": ("cupyx.scipy.special", "gammaln"),
    "torch": ("torch.special", "gammaln"),
}
_SERIES_TERMS = 40  # at |x| = 2 the last term is below 2^-60 of the sum
_FRACTION_TERMS = 60  # at |x| = 2 the truncation is below 2^-60 of 1 - erf
_STIRLING_FROM = 16  # there the first term left out, 691/360360 y^-11, is below 2^-57 of log y!
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with full relative accuracy in both tails."""
    xp = array_namespace(x)
    t = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0 / (1.0 + t), t / (1.0 + t))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), with full relative accuracy in the left tail and no overflow."""
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def erf(x: Array) -> Array:
    """The error function: the backend's own, or `erf_by_series` where it has none."""
    own = _own(_ERF, x)
    return erf_by_series(x) if own is None else own(x)


def erf_by_series(x: Array) -> Array:
    """The error function from array-API operations only.

    For abs(x) <= 2 the series ``2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!`` (Abramowitz and
    Stegun 7.1.6), whose terms have one sign; beyond, one minus the continued fraction 7.1.14, where an
    error of erfc no longer matters.
    """
    xp = array_namespace(x)
    small = xp.clip(x, -2.0, 2.0)
    square = small * small
    total = term = small
    for n in range(1, _SERIES_TERMS):
        term = term * square * (2.0 / (2 * n + 1))
        total = total + term
    series = (2.0 / math.sqrt(math.pi)) * xp.exp(-square) * total

    large = xp.clip(xp.abs(x), 2.0, 9.0)
    fraction = large
    for n in range(_FRACTION_TERMS, 0, -1):
        fraction = large + (n / 2.0) / fraction
    tail = xp.exp(-large * large) / (math.sqrt(math.pi) * fraction)
    return xp.where(xp.abs(x) <= 2.0, series, xp.sign(x) * (1.0 - tail))


def log_factorial(y: Array) -> Array:
    """Log y! of whole numbers y >= 0: the backend's log-gamma function, or `log_factorial_by_stirling`."""
    own = _own(_LOG_GAMMA, y)
    return log_factorial_by_stirling(y) if own is None else own(y + 1.0)


def log_factorial_by_stirling(y: Array) -> Array:
    """Log y! of whole numbers y >= 0, from array-API operations only.

    Below 16 the logarithm of the product, so that 0! and 1! give zero; from there Stirling's series
    ``y (log y - 1) + log(2 pi y) / 2 + 1/(12 y) - 1/(360 y^3) + ...`` (Abramowitz and Stegun 6.1.41).
    """
    xp = array_namespace(y)
    product = xp.ones_like(y)
    for factor in range(2, _STIRLING_FROM):
        product = xp.where(y >= factor, product * factor, product)

    large = xp.where(y >= _STIRLING_FROM, y, xp.full_like(y, _STIRLING_FROM))
    logarithm, inverse = xp.log(large), 1.0 / large
    correction = xp.zeros_like(y)
    for coefficient in reversed(_STIRLING):
        correction = coefficient + inverse * inverse * correction
    series = large * (logarithm - 1.0) + 0.5 * (logarithm + math.log(2.0 * math.pi)) + inverse * correction
    return xp.where(y >= _STIRLING_FROM, series, xp.log(product))


def _own(names: Mapping[str, tuple[str, str]], x: Array) -> Callable[[Array], Array] | None:
    """The function that the library of x has, by (module, name); None where the table has no entry."""
    found = names.get(backend_name(array_namespace(x)))
    return None if found is None else getattr(importlib.import_module(found[0]), found[1])
