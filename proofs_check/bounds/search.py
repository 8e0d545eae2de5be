"""Search for parameters in a ball at which the Jacobian has changed much; floats, nothing is proved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grng_ref.models.activations import find_activation

from .two_layer import TwoLayer

_INSIDE = 1.0 - 1e-10  # of the radius: rounding of the moved weights must not leave the ball
_MOST_MOVED = 1024  # neurons, for smooth activations: the proof evaluates each in balls
_ASCENT = 20
_SMOOTH_STEPS = (0.05, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


class Move(NamedTuple):
    """New weights (k, d) of some neurons (k,), and a unit vector u (n,) that shows the change."""

    neurons: np.ndarray
    weights: np.ndarray
    direction: np.ndarray


def find_move(network: TwoLayer, weights: np.ndarray, x: np.ndarray, radius: float) -> Move | None:
    """The best move found; None if no neuron can be moved to any effect."""
    used = np.flatnonzero(np.any(np.abs(x) > 1e-90, axis=1))  # the squares of others may vanish
    if not len(used) or radius == 0.0 or not _moderate(weights, x, network.signs, radius):
        return None
    propose = _flips if network.activation == "relu" else _smooth_moves
    best, most = None, 0.0
    with np.errstate(over="ignore"):  # of gains over costs, which are only compared
        candidates = propose(network, weights, x, radius * _INSIDE, used)
    for candidate in candidates:
        if network.activation != "relu" and len(candidate[0]):
            candidate = _ascend(network, weights, x, radius * _INSIDE, *candidate)
        size, direction = _change(network, weights, x, *candidate)
        if size > most:
            best, most = Move(*candidate, direction), size
    return best


def _moderate(weights: np.ndarray, x: np.ndarray, signs: np.ndarray, radius: float) -> bool:
    """Whether squares and products stay far inside the range of float64."""
    sizes = [float(np.max(np.abs(part))) for part in (weights, x, signs)]
    return max(*sizes, radius) < 1e70


# --- greedy starts ----------------------------------------------------------------------------------------

Moved = tuple[np.ndarray, np.ndarray]  # neurons, their new weights


def _flips(network: TwoLayer, w: np.ndarray, x: np.ndarray, radius: float, used: np.ndarray) -> list[Moved]:
    """Cheapest flips first: at one example, and spread over the examples."""
    z = w @ x[used].T
    squares = np.sum(x[used] ** 2, axis=1)
    margin = 1e-9 * np.abs(z) + 1e-13 * (np.abs(w) @ np.abs(x[used]).T) + 1e-300
    shift = np.where(z > 0.0, -z - margin, margin - z)  # of w.x
    costs = shift**2 / squares
    gains = network.signs[:, None] ** 2 * squares
    alone = [_fill(costs[:, [k]], gains[:, [k]], radius)[0] for k in range(len(used))]
    best = sorted(range(len(used)), key=lambda k: -float(np.sum(gains[alone[k], k])))[:2]
    plans = [(alone[k], np.full(len(alone[k]), k)) for k in best] + [_fill(costs, gains, radius)]
    return [(rows, w[rows] + (shift[rows, k] / squares[k])[:, None] * x[used[k]]) for rows, k in plans]


def _fill(costs: np.ndarray, gains: np.ndarray, radius: float) -> Moved:
    """One option a neuron, by its ratio of gain to cost, the best first, while the budget lasts."""
    ratios = gains / np.maximum(costs, 1e-300)
    option = np.argmax(ratios, axis=1)
    rows = np.arange(len(costs))
    order = np.argsort(-ratios[rows, option])
    order = order[gains[order, option[order]] > 0.0]
    spent = np.cumsum(costs[order, option[order]])
    taken = order[: int(np.searchsorted(spent, radius**2, side="right"))]
    return taken, option[taken]


def _smooth_moves(
    network: TwoLayer, w: np.ndarray, x: np.ndarray, radius: float, used: np.ndarray
) -> list[Moved]:
    """Moves along one example each, of the size that changes act' most for its cost."""
    slope = find_activation(network.activation).first
    sizes = np.array([s for s in (*_SMOOTH_STEPS, radius) if s <= radius])
    steps = np.concatenate([sizes, -sizes])
    lengths = np.linalg.norm(x, axis=1)
    moves = []
    for k in sorted(used, key=lambda i: -lengths[i])[:2]:
        z = w @ x[k]
        gains = (slope(z[:, None] + steps * lengths[k]) - slope(z)[:, None]) ** 2 * network.signs[
            :, None
        ] ** 2
        rows, option = _fill(np.broadcast_to(steps**2, gains.shape), gains, radius)
        rows, option = rows[:_MOST_MOVED], option[:_MOST_MOVED]
        moves.append((rows, w[rows] + (steps[option] / lengths[k])[:, None] * x[k]))
    return moves


# --- ascent -----------------------------------------------------------------------------------------------


def _ascend(
    network: TwoLayer, w: np.ndarray, x: np.ndarray, radius: float, rows: np.ndarray, moved: np.ndarray
) -> Moved:
    """Frank-Wolfe for the square of the change on the ball, with a step that is halved until it gains."""
    bend = find_activation(network.activation).second
    start = w[rows]
    size, u = _change(network, w, x, rows, moved)
    for _ in range(_ASCENT):
        blocks = _blocks(network, start, moved, x, u)
        inner = (blocks @ x.T) * bend(moved @ x.T) * u
        gradient = network.signs[rows, None] ** 2 * (inner @ x)
        length = float(np.linalg.norm(gradient))
        if not 0.0 < length < np.inf:
            break
        target = start + radius / length * gradient
        for share in (1.0, 0.5, 0.25, 0.1, 0.03):
            trial = moved + share * (target - moved)
            better, direction = _change(network, w, x, rows, trial)
            if better > size:
                moved, size, u = trial, better, direction
                break
        else:
            break
    return rows, moved


def _blocks(
    network: TwoLayer, before: np.ndarray, after: np.ndarray, x: np.ndarray, u: np.ndarray
) -> np.ndarray:
    """``sum_i u_i (act'(w'_r.x_i) - act'(w_r.x_i)) x_i`` (k, d)."""
    slope = find_activation(network.activation).first
    return ((slope(after @ x.T) - slope(before @ x.T)) * u) @ x


def _change(
    network: TwoLayer, w: np.ndarray, x: np.ndarray, rows: np.ndarray, moved: np.ndarray
) -> tuple[float, np.ndarray]:
    """The spectral norm of the change over c, and its left singular vector."""
    slope = find_activation(network.activation).first
    changes = network.signs[rows, None] * (slope(moved @ x.T) - slope(w[rows] @ x.T))
    values, vectors = np.linalg.eigh((x @ x.T) * (changes.T @ changes))
    return float(np.sqrt(max(values[-1], 0.0))), vectors[:, -1]
