"""Bounds of what a network's enclosures hold: the spectrum of its Gram matrix, the norm of its residual."""

from __future__ import annotations

from typing import Any

from grng_ref.arrays import Array
from grng_ref.certified import gram_enclosure, norm_bounds, residual_enclosure

from .bound import Bound
from .spectra import greatest, least, least_eigenvalue

_GRAM = "J J^T in balls; elimination and Rayleigh quotient of its midpoints, radii by Weyl's theorem"


def gram_min(problem: Any, theta: Array, x: Array) -> Bound:
    """The least eigenvalue of the Gram matrix ``J J^T`` (N K, N K) of a network's outputs.

    Parameters
    ----------
    problem : gr.Problem
        Its model is one of the package's own `MLP`, of any depth.
    theta : array (P,)
    x : array (N, d_0)

    Returns
    -------
    Bound
        Its witness holds a ``vector`` v (N K,), ``v^T J J^T v <= upper v^T v``.

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As ``grng_ref.certified.gram_enclosure``.

    Notes
    -----
    No division by N and no likelihood: for the Gaussian likelihood of variance 1 the Fisher matrix has the
    same eigenvalues, over N. Every entry of ``J J^T`` lies in a ball; lmin is bounded for the midpoints as in
    `eigenvalue_min`, and the radii move it by at most the largest sum of a row of them.

    Source: classical (tangent kernel; Weyl's theorem: Horn and Johnson 2013).
    """
    balls = gram_enclosure(problem, theta, x)
    return least(least_eigenvalue(balls.midpoint, balls.radius), _GRAM)


def gram_max(problem: Any, theta: Array, x: Array) -> Bound:
    """The greatest eigenvalue of the Gram matrix ``J J^T`` (N K, N K) of a network's outputs.

    Parameters
    ----------
    problem, theta, x
        As in `gram_min`.

    Returns
    -------
    Bound
        Its witness holds a ``vector`` v (N K,), ``v^T J J^T v >= lower v^T v``.

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As `gram_min`.

    Notes
    -----
    Source: classical, as `gram_min`.
    """
    balls = gram_enclosure(problem, theta, x)
    return greatest(least_eigenvalue(-balls.midpoint, balls.radius), _GRAM)


def residual_norm(problem: Any, theta: Array, x: Array, y: Array) -> Bound:
    """The norm ``|r|`` of the residuals ``r_n = d l(f_n, y_n) / d f_n``, stacked over examples and outputs.

    For the Gaussian likelihood ``r = (f - y) / variance``. Not divided by N.

    Parameters
    ----------
    problem : gr.Problem
        As in `gram_min`; its likelihood is one of the package's own.
    theta : array (P,)
    x : array (N, d_0)
    y : array
        Labels as in ``problem.loss``.

    Returns
    -------
    Bound

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As ``grng_ref.certified.residual_enclosure``.

    Notes
    -----
    Source: classical.
    """
    lower, upper = norm_bounds(residual_enclosure(problem, theta, x, y))
    return Bound(lower, upper, True, "residuals in balls, norm rounded outwards")
