"""The Kalman optimizer on dense matrices, with the places where filters differ open to a change."""

from __future__ import annotations

from typing import Any

import numpy as np

from .steps import ring_term
from .view import Knobs, NotApplicable, View, block_mask


def kalman_path(replay: Any, settings: dict[str, Any]) -> tuple[list[Any], Any]:
    """Deltas of every step, and the covariance after the last one."""
    knobs, noise = replay.knobs, replay.noise
    if settings["belief"] == "low_rank":
        raise NotApplicable
    theta, p = replay.theta, replay.theta.shape[0]
    p0 = {"inverted": 1.0 / settings["prior_variance"], "squared": settings["prior_variance"] ** 2}.get(
        knobs.get("prior"), settings["prior_variance"]
    )
    Y, start, deltas, reported = np.eye(p) / p0, theta, [], None
    for step in range(replay.case.steps):
        mean, Y = _predict(theta, start, Y, p0, settings, knobs, noise)
        for _ in range(2 if knobs.get("count") == "update repeated" else 1):
            view = replay.view(mean, step)
            before = Y
            Y, change = _update(view, Y, settings, knobs, noise)
            mean = mean + change
        if knobs.get("forgetting") == "after the update":
            Y = settings["forgetting"] * Y
        if knobs.get("process_noise") == "after the update":
            Y = _with_noise(Y, settings["process_noise"], noise)
        reported = before if knobs.get("covariance") == "before the update" else Y
        deltas.append(noise.entries(mean - theta))
        theta = mean
    return deltas, noise.entries(_inverse(reported, noise))


def _predict(
    theta: Any, start: Any, Y: Any, p0: float, settings: Any, knobs: Knobs, noise: Any
) -> tuple[Any, Any]:
    phi, q, eye = settings["forgetting"], settings["process_noise"], np.eye(Y.shape[0])
    how, mean = knobs.get("forgetting"), theta
    if how == "wrong side":
        phi = 1.0 / phi
    elif how in ("dropped", "after the update"):
        phi = 1.0
    elif how == "squared":
        phi = phi**2
    if knobs.get("process_noise") == "before forgetting":
        Y = _with_noise(Y, q, noise)
    Y = phi * Y
    if knobs.get("process_noise") is None:
        Y = _with_noise(Y, q, noise)
    if settings["forgetting_kind"] == "prior":
        back = (1.0 - phi) / p0
        Y = Y + back * eye
        if knobs.get("forgetting") != "mean kept":
            mean = theta - np.linalg.solve(noise.symmetric(Y), back * (theta - start))
    Y = Y + settings["information_increment"] * eye
    return mean, Y


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


def _update(view: View, Y: Any, settings: Any, knobs: Knobs, noise: Any) -> tuple[Any, Any]:
    n = view.outputs.shape[0]
    explicit = settings["regularization"] == "explicit"
    rho, eye = settings["rho"], np.eye(Y.shape[0])
    times = {"mean information": 1.0, "double": 2.0 * n}.get(knobs.get("count"), float(n))
    seen = times * (view.rows.T @ view.rows)
    g = (1.0 if knobs.get("count") == "mean gradient" else n) * view.gradient
    if knobs.get("count") == "double":
        g = 2.0 * g
    extra = np.zeros_like(Y)
    m = 1.0 if knobs.get("rho_place") == "without N" else n
    if rho > 0.0 and not explicit:
        extra = m * ring_term(view, rho, knobs) * eye
    elif rho > 0.0:
        H = view.hessian()
        extra = m * rho * (H if knobs.get("rho") == "H instead of its square" else H @ H)
        if knobs.get("rho") != "mean without H g":
            g = g + m * rho * (H @ view.gradient)
    joint = Y + seen + extra
    gain_of = Y if knobs.get("gain") == "before the update" else joint
    belief, projection = settings["belief"], settings["projection"] or "covariance"
    if knobs.get("belief") == "layers separate" and belief == "full":
        belief = "block_diagonal"
    if belief == "diagonal" and (projection == "precision") != (knobs.get("belief") == "other projection"):
        after = np.diag(np.diag(joint))
        return after, -g / np.diag(after if gain_of is joint else Y)
    if knobs.get("gain") == "first order":  # P - P B^T B P taken for the posterior covariance
        P = np.linalg.inv(Y)
        after = np.linalg.inv(P - P @ (seen + extra) @ P)
        return after, -np.linalg.solve(joint, g)
    delta = -np.linalg.solve(noise.symmetric(gain_of), noise.entries(g))
    if belief == "full":
        return joint, delta
    P = np.linalg.inv(noise.symmetric(joint))
    mask = block_mask(view.problem) if belief == "block_diagonal" else eye
    return np.linalg.inv(P * mask), delta


__all__ = ["kalman_path"]
