"""A case computed anew by dense matrices, with named changes and with perturbations.

Unchanged and unperturbed it gives the expected values (a test compares the two); perturbed it says how far
roundings move them; changed it says what an implementation with a certain defect would give.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ...arrays import NumericalError
from . import kalman, layouts, solves, steps
from .knobs import Knobs, resolved
from .noise import Noise, Silence
from .view import SCALES, NotApplicable, View, perturbed

NATURAL = ("ngd", "ring", "reng", "kfac")
UNFACTORED = ("full", "block_diagonal", "diagonal", "unitwise")  # structures without two factors to damp


class Replay:
    """The stages of a case under a mapping of changes (`Knobs`)."""

    def __init__(self, case: Any, knobs: Knobs | None = None, noise: Noise | None = None) -> None:
        self.case, self.noise, self.original = case, noise or Silence(), case.problem()
        self.knobs = resolved(knobs or {}, type(self.original.likelihood).__name__)
        self.structure = "kfac" if case.optimizer["name"] == "kfac" else case.curvature["structure"]
        _leave_out_place(self.knobs, self.structure, damping_kind(case))
        self.problem = perturbed(self.original, self.knobs, self.noise)
        self.theta = np.asarray(case.theta, dtype=np.float64)
        if "read_layout" in self.knobs:
            self.theta = layouts.reordered(self.original, self.theta, self.knobs["read_layout"])

    def view(self, theta: Any, step: int) -> View:
        """What a step sees at theta."""
        batch = self.case.batch(step) if self.case.steps > 1 else self.case
        samples = batch.samples if batch.samples is not None else self.case.samples
        curvature = self.case.curvature
        data = (theta, np.asarray(batch.x, dtype=np.float64), _labels(batch.y), _labels(samples))
        return View(self.problem, curvature["kind"], self.structure, self.knobs, self.noise, data)

    @cached_property
    def first(self) -> View:
        """What the first step sees."""
        return self.view(self.theta, 0)

    @cached_property
    def path(self) -> tuple[list[Any], Any]:
        """Deltas of all steps; the covariance of a Kalman belief."""
        settings = dict(self.case.optimizer)
        name = settings["name"]
        if name in NATURAL:
            return steps.natural_path(self, settings), None
        if name == "rkalman":
            return kalman.kalman_path(self, settings)
        return {"sgd": steps.sgd_path, "adamw": steps.adamw_path, "sophia": steps.sophia_path}[name](
            self, settings
        ), None

    def stage(self, name: str) -> tuple[Any, ...]:
        """The arrays of a stage, in the order of the case's names."""
        with np.errstate(all="ignore"):
            try:
                arrays = getattr(self, f"_{name}")()
            except (np.linalg.LinAlgError, NumericalError):
                raise NotApplicable from None
        arrays = tuple(np.asarray(a, dtype=np.float64) for a in arrays)
        if name in self.knobs.get("stage.scale", {}):
            n, k = self.first.outputs.shape
            arrays = tuple(SCALES[self.knobs["stage.scale"][name]](n, k) * a for a in arrays)
        if self.knobs.get("stage.transposed") == name:
            arrays = tuple(np.swapaxes(a, -1, -2) for a in arrays if a.ndim > 1)
        if "layout" in self.knobs:
            arrays = tuple(
                layouts.stage_reordered(self.original, name, a, self.knobs["layout"]) for a in arrays
            )
        return arrays

    def _outputs(self) -> Any:
        return (self.first.outputs,)

    def _loss(self) -> Any:
        return (self.first.loss,)

    def _gradient(self) -> Any:
        return (self.first.gradient,)

    def _jacobian(self) -> Any:
        return (self.first.jacobian,)

    def _activations(self) -> Any:
        return self.first.layers[0]

    def _score_signals(self) -> Any:
        return self.first.layers[1]

    def _score_rows(self) -> Any:
        return (self.first.rows,)

    def _fisher(self) -> Any:
        return (self.first.rows.T @ self.first.rows,)

    def _factors(self) -> Any:
        pairs = self.first.factors
        if self.knobs.get("pair") == "swapped":
            pairs = [(G, A) for A, G in pairs]
        return [matrix for pair in pairs for matrix in pair]

    def _curvature_product(self) -> Any:
        return (self.noise.entries(self.first.dense @ self.noise.entries(self.v)),)

    @property
    def v(self) -> Any:
        """The vector of products and solves."""
        return np.asarray(self.case.v, dtype=np.float64)

    def _damped_solve(self) -> Any:
        view, settings = self.first, self.case.optimizer
        C = view.factors if view.structure == "kfac" else view.dense
        kind = "factored" if view.structure == "tridiagonal_kfac" else damping_kind(self.case)
        a = solves.damping_of(settings["damping"], self.knobs, view)
        return (solves.damped_solve(view, C, self.v, a, kind, self.knobs, self.noise),)

    def _hvp(self) -> Any:
        return (self.first.hvp(self.v),)

    def _regularized_gradient(self) -> Any:
        return (steps.regularized(self.first, self.case.rho or 0.0, self.knobs),)

    def _delta(self) -> Any:
        return (self.path[0][0],)

    def _parameters(self) -> Any:
        return (self.noise.entries(self.theta + np.cumsum(np.stack(self.path[0]), axis=0)),)

    def _belief_mean(self) -> Any:
        return self._parameters()

    def _belief_covariance(self) -> Any:
        return (self.path[1],)


def damping_kind(case: Any) -> str:
    """Where the case puts its damping: on the product (``exact``) or on the factors."""
    if case.optimizer["name"] == "kfac" or case.curvature["structure"] == "tridiagonal_kfac":
        return "factored"
    return case.optimizer.get("damping_kind") or "exact"


def _leave_out_place(knobs: dict[str, Any], structure: str, kind: str) -> None:
    """Without two factors a damping has one place; what is said of others does not concern the case."""
    place = knobs.get("damping_place")
    if place == kind or (place != "multiplicative" and knobs.get("structure", structure) in UNFACTORED):
        knobs.pop("damping_place", None)


def _labels(y: Any) -> Any:
    if y is None:
        return None
    y = np.asarray(y)
    return y if np.issubdtype(y.dtype, np.integer) else y.astype(np.float64)
