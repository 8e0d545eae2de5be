"""The optimizers' steps on dense matrices, with the places where implementations differ open to a change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .noise import Noise
from .solves import Average, damped_solve, damping_of
from .view import Knobs, NotApplicable, View, block_mask, kronecker_dense


def settings_at(replay: Any, step: int) -> dict[str, Any]:
    """The settings of a step; of the first one, where schedules are ignored."""
    ignored = replay.case.schedules and replay.knobs.get("schedule") == "ignored"
    return dict(replay.case.settings(0 if ignored else step))


def ring_term(view: View, rho: float, knobs: Knobs) -> Any:
    """What RING adds to the damping: a number, or one number a parameter."""
    g, how = view.gradient, knobs.get("rho")
    n = view.outputs.shape[0]
    square = float(g @ g)
    options = {
        None: rho * square,
        "dropped": 0.0,
        "norm": rho * math.sqrt(square),
        "half": 0.5 * rho * square,
        "twice": 2.0 * rho * square,
        "squared": rho**2 * square,
        "mean square": rho * square / g.shape[0],
        "summed gradient": rho * square * n**2,
        "over N": rho * square / n,
        "negative": -rho * square,
    }
    if how == "per example":
        each = view.problem.per_example_gradients(view.theta, view.x, view.y)
        return rho * float(np.mean(np.sum(each * each, axis=1)))
    return options[how] if how in options else options[None]


def regularized(view: View, rho: float, knobs: Knobs, hvp: str = "exact") -> Any:
    """``g + rho H g``, or what stands in for it."""
    g, how = view.gradient, knobs.get("rho")
    product = view.difference() if hvp == "finite_difference" and "hvp" not in knobs else view.hvp(g)
    factor = {
        None: rho,
        "half": 0.5 * rho,
        "twice": 2.0 * rho,
        "negative": -rho,
        "squared": rho**2,
        "dropped": 0.0,
    }
    if how == "norm":  # gradient of the norm instead of half its square
        return g + rho * product / max(np.linalg.norm(g), 1e-300)
    if how == "over N":
        return g + rho * product / view.outputs.shape[0]
    moved = factor.get(how, rho) * product
    return view.noise.entries(moved if how == "gradient left out" else g + moved)


def natural_direction(view: View, C: Any, settings: dict[str, Any], knobs: Knobs, noise: Noise) -> Any:
    """``(C + a I)^{-1} v`` of NGD, RING, RENG and K-FAC, before the step size."""
    a, v, rho = damping_of(settings["damping"], knobs, view), view.gradient, settings.get("rho") or 0.0
    kind = "factored" if settings["name"] == "kfac" else (settings["damping_kind"] or "exact")
    if view.structure == "tridiagonal_kfac":
        kind = "factored"
    if settings["name"] == "ring":
        if knobs.get("rho") == "per layer":
            return _per_layer(view, C, v, a, rho, kind, knobs, noise)
        extra = ring_term(view, rho, knobs)
        a = extra if knobs.get("rho_place") == "replaces damping" else a + extra
    if settings["name"] == "reng":
        v = regularized(view, rho, knobs, settings["hvp"])
    if knobs.get("place") == "gradient not preconditioned":
        return v
    return damped_solve(view, C, v, a, kind, knobs, noise)


def _per_layer(
    view: View, C: Any, v: Any, a: float, rho: float, kind: str, knobs: Knobs, noise: Noise
) -> Any:
    """Each layer damped by the norm of its own gradient."""
    if kind != "exact":
        raise NotApplicable
    M = kronecker_dense(C, knobs) if isinstance(C, list) else C
    mask = block_mask(view.problem)
    squares = mask @ (v * v)
    return np.linalg.solve(noise.symmetric(M + np.diag(a + rho * squares)), noise.entries(v))


def applied(delta: Any, knobs: Knobs) -> Any:
    """The step as it is added to theta."""
    return -delta if knobs.get("applied") == "negated" else delta


def natural_path(replay: Any, settings: dict[str, Any]) -> Any:
    """Deltas of every step of NGD, RING, RENG, K-FAC."""
    knobs, noise = replay.knobs, replay.noise
    average = Average(settings["ema"], settings["refresh"], knobs)
    theta, previous, deltas = replay.theta, None, []
    older: Any = None
    for step in range(replay.case.steps):
        settings, view = settings_at(replay, step), replay.view(theta, step)
        current = average.at(step, view)
        C = older if knobs.get("refresh") == "one step late" and older is not None else current
        older = current
        d = natural_direction(view, C, settings, knobs, noise)
        delta, previous = _moved(settings, knobs, d, theta, previous)
        deltas.append(applied(delta, knobs))
        theta = theta + deltas[-1]
    return deltas


def _moved(settings: dict[str, Any], knobs: Knobs, d: Any, theta: Any, previous: Any) -> tuple[Any, Any]:
    lr, mu, decay = settings["lr"], settings["momentum"], settings["weight_decay"]
    sign = 1.0 if knobs.get("step") == "sign" else -1.0
    eta = {"lr left out": 1.0, "lr twice": lr * lr}.get(str(knobs.get("step")), lr)
    how = knobs.get("momentum")
    moved = sign * eta * d
    if previous is not None and how != "none":
        moved = moved * ((1.0 - mu) if how == "dampened" else 1.0) + mu * previous
    elif how == "dampened" and mu > 0.0:
        moved = moved * (1.0 - mu)
    delta = (
        moved + mu * moved - mu * (previous if previous is not None else 0.0) if how == "nesterov" else moved
    )
    weight = {"none": 0.0, "without lr": decay, "sign": -lr * decay}.get(str(knobs.get("decay")), lr * decay)
    total = delta - weight * theta if decay > 0.0 else delta
    return total, (total if knobs.get("decay") == "in momentum" else moved)


def sgd_path(replay: Any, settings: dict[str, Any]) -> Any:
    """Deltas of SGD."""
    knobs, mu = replay.knobs, settings["momentum"]
    theta, buffer, deltas = replay.theta, None, []
    nesterov = settings["nesterov"] != (knobs.get("momentum") == "nesterov")
    for step in range(replay.case.steps):
        lr, view = settings_at(replay, step)["lr"], replay.view(theta, step)
        decay = {"none": 0.0, "sign": -settings["weight_decay"]}.get(
            str(knobs.get("decay")), settings["weight_decay"]
        )
        v = view.gradient + (0.0 if knobs.get("decay") == "decoupled" else decay) * theta
        if knobs.get("momentum") == "none":
            buffer = v
        elif knobs.get("momentum") == "dampened":
            buffer = (1.0 - mu) * v + (0.0 if buffer is None else mu * buffer)
        else:
            buffer = v if buffer is None else mu * buffer + v
        delta = -_eta(lr, knobs) * (v + mu * buffer if nesterov and mu > 0 else buffer)
        if knobs.get("decay") == "decoupled":
            delta = delta - lr * decay * theta
        deltas.append(applied(replay.noise.entries(delta), knobs))
        theta = theta + deltas[-1]
    return deltas


def _eta(lr: float, knobs: Knobs) -> float:
    return {"lr left out": 1.0, "lr twice": lr * lr, "sign": -lr}.get(str(knobs.get("step")), lr)


def adamw_path(replay: Any, settings: dict[str, Any]) -> Any:
    """Deltas of AdamW."""
    knobs, eps = replay.knobs, settings["eps"]
    b1, b2 = settings["beta1"], settings["beta2"]
    if knobs.get("betas") == "swapped":
        b1, b2 = b2, b1
    how, decay_how, decay = knobs.get("ema"), knobs.get("decay"), settings["weight_decay"]
    theta, m, s, deltas = replay.theta, 0.0, 0.0, []
    for t in range(1, replay.case.steps + 1):
        lr, g = settings_at(replay, t - 1)["lr"], replay.view(theta, t - 1).gradient
        if decay_how == "coupled":
            g = g + decay * theta
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
        power = 2 if how == "corrected twice" else 1
        first = 1.0 if how in ("uncorrected", "first uncorrected") else (1 - b1**t) ** power
        second = 1.0 if how in ("uncorrected", "second uncorrected") else (1 - b2**t) ** power
        scale = np.sqrt(s / second + eps) if knobs.get("eps") == "inside" else np.sqrt(s / second) + eps
        if knobs.get("eps") == "uncorrected root":
            scale = (np.sqrt(s) + eps) / math.sqrt(second)
        weight = {"none": 0.0, "coupled": 0.0, "without lr": decay, "sign": -lr * decay}.get(
            str(decay_how), lr * decay
        )
        deltas.append(replay.noise.entries(-_eta(lr, knobs) * (m / first / scale) - weight * theta))
        deltas[-1] = applied(deltas[-1], knobs)
        theta = theta + deltas[-1]
    return deltas


def sophia_path(replay: Any, settings: dict[str, Any]) -> Any:
    """Deltas of Sophia-G and Sophia-H."""
    knobs, gamma, eps = replay.knobs, settings["gamma"], settings["eps"]
    b1, b2 = settings["beta1"], settings["beta2"]
    if knobs.get("betas") == "swapped":
        b1, b2 = b2, b1
    theta, m, h, deltas = replay.theta, 0.0, 0.0, []
    for step in range(replay.case.steps):
        lr, view = settings_at(replay, step)["lr"], replay.view(theta, step)
        m = b1 * m + (1 - b1) * view.gradient
        refresh = 1 if knobs.get("refresh") == "every step" else settings["refresh"]
        if step % refresh == 0 and not (knobs.get("refresh") == "only first" and step > 0):
            h = b2 * h + (1 - b2) * sophia_estimate(view, settings, knobs, replay.case.batch(step))
        corrected = knobs.get("ema") == "corrected"
        mhat = m / (1 - b1 ** (step + 1)) if corrected else m
        hhat = h / (1 - b2 ** (step // refresh + 1)) if corrected else h
        bound = np.maximum((1.0 if knobs.get("gamma") == "left out" else gamma) * hhat, eps)
        if knobs.get("eps") == "added":
            bound = np.maximum(gamma * hhat, 0.0) + eps
        step_part = mhat / bound if knobs.get("clip") == "none" else np.clip(mhat / bound, -1.0, 1.0)
        deltas.append(
            replay.noise.entries(-_eta(lr, knobs) * step_part) - lr * settings["weight_decay"] * theta
        )
        deltas[-1] = applied(deltas[-1], knobs)
        theta = theta + deltas[-1]
    return deltas


def sophia_estimate(view: View, settings: dict[str, Any], knobs: Knobs, batch: Any) -> Any:
    """The estimate of the Hessian's diagonal."""
    n = view.outputs.shape[0]
    if settings["estimator"] == "hutchinson":
        if batch.probes is None:
            raise NotApplicable
        return np.mean([u * view.hvp(u) for u in batch.probes], axis=0)
    labels = [view.y] if knobs.get("kind") == "empirical" else batch.samples
    if labels is None:
        raise NotApplicable
    squares = [view.problem.gradient(view.theta, view.x, y) ** 2 for y in labels]
    return (1.0 if knobs.get("sophia") == "without N" else n) * np.mean(squares, axis=0)
