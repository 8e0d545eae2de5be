"""Certified error radii: how far a stored array can be from the true value, entry by entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...certified import stage_enclosures
from .case import Case

# A recomputation by another version of the ball arithmetic may round the last bit of a radius otherwise.
_MARGIN = 1.0 + 2.0**-40


def certify(case: Case, *, precision: int = 256) -> Case:
    """The case with a radius for every expected array, or the reason why there is none.

    ``|expected - t| <= radius`` for the true value t of the exact inputs, by ball arithmetic of a second
    implementation; rounded upwards.
    """
    bounds, reasons = error_bounds(case, precision=precision)
    radii = {name: None if bound is None else np.asarray(bound * _MARGIN) for name, bound in bounds.items()}
    return replace(case, radii=radii, reasons=reasons)


def error_bounds(case: Case, *, precision: int = 256) -> tuple[dict[str, Any], dict[str, str]]:
    """Upper bounds of ``|expected - t|`` by name (None: not known), and the reasons of the latter."""
    found = stage_enclosures(
        case.problem(),
        case.theta,
        case.v,
        structure=case.curvature["structure"],
        kind=case.curvature["kind"],
        optimizer=case.optimizer,
        batches=[tuple(case.batch(step)) for step in range(case.steps)],
        wanted=case.stages,
        schedules=case.schedules,
        precision=precision,
    )
    bounds: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, array in case.expected.items():
        enclosure = found.enclosures.get(name)
        if enclosure is None:
            bounds[name], reasons[name] = None, found.reasons[name.split(".")[0]]
        else:
            bounds[name] = _distance(np.asarray(array), enclosure.midpoint, enclosure.radius)
    return bounds, reasons


def uncertified(case: Case, *, precision: int = 320) -> list[str]:
    """The names of the arrays that a new enclosure, at another precision, does not prove in their radius.

    Also those that are stored with a reason in place of a radius which can be had.
    """
    bounds, _ = error_bounds(case, precision=precision)
    found = []
    for name, bound in bounds.items():
        radius = case.radii.get(name)
        if radius is None or bound is None:
            proved = radius is None and bound is None
        else:
            proved = bool(np.all(bound <= radius))
        if not proved:
            found.append(name)
    return found


def _distance(stored: np.ndarray, midpoint: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """``|stored - midpoint| + radius``, rounded upwards; the radius itself where the two are equal."""
    gap = np.abs(stored - midpoint)
    total = np.nextafter(np.nextafter(gap, np.inf) + radius, np.inf)
    return np.where(gap == 0.0, radius, total)
