"""The contract battery of likelihoods must catch what is planted here, and name the property violated."""

from __future__ import annotations

import math

import numpy as np
import pytest

import grng_ref as gr
from grng_ref.testing import check_likelihood, likelihoods


def softmax(f):
    shifted = np.exp(f - np.max(f, axis=1, keepdims=True))
    return shifted / np.sum(shifted, axis=1, keepdims=True)


class NaiveGradient(gr.Categorical):
    """p - e_y as written: p_y - 1 keeps no digit where the true class saturates."""

    def gradient(self, f, y):
        return softmax(f) - np.eye(f.shape[1])[y]


class NaiveLoss(gr.Bernoulli):
    """The logarithm of one plus an exponential that overflows."""

    def loss(self, f, y):
        with np.errstate(over="ignore"):
            return np.sum(np.log(1.0 + np.exp(30.0 * f) ** (1.0 / 30.0)) - y * f, axis=1)


class GradientPerOutput(gr.Gaussian):
    """A mean over the outputs in place of the sum."""

    def gradient(self, f, y):
        return super().gradient(f, y) / f.shape[1]


class TransposedFactor(gr.Categorical):
    def factor(self, f):
        return np.swapaxes(super().factor(f), 1, 2)


class DoubledFisher(gr.Poisson):
    """Fisher, factor and coefficients agree with each other, but not with the samples."""

    def fisher(self, f):
        return 2.0 * super().fisher(f)

    def factor(self, f):
        return math.sqrt(2.0) * super().factor(f)

    def coefficients(self, f, y):
        return super().coefficients(f, y) / math.sqrt(2.0)


class ShiftedFisher(gr.Bernoulli):
    """A "correction" that takes more than there is."""

    def fisher(self, f):
        return super().fisher(f) - 0.3 * np.eye(f.shape[1])


class HessianOfTheOtherSign(gr.Poisson):
    def hessian(self, f, y):
        return -self.fisher(f)


class PromotingMean(gr.Bernoulli):
    def mean(self, f):
        return np.asarray(super().mean(f), dtype=np.float64)


class GradientInPlace(gr.Gaussian):
    def gradient(self, f, y):
        f -= y
        return f / self.variance


class BiasedSamples(gr.Gaussian):
    def sample(self, f, *, num_samples, rng):
        return super().sample(f + 0.2, num_samples=num_samples, rng=rng)


class WideSamples(gr.Gaussian):
    """Drawn with the variance for a standard deviation."""

    def sample(self, f, *, num_samples, rng):
        return f + self.variance * np.random.default_rng(rng).standard_normal((num_samples, *f.shape))


class UnseededSamples(gr.Poisson):
    """One stream for ever, whatever the rng."""

    stream = np.random.default_rng(0)

    def sample(self, f, *, num_samples, rng):
        return super().sample(f, num_samples=num_samples, rng=self.stream)


class AcceptsEverything(gr.Categorical):
    def check_targets(self, f, y):
        pass


class InvalidSamples(gr.Bernoulli):
    """Probabilities for labels."""

    def sample(self, f, *, num_samples, rng):
        return np.broadcast_to(self.mean(f), (num_samples, *f.shape)).copy()


class JitteredFactor(gr.Categorical):
    """Against singular matrices; another one at every call."""

    stream = np.random.default_rng(0)

    def factor(self, f):
        return super().factor(f) + 1e-17 * self.stream.random(f.shape[1])


class BatchNormalised(gr.Gaussian):
    """A mean over the examples, which belongs to the problem."""

    def loss(self, f, y):
        return super().loss(f, y) / f.shape[0]


class UnnormalisedCounts(gr.Poisson):
    """What the loss leaves out stays out."""

    def log_base(self, f, y):
        return np.zeros(f.shape[0])


class FactorialsInTheNumerator(UnnormalisedCounts):
    """The wrong sign: the sum overflows."""

    def log_base(self, f, y):
        return -gr.Poisson.log_base(self, f, y)


class BaseOfTheOutputs(gr.Gaussian):
    """A term of the outputs beside the loss, where no derivative sees it."""

    def log_base(self, f, y):
        return super().log_base(f, y) - 0.5 * np.sum(f * f, axis=1)


COUNTS = np.stack(np.meshgrid(np.arange(120.0), np.arange(120.0)), axis=-1).reshape(-1, 2)
"""Two counts; the rates are below 10."""

LIKELIHOOD_MUTANTS = [
    (NaiveGradient(), "coefficients_reproduce_the_gradient"),
    (NaiveGradient(), "hessian_is_the_derivative_of_the_gradient"),
    (NaiveLoss(), "saturated_outputs_give_finite_results"),
    (GradientPerOutput(0.5), "gradient_is_the_derivative_of_the_loss"),
    (TransposedFactor(), "factor_reproduces_the_fisher"),
    (DoubledFisher(), "fisher_is_the_covariance_of_the_scores"),
    (ShiftedFisher(), "fisher_is_positive_semidefinite"),
    (HessianOfTheOtherSign(), "hessian_is_the_derivative_of_the_gradient"),
    (PromotingMean(), "results_have_the_kind_of_the_outputs"),
    (GradientInPlace(0.5), "arguments_are_left_alone"),
    (BiasedSamples(0.5), "scores_have_mean_zero"),
    (WideSamples(0.25), "fisher_is_the_covariance_of_the_scores"),
    (UnseededSamples(), "sampling_is_seeded"),
    (AcceptsEverything(), "bad_targets_are_refused"),
    (InvalidSamples(), "samples_are_valid_targets"),
    (JitteredFactor(), "results_are_repeatable"),
    (BatchNormalised(0.5), "rows_are_independent"),
    (UnnormalisedCounts(), "probabilities_sum_to_one"),
    (FactorialsInTheNumerator(), "probabilities_sum_to_one"),
    (BaseOfTheOutputs(0.5), "log_base_ignores_the_outputs"),
]


def ids(mutants):
    return [
        f"{type(subject).__name__ if not isinstance(subject, type) else subject.__name__}"
        for subject, _ in mutants
    ]


@pytest.mark.parametrize(("mutant", "property_"), LIKELIHOOD_MUTANTS, ids=ids(LIKELIHOOD_MUTANTS))
def test_mutated_likelihood_is_caught(caught, mutant, property_):
    dtype = "float32" if isinstance(mutant, PromotingMean) else "float64"
    options = {"outputs": 2, "labels": COUNTS} if isinstance(mutant, UnnormalisedCounts) else {}
    assert property_ in caught(check_likelihood, mutant, dtype=dtype, **options)


def test_targets_of_the_caller_that_are_accepted_are_caught(caught):
    assert caught(check_likelihood, gr.Poisson(), bad_targets=[np.ones((4, 3))]) == {
        "bad_targets_are_refused"
    }


def test_every_property_has_a_mutant():
    assert {p.__name__ for p in likelihoods.PROPERTIES} == {property_ for _, property_ in LIKELIHOOD_MUTANTS}
