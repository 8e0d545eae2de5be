"""Draws of a likelihood: valid, seeded, and with the mean and covariance of the score that they must have."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import array_api_compat as compat
import numpy as np

from ..arrays import Array
from .common import Host, fingerprint, host, require, require_close, require_identical
from .likelihood_case import LikelihoodCase

_DRAWS = 4000
_FALSE_ALARMS = 1e-6


def samples_are_valid_targets(case: LikelihoodCase) -> None:
    """``check_targets`` takes every draw."""
    samples = case.likelihood.sample(case.f, num_samples=20, rng=case.seed)
    for m in range(20):
        case.likelihood.check_targets(case.f, samples[m, ...])


def sampling_is_seeded(case: LikelihoodCase) -> None:
    """One seed, one draw; a generator is advanced."""

    def draw(rng: Any) -> Array:
        return case.likelihood.sample(case.f, num_samples=40, rng=rng)

    require_identical("draws of one seed", draw(case.seed), draw(case.seed))
    together = host(draw(case.seed))
    if bool(np.all(together == together[:1])):  # a single class: there is nothing to draw
        return
    generator = np.random.default_rng(case.seed)
    first, second = draw(generator), draw(generator)
    require(fingerprint(first) != fingerprint(second), "a generator gave the same 40 draws twice")
    require(fingerprint(first) != fingerprint(draw(case.seed + 1)), "two seeds gave the same 40 draws")


def _scores(case: LikelihoodCase) -> Host:
    """Gradients on labels drawn from the model, (draws, N, K)."""
    xp = compat.array_namespace(case.f)
    samples = case.likelihood.sample(case.f, num_samples=_DRAWS, rng=case.seed)
    labels = xp.reshape(samples, (-1, *samples.shape[2:]))
    f = xp.concat([case.f] * _DRAWS, axis=0)
    return host(case.likelihood.gradient(f, labels)).reshape(_DRAWS, *case.f.shape)


def _z_limit(tests: int) -> float:
    return NormalDist().inv_cdf(1.0 - _FALSE_ALARMS / (4 * tests))  # two-sided, in two properties


def scores_have_mean_zero(case: LikelihoodCase) -> None:
    """Over 4000 draws, z-test."""
    scores = _scores(case)
    n, k = scores.shape[1:]
    error = np.std(scores, axis=0) / np.sqrt(_DRAWS)
    bound = _z_limit(n * k) * error + case.place.rounding(float(np.max(np.abs(scores))))
    require_close(f"the mean of the score over {_DRAWS} draws", np.mean(scores, axis=0), 0.0, bound)


def fisher_is_the_covariance_of_the_scores(case: LikelihoodCase) -> None:
    """Over 4000 draws, z-test."""
    scores, fisher = _scores(case), host(case.likelihood.fisher(case.f))
    n, k = scores.shape[1:]
    products = scores[:, :, :, None] * scores[:, :, None, :]
    error = np.std(products, axis=0) / np.sqrt(_DRAWS)
    limit = _z_limit(n * k * (k + 1) // 2)
    bound = limit * error + case.place.rounding(float(np.max(np.abs(products))))
    require_close(f"fisher and score products over {_DRAWS} draws", fisher, np.mean(products, axis=0), bound)
