"""What the checker knows of the two-layer network: its constants, its flips and its slopes, written anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

import grng_ref as gr
from grng_ref.certified.library import working_precision

from . import check_exact as exact

_PI_BELOW = Fraction(3141592653589793238462643383279502884, 10**36)  # more digits than a bound uses
_PI_ABOVE = _PI_BELOW + Fraction(1, 10**36)
_BITS = 400


class Read(NamedTuple):
    """``f(x) = c sum_r a_r act(w_r . x)`` at some inputs, in rationals."""

    activation: str
    scale: Fraction
    signs: np.ndarray
    x: exact.Rows

    def weights(self, theta: Any) -> np.ndarray:
        """The rows w_r, as floats that are exact."""
        return exact.floats(theta, 1).reshape(len(self.signs), len(self.x[0]))

    @property
    def inputs(self) -> np.ndarray:
        """The inputs as floats, which are exact."""
        return np.array(self.x, dtype=np.float64)


def read(problem: Any, x: Any) -> Read | None:
    """The network of `gr.two_layer`; None for another."""
    model = problem.model
    if type(model) is not gr.MLP:
        return None
    first, second = (*model.layer_scales, 0.0)[:2]
    frozen = model.frozen or {}
    shape = len(model.sizes) == 3 and model.sizes[2] == 1 and not model.bias and list(frozen) == [1]
    if not shape or first != 1.0 or model.scales is None or not isinstance(model.activation, str):
        return None
    return Read(model.activation, Fraction(second), exact.floats(frozen[1], 2)[0], exact.matrix(x))


def lipschitz_holds(network: Read, lower: float | Fraction, upper: float | Fraction) -> str:
    """What fails of ``lower <= LJ <= upper``: ``upper^2 I - B2^2 c^2 a^2 Kx o Kx`` must be semidefinite."""
    factor = (network.scale * Fraction(float(np.max(np.abs(network.signs))))) ** 2
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
    factor = (network.scale * width) ** 2
    factor *= sum(count * sign**2 for sign, count in _counted(network.signs))
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
    places = exact.floats(witness["neurons"], 1)
    with np.errstate(invalid="ignore"):
        neurons = places.astype(int)
    moved, u = exact.floats(witness["weights"], 2), exact.vector(witness["direction"])
    known = np.all((places == neurons) & (neurons >= 0) & (neurons < len(weights)))
    if not known or len(np.unique(neurons)) < len(neurons):
        return "the neurons of the witness are not different neurons of the network"
    if moved.shape != (len(neurons), weights.shape[1]) or len(u) != len(network.x):
        return "the witness has not the shape of the network"
    size = sum(entry * entry for entry in u)
    if not size:
        return "the direction is zero"
    start = weights[neurons]
    if not _within(moved, start, radius):
        return "the witness lies outside its ball"
    change = _flipped if network.activation == "relu" else _bent
    if network.scale**2 * change(network, network.signs[neurons], u, start, moved) < lower**2 * size:
        return "the Jacobian changes less at the witness than the lower side says"
    return ""


def _within(moved: np.ndarray, start: np.ndarray, radius: Fraction) -> bool:
    """Whether ``|moved - start| <= radius`` is shown: a difference, its square and sums round at 2^-53 each.

    In units of a power of two near the largest difference; what underflows there is below 2^-1000 in all.
    """
    with np.errstate(over="ignore"):
        steps = moved - start
    largest = float(np.max(np.abs(steps)))
    if not math.isfinite(largest):
        return False
    unit = int(np.frexp(largest)[1])
    squares = np.sum(np.ldexp(steps, -unit) ** 2, axis=1)
    total = Fraction(math.fsum(squares)) * (1 + (steps.shape[1] + 8) * Fraction(1, 2**53))
    return (total + Fraction(1, 2**1000)) * Fraction(4) ** unit <= radius**2 if largest else True


def _bent(
    network: Read, signs: np.ndarray, u: list[Fraction], start: np.ndarray, moved: np.ndarray
) -> Fraction:
    """A number at most ``|(J' - J)^T u|^2 / c^2``, for a smooth activation."""
    total = Fraction(0)
    for sign, old, new in zip(exact.vector(signs), exact.matrix(start), exact.matrix(moved), strict=True):
        low, high = _block(network, u, old, new)
        ends = zip(low, high, strict=True)
        total += sign**2 * sum((max(a, -b, Fraction(0)) ** 2 for a, b in ends), start=Fraction(0))
    return total


def _flipped(
    network: Read, signs: np.ndarray, u: list[Fraction], start: np.ndarray, moved: np.ndarray
) -> Fraction:
    """``|(J' - J)^T u|^2 / c^2 = sum_ij u_i u_j Kx_ij (sum_r a_r^2 d_ri d_rj)`` for relu."""
    x = network.inputs
    active = [(exact.products(rows, x)[0] > 0).astype(np.int64) for rows in (moved, start)]
    flips = active[0] - active[1]
    K = exact.product(network.x, exact.transposed(network.x))
    total = Fraction(0)
    for sign, _ in _counted(signs):
        of_size = flips[np.abs(signs) == float(sign)]
        counts = (of_size.T @ of_size).tolist()
        pairs = (
            p * q * K[i][j] * counts[i][j] for i, p in enumerate(u) for j, q in enumerate(u) if counts[i][j]
        )
        total += sign**2 * sum(pairs, start=Fraction(0))
    return total


def _counted(signs: np.ndarray) -> list[tuple[Fraction, int]]:
    """The different magnitudes, exactly, and how many have each."""
    sizes, counts = np.unique(np.abs(signs), return_counts=True)
    return list(zip(exact.vector(sizes), counts.tolist(), strict=True))


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
        return _multiple(ball.lower()), _multiple(ball.upper()) + _GRID


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


_GRID = Fraction(1, 2**2000)  # saturated slopes have exponents that would fill the memory


def _multiple(exact_ball: Any) -> Fraction:
    """The greatest multiple of `_GRID` that is not above it."""
    mantissa, exponent = (int(part) for part in exact_ball.man_exp())
    shift = -2000 - exponent
    return Fraction(mantissa >> min(shift, 10**6) if shift >= 0 else mantissa << -shift) * _GRID


# --- flips ------------------------------------------------------------------------------------------------

_UNIT = 2.0**-52  # twice the relative error of one rounding
_TINY = 2.0**-1010  # more than what underflow loses


def knapsack_holds(network: Read, weights: np.ndarray, multipliers: Any, radius: float, upper: float) -> str:
    """What fails of ``c^2 (mu R^2 + sum_r max_s (v_r(s) - mu s)) <= upper^2``, for each example.

    Weights and radius, inputs, and signs each in units of a power of two near the largest, so that nothing
    overflows. Scalar products are integers, rounded once. What follows is in floats: a cost has five
    roundings and is lowered by eight of these units, a value has ``n + 3`` of them and is raised by as many
    units, and a sum is that of `math.fsum`, raised. (The bound itself was raised by more, so a true one
    passes.)
    """
    mus = exact.vector(multipliers)
    if len(mus) != len(network.x) or min(mus) < 0:
        return "the multipliers are not numbers >= 0, one an example"
    x = network.inputs
    breadth, height = (int(np.frexp(np.max(np.abs(part)))[1]) for part in (x, network.signs))
    length = max(int(np.frexp(part)[1]) for part in (np.max(np.abs(weights)), radius))
    budget = Fraction(radius) ** 2 / Fraction(4) ** length
    costs = _costs(network, weights, x, length)
    K = exact.product(network.x, exact.transposed(network.x))
    sizes = np.abs(np.ldexp(network.signs, -height))
    for i, mu in enumerate(mus):
        rows = (costs[:, i] <= float(budget) * (1 + 2 * _UNIT) + _TINY) & (network.signs != 0)
        if K[i][i] and rows.any():
            magnitudes = np.array([float(abs(entry) / Fraction(4) ** breadth) for entry in K[i]])
            unit = mu * Fraction(4) ** (length - breadth - height)
            if Fraction(_as_float(unit)) != unit:
                return f"the multiplier of example {i} is out of range"
            gains = _gains(costs[rows], magnitudes, sizes[rows], i, float(unit), float(budget))
            total = Fraction(math.fsum(gains) * (1 + 8 * _UNIT)) + unit * budget
            if network.scale**2 * total * Fraction(4) ** (breadth + height) > Fraction(upper) ** 2:
                return f"the multiplier of example {i} proves no such upper side"
    return ""


def _as_float(value: Fraction) -> float:
    return 0.0 if value > Fraction(2) ** 1023 else float(value)


def _costs(network: Read, weights: np.ndarray, x: np.ndarray, length: int) -> np.ndarray:
    """``(w_r.x_i)^2/(4^length |x_i|^2)``, never too great; infinite at ``x_i = 0``."""
    _, sizes = exact.products(weights, x)
    units = exact.exponents(x)
    squares = [exact.dot(row, row) / Fraction(4) ** int(e) for row, e in zip(network.x, units, strict=True)]
    lengths = np.array([float(square) or 1.0 for square in squares])  # from 1/4 to the number of inputs
    costs = np.square(sizes) / lengths * (1 - 8 * _UNIT)
    costs = np.ldexp(costs, 2 * (exact.exponents(weights)[:, None] - length))
    costs = np.maximum(costs - _TINY, 0.0)
    costs[:, [not square for square in squares]] = math.inf
    return costs


def _gains(
    costs: np.ndarray, magnitudes: np.ndarray, signs: np.ndarray, i: int, mu: float, budget: float
) -> list[float]:
    """``max(0, max_s (a_r^2 sum { |K_ij| : cost of i and j <= s } - mu s))`` for each neuron."""
    joint = np.maximum(costs, costs[:, [i]])
    best = np.zeros(len(joint))
    for k in range(joint.shape[1]):
        cost = joint[:, k]
        value = (joint <= cost[:, None]) @ magnitudes * signs**2 * (1 + (len(magnitudes) + 3) * _UNIT)
        within = cost <= budget * (1 + 4 * _UNIT) + _TINY
        best[within] = np.maximum(best, value + _TINY - mu * np.where(within, cost, 0.0))[within]
    return best.tolist()
