"""The Lipschitz constant of the Jacobian of a two-layer network, and how far it can change at all."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref.arrays import Array, check_choice

from .balls import (
    PRECISION,
    ball_matrix,
    integers,
    root_downward,
    root_upward,
    symmetric_sides,
    working_precision,
)
from .bound import Bound
from .inputs import examples
from .spectra import least_eigenvalue
from .two_layer import NOT_TWO_LAYER, SLOPE_RANGE, SQUARED_BENDING, TwoLayer, read_two_layer


def slope_lipschitz(activation: str) -> Bound:
    """The Lipschitz constant of act', ``B2 = sup |act''|``.

    tanh 4/(3 sqrt 3), sigmoid 1/(6 sqrt 3), softplus 1/4, gelu (2/pi)^{1/2}, silu 1/2, identity 0.

    Parameters
    ----------
    activation : str
        The name of an activation of the package.

    Returns
    -------
    Bound
        ``[inf, inf]`` for relu.

    Raises
    ------
    ValueError
        Another name.

    Notes
    -----
    Source: classical.
    """
    squares = SQUARED_BENDING[check_choice("activation", activation, SQUARED_BENDING)]
    if squares is None:
        return Bound(math.inf, math.inf, True, "act' jumps")
    low, high = squares
    return Bound(root_downward(low), root_upward(high), True, "the supremum in closed form, rounded outwards")


def jacobian_lipschitz(problem: Any, x: Array) -> Bound:
    """The Lipschitz constant of ``w -> J(w)`` on all of parameter space, spectral against Euclidean norm.

    For `gr.two_layer` with a smooth activation ::

        LJ = B2 c max_r |a_r| lmax(Kx o Kx)^{1/2},   Kx = X X^T,   c = m^{-1/2} as it is stored,

    is an upper bound, with ``B2 = sup |act''|``: tanh 4/(3 sqrt 3), sigmoid 1/(6 sqrt 3), softplus 1/4,
    gelu (2/pi)^{1/2}, silu 1/2, identity 0. ``c B2 max_r |a_r| max_i |x_i|^2`` is a lower bound.

    Parameters
    ----------
    problem : gr.Problem
        With the model `gr.two_layer`. Any other `MLP` gets ``[0, inf]`` and a method that says so.
    x : array (n, d)

    Returns
    -------
    Bound
        ``[inf, inf]`` for relu, whose Jacobian jumps, unless it is constant.

    Raises
    ------
    TypeError, ValueError
        Not such a problem; not a finite array of that shape.
    NumericalError
        An entry of ``Kx o Kx`` leaves the range of float64.
    BackendError
        python-flint is not installed.

    Notes
    -----
    *From above.* Let ``J' - J`` be the change along dw, and u a unit vector of R^n. By the mean
    value theorem ``act'(w'_r.x_i) - act'(w_r.x_i) = b_ri (dw_r . x_i)`` with ``|b_ri| <= B2``. The block of
    neuron r of ``(J' - J)^T u`` is therefore ``c a_r M_r dw_r`` with ``M_r = sum_i u_i b_ri x_i x_i^T``,
    and ``|M_r|_2^2 <= |M_r|_F^2 = z^T (Kx o Kx) z <= B2^2 lmax(Kx o Kx)``, ``z_i = u_i b_ri``. Sum the
    squares over r.

    *From below.* Where ``w_r . x_i`` is a point at which ``|act''| = B2``, the derivative of row i of J along
    ``dw_r = x_i / |x_i|`` has the norm ``c |a_r| B2 |x_i|^2``.

    ``Kx o Kx`` is formed in balls of 256 bits, its greatest eigenvalue bounded as in `eigenvalue_max`, the
    rest is rational, and both roots are rounded outwards.

    Source: ours (the bound); classical (the suprema of act'').
    """
    network = read_two_layer(problem)
    if network is None:
        return Bound(0.0, math.inf, True, NOT_TWO_LAYER)
    inputs = examples(x, network.num_inputs)
    if network.activation == "relu":
        moves = bool(np.any(inputs)) and network.largest_sign > 0
        size = math.inf if moves else 0.0
        return Bound(
            size, size, True, "no finite Lipschitz constant: the Jacobian of relu is piecewise constant"
        )
    lower, upper = _squares(network, inputs)
    return Bound(
        root_downward(lower),
        root_upward(upper),
        True,
        "B2 c max|a| lmax(Kx o Kx)^{1/2} from above, c B2 max|a| max|x_i|^2 from below, rounded outwards",
    )


def _squares(network: TwoLayer, x: np.ndarray) -> tuple[Fraction, Fraction]:
    """Bounds of the square of the constant."""
    bending = SQUARED_BENDING[network.activation]
    if bending is None:
        raise AssertionError("unreachable: the caller has dealt with relu")
    factor = (network.scale * network.largest_sign) ** 2
    whole, exponent = integers(x)
    longest = int(np.max(np.sum(whole * whole, axis=1))) * Fraction(4) ** exponent
    return factor * bending[0] * longest**2, factor * bending[1] * _greatest_of_squares(x)


def _greatest_of_squares(x: np.ndarray) -> Fraction:
    """A number at least ``lmax(Kx o Kx)``, and not negative."""
    with working_precision(PRECISION):
        K = ball_matrix(x) * ball_matrix(x.T)
        n = len(x)
        squares = type(K)([[K[i, j] * K[i, j] for j in range(n)] for i in range(n)])
        return _greatest(squares)


def greatest_change(network: TwoLayer, x: np.ndarray) -> float:
    """A number at least ``|J(w) - J(w_0)|_2`` for all weights, of a smooth activation.

    Neuron r changes ``(J - J_0)^T u`` by ``c a_r X^T diag(d_r) u`` with ``|d_ri| <= D``, ``D = sup act' - inf
    act'``: by at most ``c |a_r| |X|_2 D |u|``. The squares add up to ``c^2 |a|^2 D^2 lmax(X X^T) |u|^2``.
    """
    signs, exponent = integers(network.signs)
    size = int(signs @ signs) * Fraction(4) ** exponent
    with working_precision(PRECISION):
        top = _greatest(ball_matrix(x) * ball_matrix(x.T))
    return root_upward(network.scale**2 * size * SLOPE_RANGE[network.activation] ** 2 * top)


def _greatest(balls: Any) -> Fraction:
    """A number at least the greatest eigenvalue of a symmetric matrix in balls, and not negative."""
    middle, radius = symmetric_sides(balls)
    return max(-Fraction(least_eigenvalue(-middle, radius).lower), Fraction(0))
