"""Whether a case says what can be computed: inputs that fit its network, expected arrays of the right shapes.

A file with a right checksum may still hold nonsense; it is refused when it is read, not where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import NumericalError
from ...problem import Problem
from .case import Case
from .stages import applies


def require_sound(case: Case) -> None:
    """Refuses a case whose parts do not fit together.

    Raises
    ------
    ValueError
        A network, a likelihood or settings that there are not; inputs that are missing, not finite, or do not
        fit; expected arrays or radii of unknown names or of wrong shapes; a radius that is negative or NaN.
    """
    try:
        problem = case.problem()
        _check_inputs(case, problem)
        case.build_optimizer()
        _check_expected(case, problem)
    except KeyError as error:
        raise ValueError(f"case {case.id} lacks {error}") from error
    except (ValueError, TypeError, NumericalError) as error:
        raise ValueError(f"case {case.id}: {error}") from error


def require_complete(case: Case) -> None:
    """Refuses a case that lacks a stage, or an array of it, that its network and method have.

    Raises
    ------
    ValueError
        It names what is missing.
    """
    stages = applies(case)
    needed = [name for name in _shapes(case, case.problem()) if name.split(".")[0] in stages]
    for name in needed:
        if name not in case.expected:
            raise ValueError(f"lacks the expected array {name!r}")
    for name in case.expected:
        if name not in needed:
            raise ValueError(f"has the expected array {name!r}, which does not apply to it")


def _check_inputs(case: Case, problem: Problem) -> None:
    for name, array in case.inputs.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"the input {name!r} is not finite")
    vector = (problem.num_parameters,)
    for name, array, shape in (("theta", case.theta, vector), ("v", case.v, vector)):
        if array.shape != shape:
            raise ValueError(f"the input {name!r} has shape {array.shape}, needed is {shape}")
    for name in ("x", "y", "samples", "probes"):
        stacked = case.inputs.get(f"batches.{name}")
        if stacked is None:
            continue
        if stacked.shape[:1] != (case.steps,):
            raise ValueError(
                f"the input 'batches.{name}' needs {case.steps} steps, got shape {stacked.shape}"
            )
        if not np.array_equal(stacked[0, ...], case.inputs[name]):
            raise ValueError(f"the first step of the input 'batches.{name}' must be the input {name!r}")
    for step in range(case.steps):
        batch = case.batch(step)
        for labels in (batch.y, *(() if batch.samples is None else batch.samples)):
            problem.loss(case.theta, batch.x, labels)
        if batch.probes is not None and batch.probes.shape[1:] != vector:
            raise ValueError(f"the input 'probes' has shape {batch.probes.shape}, needed is (M, {vector[0]})")


def _check_expected(case: Case, problem: Problem) -> None:
    shapes = _shapes(case, problem)
    for name, array in case.expected.items():
        if name not in shapes:
            raise ValueError(f"the expected array {name!r} is none of its stages")
        radius = case.radii.get(name)
        for what, found in (("expected array", array), ("radius", array if radius is None else radius)):
            if found.shape != shapes[name]:
                raise ValueError(f"the {what} {name!r} has shape {found.shape}, needed is {shapes[name]}")
        if radius is not None and not np.all(radius >= 0.0):
            raise ValueError(f"the radius {name!r} has entries that are no number or negative")


def _shapes(case: Case, problem: Problem) -> dict[str, tuple[int, ...]]:
    """The shape of every array that a case can have."""
    n, p = case.x.shape[0], problem.num_parameters
    k = problem.model.sizes[-1]
    kind = case.curvature["kind"]
    columns = {"expected": k, "empirical": 1}
    rows = columns[kind] if kind in columns else case.inputs["samples"].shape[0]
    layers = [problem.model.shapes[index] for index in problem.model.trainable]
    found: dict[str, Any] = {"outputs": (n, k), "loss": (), "gradient": (p,), "jacobian": (n, k, p)}
    found |= {f"activations.{i}": (n, shape[1]) for i, shape in enumerate(layers)}
    found |= {f"score_signals.{i}": (n, rows, shape[0]) for i, shape in enumerate(layers)}
    found |= {"score_rows": (n * rows, p), "fisher": (p, p)}
    for i, (d_out, d_in) in enumerate(layers):
        found |= {f"factors.{i}.A": (d_in, d_in), f"factors.{i}.G": (d_out, d_out)}
    found |= dict.fromkeys(
        ("curvature_product", "damped_solve", "hvp", "regularized_gradient", "delta"), (p,)
    )
    return found | {
        "parameters": (case.steps, p),
        "belief_mean": (case.steps, p),
        "belief_covariance": (p, p),
    }
