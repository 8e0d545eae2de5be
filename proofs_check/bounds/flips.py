"""How far the Jacobian of a two-layer relu network can change on a ball, from above: a knapsack's dual."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .balls import upward

_UNIT = 2.0**-52  # twice the relative error of one rounding
_TINY = 2.0**-1000  # more than what underflow loses in any sum here
_STEPS = 30


class Knapsack(NamedTuple):
    """``|J(w) - J(w_0)|^2 <= c^2 value`` on the ball, and the multiplier that proves it for each example."""

    value: Fraction
    multipliers: list[float]


def flip_knapsack(weights: np.ndarray, signs: np.ndarray, x: np.ndarray, radius: float) -> Knapsack:
    """The bound of `jacobian_change` for relu, without the factor c^2; value 0: no neuron can flip.

    **Costs.** Neuron r can flip at x_i only if ``|w_r.x_i| <= |dw_r| |x_i|``: it costs at least
    ``t_ri^2 = (w_r.x_i)^2 / |x_i|^2`` of the budget ``sum_r |dw_r|^2 <= R^2``.

    **Values.** With ``d_ri`` in {-1, 0, 1} the changes of act', the Gram matrix of the change is
    ``c^2 Kx o N``, ``N = sum_r a_r^2 d_r d_r^T``, and its norm at most the largest sum of a row of magnitudes
    (Gershgorin): ``max_i sum_r a_r^2 |d_ri| sum_j |Kx_ij| |d_rj|``. In row i, neuron r is therefore worth
    ``v_r(s) = a_r^2 sum { |Kx_ij| : max(t_ri, t_rj)^2 <= s }`` at most when it gets the budget s.

    **Relaxation.** For every ``mu >= 0``, ``sum_r v_r(s_r) <= mu R^2 + sum_r max_s (v_r(s) - mu s)`` whenever
    ``sum s_r <= R^2`` (weak duality), and the maximum is over 0 and the costs that are at most R^2. The best
    mu is searched; any mu proves a bound.

    **Rounding.** A product of d numbers, summed in any order, is off by at most ``d u / (1 - d u) |w|.|x|``
    with u = 2^-53, and the same sum of magnitudes in floats is at least ``(1 - d u)`` times the true one;
    `_dots` subtracts or adds ``(d + 8) 2^-52`` of it, more than twice what is needed. Costs are then
    lowered, values, ``R^2`` and sums of m nonnegative terms raised by factors that cover their own
    roundings. Sums of nonnegative numbers have a relative error of at most ``(terms) u`` to first order.

    **Range.** Weights with the radius, inputs and signs are first divided by powers of two, so that none is
    above one: exactly, but for entries that underflow, each by at most 2^-1075. Nothing overflows then, and
    what products and sums lose to underflow is less than the `_TINY` that costs give and values get.
    """
    used = np.any(x != 0.0, axis=1)  # at x = 0 nothing flips
    (weights, _), length = _scaled(weights, np.array(radius))
    (x,), breadth = _scaled(x[used])
    (scaled_signs,), height = _scaled(signs)
    budget = upward(Fraction(radius) ** 2 / Fraction(4) ** length)
    costs, products = _costs(weights, x), _upper_products(x)
    worth = scaled_signs * scaled_signs * (1.0 + 4.0 * _UNIT) + _TINY
    multipliers = [0.0] * len(used)
    value = Fraction(0)
    for i, place in enumerate(np.flatnonzero(used)):
        rows = (costs[:, i] <= budget) & (signs != 0.0)
        if rows.any():
            row = _row(costs[rows], products[i], worth[rows], i, budget, 2 * (breadth + height - length))
            value = max(value, Fraction(row[0]))
            multipliers[int(place)] = row[1]
    return Knapsack(value * Fraction(4) ** (breadth + height), multipliers)


def _scaled(*arrays: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The arrays over ``2^e``, none of their entries above one, and e."""
    exponent = max((int(np.frexp(np.max(np.abs(part)))[1]) for part in arrays if part.size), default=0)
    return [np.ldexp(part, -exponent) for part in arrays], exponent


