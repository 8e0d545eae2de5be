"""Steps of the Kalman optimizer in balls: information matrices, and the columns of a low-rank belief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NumericalError
from .library import load_flint
from .linear import scaled_identity
from .point import Point, linearize
from .projectors import projectors, unit_vector
from .second_order import hessian
from .structures import inverse, masked


class Steps(NamedTuple):
    """Columns (P, 1) of balls, and after the last step the belief's covariance."""

    deltas: list[Any]
    parameters: list[Any]
    covariance: Any


def kalman_steps(
    problem: Any, kind: str, theta: np.ndarray, plan: Sequence[tuple[Mapping[str, Any], tuple[Any, ...]]]
) -> Steps:
    """All steps; a structured belief is a mask of the joint posterior, or its largest columns."""
    flint = load_flint()
    mean = first = flint.arb_mat(len(theta), 1, theta.tolist())
    size = mean.nrows()

    def multiple(number: Any) -> Any:
        return scaled_identity(size, flint.arb(number))

    s = plan[0][0]
    Y, columns = multiple(1 / s["prior_variance"]), flint.arb_mat(size, 0)
    path: list[Any] = []
    deltas: list[Any] = []
    for s, batch in plan:
        before = mean
        Y, columns = Y * s["forgetting"], columns * flint.arb(s["forgetting"]).sqrt()
        if s["process_noise"] > 0:
            if columns.ncols() > 0 or s["belief"] == "low_rank":
                raise NumericalError("process noise in a low-rank belief is not enclosed")
            Y = inverse(inverse(Y) + multiple(s["process_noise"]))
        if s["forgetting_kind"] == "prior":
            returned = (1 - s["forgetting"]) / s["prior_variance"]
            Y = Y + multiple(returned)
            mean = mean - inverse(Y) * (mean - first) * returned
        predicted = Y + multiple(s["information_increment"])
        precision, step = flint.arb(0), mean * 0
        for iteration in range(s["iterations"]):
            point = linearize(problem, np.array((mean + step).entries(), dtype=object), batch[0], batch[1])
            n = point.examples
            if iteration == 0 and s["regularization"] == "implicit":
                precision = s["rho"] * n * (point.gradient.transpose() * point.gradient)[0, 0]
            seen, pull = _observed(point, s, kind, batch[2])
            joint = predicted + seen + multiple(precision)
            rows = point.cotangents(kind, batch[2]) * point.jacobian
            Y, kept, step = _posterior(point, s, joint, pull - seen * step, columns, rows)
        columns, mean = kept, mean + step
        deltas.append(mean - before)
        path.append(mean)
    return Steps(deltas, path, inverse(Y))


def _observed(point: Point, s: Mapping[str, Any], kind: str, samples: Any) -> tuple[Any, Any]:
    """Information and gradient of a batch, and of the gradient that explicit regularization observes."""
    g, n = point.gradient, point.examples
    seen, pull = point.jacobian.transpose() * (point.weights(kind, samples) * point.jacobian), g * n
    if s["rho"] > 0 and s["regularization"] == "explicit":
        H = hessian(point)
        seen, pull = seen + H * H * (s["rho"] * n), pull + H * g * (s["rho"] * n)
    return seen, pull


def _posterior(
    point: Point, s: Mapping[str, Any], joint: Any, pull: Any, columns: Any, rows: Any
) -> tuple[Any, Any, Any]:
    """The projected information, the columns of a low-rank one, and the step of the mean."""
    belief = s["belief"]
    if belief == "diagonal" and s["projection"] == "precision":
        Y = masked(point, joint, "diagonal")
        return Y, columns, -(inverse(Y) * pull)
    covariance = inverse(joint)
    step = -(covariance * pull)
    if belief == "low_rank":
        return *_truncated(point, joint, _beside(rows.transpose(), columns), s["rank"]), step
    if belief == "full":
        return joint, columns, step
    return masked(point, inverse(masked(point, covariance, belief)), belief), columns, step


def _truncated(point: Point, joint: Any, columns: Any, rank: int) -> tuple[Any, Any]:
    """Of the columns C the `rank` largest, and the information with the diagonal of the rest of ``C C^T``."""
    if columns.ncols() <= rank:
        return joint, columns
    largest = projectors("a low-rank belief", columns.transpose() * columns)[:rank]
    kept = load_flint().arb_mat(columns.nrows(), 0)
    for projector in largest:
        kept = _beside(kept, columns * unit_vector(projector))
    left = columns * columns.transpose() - kept * kept.transpose()
    return joint - left + masked(point, left, "diagonal"), kept


def _beside(left: Any, right: Any) -> Any:
    both = [x for a, b in zip(left.tolist(), right.tolist(), strict=True) for x in (*a, *b)]
    return load_flint().arb_mat(left.nrows(), left.ncols() + right.ncols(), both)
