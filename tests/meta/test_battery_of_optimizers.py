"""The contract battery of optimizers must catch what is planted here, and name the property violated."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import grng_ref as gr
from grng_ref.optimizers import NaturalGradient, NaturalState, Sophia
from grng_ref.testing import check_optimizer, optimizers

pytestmark = pytest.mark.slow


def kfac(problem):
    return gr.ngd(problem, lr=0.5, damping=0.1, structure="kfac", kind="monte_carlo", seed=3)


def sophia(problem):
    return gr.sophia(problem, lr=0.5, estimator="hutchinson", refresh=1, seed=3)


def planted(kind, original=kfac):
    """A factory of mutated optimizers: K-FAC, which draws labels, or Sophia-H, which draws probes."""

    def make(problem):
        base = original(problem)
        return kind(**{field.name: getattr(base, field.name) for field in dataclasses.fields(base)})

    make.__qualname__ = kind.__name__
    return make


class HiddenMomentum(NaturalGradient):
    """State in the optimizer."""

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = super().update(theta, state, x, y, samples=samples, probes=probes)
        delta = delta + 0.9 * vars(self).get("last", 0.0)
        object.__setattr__(self, "last", delta)
        return delta, state, info


class SeedOffByOne(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        if samples is None:
            rng = np.random.default_rng([self.seed, state.step + 1])
            samples = self.problem.sample(theta, x, rng=rng)
        return super().update(theta, state, x, y, samples=samples, probes=probes)


class SameDraws(NaturalGradient):
    """A seed where the seed and the step are meant."""

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        if samples is None:
            samples = self.problem.sample(theta, x, rng=self.seed)
        return super().update(theta, state, x, y, samples=samples, probes=probes)


class IgnoresSamples(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        return super().update(theta, state, x, y, probes=probes)


class IgnoresUnusedProbes(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        return super().update(theta, state, x, y, samples=samples)


class PromotingStep(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = super().update(theta, state, x, y, samples=samples, probes=probes)
        return delta.astype(np.float64), state, info


class StepInPlace(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = super().update(theta, state, x, y, samples=samples, probes=probes)
        theta += delta
        return delta, state, info


class LossAfterTheStep(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = super().update(theta, state, x, y, samples=samples, probes=probes)
        return delta, state, info._replace(loss=float(self.problem.loss(theta + delta, x, y)))


class StepOfTheOtherSign(NaturalGradient):
    def step(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = self.update(theta, state, x, y, samples=samples, probes=probes)
        return theta - delta, state, info


class AnyState(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        state = state if isinstance(state, NaturalState) else NaturalState(0)
        return super().update(theta, state, x, y, samples=samples, probes=probes)


class StandingStill(NaturalGradient):
    """The step number never moves."""

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, _, info = super().update(theta, state, x, y, samples=samples, probes=probes)
        return delta, state, info


class SwallowsNaN(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        return super().update(theta, state, np.nan_to_num(x), y, samples=samples, probes=probes)


class SilentOverflow(NaturalGradient):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = super().update(
            theta, state, np.clip(x, -1e10, 1e10), y, samples=samples, probes=probes
        )
        return (delta if np.max(np.abs(x)) < 1e10 else math.nan * delta), state, info


class SophiaIgnoresProbes(Sophia):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        return super().update(theta, state, x, y, samples=samples)


class SophiaSameProbes(Sophia):
    def update(self, theta, state, x, y, *, samples=None, probes=None):
        if probes is None:
            probes = np.random.default_rng(self.seed).standard_normal((1, theta.size))
        return super().update(theta, state, x, y, samples=samples, probes=probes)


@dataclass(frozen=True)
class StateWithObject(NaturalState):
    extra: Any = dataclasses.field(default_factory=object)


class UnsavableState(NaturalGradient):
    def init(self, theta):
        return StateWithObject(super().init(theta).step)


def unseeded():
    """A factory whose optimizers have seeds of their own."""
    seeds = iter(range(10**6))
    return lambda problem: gr.ngd(problem, lr=0.5, damping=0.1, kind="monte_carlo", seed=next(seeds))


OPTIMIZER_MUTANTS = [
    (planted(HiddenMomentum), "update_is_pure"),
    (planted(SeedOffByOne), "draws_follow_the_seed"),
    (planted(SameDraws), "draws_differ_between_steps"),
    (planted(IgnoresSamples), "draws_are_repeatable"),
    (planted(IgnoresUnusedProbes), "unused_draws_are_refused"),
    (planted(SophiaIgnoresProbes, sophia), "draws_are_repeatable"),
    (planted(SophiaSameProbes, sophia), "draws_differ_between_steps"),
    (planted(PromotingStep), "delta_has_the_kind_of_theta"),
    (planted(StepInPlace), "update_is_pure"),
    (planted(LossAfterTheStep), "info_is_that_of_the_problem"),
    (planted(StepOfTheOtherSign), "step_is_update_added_to_theta"),
    (planted(AnyState), "foreign_state_is_refused"),
    (planted(StandingStill), "info_is_that_of_the_problem"),
    (planted(SwallowsNaN), "bad_arguments_are_refused"),
    (planted(SilentOverflow), "overflow_is_an_error"),
    (planted(UnsavableState), "saved_state_continues_identically"),
    (unseeded(), "equal_optimizers_take_equal_steps"),
]


@pytest.mark.parametrize(
    ("mutant", "property_"),
    OPTIMIZER_MUTANTS,
    ids=[m.__qualname__.split(".")[0] for m, _ in OPTIMIZER_MUTANTS],
)
def test_mutated_optimizer_is_caught(caught, mutant, property_):
    dtype = "float32" if mutant.__qualname__ == "PromotingStep" else "float64"
    assert property_ in caught(check_optimizer, mutant, dtype=dtype)


def test_every_property_has_a_mutant():
    assert {p.__name__ for p in optimizers.PROPERTIES} == {property_ for _, property_ in OPTIMIZER_MUTANTS}
