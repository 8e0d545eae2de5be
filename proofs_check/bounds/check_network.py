"""What the checker knows of the two-layer network: its constants, its flips and its slopes, written anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from grng_ref.certified.library import working_precision

from . import check_exact as exact

_PI_BELOW, _PI_ABOVE = Fraction(math.pi), Fraction(math.nextafter(math.pi, 4.0))
_BITS = 400


class Read(NamedTuple):
    """``f(x) = c sum_r a_r act(w_r . x)`` at some inputs, in rationals."""

    activation: str
    scale: Fraction
    signs: list[Fraction]
    x: exact.Rows

    def weights(self, theta: Any) -> np.ndarray:
        """The rows w_r, as floats that are exact."""
        return np.asarray(theta, dtype=np.float64).reshape(len(self.signs), len(self.x[0]))


def read(problem: Any, x: Any) -> Read | None:
    """The network of `gr.two_layer`; None for another."""
    model = problem.model
    first, second = (*model.layer_scales, 0.0)[:2]
    shape = len(model.sizes) == 3 and model.sizes[2] == 1 and not model.bias and list(model.frozen) == [1]
    if not shape or first != 1.0 or model.scales is None or not isinstance(model.activation, str):
        return None
    return Read(model.activation, Fraction(second), exact.vector(model.frozen[1]), exact.matrix(x))


def lipschitz_holds(network: Read, lower: float | Fraction, upper: float | Fraction) -> str:
    """What fails of ``lower <= LJ <= upper``: ``upper^2 I - B2^2 c^2 a^2 Kx o Kx`` must be semidefinite."""
    factor = (network.scale * max(map(abs, network.signs))) ** 2
    K = exact.product(network.x, exact.transposed(network.x))
    if network.activation == "relu":
        smooth = not factor or not any(K[i][i] for i in range(len(K)))
        return "" if upper == math.inf or smooth else "relu has no finite constant"
    below, above = _squared_bending(network.activation)
    longest = max(K[i][i] for i in range(len(K)))
    if lower == math.inf or Fraction(lower) ** 2 > below * factor * longest**2:
        return "the lower side is beyond what one neuron shows"
    if upper == math.inf:
        return ""
    negative = [[-factor * above * entry * entry for entry in row] for row in K]
    within = exact.semidefinite(exact.shifted(negative, -(Fraction(upper) ** 2)))
    return "" if within else "the upper side is below B2 c max|a| lmax(Kx o Kx)^{1/2}"


def _squared_bending(activation: str) -> tuple[Fraction, Fraction]:
    """Rationals below and above ``sup (act'')^2``."""
    if activation == "gelu":  # act''(0) = 2 / sqrt(2 pi)
        return Fraction(4) / (2 * _PI_ABOVE), Fraction(4) / (2 * _PI_BELOW)
    root = {"tanh": 27 * Fraction(1, 16), "sigmoid": 108, "softplus": 16, "silu": 4}
    value = 1 / Fraction(root[activation]) if activation != "identity" else Fraction(0)
    return value, value


def changed_jacobian(
    network: Read, weights: np.ndarray, witness: Mapping[str, Any], radius: Fraction, lower: Fraction
) -> str:
    """What fails of: the witness lies in the ball, and its Jacobian differs by at least ``lower`` along u."""
    neurons = [int(r) for r in witness["neurons"]]
    moved, u = exact.matrix(witness["weights"]), exact.vector(witness["direction"])
    if sorted(set(neurons)) != sorted(neurons) or not set(neurons) <= set(range(len(weights))):
        return "the neurons of the witness are not different neurons of the network"
    if len(moved) != len(neurons) or len(u) != len(network.x):
        return "the witness has not the shape of the network"
    start = exact.matrix(weights[neurons])
    steps = [[p - q for p, q in zip(new, old, strict=True)] for new, old in zip(moved, start, strict=True)]
    if sum(step * step for row in steps for step in row) > radius**2:
        return "the witness lies outside its ball"
    size = sum(entry * entry for entry in u)
    total = Fraction(0)
    for r, old, new in zip(neurons, start, moved, strict=True):
        low, high = _block(network, u, old, new)
        least = sum(max(a, -b, Fraction(0)) ** 2 for a, b in zip(low, high, strict=True))
        total += network.signs[r] ** 2 * least
    if network.scale**2 * total < lower**2 * size:
        return "the Jacobian changes less at the witness than the lower side says"
    return ""


def _block(
    network: Read, u: list[Fraction], old: list[Fraction], new: list[Fraction]
) -> tuple[list[Fraction], list[Fraction]]:
    """Both ends of ``sum_i u_i (act'(new.x_i) - act'(old.x_i)) x_i``, entry by entry."""
    ends = [_slope_change(network.activation, exact.dot(old, x), exact.dot(new, x)) for x in network.x]
    low, high = [Fraction(0)] * len(old), [Fraction(0)] * len(old)
    for weight, pair, x in zip(u, ends, network.x, strict=True):
        for j, entry in enumerate(x):
            terms = [weight * end * entry for end in pair]
            low[j] += min(terms)
            high[j] += max(terms)
    return low, high


def _slope_change(activation: str, old: Fraction, new: Fraction) -> tuple[Fraction, Fraction]:
    """Rationals below and above ``act'(new) - act'(old)``."""
    if activation == "relu":
        change = Fraction(int(new > 0) - int(old > 0))
        return change, change
    if activation == "identity":
        return Fraction(0), Fraction(0)
    with working_precision(_BITS) as flint:
        ball = _slope(flint, activation, new) - _slope(flint, activation, old)
        return _end(ball.lower()), _end(ball.upper())


def _slope(flint: Any, activation: str, z: Fraction) -> Any:
    """act'(z) in balls, from exponentials and the error function."""
    at = flint.arb(flint.fmpq(z.numerator, z.denominator))
    if activation == "gelu":
        density = (-(at**2) / 2).exp() / (2 * flint.arb.pi()).sqrt()
        return (-at / flint.arb(2).sqrt()).erfc() / 2 + at * density
    if activation == "tanh":
        return 1 - at.tanh() ** 2
    logistic = 1 / (1 + (-at).exp()) if z > 0 else at.exp() / (1 + at.exp())
    if activation == "softplus":
        return logistic
    slope = logistic - logistic**2
    return slope if activation == "sigmoid" else logistic + at * slope


