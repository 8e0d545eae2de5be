"""Gradient and Hessian of a likelihood against difference quotients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from .common import Host, Place, host, require, require_close
from .likelihood_case import LikelihoodCase, uncertainty


def gradient_is_the_derivative_of_the_loss(case: LikelihoodCase) -> None:
    """Central differences at two step sizes."""

    def loss(f: Array) -> Host:
        return host(case.likelihood.loss(f, case.y))[:, None]

    gradient = host(case.likelihood.gradient(case.f, case.y))
    # A loss is a difference of terms such as y f, of the size of |f| |gradient| and the loss.
    size = 1.0 + np.abs(loss(case.f)) + np.max(np.abs(host(case.f) * gradient), axis=1, keepdims=True)
    _require_derivative(case, "gradient", loss, case.f, gradient[:, None, :], size[:, :, None])


def hessian_is_the_derivative_of_the_gradient(case: LikelihoodCase) -> None:
    """The same, also where f is saturated."""
    for where, f, y in case.situations():
        hessian = host(case.likelihood.hessian(f, y))
        size = uncertainty(case, f, y)[:, :, None]

        def gradient(f: Array, y: Array = y) -> Host:
            return host(case.likelihood.gradient(f, y))

        _require_derivative(case, f"hessian at {where}", gradient, f, hessian, size)


def _require_derivative(
    case: LikelihoodCase,
    name: str,
    function: Callable[[Array], Host],
    f: Array,
    derivative: Host,
    size: Host,
) -> None:
    """Compare ``derivative`` (N, values, K) with central differences of ``function`` (N, values)."""
    h = case.place.eps ** (1.0 / 3.0)  # balances the truncation h^2 with the rounding eps / h
    coarse, fine = (_central_differences(case.place, function, f, step) for step in (h, h / 2))
    truncation = np.abs(coarse - fine)
    noise = case.place.rounding(1.0) * size / h
    scale = np.maximum(np.abs(fine), np.abs(derivative)) + size
    require(
        bool(np.all(truncation <= 0.05 * scale)),
        f"{name} cannot be checked: difference quotients at steps {h:.1e} and {h / 2:.1e} differ by "
        f"{np.max(truncation):.3g}; the function is not smooth",
    )
    require_close(f"{name} and difference quotients", derivative, fine, truncation + noise)


def _central_differences(place: Place, function: Callable[[Array], Host], f: Array, h: float) -> Host:
    base, columns = host(f), []
    for k in range(base.shape[1]):
        shift = np.zeros_like(base)
        shift[:, k] = h
        above, below = place.put(base + shift), place.put(base - shift)
        moved = (host(above) - host(below))[:, k]  # what remained of 2 h after rounding
        columns.append((function(above) - function(below)) / moved[:, None])
    return np.stack(columns, axis=2)
