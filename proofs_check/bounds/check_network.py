"""What the checker knows of the two-layer network: its constants, its flips and its slopes, written anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from grng_ref.certified.library import working_precision

from . import check_exact as exact

_PI_BELOW = Fraction(3141592653589793238462643383279502884, 10**36)  # more digits than a bound uses
_PI_ABOVE = _PI_BELOW + Fraction(1, 10**36)
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
    factor = (network.scale * max(abs(sign) for sign in network.signs)) ** 2
    K = exact.product(network.x, exact.transposed(network.x))
    if network.activation == "relu":
        smooth = not factor or not any(K[i][i] for i in range(len(K)))
        if smooth:
            return "" if lower <= 0 else "the Jacobian is constant"
        return "" if upper == math.inf else "relu has no finite constant"
    below, above = _squared_bending(network.activation)
    longest = max(K[i][i] for i in range(len(K)))
    if lower == math.inf or Fraction(lower) ** 2 > below * factor * longest**2:
        return "the lower side is beyond what one neuron shows"
    if upper == math.inf:
        return ""
    negative = [[-factor * above * entry * entry for entry in row] for row in K]
    within = exact.semidefinite(exact.shifted(negative, -(Fraction(upper) ** 2)))
    return "" if within else "the upper side is below B2 c max|a| lmax(Kx o Kx)^{1/2}"


def bending_holds(activation: str, lower: float, upper: float) -> str:
    """What fails of ``lower <= sup |act''| <= upper``."""
    if activation == "relu":
        return "" if upper == math.inf else "relu has no finite constant"
    below, above = _squared_bending(activation)
    if lower == math.inf or Fraction(lower) ** 2 > below:
        return "the lower side is beyond sup |act''|"
    return "" if upper == math.inf or Fraction(upper) ** 2 >= above else "the upper side is below sup |act''|"


def range_holds(network: Read, upper: float) -> str:
    """What fails of ``c |a| (sup act' - inf act') |X|_2 <= upper``; ``|X|_2 = |X^T X|_2^{1/2}`` here."""
    # gelu: erf(1) + 2/(e sqrt pi) = 1.257808290..., silu: 1.199678640...
    ranges = {"identity": "0", "tanh": "1", "sigmoid": "1/4", "softplus": "1"}
    width = Fraction({**ranges, "gelu": "1.257808291", "silu": "1.199678641"}[network.activation])
    factor = (network.scale * width) ** 2 * exact.dot(network.signs, network.signs)
    columns = exact.transposed(network.x)
    small = min(network.x, columns, key=len)  # X X^T and X^T X have one norm
    K = exact.product(small, exact.transposed(small))
    within = exact.semidefinite(
        exact.shifted([[-factor * entry for entry in row] for row in K], -(Fraction(upper) ** 2))
    )
    return "" if within else "the upper side is below LJ R and below the range of act'"


def _squared_bending(activation: str) -> tuple[Fraction, Fraction]:
    """Rationals below and above ``sup (act'')^2``."""
    if activation == "gelu":  # act''(0) = 2 / sqrt(2 pi)
        return Fraction(4) / (2 * _PI_ABOVE), Fraction(4) / (2 * _PI_BELOW)
    squares = {"identity": "0", "tanh": "16/27", "sigmoid": "1/108", "softplus": "1/16", "silu": "1/4"}
    return Fraction(squares[activation]), Fraction(squares[activation])


def changed_jacobian(
    network: Read, weights: np.ndarray, witness: Mapping[str, Any], radius: Fraction, lower: Fraction
) -> str:
    """What fails of: the witness lies in the ball, and its Jacobian differs by at least ``lower`` along u."""
    neurons = [int(r) for r in exact.vector(witness["neurons"])]
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
    change = _flipped if network.activation == "relu" else _bent
    if network.scale**2 * change(network, neurons, u, start, moved) < lower**2 * size:
        return "the Jacobian changes less at the witness than the lower side says"
    return ""


def _bent(
    network: Read, neurons: list[int], u: list[Fraction], start: exact.Rows, moved: exact.Rows
) -> Fraction:
    """A number at most ``|(J' - J)^T u|^2 / c^2``, for a smooth activation."""
    total = Fraction(0)
    for r, old, new in zip(neurons, start, moved, strict=True):
        low, high = _block(network, u, old, new)
        ends = zip(low, high, strict=True)
        total += network.signs[r] ** 2 * sum(
            (max(a, -b, Fraction(0)) ** 2 for a, b in ends), start=Fraction(0)
        )
    return total


def _flipped(
    network: Read, neurons: list[int], u: list[Fraction], start: exact.Rows, moved: exact.Rows
) -> Fraction:
    """``|(J' - J)^T u|^2 / c^2`` for relu: neurons with the same flips and sign are counted together."""
    changes = _active(moved, network.x) - _active(start, network.x)
    counts = Counter((abs(network.signs[r]), *row) for r, row in zip(neurons, changes.tolist(), strict=True))
    K = exact.product(network.x, exact.transposed(network.x))
    total = Fraction(0)
    for (sign, *flips), count in counts.items():
        places = [(i, flip * u[i]) for i, flip in enumerate(flips) if flip]
        total += count * sign**2 * sum(p * q * K[i][j] for i, p in places for j, q in places)
    return total


def _active(rows: exact.Rows, x: exact.Rows) -> np.ndarray:
    """Whether ``w.x > 0``, as integers (k, n)."""
    products, _ = exact.whole_products(rows, x)
    return np.array([[int(entry > 0) for entry in row] for row in products]).reshape(len(rows), len(x))


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


# --- flips ------------------------------------------------------------------------------------------------

_UNIT = 2.0**-52  # twice the relative error of one rounding


def knapsack_holds(network: Read, weights: np.ndarray, multipliers: Any, radius: float, upper: float) -> str:
    """What fails of ``c^2 (mu R^2 + sum_r max_s (v_r(s) - mu s)) <= upper^2``, for each example.

    Scalar products are integers, rounded once. What follows is in floats: a cost has five roundings and is
    lowered by eight of these units, a value has ``n + 3`` of them and is raised by as many units, and a sum
    is that of `math.fsum`, raised. (The bound itself was raised by more, so a true one passes.)
    """
    mus = exact.vector(multipliers)
    if len(mus) != len(network.x) or min(mus) < 0:
        return "the multipliers are not numbers >= 0, one an example"
    K = exact.product(network.x, exact.transposed(network.x))
    costs = _costs(network, weights, K)
    signs = np.array([float(abs(sign)) for sign in network.signs])
    for i, mu in enumerate(mus):
        rows = (costs[:, i] <= float(Fraction(radius) ** 2) * (1 + 2 * _UNIT)) & (signs > 0)
        if K[i][i] and rows.any():
            magnitudes = np.array([float(abs(entry)) for entry in K[i]])
            gains = _gains(costs[rows], magnitudes, signs[rows], i, float(mu), radius)
            total = Fraction(math.fsum(gains) * (1 + 8 * _UNIT)) + mu * Fraction(radius) ** 2
            if network.scale**2 * total > Fraction(upper) ** 2:
                return f"the multiplier of example {i} proves no such upper side"
    return ""


def _costs(network: Read, weights: np.ndarray, K: exact.Rows) -> np.ndarray:
    """``(w_r.x_i)^2 / |x_i|^2``, never too great; infinite at ``x_i = 0``."""
    products, exponent = exact.whole_products(exact.matrix(weights), network.x)
    values = [[exact.as_float(entry, exponent) for entry in row] for row in products]
    lengths = [float(K[i][i]) or -1.0 for i in range(len(K))]
    costs = np.maximum(np.square(values) / np.array(lengths) * (1 - 8 * _UNIT) - 2.0**-1010, 0.0)
    costs[:, [length < 0 for length in lengths]] = math.inf
    return costs


def _gains(
    costs: np.ndarray, magnitudes: np.ndarray, signs: np.ndarray, i: int, mu: float, radius: float
) -> list[float]:
    """``max(0, max_s (a_r^2 sum { |K_ij| : cost of i and j <= s } - mu s))`` for each neuron."""
    joint = np.maximum(costs, costs[:, [i]])
    best = np.zeros(len(joint))
    for k in range(joint.shape[1]):
        cost = joint[:, k]
        value = (joint <= cost[:, None]) @ magnitudes * signs**2 * (1 + (len(magnitudes) + 3) * _UNIT)
        within = cost <= radius**2 * (1 + 4 * _UNIT)
        best[within] = np.maximum(best, value - mu * np.where(within, cost, 0.0))[within]
    return best.tolist()