def _end(exact_ball: Any) -> Fraction:
    mantissa, exponent = exact_ball.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


# --- flips ---------------------------------------------------------------------------------------------------


def knapsack_holds(network: Read, weights: np.ndarray, multipliers: Any, radius: float, upper: float) -> str:
    """What fails of ``c^2 (mu R^2 + sum_r max_s (v_r(s) - mu s)) <= upper^2``, for each example."""
    mus = exact.vector(multipliers)
    if len(mus) != len(network.x) or min(mus) < 0:
        return "the multipliers are not numbers >= 0, one an example"
    K = exact.product(network.x, exact.transposed(network.x))
    budget, limit = Fraction(radius) ** 2, Fraction(upper) ** 2
    for i, mu in enumerate(mus):
        if not K[i][i]:
            continue
        magnitudes = [abs(entry) for entry in K[i]]
        most = min(budget, max(map(abs, network.signs)) ** 2 * sum(magnitudes) / mu) if mu else budget
        total, flips = mu * budget, False
        for r in _candidates(network, weights, i, most):
            options = _options(network, exact.vector(weights[r]), K, i, budget)
            flips = flips or bool(options and network.signs[r])
            gains = [network.signs[r] ** 2 * value - mu * cost for cost, value in options]
            total += max([Fraction(0), *gains])
        if flips and network.scale**2 * total > limit:
            return f"the multiplier of example {i} proves no such upper side"
    return ""


def _candidates(network: Read, weights: np.ndarray, i: int, most: Fraction) -> list[int]:
    """The neurons that may flip at example i for at most that cost; floats, with far more room than they need."""
    x = np.array([float(entry) for entry in network.x[i]])
    reach = math.sqrt(float(most)) * float(np.linalg.norm(x)) * (1 + 1e-6)
    slack = 1e-12 * (np.abs(weights) @ np.abs(x)) + 1e-290
    return [int(r) for r in np.flatnonzero(np.abs(weights @ x) <= reach + slack)]


def _options(
    network: Read, w: list[Fraction], K: exact.Rows, i: int, budget: Fraction
) -> list[tuple[Fraction, Fraction]]:
    """The pairs (s, sum of |K_ij| over j that flips with i for the cost s), s at most the budget."""
    own = exact.dot(w, network.x[i]) ** 2 / K[i][i]
    if own > budget:
        return []
    pairs = []
    for j, x in enumerate(network.x):
        if K[j][j]:
            pairs.append((max(own, exact.dot(w, x) ** 2 / K[j][j]), abs(K[i][j])))
    options, value = [], Fraction(0)
    for cost, worth in sorted(pairs):
        value += worth
        if cost <= budget:
            options.append((cost, value))
    return options
