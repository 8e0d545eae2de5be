"""How far the Jacobian of a two-layer network can change on a ball of parameters."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from grng_ref.arrays import Array

from .balls import integers, root_upward, upward
from .bound import Bound
from .flips import flip_knapsack
from .inputs import examples, radius_of
from .lipschitz import greatest_change, jacobian_lipschitz
from .search import Move, find_move
from .slopes import change_from_below
from .two_layer import NOT_TWO_LAYER, TwoLayer, read_two_layer

_KNAPSACK = "dual of the knapsack of activation flips (from above), greedy flips in balls (from below)"
_NO_FLIP = "no neuron can flip in the ball: the Jacobian is constant there"
_ASCENT = "Frank-Wolfe ascent in balls (from below)"
_SMOOTH = f"Lipschitz constant times radius (from above), {_ASCENT}"
_SATURATED = f"the range of act' (from above), {_ASCENT}"


def jacobian_change(problem: Any, theta: Array, x: Array, radius: float) -> Bound:
    """The greatest change of the Jacobian on a ball, ``sup { |J(w) - J(w_0)|_2 : |w - w_0| <= R }``.

    For `gr.two_layer`. From above, where act is smooth, the lesser of ``LJ R``, LJ of `jacobian_lipschitz`,
    and ``c |a| (sup act' - inf act') lmax(X X^T)^{1/2}``, which no radius exceeds; for relu ::

        c (max_i min_mu [mu R^2 + sum_r max_s (v_ri(s) - mu s)])^{1/2},

    with ``v_ri(s) = a_r^2 sum_j |x_i.x_j| [t_ri^2 <= s][t_rj^2 <= s]``, ``t_ri = |w_r.x_i| / |x_i|``; and 0
    where R is below every ``t_ri``: no neuron can flip. From below the change at one point of the ball.

    Parameters
    ----------
    problem : gr.Problem
        With the model `gr.two_layer`. Any other `MLP` gets ``[0, inf]`` and a method that says so.
    theta : array (P,)
        w_0.
    x : array (n, d)
    radius : float
        R >= 0, the Euclidean radius of the ball in parameter space, taken exactly.

    Returns
    -------
    Bound
        Its witness holds the moved ``neurons`` (k,), their new ``weights`` (k, d) and a ``direction`` u (n,):
        the point lies in the ball, exactly, and ``|(J(w) - J(w_0))^T u| >= lower |u|``. For relu also the
        ``multipliers`` mu (n,) of the upper side.

    Raises
    ------
    TypeError, ValueError
        Not such a problem, arrays or radius.
    NumericalError
        Not for relu: powers of the inputs leave the range of float64.
    BackendError
        python-flint is not installed.

    Notes
    -----
    *relu, from above.* Neuron r can flip at x_i only if ``|w_r.x_i| <= |dw_r| |x_i|``, which
    costs ``t_ri^2`` of the budget ``sum_r |dw_r|^2 <= R^2``. With ``d_ri`` in {-1, 0, 1} the changes of
    act', ``|J - J_0|^2 = c^2 lmax(Kx o N)``, ``N = sum_r a_r^2 d_r d_r^T``: at most the largest sum of the
    magnitudes of a row (Gershgorin). In row i neuron r adds at most ``v_ri(s_r)`` with the budget s_r, and
    by weak duality ``sum_r v_ri(s_r) <= mu R^2 + sum_r max_s (v_ri(s) - mu s)`` for every ``mu >= 0``. It
    is evaluated in floats with costs rounded down and all else up; the docstring of ``flips.flip_knapsack``
    has the rounding errors. A zero preactivation is a flip of cost 0 (``relu'(0) = 0``).

    *smooth, from above.* ``(J - J_0)^T u`` has the blocks ``c a_r X^T diag(d_r) u`` with the changes ``d_ri``
    of act', none above its range: gelu erf(1) + 2/(e sqrt pi), silu half the root of ``z tanh(z/2) = 2``.

    *From below.* A point is searched in floating arithmetic: for relu the cheapest flips at one example or
    over all, for smooth activations large moves of few neurons (the change is convex in small moves, so the
    best ones concentrate), improved by Frank-Wolfe steps. That it lies in the ball is decided in integers,
    and what it changes is evaluated in balls of 160 bits. At most 1024 neurons are moved for smooth
    activations.

    Cost, relu: about a second at width 2^16 and n = 8.

    Source: ours; classical (Gershgorin's theorem, weak duality: Boyd and Vandenberghe 2004; Frank and Wolfe
    1956).
    """
    network = read_two_layer(problem)
    size = radius_of(radius)
    if network is None:
        return Bound(0.0, math.inf, True, NOT_TWO_LAYER)
    inputs, weights = examples(x, network.num_inputs), network.weights(theta)
    move = find_move(network, weights, inputs, size)
    lower, witness = _from_below(network, weights, inputs, size, move)
    if network.activation == "relu":
        found = flip_knapsack(weights, network.signs, inputs, size)
        if not found.value:
            return Bound(0.0, 0.0, True, _NO_FLIP, {"multipliers": found.multipliers})
        upper = root_upward(found.value * network.scale**2)
        return Bound(lower, upper, True, _KNAPSACK, {**witness, "multipliers": found.multipliers})
    if not size:
        return Bound(0.0, 0.0, True, _SMOOTH)
    constant = jacobian_lipschitz(problem, inputs).upper
    upper = upward(Fraction(constant) * Fraction(size)) if constant < math.inf else math.inf
    most = greatest_change(network, inputs)
    method = _SMOOTH if upper <= most else _SATURATED
    return Bound(lower, min(upper, most), True, method, witness or None)


def _from_below(
    network: TwoLayer, weights: np.ndarray, x: np.ndarray, radius: float, move: Move | None
) -> tuple[float, dict[str, Any]]:
    """The proved change of a move, and the witness; nothing where the move is none or leaves the ball."""
    if move is None or not in_ball(weights[move.neurons], move.weights, radius):
        return 0.0, {}
    before = weights[move.neurons]
    lower = change_from_below(network, x, move.neurons, before, move.weights, move.direction)
    witness = {
        "neurons": move.neurons.tolist(),
        "weights": move.weights.tolist(),
        "direction": move.direction.tolist(),
    }
    return lower, witness


def in_ball(before: np.ndarray, after: np.ndarray, radius: float) -> bool:
    """Whether ``|after - before| <= radius``, in exact arithmetic."""
    whole, exponent = integers(np.stack([before, after]))
    moved = (whole[1] - whole[0]).ravel()
    return int(moved @ moved) * Fraction(4) ** exponent <= Fraction(radius) ** 2
