"""Enclosures of every stage of a computation, from stored inputs to parameters and beliefs after steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import NumericalError
from .description import read_network
from .enclosure import Enclosure, enclose
from .library import check_precision, load_flint, working_precision
from .point import Point, linearize, rows_of_layers
from .replay import Batches, replay
from .second_order import hessian_product
from .structures import build

Found = dict[str, tuple[Any, tuple[int, ...]]]  # balls and the shape of the array


@dataclass(frozen=True, eq=False)
class StageEnclosures:
    """What could be enclosed, by name, and for the rest the reason."""

    enclosures: dict[str, Enclosure]
    reasons: dict[str, str]


def stage_enclosures(
    problem: Any,
    theta: np.ndarray,
    v: np.ndarray,
    *,
    structure: str,
    kind: str,
    optimizer: Mapping[str, Any],
    batches: Batches,
    wanted: Collection[str],
    schedules: Mapping[str, Sequence[float]] | None = None,
    precision: int = 256,
) -> StageEnclosures:
    """Enclosures of the stages of one computation, by names such as ``fisher`` or ``factors.0.A``.

    The formulas are those of the documentation of the test vectors; with J the Jacobian of the outputs and W
    their weights, ``F = J^T W J / N``, and every structure is a mask of F, a Kronecker product, or the
    recursion that defines it, solved as a dense matrix.

    Parameters
    ----------
    problem : gr.Problem
        Its data is read, as by `network_enclosure`.
    theta, v : array (P,)
    structure, kind : str
        Of the curvature.
    optimizer : mapping
        ``name`` and its settings, all numbers.
    batches : sequence of (x, y, samples, probes)
        One a step.
    wanted : collection of str
        Stages, without indices.
    schedules : mapping of str to sequence of float, optional
        Settings that change from step to step: one number a step.
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    StageEnclosures

    Raises
    ------
    TypeError, ValueError, BackendError
        As `network_enclosure`.

    Notes
    -----
    Source: classical; the updates as their optimizers state them.
    """
    bits = check_precision(precision)
    read_network(problem, theta)
    enclosures: dict[str, Enclosure] = {}
    reasons: dict[str, str] = {}
    x, y, samples, _ = batches[0]
    with working_precision(bits):
        point = linearize(problem, theta, x, y)
        plan = [
            {**optimizer, **{name: values[step] for name, values in (schedules or {}).items()}}
            for step in range(len(batches))
        ]
        settings = plan[0]
        groups: list[tuple[tuple[str, ...], Callable[[], Found]]] = [
            (("outputs", "loss", "gradient", "jacobian", "activations"), lambda: _network(point)),
            (("score_signals", "score_rows", "fisher"), lambda: _fisher(point, kind, samples)),
            (("factors",), lambda: _factors(point, structure, kind, samples)),
            (("curvature_product",), lambda: _product(point, structure, kind, samples, v)),
            (("damped_solve",), lambda: _solve(point, structure, kind, samples, v, settings)),
            (("hvp",), lambda: {"hvp": (hessian_product(point, _column(v)), v.shape)}),
            (("regularized_gradient",), lambda: _regularized(point, settings)),
            (
                ("delta", "parameters", "belief_mean", "belief_covariance"),
                lambda: _steps(problem, plan, structure, kind, theta, batches),
            ),
        ]
        for names, make in groups:
            if set(names) & set(wanted):
                try:
                    made = {k: b for k, b in make().items() if k.split(".")[0] in wanted}
                    enclosures |= {k: enclose(k, balls, shape) for k, (balls, shape) in made.items()}
                except NumericalError as error:
                    reasons |= {name: str(error) for name in names if name in wanted}
    return StageEnclosures(enclosures, reasons)


def _network(point: Point) -> Found:
    n, k, p = point.examples, point.network.num_outputs, point.jacobian.ncols()
    found: Found = {
        "outputs": (point.trace.outputs, (n, k)),
        "loss": (point.loss, ()),
        "gradient": (point.gradient, (p,)),
        "jacobian": (point.jacobian, (n, k, p)),
    }
    return found | {f"activations.{i}": (a, (n, a.ncols())) for i, a in enumerate(point.inputs)}


def _fisher(point: Point, kind: str, samples: Any) -> Found:
    cotangents = point.cotangents(kind, samples)
    count, n, p = cotangents.nrows(), point.examples, point.jacobian.ncols()
    signals = [cotangents * d for d in point.signals]
    rows = rows_of_layers(point.inputs, signals, count // n) / load_flint().arb(n).sqrt()
    found: Found = {f"score_signals.{i}": (d, (n, count // n, d.ncols())) for i, d in enumerate(signals)}
    return found | {
        "score_rows": (rows, (count, p)),
        "fisher": (build(point, "full", kind, samples).matrix, (p, p)),
    }


def _factors(point: Point, structure: str, kind: str, samples: Any) -> Found:
    found: Found = {}
    for i, (a, g) in enumerate(build(point, structure, kind, samples).factors):
        found |= {f"factors.{i}.A": (a, (a.nrows(),) * 2), f"factors.{i}.G": (g, (g.nrows(),) * 2)}
    return found


def _product(point: Point, structure: str, kind: str, samples: Any, v: np.ndarray) -> Found:
    return {"curvature_product": (build(point, structure, kind, samples).product(_column(v)), v.shape)}


def _solve(
    point: Point, structure: str, kind: str, samples: Any, v: np.ndarray, s: Mapping[str, Any]
) -> Found:
    damping = load_flint().arb(s["damping"])
    solved = build(point, structure, kind, samples).solve(_column(v), damping, s["damping_kind"])
    return {"damped_solve": (solved, v.shape)}


def _regularized(point: Point, s: Mapping[str, Any]) -> Found:
    g = point.gradient
    balls = g + hessian_product(point, g) * load_flint().arb(s["rho"])
    return {"regularized_gradient": (balls, (g.nrows(),))}


def _steps(
    problem: Any,
    plan: list[dict[str, Any]],
    structure: str,
    kind: str,
    theta: np.ndarray,
    batches: Batches,
) -> Found:
    arb_mat = load_flint().arb_mat
    steps = replay(problem, plan, structure, kind, theta, batches)
    p, count = len(theta), len(batches)
    path = arb_mat([column.entries() for column in steps.parameters])
    found: Found = {"delta": (steps.deltas[0], (p,)), "parameters": (path, (count, p))}
    if steps.covariance is not None:
        found |= {"belief_mean": (path, (count, p)), "belief_covariance": (steps.covariance, (p, p))}
    return found


def _column(v: np.ndarray) -> Any:
    return load_flint().arb_mat(len(v), 1, v.tolist())
