"""The Kalman optimizer on dense matrices, with the places where filters differ open to a change."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...arrays.linalg import left_singular
from .steps import ring_term, settings_at
from .view import Knobs, NotApplicable, View, block_mask


class _Belief(NamedTuple):
    """The information, and the columns W of a low-rank one, ``Y = diag + W W^T``."""

    Y: Any
    columns: Any


class _Seen(NamedTuple):
    """What a batch adds, linearised at a point."""

    information: Any  # of the rows
    gradient: Any  # a sum over the examples
    rows: Any


def kalman_path(replay: Any, settings: dict[str, Any]) -> tuple[list[Any], Any]:
    """Deltas of every step, and the covariance after the last one."""
    knobs, noise = replay.knobs, replay.noise
    theta, p = replay.theta, replay.theta.shape[0]
    p0 = {"inverted": 1.0 / settings["prior_variance"], "squared": settings["prior_variance"] ** 2}.get(
        str(knobs.get("prior")), settings["prior_variance"]
    )
    belief, start, deltas, reported = _Belief(np.eye(p) / p0, np.zeros((p, 0))), theta, [], None
    for step in range(replay.case.steps):
        settings = settings_at(replay, step)
        mean, belief = _predict(theta, start, belief, p0, settings, knobs, noise)
        for _ in range(2 if knobs.get("count") == "update repeated" else 1):
            before = belief
            belief, change = _condition(replay, step, mean, belief, settings)
            mean = mean + change
        if knobs.get("forgetting") == "after the update":
            belief = _forgotten(belief, settings["forgetting"])
        if knobs.get("process_noise") == "after the update":
            belief = belief._replace(Y=_with_noise(belief.Y, settings["process_noise"], noise))
        reported = (before if knobs.get("covariance") == "before the update" else belief).Y
        deltas.append(noise.entries(mean - theta))
        theta = mean
    return deltas, noise.entries(_inverse(reported, noise))


def _forgotten(belief: _Belief, phi: float) -> _Belief:
    return _Belief(phi * belief.Y, phi**0.5 * belief.columns)


def _predict(
    theta: Any, start: Any, belief: _Belief, p0: float, settings: Any, knobs: Knobs, noise: Any
) -> tuple[Any, _Belief]:
    phi, q, eye = settings["forgetting"], settings["process_noise"], np.eye(belief.Y.shape[0])
    if settings["belief"] == "low_rank" and q > 0.0:
        raise NotApplicable
    how, mean = knobs.get("forgetting"), theta
    if how == "wrong side":
        phi = 1.0 / phi
    elif how in ("dropped", "after the update"):
        phi = 1.0
    elif how == "squared":
        phi = phi**2
    if knobs.get("process_noise") == "before forgetting":
        belief = belief._replace(Y=_with_noise(belief.Y, q, noise))
    Y, columns = _forgotten(belief, phi)
    if knobs.get("process_noise") is None:
        Y = _with_noise(Y, q, noise)
    if settings["forgetting_kind"] == "prior":
        back = (1.0 - phi) / p0
        Y = Y + back * eye
        if knobs.get("forgetting") != "mean kept":
            mean = theta - np.linalg.solve(noise.symmetric(Y), back * (theta - start))
    return mean, _Belief(Y + settings["information_increment"] * eye, columns)


def _inverse(Y: Any, noise: Any) -> Any:
    """The inverse; of a diagonal matrix entry by entry, which is as accurate as its entries."""
    d = np.diag(Y)
    if np.count_nonzero(Y - np.diag(d)) == 0:
        return np.diag(1.0 / noise.entries(d))
    return np.linalg.inv(noise.symmetric(Y))


def _with_noise(Y: Any, q: float, noise: Any) -> Any:
    if q == 0.0:
        return Y
    return _inverse(_inverse(Y, noise) + q * np.eye(Y.shape[0]), noise)


def _condition(replay: Any, step: int, mean: Any, predicted: _Belief, settings: Any) -> tuple[_Belief, Any]:
    """The posterior and the step, by the iterations of the filter, each from the predicted belief."""
    iterations = settings["iterations"]
    how = replay.knobs.get("iterations") if iterations > 1 else None
    delta, precision, belief = 0.0 * mean, 0.0, predicted
    for iteration in range(1 if how == "ignored" else iterations):
        view = replay.view(mean + delta, step)
        if iteration == 0 or how == "counted":
            precision = _precision(view, settings, replay.knobs)
        seen = _observed(view, settings, replay.knobs)
        if how == "counted":
            belief, change = _posterior(view, belief, seen, precision, settings)
            delta = delta + change
            continue
        offset = seen.information @ delta
        if how == "no pull":
            offset = 0.0 * offset
        belief, change = _posterior(
            view, predicted, seen._replace(gradient=seen.gradient - offset), precision, settings
        )
        delta = delta + change if how == "no pull" else change
    return belief, delta


def _precision(view: View, settings: Any, knobs: Knobs) -> float:
    """What implicit regularization adds to the information, times I."""
    if settings["rho"] == 0.0 or settings["regularization"] == "explicit":
        return 0.0
    n = 1.0 if knobs.get("rho_place") == "without N" else view.outputs.shape[0]
    return float(n * ring_term(view, settings["rho"], knobs))


def _observed(view: View, settings: Any, knobs: Knobs) -> _Seen:
    n, rho = view.outputs.shape[0], settings["rho"]
    times = {"mean information": 1.0, "double": 2.0 * n}.get(str(knobs.get("count")), float(n))
    rows = np.sqrt(times) * view.rows
    information, g = rows.T @ rows, (1.0 if knobs.get("count") == "mean gradient" else n) * view.gradient
    if knobs.get("count") == "double":
        g = 2.0 * g
    if rho > 0.0 and settings["regularization"] == "explicit":
        m = 1.0 if knobs.get("rho_place") == "without N" else n
        H = view.hessian()
        information = information + m * rho * (H if knobs.get("rho") == "H instead of its square" else H @ H)
        if knobs.get("rho") != "mean without H g":
            g = g + m * rho * (H @ view.gradient)
    return _Seen(information, g, rows)


def _posterior(
    view: View, before: _Belief, seen: _Seen, precision: float, settings: Any
) -> tuple[_Belief, Any]:
    """The projected posterior and the step of the mean."""
    knobs, noise, Y, g = view.knobs, view.noise, before.Y, seen.gradient
    eye = np.eye(Y.shape[0])
    joint = Y + seen.information + precision * eye
    gain_of = Y if knobs.get("gain") == "before the update" else joint
    belief, projection = settings["belief"], settings["projection"] or "covariance"
    if knobs.get("belief") == "layers separate" and belief == "full":
        belief = "block_diagonal"
    if belief == "diagonal" and (projection == "precision") != (knobs.get("belief") == "other projection"):
        after = np.diag(np.diag(joint))
        return before._replace(Y=after), -g / np.diag(after if gain_of is joint else Y)
    if knobs.get("gain") == "first order":  # P - P B^T B P taken for the posterior covariance
        P = np.linalg.inv(Y)
        after = np.linalg.inv(P - P @ (joint - Y) @ P)
        return before._replace(Y=after), -np.linalg.solve(joint, g)
    delta = -np.linalg.solve(noise.symmetric(gain_of), noise.entries(g))
    if belief == "full":
        return before._replace(Y=joint), delta
    if belief == "low_rank":
        return _truncated(before, seen, joint, settings["rank"], knobs, noise), delta
    P = np.linalg.inv(noise.symmetric(joint))
    mask = block_mask(view.problem) if belief == "block_diagonal" else eye
    return before._replace(Y=np.linalg.inv(P * mask)), delta


def _truncated(before: _Belief, seen: _Seen, joint: Any, rank: int, knobs: Knobs, noise: Any) -> _Belief:
    """The largest columns, and the diagonal of the rest."""
    columns = noise.entries(np.concatenate([seen.rows.T, before.columns], axis=1))
    vectors, values = left_singular(columns)
    columns = vectors * values
    kept, left = columns[:, :rank], columns[:, rank:]
    rest = 0.0 if knobs.get("low_rank") == "rest dropped" else np.diag(np.sum(left * left, axis=1))
    return _Belief(joint - left @ left.T + rest, kept)


__all__ = ["kalman_path"]
