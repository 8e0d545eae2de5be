"""Steps of the optimizers in balls, from their formulas and plain settings: parameters, and a belief."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .filtering import Steps, kalman_steps
from .library import load_flint
from .point import Point, linearize
from .second_order import hessian_product
from .structures import BallCurvature, build

Settings = Mapping[str, Any]
Batches = Sequence[tuple[Any, Any, Any, Any]]  # x, y, samples, probes of every step
Plan = Sequence[tuple[Settings, tuple[Any, Any, Any, Any]]]  # the settings and the batch of every step
Rule = Callable[[Any, str, str, list[Any], Plan], Iterator[Any]]


def replay(
    problem: Any, settings: Sequence[Settings], structure: str, kind: str, theta: np.ndarray, batches: Batches
) -> Steps:
    """All steps of an optimizer; every number of the settings of a step is taken as the float that it is."""
    arb = load_flint().arb
    numbers = [{k: arb(v) if isinstance(v, float) else v for k, v in one.items()} for one in settings]
    plan, name = list(zip(numbers, batches, strict=True)), settings[0]["name"]
    if name == "rkalman":
        return kalman_steps(problem, kind, theta, plan)
    methods: dict[str, Rule] = {"sgd": _sgd, "adamw": _adamw, "sophia": _sophia}
    rule: Rule = methods.get(name, _natural)
    deltas: list[Any] = []
    path: list[Any] = []
    place = _column(theta.tolist())
    current = [place]
    steps = rule(problem, structure, kind, current, plan)
    for delta in steps:
        current[0] = current[0] + delta
        deltas.append(delta)
        path.append(current[0])
    return Steps(deltas, path, None)


def _point(problem: Any, theta: Any, batch: tuple[Any, Any, Any, Any]) -> Point:
    return linearize(problem, np.array(theta.entries(), dtype=object), batch[0], batch[1])


def _natural(problem: Any, structure: str, kind: str, theta: list[Any], plan: Plan) -> Iterator[Any]:
    """NGD, RING, RENG, K-FAC: ``-lr (C + a I)^{-1} u + momentum * previous - lr decay theta``."""
    kept: BallCurvature | None = None
    refreshes, previous = 0, None
    for step, (s, batch) in enumerate(plan):
        point = _point(problem, theta[0], batch)
        g = point.gradient
        if kept is None or step % s["refresh"] == 0:
            new, refreshes = build(point, structure, kind, batch[2]), refreshes + 1
            if kept is None or s["ema"] is None:
                kept = new
            else:
                kept = kept.average(new, (1 - s["ema"]) / (1 - s["ema"] ** refreshes))
        damping, u = s["damping"], g
        if s["name"] == "ring":
            damping = damping + s["rho"] * (g.transpose() * g)[0, 0]
        elif s["name"] == "reng":
            exact = s["hvp"] == "exact"
            product = hessian_product(point, g) if exact else _difference(problem, theta[0], batch, g)
            u = g + product * s["rho"]
        moved = kept.solve(u, damping, s["damping_kind"]) * -s["lr"]
        if previous is not None:
            moved = moved + previous * s["momentum"]
        previous = moved
        yield moved - theta[0] * (s["lr"] * s["weight_decay"])


def _sgd(problem: Any, structure: str, kind: str, theta: list[Any], plan: Plan) -> Iterator[Any]:
    """``b = mu b + g + w theta``; the step ``-lr b``, Nesterov's ``-lr (g + w theta + mu b)``."""
    buffer = None
    for s, batch in plan:
        v = _point(problem, theta[0], batch).gradient + theta[0] * s["weight_decay"]
        buffer = v if buffer is None else buffer * s["momentum"] + v
        yield (v + buffer * s["momentum"] if s["nesterov"] else buffer) * -s["lr"]


def _adamw(problem: Any, structure: str, kind: str, theta: list[Any], plan: Plan) -> Iterator[Any]:
    """Kingma and Ba with decoupled decay, each sum written out."""
    past: list[list[Any]] = []
    for t, (s, batch) in enumerate(plan, start=1):
        b1, b2 = s["beta1"], s["beta2"]
        past.append(_point(problem, theta[0], batch).gradient.entries())
        entries = []
        for i, value in enumerate(theta[0].entries()):
            arb = load_flint().arb
            m = sum((b1 ** (t - 1 - k) * g[i] for k, g in enumerate(past)), start=arb(0))
            q = sum((b2 ** (t - 1 - k) * g[i] * g[i] for k, g in enumerate(past)), start=arb(0))
            mean, square = m * (1 - b1) / (1 - b1**t), q * (1 - b2) / (1 - b2**t)
            entries.append(-s["lr"] * (mean / (square.sqrt() + s["eps"]) + s["weight_decay"] * value))
        yield _column(entries)


def _sophia(problem: Any, structure: str, kind: str, theta: list[Any], plan: Plan) -> Iterator[Any]:
    """``-lr (clip(m / max(gamma h, eps), 1) + w theta)``."""
    arb = load_flint().arb
    size = theta[0].nrows()
    m, h = [arb(0)] * size, [arb(0)] * size
    for step, (s, batch) in enumerate(plan):
        point = _point(problem, theta[0], batch)
        if step % s["refresh"] == 0:
            estimate = _estimate(problem, s["estimator"], point, theta[0], batch)
            h = [s["beta2"] * a + (1 - s["beta2"]) * b for a, b in zip(h, estimate, strict=True)]
        g = point.gradient.entries()
        m = [s["beta1"] * a + (1 - s["beta1"]) * b for a, b in zip(m, g, strict=True)]
        ratios = [a / (s["gamma"] * b).max(s["eps"]) for a, b in zip(m, h, strict=True)]
        clipped = [ratio.min(arb(1)).max(arb(-1)) for ratio in ratios]
        values = theta[0].entries()
        yield _column([-s["lr"] * (c + s["weight_decay"] * v) for c, v in zip(clipped, values, strict=True)])


def _estimate(problem: Any, estimator: str, point: Point, theta: Any, batch: tuple[Any, ...]) -> list[Any]:
    x, _, samples, probes = batch
    if estimator == "hutchinson":
        pairs = [(_column(u.tolist()), hessian_product(point, _column(u.tolist()))) for u in probes]
    else:
        gradients = [_point(problem, theta, (x, labels, None, None)).gradient for labels in samples]
        pairs = [(g, g * len(x)) for g in gradients]
    columns = zip(
        *([a * b for a, b in zip(u.entries(), w.entries(), strict=True)] for u, w in pairs), strict=True
    )
    return [sum(column, start=load_flint().arb(0)) / len(pairs) for column in columns]


def _difference(problem: Any, theta: Any, batch: tuple[Any, ...], g: Any) -> Any:
    """``(g(theta + h g/|g|) - g) |g|/h``, ``h = 2^-26 (1 + |theta|)``: of the root of float64's eps."""
    size, length = ((v.transpose() * v)[0, 0].sqrt() for v in (g, theta))
    h = (1 + length) / 2**26
    return (_point(problem, theta + g * (h / size), batch).gradient - g) * (size / h)


def _column(entries: list[Any]) -> Any:
    return load_flint().arb_mat(len(entries), 1, entries)
