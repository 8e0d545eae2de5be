"""Steps of the optimizers in balls, from their formulas and plain settings: parameters, and a belief."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NumericalError
from .library import load_flint
from .linear import scaled_identity
from .point import Point, linearize
from .second_order import hessian, hessian_product
from .structures import BallCurvature, build, inverse, masked

Settings = Mapping[str, Any]
Rule = Callable[[Any, Settings, str, str, list[Any], "Batches"], Iterator[Any]]
Batches = Sequence[tuple[Any, Any, Any, Any]]  # x, y, samples, probes of every step


class Steps(NamedTuple):
    """Columns (P, 1) of balls, and after the last step the belief's covariance."""

    deltas: list[Any]
    parameters: list[Any]
    covariance: Any


def replay(
    problem: Any, settings: Settings, structure: str, kind: str, theta: np.ndarray, batches: Batches
) -> Steps:
    """All steps of an optimizer; every number of the settings is taken as the float that it is."""
    arb = load_flint().arb
    numbers = {k: arb(v) if isinstance(v, float) else v for k, v in settings.items()}
    if settings["name"] == "rkalman":
        return _kalman(problem, numbers, kind, theta, batches)
    methods: dict[str, Rule] = {"sgd": _sgd, "adamw": _adamw, "sophia": _sophia}
    rule: Rule = methods.get(settings["name"], _natural)
    deltas: list[Any] = []
    path: list[Any] = []
    place = _column(theta.tolist())
    current = [place]
    steps = rule(problem, numbers, structure, kind, current, batches)
    for delta in steps:
        current[0] = current[0] + delta
        deltas.append(delta)
        path.append(current[0])
    return Steps(deltas, path, None)


def _point(problem: Any, theta: Any, batch: tuple[Any, Any, Any, Any]) -> Point:
    return linearize(problem, np.array(theta.entries(), dtype=object), batch[0], batch[1])


def _natural(
    problem: Any, s: Settings, structure: str, kind: str, theta: list[Any], batches: Batches
) -> Iterator[Any]:
    """NGD, RING, RENG, K-FAC: ``-lr (C + a I)^{-1} u + momentum * previous - lr decay theta``."""
    kept: BallCurvature | None = None
    refreshes, previous = 0, None
    for step, batch in enumerate(batches):
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
            u = g + hessian_product(point, g) * s["rho"]
        moved = kept.solve(u, damping, s["damping_kind"]) * -s["lr"]
        if previous is not None:
            moved = moved + previous * s["momentum"]
        previous = moved
        yield moved - theta[0] * (s["lr"] * s["weight_decay"])


def _sgd(
    problem: Any, s: Settings, structure: str, kind: str, theta: list[Any], batches: Batches
) -> Iterator[Any]:
    """``b = mu b + g + w theta``; the step ``-lr b``, Nesterov's ``-lr (g + w theta + mu b)``."""
    buffer = None
    for batch in batches:
        v = _point(problem, theta[0], batch).gradient + theta[0] * s["weight_decay"]
        buffer = v if buffer is None else buffer * s["momentum"] + v
        yield (v + buffer * s["momentum"] if s["nesterov"] else buffer) * -s["lr"]


def _adamw(
    problem: Any, s: Settings, structure: str, kind: str, theta: list[Any], batches: Batches
) -> Iterator[Any]:
    """Kingma and Ba with decoupled decay, each sum written out."""
    past: list[list[Any]] = []
    b1, b2 = s["beta1"], s["beta2"]
    for t, batch in enumerate(batches, start=1):
        past.append(_point(problem, theta[0], batch).gradient.entries())
        entries = []
        for i, value in enumerate(theta[0].entries()):
            arb = load_flint().arb
            m = sum((b1 ** (t - 1 - k) * g[i] for k, g in enumerate(past)), start=arb(0))
            q = sum((b2 ** (t - 1 - k) * g[i] * g[i] for k, g in enumerate(past)), start=arb(0))
            mean, square = m * (1 - b1) / (1 - b1**t), q * (1 - b2) / (1 - b2**t)
            entries.append(-s["lr"] * (mean / (square.sqrt() + s["eps"]) + s["weight_decay"] * value))
        yield _column(entries)


def _sophia(
    problem: Any, s: Settings, structure: str, kind: str, theta: list[Any], batches: Batches
) -> Iterator[Any]:
    """``-lr (clip(m / max(gamma h, eps), 1) + w theta)``."""
    arb = load_flint().arb
    size = theta[0].nrows()
    m, h = [arb(0)] * size, [arb(0)] * size
    for step, batch in enumerate(batches):
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


def _kalman(problem: Any, s: Settings, kind: str, theta: np.ndarray, batches: Batches) -> Steps:
    """Information matrices throughout; a structured belief is a mask of the joint posterior."""
    flint = load_flint()
    mean = first = _column(theta.tolist())
    size = mean.nrows()

    def multiple(number: Any) -> Any:
        return scaled_identity(size, flint.arb(number))

    Y = multiple(1 / s["prior_variance"])
    path: list[Any] = []
    deltas: list[Any] = []
    seen = 0
    for batch in batches:
        before = mean
        Y = Y * s["forgetting"]
        if s["process_noise"] > 0:
            Y = inverse(inverse(Y) + multiple(s["process_noise"]))
        if s["forgetting_kind"] == "prior":
            returned = (1 - s["forgetting"]) / s["prior_variance"]
            Y = Y + multiple(returned)
            mean = mean - inverse(Y) * (mean - first) * returned
        Y = Y + multiple(s["information_increment"])
        point = _point(problem, mean, batch)
        g, n = point.gradient, point.examples
        weights = point.weights(kind, batch[2])
        joint, pull = Y + point.jacobian.transpose() * (weights * point.jacobian), g * n
        if s["rho"] > 0 and s["regularization"] == "implicit":
            joint = joint + multiple(s["rho"] * n * (g.transpose() * g)[0, 0])
        elif s["rho"] > 0:
            H = hessian(point)
            joint, pull = joint + H * H * (s["rho"] * n), (g + H * g * s["rho"]) * n
        seen += len(batch[0]) * len(point.terms[0].gradient)
        Y, step = _posterior(point, s, joint, pull, seen)
        mean = mean + step
        deltas.append(mean - before)
        path.append(mean)
    return Steps(deltas, path, inverse(Y))


def _posterior(point: Point, s: Settings, joint: Any, pull: Any, seen: int) -> tuple[Any, Any]:
    """The projected information and the step of the mean."""
    belief = s["belief"]
    if belief == "low_rank" and (s["process_noise"] > 0 or seen > (s["rank"] or 0)):
        raise NumericalError("the truncation of a low-rank belief is not enclosed: it needs singular vectors")
    if belief == "diagonal" and s["projection"] == "precision":
        Y = masked(point, joint, "diagonal")
        return Y, -(inverse(Y) * pull)
    covariance = inverse(joint)
    step = -(covariance * pull)
    if belief in ("full", "low_rank"):
        return joint, step
    return masked(point, inverse(masked(point, covariance, belief)), belief), step


def _column(entries: list[Any]) -> Any:
    return load_flint().arb_mat(len(entries), 1, entries)
