"""Draws: their frequencies, their support, their shapes, and the same draws on every backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.special
import scipy.stats

from grng_ref.arrays import NumericalError
from grng_ref.likelihoods import Bernoulli, Categorical, Gaussian, Poisson

LIKELIHOODS = {
    "gaussian": Gaussian(variance=0.3),
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
}
F = np.random.default_rng(11).normal(0.0, 1.0, (3, 4))
DRAWS = 40_000
SEEDS = (0, 1, 2)
# The sizes are fixed beforehand and the whole file makes fewer than 250 comparisons. With 1e-6 for all of
# them together (Bonferroni), a correct sampler fails once in a million changes of the seeds.
THRESHOLD = scipy.stats.norm.isf(1e-6 / 250 / 2)


def moments(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Statistic -> its mean and its variance for one draw, from closed forms."""
    if name == "categorical":
        p = scipy.special.softmax(F, axis=1)
        return {"one-hot": (p, p * (1 - p))}
    if name == "bernoulli":
        p = scipy.special.expit(F)
        return {"value": (p, p * (1 - p))}
    if name == "poisson":
        rate = np.exp(F)  # fourth central moment: rate + 3 rate^2
        return {"value": (rate, rate), "square": (rate, rate + 2 * rate**2)}
    s2 = np.full_like(F, 0.3)
    return {"value": (F, s2), "square": (s2, 2 * s2**2)}


def statistics(name: str, samples: np.ndarray) -> dict[str, np.ndarray]:
    if name == "categorical":
        return {"one-hot": np.eye(F.shape[1])[samples]}
    centre = moments(name)["value"][0]
    return {"value": samples, "square": (samples - centre) ** 2}


def assert_moments(name: str, samples: np.ndarray) -> None:
    """A z-test of every mean: the number of draws is large enough for the normal limit (p M > 500)."""
    values = statistics(name, samples)
    for key, (mean, variance) in moments(name).items():
        z = (np.mean(values[key], axis=0) - mean) / np.sqrt(variance / samples.shape[0])
        assert np.max(np.abs(z)) <= THRESHOLD, f"{name}, {key}: z = {np.max(np.abs(z)):.1f} > {THRESHOLD:.1f}"


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("seed", SEEDS)
def test_moments(name, seed):
    assert_moments(name, LIKELIHOODS[name].sample(F, num_samples=DRAWS, rng=seed))


def test_draws_of_one_sample_are_independent():
    """Neighbouring outputs and neighbouring draws are uncorrelated; same level as the moments."""
    z = (LIKELIHOODS["gaussian"].sample(F, num_samples=DRAWS, rng=5) - F) / np.sqrt(0.3)
    for product in (z[:, 0, 0] * z[:, 0, 1], z[:, 0, 0] * z[:, 1, 0], z[1:, 0, 0] * z[:-1, 0, 0]):
        assert abs(np.mean(product)) * np.sqrt(product.shape[0]) <= THRESHOLD


@dataclass(frozen=True)
class Flattened(Categorical):
    """Planted: a sampler of logits that are 10 % too flat."""

    def mean(self, f):
        return super().mean(0.9 * f)


@dataclass(frozen=True)
class Precise(Gaussian):
    """Planted: noise of standard deviation s2 in place of s."""

    def sample(self, f, *, num_samples, rng):
        return f + self.variance * np.random.default_rng(rng).standard_normal((num_samples, *f.shape))


@pytest.mark.parametrize(
    ("name", "planted"), [("categorical", Flattened()), ("gaussian", Precise(variance=0.3))]
)
def test_planted_sampler_is_caught(name, planted):
    with pytest.raises(AssertionError, match="z ="):
        assert_moments(name, planted.sample(F, num_samples=DRAWS, rng=0))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_backend_draws_the_same_labels(name, backend):
    """Kind, shape, support, and values: the backend touches these only through the roundings of the mean."""
    likelihood, f = LIKELIHOODS[name], backend.asarray(F)
    samples = likelihood.sample(f, num_samples=6, rng=3)
    host = likelihood.sample(F.astype(backend.dtype), num_samples=6, rng=3)
    assert tuple(samples.shape) == ((6, 3) if name == "categorical" else (6, 3, 4))
    if name == "categorical":
        assert backend.xp.isdtype(samples.dtype, "integral")
        np.testing.assert_array_equal(backend.to_numpy(samples), host)
    else:
        backend.assert_close(samples, host, rtol=4 * float(np.finfo(backend.dtype).eps))
    for m in range(6):
        likelihood.check_targets(f, samples[m, ...])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_generator_advances_and_a_seed_repeats(name):
    likelihood, rng = LIKELIHOODS[name], np.random.default_rng(4)
    first, second = (likelihood.sample(F, num_samples=20, rng=rng) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(likelihood.sample(F, num_samples=20, rng=4), first)


def test_classes_without_probability_are_never_drawn():
    f = np.array([[-800.0, 0.0, -800.0, 0.0, -800.0]])
    drawn = Categorical().sample(f, num_samples=2000, rng=0)
    assert set(np.unique(drawn)) == {1, 3}


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_samples": 0, "rng": 0}, ValueError, "num_samples must be an integer >= 1, got 0"),
        ({"num_samples": 1.0, "rng": 0}, TypeError, "num_samples must be an integer"),
        ({"num_samples": 1, "rng": None}, TypeError, "rng must be an integer seed"),
        ({"num_samples": 1, "rng": -1}, ValueError, "rng must be a seed >= 0"),
    ],
)
def test_bad_options(name, options, error, message):
    with pytest.raises(error, match=message):
        LIKELIHOODS[name].sample(F, **options)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_outputs_that_are_not_finite(name):
    with pytest.raises(ValueError, match="f must be finite"):
        LIKELIHOODS[name].sample(np.full((2, 3), np.nan), num_samples=1, rng=0)


def test_poisson_rates_that_cannot_be_drawn():
    with pytest.raises(NumericalError, match="Poisson draws need rates"):
        Poisson().sample(np.full((1, 1), 50.0), num_samples=1, rng=0)
