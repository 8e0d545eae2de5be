"""The contract battery of beliefs must catch what is planted here, and name the property violated."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import grng_ref as gr
from grng_ref.testing import beliefs, check_belief


def root_of(information):
    return np.linalg.cholesky(information).T.copy()


class PreUpdateInformation(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, _ = super().update(rows, gradient, targets=targets, precision=precision)
        return after, -np.linalg.solve(self.information(), gradient)


class ForgettingOnTheWrongSide(gr.FullBelief):
    """``P <- forgetting P + noise I``."""

    def predict(self, *, forgetting=1.0, **motion):
        super().predict(forgetting=forgetting, **motion)
        return gr.FullBelief(self.root / math.sqrt(forgetting)).predict(**motion)


class NoiseOnTheInformation(gr.FullBelief):
    def predict(self, *, noise=0.0, **motion):
        moved = super().predict(**motion)
        super().predict(noise=noise)
        return type(self)(root_of(moved.information() + noise * np.eye(self.size)))


class ForgetsPrecision(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        super().update(rows, gradient, targets=targets, precision=precision)
        return super().update(rows, gradient, targets=targets)


class MeanOverObservations(gr.FullBelief):
    """Counts a batch as one observation."""

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        super().update(rows, gradient, targets=targets, precision=precision)
        m = len(rows)
        targets = None if targets is None else targets / math.sqrt(m)
        after, step = super().update(rows / math.sqrt(m), gradient / m, targets=targets, precision=precision)
        return type(self)(after.root), step


class TargetsOfTheOtherSign(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        flipped = None if targets is None else -targets
        return super().update(rows, gradient, targets=flipped, precision=precision)


class UpdatesInPlace(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, step = super().update(rows, gradient, targets=targets, precision=precision)
        self.root[...] = after.root
        return self, step


class CovarianceOfTheRoot(gr.FullBelief):
    """R^T R where its inverse is meant."""

    def covariance(self):
        return self.information()


class ForgetsWithoutBeingAsked(gr.FullBelief):
    def predict(self, *, forgetting=1.0, **motion):
        return super().predict(forgetting=0.99 * forgetting, **motion)


class ForgettingAboveOne(gr.FullBelief):
    def predict(self, *, forgetting=1.0, **motion):
        return super().predict(forgetting=min(forgetting, 1.0), **motion)


class TransitionOfTheWrongSide(gr.FullBelief):
    """``A^T P A``."""

    def predict(self, *, transition=None, **motion):
        turned = None if transition is None else transition.T
        return super().predict(transition=turned, **motion)


class NoiseBeforeTheTransition(gr.FullBelief):
    """``A (P + Q) A^T / forgetting``."""

    def predict(self, *, transition=None, noise=0.0, **motion):
        super().predict(transition=transition, noise=noise, **motion)
        return super().predict(noise=noise).predict(transition=transition, **motion)


class OffsetAsNoise(gr.FullBelief):
    """An uncertain offset: its square on the covariance."""

    def predict(self, *, offset=None, noise=0.0, **motion):
        moved = super().predict(offset=offset, noise=noise, **motion)
        return moved if offset is None else moved.predict(noise=offset[:, None] * offset[None, :])


class NothingSeenWithoutRows(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, step = super().update(rows, gradient, targets=targets, precision=precision)
        return (after, step) if len(rows) else (self, 0.0 * step)


class SpreadOfTheLabels(gr.FullBelief):
    """``rows P rows^T + I``."""

    def observed_covariance(self, rows):
        return super().observed_covariance(rows) + np.eye(len(rows))


class PromotingUpdate(gr.FullBelief):
    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, step = super().update(rows, gradient, targets=targets, precision=precision)
        return after, step.astype(np.float64)


class RandomJitter(gr.FullBelief):
    stream = np.random.default_rng(0)

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, step = super().update(rows, gradient, targets=targets, precision=precision)
        return after, step * (1.0 + 1e-12 * self.stream.standard_normal())


class ForgetsAtEveryUpdate(gr.FullBelief):
    """Forgetting belongs to the prediction."""

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        root = math.sqrt(0.5) * self.root
        return gr.FullBelief(root).update(rows, gradient, targets=targets, precision=precision)


@dataclass(frozen=True, eq=False)
class UnsavableBelief(gr.FullBelief):
    extra: Any = dataclasses.field(default_factory=object)

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        after, step = super().update(rows, gradient, targets=targets, precision=precision)
        return type(self)(after.root), step


BELIEF_MUTANTS = [
    (PreUpdateInformation, "step_uses_the_updated_information"),
    (ForgettingOnTheWrongSide, "predict_moves_the_covariance"),
    (NoiseOnTheInformation, "predict_moves_the_covariance"),
    (TransitionOfTheWrongSide, "transition_moves_the_covariance"),
    (NoiseBeforeTheTransition, "transition_moves_the_covariance"),
    (OffsetAsNoise, "offset_leaves_the_spread"),
    (NothingSeenWithoutRows, "precision_is_observed_without_rows"),
    (SpreadOfTheLabels, "observed_covariance_is_that_of_the_rows"),
    (ForgetsPrecision, "update_adds_information"),
    (MeanOverObservations, "batch_is_sequence"),
    (ForgetsAtEveryUpdate, "order_of_observations_does_not_matter"),
    (ForgetsAtEveryUpdate, "information_grows"),
    (TargetsOfTheOtherSign, "targets_do_not_change_the_update"),
    (UpdatesInPlace, "arguments_and_beliefs_are_left_alone"),
    (CovarianceOfTheRoot, "information_and_covariance_are_inverse"),
    (ForgetsWithoutBeingAsked, "predict_without_change_is_the_identity"),
    (ForgettingAboveOne, "bad_arguments_are_refused"),
    (PromotingUpdate, "results_have_the_kind_of_the_mean"),
    (RandomJitter, "results_are_repeatable"),
    (UnsavableBelief, "saved_belief_is_the_same"),
]


@pytest.mark.parametrize(("mutant", "property_"), BELIEF_MUTANTS, ids=[m.__name__ for m, _ in BELIEF_MUTANTS])
def test_mutated_belief_is_caught(caught, mutant, property_):
    """Results of `FullBelief.update` are turned into the mutant again, so that defects stay in sequences."""

    class Sequel(mutant):
        def update(self, *arguments, **options):
            after, step = super().update(*arguments, **options)
            return (after if isinstance(after, mutant) else Sequel(after.root)), step

    def make(mean_like):
        return Sequel(gr.full_belief(mean_like, prior_variance=0.7).root.copy())

    dtype = "float32" if mutant is PromotingUpdate else "float64"
    assert property_ in caught(check_belief, make, dtype=dtype)


def test_a_projection_is_not_asked_for_exactness(caught):
    class Diagonal(gr.FullBelief):
        def update(self, rows, gradient, *, targets=None, precision=0.0):
            after, step = super().update(rows, gradient, targets=targets, precision=precision)
            return Diagonal(np.diag(np.sqrt(np.diag(after.information())))), step

    def make(mean_like):
        return Diagonal(gr.full_belief(mean_like, prior_variance=0.7).root)

    found = caught(check_belief, make)
    assert {"update_adds_information", "batch_is_sequence"} <= found
    assert found - {p.__name__ for p in beliefs.EXACT} == {
        "saved_belief_is_the_same"
    }  # a class of a function
    assert caught(check_belief, make, exact=False) == {"saved_belief_is_the_same"}


def test_every_property_has_a_mutant():
    assert {p.__name__ for p in beliefs.PROPERTIES} == {property_ for _, property_ in BELIEF_MUTANTS}
