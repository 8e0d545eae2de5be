"""Natural, RING and RENG directions on score rows of any architecture."""

from __future__ import annotations

import math
from collections.abc import Callable

from .arrays import Array, NumericalError, check_finite, check_real, check_shape, epsilon, namespace
from .arrays.linalg import norm
from .curvature import DenseRows, FullFisher


def natural_direction(B: Array, g: Array, *, damping: float, coefficients: Array | None = None) -> Array:
    """The natural-gradient direction ``(F + damping I)^{-1} g`` with ``F = B^T B``.

    Solved in the Gram form, ``B^T (B B^T + damping I)^{-1} c``, where B has no more rows than columns, else
    by Cholesky. At damping 0: the minimum-norm solution.

    Parameters
    ----------
    B : array (rows, P)
        Score rows, scaled so that ``B^T B`` is the mean-normalised Fisher: ``S_n^T J_n / sqrt(N)`` stacked.
    g : array (P,)
        Gradient of the mean loss.
    damping : float
        >= 0.
    coefficients : array (rows,), optional
        c with ``g = B^T c``, where known; the numerically better route.

    Returns
    -------
    direction : array (P,)
        A step of descent is ``-eta`` times it.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        The solve failed, or at damping 0 g is not in the row space; carries the SolveResult.

    Notes
    -----
    Source: classical (Amari 1998); the Gram form is the classical dual (Woodbury) form.
    """
    _check(B, g, coefficients)
    return FullFisher(DenseRows(B)).solve(g, damping=damping, coefficients=coefficients)


def ring_direction(
    B: Array, g: Array, *, rho: float, damping: float = 0.0, coefficients: Array | None = None
) -> Array:
    """The RING direction ``(F + (damping + rho |g|^2) I)^{-1} g``: implicit gradient regularization.

    Parameters and errors as in `natural_direction`; ``rho >= 0``. With rho = 0 it is the natural direction.

    Notes
    -----
    Source: the quadratic model with curvature ``F + rho |g|^2 I`` is the paper's.
    """
    _check(B, g, coefficients)
    total = ring_damping(
        norm(g), rho=check_real("rho", rho, minimum=0.0), damping=check_real("damping", damping, minimum=0.0)
    )
    return natural_direction(B, g, damping=total, coefficients=coefficients)


def reng_direction(
    B: Array, g: Array, hvp: Callable[[Array], Array], *, rho: float, damping: float = 0.0
) -> Array:
    """The RENG direction ``(F + damping I)^{-1} (g + rho H g)``: explicit gradient regularization.

    ``g + rho H g`` is the gradient of ``L + (rho/2) |grad L|^2``.

    Parameters
    ----------
    hvp : callable
        ``v -> H v`` with H the Hessian of the mean loss; called once, with g.
    B, g, damping
        As in `natural_direction`; ``rho >= 0``.

    Notes
    -----
    Source: the objective is the paper's.
    """
    _check(B, g, None)
    if not callable(hvp):
        raise TypeError(f"hvp must be a callable v -> H v, got {type(hvp).__name__}")
    v = regularized_gradient(g, hvp, rho=check_real("rho", rho, minimum=0.0))
    return natural_direction(B, v, damping=damping)


def ring_damping(gradient_norm: float, *, rho: float, damping: float) -> float:
    """``damping + rho |g|^2``.

    Raises
    ------
    NumericalError
        It overflows.
    """
    total = damping + rho * gradient_norm * gradient_norm  # a float's ** raises OverflowError instead
    if not math.isfinite(total):
        raise NumericalError(f"damping + rho |g|^2 overflowed: rho {rho:g}, |g| {gradient_norm:g}")
    return total


def regularized_gradient(g: Array, hvp: Callable[[Array], Array], *, rho: float) -> Array:
    """``g + rho H g``; g itself, exactly, at rho = 0."""
    if rho == 0.0:
        return g
    product = hvp(g)
    namespace(g=g, **{"hvp(g)": product})
    check_shape("hvp(g)", product, tuple(g.shape), "H g, one entry a parameter")  # nothing is broadcast
    check_finite(**{"hvp(g)": product})
    regularized = g + rho * product
    if not math.isfinite(norm(regularized)):
        raise NumericalError(f"g + rho H g overflowed: rho {rho:g}, |g| {norm(g):g}, |H g| {norm(product):g}")
    return regularized


def difference_length(theta: Array) -> float:
    """``h = sqrt(eps) (1 + |theta|)``: how far `gradient_difference` moves theta.

    The quotient's truncation error grows like h; its rounding error, from two gradients and the moved theta,
    falls like eps / h. With ``1 + |theta|`` for the scale on which the gradient changes, the sum is least
    near this h, and about sqrt(eps), relative.
    """
    return math.sqrt(epsilon(theta)) * (1.0 + norm(theta))


def gradient_difference(
    gradient: Callable[[Array], Array], theta: Array, g: Array, *, length: float | None = None
) -> Array:
    """``H g`` up to O(e): ``(gradient(theta + e g) - g) / e`` with ``e = length / |g|``; zero for g = 0.

    Parameters
    ----------
    gradient : callable
        ``theta -> g``, the gradient of the mean loss; called once.
    theta, g : array (P,)
        g is the gradient at theta.
    length : float, optional
        How far theta moves, ``e |g|``; by default `difference_length`. The error is
        ``(e / 2) D^3 L[g, g] + O(e^2)``, and rounding.
    """
    size = norm(g)
    if size == 0.0:
        return g
    h = difference_length(theta) if length is None else float(length)
    moved = gradient(theta + h * (g / size))  # e itself overflows for a tiny g
    return (moved - g) * (size / h)


def _check(B: Array, g: Array, coefficients: Array | None) -> None:
    namespace(B=B, g=g, coefficients=coefficients)
    check_shape("B", B, (None, None), "(score rows, parameters)")
    check_shape("g", g, (B.shape[1],), "one entry a parameter")
    if coefficients is not None:
        check_shape("coefficients", coefficients, (B.shape[0],), "one entry a score row")
    check_finite(B=B, g=g, coefficients=coefficients)
