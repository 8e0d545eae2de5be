"""Elementwise functions that the array standard lacks, accurate where they saturate."""

from __future__ import annotations

import importlib
import math

import array_api_compat as compat

from .namespaces import Array, backend_name

_ERF = {
    "numpy": ("scipy.special", "erf"),
    "cupy": ("cupyx.scipy.special", "erf"),
    "torch": ("torch.special", "erf"),
    "jax": ("jax.scipy.special", "erf"),
}
_SERIES_TERMS = 40  # at |x| = 2 the last term is below 2^-60 of the sum
_FRACTION_TERMS = 60  # at |x| = 2 the truncation is below 2^-60 of 1 - erf


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with full relative accuracy in both tails."""
    xp = compat.array_namespace(x)
    t = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0 / (1.0 + t), t / (1.0 + t))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), with full relative accuracy in the left tail and no overflow."""
    xp = compat.array_namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def erf(x: Array) -> Array:
    """The error function: the backend's own, or `erf_by_series` where it has none."""
    xp = compat.array_namespace(x)
    found = _ERF.get(backend_name(xp))
    if found is None:
        return erf_by_series(x)
    module, name = found
    return getattr(importlib.import_module(module), name)(x)


def erf_by_series(x: Array) -> Array:
    """The error function from array-API operations only.

    For abs(x) <= 2 the series ``2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!`` (Abramowitz and
    Stegun 7.1.6), whose terms have one sign; beyond, one minus the continued fraction 7.1.14, where an
    error of erfc no longer matters.
    """
    xp = compat.array_namespace(x)
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
