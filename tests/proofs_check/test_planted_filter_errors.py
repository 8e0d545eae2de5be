"""Errors planted in the Kalman filter: none of them gets through the claims on it."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from planted import assert_caught

import grng_ref as gr
from grng_ref.beliefs import DiagonalBelief, FullBelief, LowRankBelief, full_belief, observation
from grng_ref.beliefs.covariance_forms import CovarianceBelief, JosephBelief

pytestmark = pytest.mark.slow

# the modules: the packages export functions of the same name
RKALMAN = importlib.import_module("grng_ref.optimizers.rkalman")
BLOCK_DIAGONAL = importlib.import_module("grng_ref.beliefs.block_diagonal")

# the right ones, for the wrong ones to call
update, low_rank_update, diagonal_update = FullBelief.update, LowRankBelief.update, DiagonalBelief.update
predict = RKALMAN.RKalman._predict


def information_of_the_mean(patch):
    def wrong(*args, num_examples, **options):
        return observation(*args, num_examples=1, **options)

    patch.setattr(RKALMAN, "observation", wrong)


def prior_information_halved(patch):
    def wrong(mean_like, *, prior_variance, form):
        return full_belief(mean_like, prior_variance=2 * prior_variance, form=form)

    patch.setattr(RKALMAN, "full_belief", wrong)


def information_from_before_the_update(patch):
    def wrong(self, rows, gradient, **options):
        after, _ = update(self, rows, gradient, **options)
        return after, -self.covariance() @ gradient

    patch.setattr(FullBelief, "update", wrong)


def observation_counted_twice(patch):
    def wrong(self, rows, gradient, **options):
        once, _ = update(self, rows, gradient, **options)
        return update(once, rows, gradient, **options)

    patch.setattr(FullBelief, "update", wrong)


def process_noise_dropped(patch):
    for kind in (FullBelief, LowRankBelief):
        right = kind.predict

        def wrong(self, *, noise=0.0, right=right, **options):
            return right(self, **options)

        patch.setattr(kind, "predict", wrong)


def forgetting_off_by_one(patch):
    """The first batch meets the prior as it was given."""

    def wrong(self, theta, state):
        filtered = dataclasses.replace(self, forgetting=1.0) if state.step == 0 else self
        return predict(filtered, theta, state)

    patch.setattr(RKALMAN.RKalman, "_predict", wrong)


def gain_noise_missing(patch):
    """Joseph's form without its K R K^T, R = I."""
    right = JosephBelief._condition

    def wrong(self, rows, targets):
        after, step = right(self, rows, targets)
        spread, root = self._gain_factors(rows)
        gain = np.linalg.solve(root @ root.T, spread.T).T
        return JosephBelief(after.matrix - gain @ gain.T), step

    patch.setattr(JosephBelief, "_condition", wrong)


def covariance_to_first_order(patch):
    """``P - P rows^T rows P``, for ``S = I + rows P rows^T`` in the middle."""
    right = CovarianceBelief._condition

    def wrong(self, rows, targets):
        spread = self._times(rows.T)
        return CovarianceBelief(self.covariance() - spread @ spread.T), right(self, rows, targets)[1]

    patch.setattr(CovarianceBelief, "_condition", wrong)


def natural_jacobian_for_the_mean(patch):
    """Rows ``R^{-1/2} df/dtheta`` instead of ``R^{-1/2} dh/df df/dtheta``, with the right gradient."""

    def factor(self, f):
        return np.eye(f.shape[1]) / np.sqrt(self.mean(f))[:, :, None]

    def coefficients(self, f, y):
        return self.gradient(f, y) * np.sqrt(self.mean(f))

    patch.setattr(gr.Poisson, "factor", factor)
    patch.setattr(gr.Poisson, "coefficients", coefficients)


def iterations_chained(patch):
    """Every linearisation starts from the posterior of the one before it."""

    def wrong(self, mean, predicted, at, x, y, *, rho):
        total = 0.0 * mean
        for _ in range(self.iterations):
            at = self.problem.linearize(mean + total, x, y)
            predicted, delta = self._observe(mean + total, at, x, y, rho=rho).update(predicted)
            total = total + delta
        return predicted, total

    patch.setattr(RKALMAN.RKalman, "_condition", wrong)


def evidence_of_another_belief(patch):
    """The log marginal likelihood is that of a belief with noise that the filter has not."""
    right = RKALMAN.RKalman._log_marginal

    def wrong(self, mean, predicted, *batch):
        return right(self, mean, predicted.predict(noise=0.01), *batch)

    patch.setattr(RKALMAN.RKalman, "_log_marginal", wrong)