def _row(
    costs: np.ndarray, products: np.ndarray, worth: np.ndarray, i: int, budget: float, exponent: int
) -> tuple[float, float]:
    """The bound of one row of ``Kx o N``, and its multiplier in the network's units, times ``2^exponent``."""
    total = float(np.sum(products)) * (1.0 + (len(products) + 4) * _UNIT)
    everything = total * float(np.sum(worth)) * (1.0 + (len(worth) + 8) * _UNIT) + _TINY
    least = _marginal_ratio(costs[:, i], float(products[i]) * worth, budget) / 2.0
    if budget == 0.0 or least == 0.0:
        return everything, 0.0
    # a row of greater cost gains nothing at any multiplier from `least` on; the margin is far above roundings
    rows = least * costs[:, i] <= total * worth * (1.0 + 1e-9)
    joint, values = _options(costs[rows], products, worth[rows], i, budget)
    best = (everything, 0.0)
    low = math.log(least)
    high = low + math.log(128.0 * total) - math.log(float(products[i]))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        multiplier = max(math.exp(middle), least)
        bound, spent = _dual(joint, values, budget, multiplier)
        with np.errstate(over="ignore"):
            stored = float(np.ldexp(multiplier, exponent))
        if np.ldexp(stored, -exponent) == multiplier:  # or floats cannot hold it
            best = min(best, (bound, stored))
        low, high = (middle, high) if spent > budget else (low, middle)
    return best


def _marginal_ratio(costs: np.ndarray, values: np.ndarray, budget: float) -> float:
    """Value over cost where the budget ends, each neuron flipped at one example and the best ratios first."""
    ratios = values / np.maximum(costs, 2.0**-600)  # in no range where exponentials overflow
    order = np.argsort(-ratios)
    taken = int(np.searchsorted(np.cumsum(costs[order]), budget, side="right"))
    return float(ratios[order[min(taken, len(order) - 1)]])


def _options(
    costs: np.ndarray, products: np.ndarray, worth: np.ndarray, i: int, budget: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each neuron the costs s (k, n) in order and the values v(s), those beyond the budget as zeros."""
    joint = np.maximum(costs, costs[:, i : i + 1])
    order = np.argsort(joint, axis=1)
    joint = np.take_along_axis(joint, order, axis=1)
    values = np.cumsum(products[order], axis=1) * worth[:, None] * (1.0 + 2.0 * (joint.shape[1] + 4) * _UNIT)
    values += _TINY
    reached = joint <= budget
    return np.where(reached, joint, 0.0), np.where(reached, values, 0.0)


def _dual(joint: np.ndarray, values: np.ndarray, budget: float, multiplier: float) -> tuple[float, float]:
    """``mu R^2 + sum_r max_s (v_r(s) - mu s)``, rounded upwards, and what the maximizers spend."""
    gains = values - multiplier * joint
    picked = np.argmax(gains, axis=1)[:, None]
    gain = np.take_along_axis(gains, picked, axis=1)
    spent = float(np.sum(np.where(gain > 0.0, np.take_along_axis(joint, picked, axis=1), 0.0)))
    total = float(np.sum(np.maximum(gain, 0.0))) + multiplier * budget
    return total * (1.0 + 2.0 * (len(joint) + 8) * _UNIT) + _TINY, spent


def _costs(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The t_ri^2 (m, n), rounded downwards, and by more than the rounding of a product with a multiplier."""
    products, error = _dots(weights, x)
    distance = np.maximum(np.abs(products) - error, 0.0)
    lengths = np.sum(x * x, axis=1) * (1.0 + (x.shape[1] + 8) * _UNIT) + _TINY
    return np.maximum(distance * distance / lengths * (1.0 - 32.0 * _UNIT) - _TINY, 0.0)


def _upper_products(x: np.ndarray) -> np.ndarray:
    """The ``|x_i . x_j|`` (n, n), rounded upwards."""
    products, error = _dots(x, x)
    return np.abs(products) + error


def _dots(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``A B^T`` and a bound of its rounding error, with room for one more rounding of either."""
    size = np.abs(a) @ np.abs(b).T
    return a @ b.T, (a.shape[1] + 8) * _UNIT * size + _TINY
