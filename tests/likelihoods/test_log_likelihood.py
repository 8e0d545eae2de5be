"""Minus the loss plus `log_base` is the log likelihood: against scipy.stats, by hand where it saturates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.special
import scipy.stats
from support import assert_same_kind, assert_values_close, tolerance

import grng_ref as gr

VARIANCE = 0.3
LIKELIHOODS = {
    "gaussian": gr.Gaussian(variance=VARIANCE),
    "categorical": gr.Categorical(),
    "bernoulli": gr.Bernoulli(),
    "poisson": gr.Poisson(),
}


def random_case(name: str, dtype: str, size: int = 6, outputs: int = 3):
    """Outputs and labels that the dtype holds, in float64."""
    rng = np.random.default_rng(11)
    f = rng.normal(0.0, 1.5, (size, outputs)).astype(dtype).astype(float)
    y = {
        "gaussian": lambda: rng.normal(0.0, 1.0, f.shape).astype(dtype).astype(float),
        "categorical": lambda: rng.integers(outputs, size=size),
        "bernoulli": lambda: rng.integers(2, size=f.shape).astype(float),
        "poisson": lambda: rng.choice([0.0, 1.0, 2.0, 5.0, 40.0], size=f.shape),
    }[name]()
    return f, y


def reference(name: str, f: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log density or probability of each example, (N,)."""
    if name == "gaussian":
        return np.sum(scipy.stats.norm.logpdf(y, loc=f, scale=math.sqrt(VARIANCE)), axis=1)
    if name == "categorical":
        p = scipy.special.softmax(f, axis=1)
        return scipy.stats.multinomial.logpmf(np.eye(f.shape[1])[y], n=1, p=p)
    if name == "bernoulli":
        return np.sum(scipy.stats.bernoulli.logpmf(y, scipy.special.expit(f)), axis=1)
    return np.sum(scipy.stats.poisson.logpmf(y, np.exp(f)), axis=1)


def size_of_terms(name: str, f: np.ndarray, y: np.ndarray) -> float:
    """A bound of the terms that may cancel in one example: for counts, ``exp f``, ``y f`` and ``log y!``."""
    if name != "poisson":
        return float(np.max(np.abs(reference(name, f, y)))) + f.shape[1]
    return float(np.max(np.sum(np.exp(f) + np.abs(y * f) + scipy.special.gammaln(y + 1.0), axis=1)))


def identity_problem(likelihood, outputs: int):
    """A problem whose outputs are its inputs."""
    problem = gr.Problem(gr.MLP((outputs, outputs), bias=False), likelihood)
    return problem, np.eye(outputs).ravel()


def assert_is_log_likelihood(name: str, likelihood, f, y) -> None:
    each = likelihood.log_base(f, y) - likelihood.loss(f, y)
    atol = tolerance("float64") * size_of_terms(name, f, y)
    assert_values_close(each, reference(name, f, y), dtype="float64", rtol=0.0, atol=atol)


def assert_sums(name: str, problem: gr.Problem, theta, f, y) -> None:
    atol = tolerance("float64", terms=len(f)) * len(f) * size_of_terms(name, f, y)
    total = problem.log_likelihood(theta, f, y)
    assert_values_close(total, np.sum(reference(name, f, y)), dtype="float64", rtol=0.0, atol=atol)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_likelihood_of_each_example(name):
    assert_is_log_likelihood(name, LIKELIHOODS[name], *random_case(name, "float64"))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_backend_and_dtype(name, backend):
    f, y = random_case(name, backend.dtype)
    want, terms = reference(name, f, y), size_of_terms(name, f, y)
    likelihood = LIKELIHOODS[name]
    held_f, held_y = backend.asarray(f), backend.asarray(y)
    each = likelihood.log_base(held_f, held_y) - likelihood.loss(held_f, held_y)
    atol = tolerance(backend.dtype) * terms
    backend.assert_close(each, want, rtol=0.0, atol=atol)
    problem, theta = identity_problem(likelihood, 3)
    total = problem.log_likelihood(backend.asarray(theta), held_f, held_y)
    loss = problem.loss(backend.asarray(theta), held_f, held_y)
    assert_same_kind(total, loss)  # 0-d, on its device, in its dtype
    assert_values_close(
        backend.to_numpy(total), np.sum(want), dtype=backend.dtype, rtol=0.0, atol=len(f) * atol
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_problem_sums_over_examples(name):
    assert_sums(name, *identity_problem(LIKELIHOODS[name], 3), *random_case(name, "float64"))


# label and output -> log likelihood; depth is 700 in float64 and 80 in float32
SATURATED = {
    "sure and right": (gr.Categorical(), [1.0, 0.0], [0], lambda d: -math.exp(-d)),
    "sure and wrong": (gr.Categorical(), [1.0, 0.0], [1], lambda d: -d),
    "sure bit": (gr.Bernoulli(), [1.0], [[1.0]], lambda d: -math.exp(-d)),
    "wrong bit": (gr.Bernoulli(), [1.0], [[0.0]], lambda d: -d),
    "no count": (gr.Poisson(), [-1.0], [[0.0]], lambda d: -math.exp(-d)),
    "three counts": (gr.Poisson(), [-1.0], [[3.0]], lambda d: -3.0 * d - math.log(6.0)),
}


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_outputs(name, backend):
    likelihood, signs, label, exact = SATURATED[name]
    depth = 700.0 if backend.dtype == "float64" else 80.0
    f, y = depth * np.array([signs]), np.array(label)
    problem, theta = identity_problem(likelihood, len(signs))
    got = problem.log_likelihood(*(backend.asarray(a) for a in (theta, f, y)))
    assert_values_close(backend.to_numpy(got), np.asarray(exact(depth)), dtype=backend.dtype)


@pytest.mark.parametrize("variance", [1e-300, 1e308])
def test_extreme_variances(variance):
    f = np.zeros((2, 3))
    got = gr.Gaussian(variance).log_base(f, f)
    assert_values_close(got, -1.5 * np.full(2, math.log(2 * math.pi) + math.log(variance)), dtype="float64")


# --- planted errors ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StandardDeviation(gr.Gaussian):
    """Planted: the standard deviation for the variance."""

    def log_base(self, f, y):
        return gr.Gaussian(math.sqrt(self.variance)).log_base(f, y)


@dataclass(frozen=True)
class SumOfCounts(gr.Poisson):
    """Planted: the factorial of the sum of the counts."""

    def log_base(self, f, y):
        return -scipy.special.gammaln(np.sum(y, axis=1) + 1.0)


@pytest.mark.parametrize(
    ("name", "planted"), [("gaussian", StandardDeviation(VARIANCE)), ("poisson", SumOfCounts())]
)
def test_planted_constants_are_caught(name, planted):
    with pytest.raises(AssertionError, match="entries differ"):
        assert_is_log_likelihood(name, planted, *random_case(name, "float64"))


def test_a_mean_over_examples_is_caught():
    class Mean(gr.Problem):
        def log_likelihood(self, theta, x, y):
            return super().log_likelihood(theta, x, y) / x.shape[0]

    problem, theta = identity_problem(gr.Bernoulli(), 3)
    with pytest.raises(AssertionError, match="entries differ"):
        assert_sums(
            "bernoulli",
            Mean(problem.model, problem.likelihood),
            theta,
            *random_case("bernoulli", "float64"),
        )
