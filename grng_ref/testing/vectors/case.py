"""One test vector: a problem and a method described in plain data, inputs, and expected arrays with radii."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ... import beliefs, likelihoods, models, optimizers
from ...problem import Problem

LIKELIHOODS = {
    "gaussian": likelihoods.Gaussian,
    "categorical": likelihoods.Categorical,
    "bernoulli": likelihoods.Bernoulli,
    "poisson": likelihoods.Poisson,
}

# Every setting of every optimizer, with its value where a case does not say otherwise: a case holds them all,
# so that a reader needs no default of ours.
_CURVATURE_SETTINGS: dict[str, Any] = {
    "lr": 1.0,
    "damping": 0.125,
    "damping_kind": "exact",
    "ema": None,
    "refresh": 1,
    "momentum": 0.0,
    "weight_decay": 0.0,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ngd": _CURVATURE_SETTINGS,
    "ring": {**_CURVATURE_SETTINGS, "rho": 0.5},
    "reng": {**_CURVATURE_SETTINGS, "rho": 0.5, "hvp": "exact"},
    "kfac": {**_CURVATURE_SETTINGS, "damping_kind": "factored", "ema": 0.75, "momentum": 0.5},
    "rkalman": {
        "belief": "full",
        "projection": None,
        "rank": None,
        "prior_variance": 1.0,
        "forgetting": 1.0,
        "forgetting_kind": "plain",
        "process_noise": 0.0,
        "information_increment": 0.0,
        "rho": 0.0,
        "regularization": "implicit",
        "iterations": 1,
    },
    "sgd": {"lr": 0.125, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "adamw": {
        "lr": 0.125,
        "beta1": 0.875,
        "beta2": 0.96875,
        "eps": 2.0**-20,
        "weight_decay": 0.0625,
    },
    "sophia": {
        "lr": 0.125,
        "estimator": "gauss_newton_bartlett",
        "beta1": 0.875,
        "beta2": 0.96875,
        "gamma": 0.5,
        "eps": 2.0**-20,
        "refresh": 1,
        "weight_decay": 0.0,
    },
}
NATURAL = ("ngd", "ring", "reng", "kfac")


class Batch(NamedTuple):
    """What one step sees; the draws are None where the step uses none."""

    x: Any
    y: Any
    samples: Any
    probes: Any


@dataclass(frozen=True, eq=False)
class Case:
    """A test vector: what is computed, from what, and what must come out.

    Attributes
    ----------
    id : str
        Immutable, kebab-case.
    title, notes, source : str
    flags : tuple of str
        What is special, such as ``"saturated"``; ``"float64-only"`` where float32 cannot hold the numbers.
    network : mapping
        ``sizes``, ``activation``, ``bias``, ``parameterization``, ``scales``, ``frozen`` (indices; the
        matrices are the inputs ``frozen.<index>``).
    likelihood : mapping
        ``name``, and ``variance`` of a Gaussian.
    curvature : mapping
        ``structure`` and ``kind``.
    optimizer : mapping
        ``name`` and every setting, see `SETTINGS`.
    steps : int
        How many steps the stages `parameters` and `belief_mean` have.
    schedules : mapping of str to sequence of float
        Settings that change from step to step, one number a step; `optimizer` has those of the first step.
    inputs : mapping of str to array
        ``theta`` (P,), ``x`` (N, d), ``y``, ``v`` (P,); ``samples``, ``probes``, ``frozen.<i>`` where used;
        for more than one step ``batches.x`` and so on, with a leading axis of the steps, the first included.
    expected : mapping of str to array
        By stage; a stage of several arrays has names such as ``factors.0.A``.
    radii : mapping of str to array or None
        Of every expected array: ``|expected - true value|`` is at most this, proved, entry by entry.
    reasons : mapping of str to str
        Why an array has no radius.
    """

    id: str
    title: str
    flags: tuple[str, ...]
    notes: str
    source: str
    network: Mapping[str, Any]
    likelihood: Mapping[str, Any]
    curvature: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    steps: int
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any] = field(default_factory=dict)
    radii: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    schedules: Mapping[str, Sequence[float]] = field(default_factory=dict)

    # --- inputs --------------------------------------------------------------------------------------

    @property
    def theta(self) -> Any:
        """The flat parameters (P,) before the first step."""
        return self.inputs["theta"]

    @property
    def x(self) -> Any:
        """The inputs (N, d) of the first batch."""
        return self.inputs["x"]

    @property
    def y(self) -> Any:
        """The labels of the first batch: (N,) integers for a categorical likelihood, else (N, K)."""
        return self.inputs["y"]

    @property
    def v(self) -> Any:
        """A vector (P,) for products and solves."""
        return self.inputs["v"]

    @property
    def samples(self) -> Any:
        """Labels (M, N) or (M, N, K) in place of draws from the model; None where none are used."""
        return self.inputs.get("samples")

    @property
    def probes(self) -> Any:
        """Directions (M, P) in place of normal draws; None where none are used."""
        return self.inputs.get("probes")

    def batch(self, step: int) -> Batch:
        """What a step sees; a step between two refreshes gets no draws."""
        if not 0 <= step < self.steps:
            raise ValueError(f"step must lie in 0..{self.steps - 1}, got {step}")
        drawn = step % self.optimizer.get("refresh", 1) == 0
        samples, probes = (self._of_step(name, step) if drawn else None for name in ("samples", "probes"))
        return Batch(self._of_step("x", step), self._of_step("y", step), samples, probes)

    def _of_step(self, name: str, step: int) -> Any:
        stacked = self.inputs.get(f"batches.{name}")
        return self.inputs.get(name) if stacked is None else stacked[step, ...]

    # --- settings ------------------------------------------------------------------------------------

    def settings(self, step: int) -> dict[str, Any]:
        """The optimizer's name and settings at a step."""
        return {**self.optimizer, **{name: values[step] for name, values in self.schedules.items()}}

    @property
    def lr(self) -> float | None:
        """The step size, of the first step; None where the optimizer has none."""
        return self.optimizer.get("lr")

    @property
    def damping(self) -> float | None:
        """The constant damping; None where the optimizer has none."""
        return self.optimizer.get("damping")

    @property
    def damping_kind(self) -> str | None:
        """``"exact"`` or ``"factored"``; None where the optimizer has no damping."""
        return self.optimizer.get("damping_kind")

    @property
    def rho(self) -> float | None:
        """The gradient regularization; None where the optimizer has none."""
        return self.optimizer.get("rho")

    # --- the case as objects of this package ---------------------------------------------------------

    def problem(self) -> Problem:
        """The network and the likelihood."""
        described = {**self.network}
        frozen = {int(index): self.inputs[f"frozen.{index}"] for index in described.pop("frozen", ())}
        arguments = {**self.likelihood}
        likelihood = LIKELIHOODS[arguments.pop("name")](**arguments)
        described["sizes"] = tuple(described["sizes"])
        return Problem(models.MLP(**described, frozen=frozen or None), likelihood)

    def build_optimizer(self) -> optimizers.Optimizer:
        """The optimizer, of this package."""
        problem, settings = self.problem(), {**self.optimizer}
        settings |= {name: tuple(values).__getitem__ for name, values in self.schedules.items()}
        name = settings.pop("name")
        if name in NATURAL:
            settings |= self.curvature if name != "kfac" else {"kind": self.curvature["kind"]}
        if name == "kfac":
            del settings["damping_kind"]  # always factored
        elif name == "rkalman":
            settings["belief"] = self._belief(problem, settings.pop("projection"), settings.pop("rank"))
            settings["kind"] = self.curvature["kind"]
        elif "beta1" in settings:
            settings["betas"] = (settings.pop("beta1"), settings.pop("beta2"))
        return getattr(optimizers, name)(problem, **settings)

    def _belief(self, problem: Problem, projection: str | None, rank: int | None) -> Any:
        """The name of a belief, or the belief where the name alone does not say all."""
        named, prior = self.optimizer["belief"], self.optimizer["prior_variance"]
        if named == "diagonal" and projection is not None:
            return beliefs.diagonal_belief(self.theta, prior_variance=prior, projection=projection)
        if named == "low_rank" and rank is not None:
            return beliefs.low_rank_belief(self.theta, prior_variance=prior, rank=rank)
        return named

    # --- results -------------------------------------------------------------------------------------

    def stage(self, name: str) -> Any:
        """The expected array of a stage; a tuple of arrays, or of pairs (A, G), for a stage of several.

        Raises
        ------
        KeyError
            The case has no such stage.
        """
        if name in self.expected:
            return self.expected[name]
        parts = [key for key in self.expected if key.startswith(f"{name}.")]
        if not parts:
            raise KeyError(f"case {self.id} has no stage {name!r}; it has {', '.join(self.stages)}")
        count = 1 + max(int(key.split(".")[1]) for key in parts)
        if name == "factors":
            return tuple(
                (self.expected[f"{name}.{i}.A"], self.expected[f"{name}.{i}.G"]) for i in range(count)
            )
        return tuple(self.expected[f"{name}.{i}"] for i in range(count))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that the case has expected arrays of, in order."""
        return tuple(dict.fromkeys(key.split(".")[0] for key in self.expected))

    def astype(self, dtype: str) -> Case:
        """The case with its floating inputs in another NumPy dtype; the expected arrays stay."""

        def cast(array: Any) -> Any:
            return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

        return replace(self, inputs={name: cast(array) for name, array in self.inputs.items()})