def evidence_determinant_doubled(patch):
    right = RKALMAN.log_evidence

    def wrong(belief, rows, targets):
        return right(belief, rows, targets) + right(belief, rows, 0.0 * targets)

    patch.setattr(RKALMAN, "log_evidence", wrong)


def increment_forgotten(patch):
    """A cure that is added once, and not before every batch."""

    def wrong(self, theta, state):
        filtered = dataclasses.replace(self, information_increment=0.0) if state.step > 0 else self
        return predict(filtered, theta, state)

    patch.setattr(RKALMAN.RKalman, "_predict", wrong)


def prior_mean_not_given_back(patch):
    """Forgetting gives the prior's information back, and not its mean."""

    def wrong(self, theta, state):
        return theta, predict(self, theta, state)[1]

    patch.setattr(RKALMAN.RKalman, "_predict", wrong)


def blocks_blind_to_each_other(patch):
    patch.setattr(BLOCK_DIAGONAL, "_unexplained", lambda rows, whites: rows)


def projection_of_the_other_kind(patch):
    def wrong(self, *arguments, **options):
        other = {"covariance": "precision", "precision": "covariance"}[self.projection]
        after, step = diagonal_update(DiagonalBelief(self.precisions, other), *arguments, **options)
        return DiagonalBelief(after.precisions, self.projection), step

    patch.setattr(DiagonalBelief, "update", wrong)


def remainder_dropped(patch):
    def wrong(self, rows, gradient, *, precision=0.0, **options):
        after, step = low_rank_update(self, rows, gradient, precision=precision, **options)
        return LowRankBelief(self.precisions + precision, after.columns), step

    patch.setattr(LowRankBelief, "update", wrong)


def last_column_lost(patch):
    def wrong(self, *arguments, **options):
        after, step = low_rank_update(self, *arguments, **options)
        kept = np.arange(after.columns.shape[1]) < after.columns.shape[1] - 1
        return LowRankBelief(after.precisions, after.columns * kept), step

    patch.setattr(LowRankBelief, "update", wrong)


def hidden_jitter(patch):
    def wrong(self, *arguments, precision=0.0, **options):
        return update(self, *arguments, precision=precision + 1e-6, **options)

    patch.setattr(FullBelief, "update", wrong)


# Every claim on the filter is here; those that take a second, not under each error that they would notice.
PLANTED = {
    information_of_the_mean: ["first-rkalman-step-*", "filter-is-*", "forgetting-is-*"],
    prior_information_halved: ["filter-is-the-exact-*", "forgetting-[dw]*", "residuals-of-*"],
    # a filter that steps with the old information diverges on the nonlinear problems: one step is enough
    information_from_before_the_update: ["first-rkalman-step-on-digits-*", "filter-is-the-exact-*"],
    observation_counted_twice: ["filter-is-the-exact-*", "filter-on-a-*", "filter-does-not-depend-*"],
    process_noise_dropped: ["filter-is-the-textbook-ekf", "low-rank-belief-is-its-truncation"],
    forgetting_off_by_one: ["forgetting-*", "residuals-of-*", "filter-on-a-*"],
    gain_noise_missing: ["filter-is-the-exact-*", "filter-does-not-depend-*"],
    covariance_to_first_order: ["filter-is-the-exact-*"],
    natural_jacobian_for_the_mean: ["filter-is-the-textbook-ekf"],
    iterations_chained: ["iterated-update-*"],
    evidence_of_another_belief: ["log-marginal-likelihood-is-*"],
    evidence_determinant_doubled: ["log-marginal-likelihood-is-*"],
    increment_forgotten: ["two-cures-of-*"],
    prior_mean_not_given_back: ["forgetting-discounts-*"],
    blocks_blind_to_each_other: ["block-diagonal-belief-is-*"],
    projection_of_the_other_kind: ["diagonal-beliefs-are-*"],
    remainder_dropped: ["low-rank-belief-is-*"],
    last_column_lost: ["low-rank-belief-is-*", "low-rank-belief-of-*"],
    hidden_jitter: ["rkalman-is-invariant-*", "filter-is-the-exact-*", "forgetting-winds-up-*"],
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda one: one.__name__)
def test_planted_errors_of_the_filter_are_caught(plant, monkeypatch):
    assert_caught(plant, PLANTED[plant], monkeypatch)
