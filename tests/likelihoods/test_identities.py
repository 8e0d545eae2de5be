"""Factor, coefficients, Fisher and Hessian against what they are by definition."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support import assert_values_close, tolerance

from grng_ref.likelihoods import Bernoulli, Categorical, ExponentialFamily, Gaussian, Likelihood, Poisson

LIKELIHOODS = {
    "gaussian": Gaussian(variance=0.3),
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
}


def random_case(name: str, *, size: int = 5, outputs: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    f = rng.normal(0.0, 1.5, (size, outputs))
    y = {
        "gaussian": lambda: rng.normal(0.0, 1.0, f.shape),
        "categorical": lambda: rng.integers(outputs, size=size),
        "bernoulli": lambda: rng.integers(2, size=f.shape).astype(float),
        "poisson": lambda: rng.poisson(3.0, size=f.shape).astype(float),
    }[name]()
    return f, y


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
def test_each_is_a_likelihood_and_comparable(likelihood):
    assert isinstance(likelihood, Likelihood)
    assert isinstance(likelihood, ExponentialFamily)
    assert likelihood == type(likelihood)(**vars(likelihood))
    assert not isinstance(object(), Likelihood)


# --- S S^T = Om and S ct = gradient -------------------------------------------------------------------------


def assert_factorizes(likelihood, f, y, dtype) -> None:
    """Normwise per example: the identities hold up to the roundings of a sum over K' columns."""
    S, Om = (np.asarray(part, dtype=np.float64) for part in (likelihood.factor(f), likelihood.fisher(f)))
    ct, g = (
        np.asarray(p, dtype=np.float64) for p in (likelihood.coefficients(f, y), likelihood.gradient(f, y))
    )
    assert_values_close(S @ np.swapaxes(S, 1, 2), Om, dtype=dtype)
    assert_values_close((S @ ct[:, :, None])[:, :, 0], g, dtype=dtype)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_factor_and_coefficients(name, backend):
    f, y = backend.asarray(random_case(name))
    likelihood = LIKELIHOODS[name]

    class OnHost:
        """The same methods with their results on the host, where the products are formed in float64."""

        def __getattr__(self, method):
            return lambda *arrays: backend.to_numpy(getattr(likelihood, method)(*arrays))

    assert_factorizes(OnHost(), f, y, backend.dtype)


@given(
    name=st.sampled_from(sorted(LIKELIHOODS)),
    size=st.integers(1, 4),
    outputs=st.integers(1, 6),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 20.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_factor_and_coefficients_on_any_shape_and_scale(name, size, outputs, scale, seed):
    f, y = random_case(name, size=size, outputs=outputs, seed=seed)
    for n in range(size):  # each example has its own scale
        assert_factorizes(LIKELIHOODS[name], scale * f[n : n + 1], y[n : n + 1], "float64")


def test_categorical_coefficients_are_the_shortest_ones():
    f, y = random_case("categorical")
    S, ct = Categorical().factor(f), Categorical().coefficients(f, y)
    root = np.sqrt(scipy.special.softmax(f, axis=1))
    assert_values_close(np.sum(ct * root, axis=1), np.zeros(5), dtype="float64", atol=tolerance("float64"))
    shortest = np.stack([np.linalg.pinv(S[n]) @ Categorical().gradient(f, y)[n] for n in range(5)])
    # pinv solves with condition 1/min(sqrt p), about 100 here
    assert_values_close(ct, shortest, dtype="float64", rtol=tolerance("float64", 1e3))


@dataclass(frozen=True)
class TransposedFactor(Categorical):
    """Planted: S^T in place of S."""

    def factor(self, f):
        return np.swapaxes(super().factor(f), 1, 2)


@dataclass(frozen=True)
class AnotherNullVector(Categorical):
    """Planted: coefficients moved by the vector of ones, which is in the null space of Om, not of S."""

    def coefficients(self, f, y):
        return super().coefficients(f, y) + 1.0


@pytest.mark.parametrize("planted", [TransposedFactor(), AnotherNullVector()])
def test_planted_factor_is_caught(planted):
    with pytest.raises(AssertionError, match="entries differ"):
        assert_factorizes(planted, *random_case("categorical"), "float64")


# --- Om = covariance of the sufficient statistic = covariance of the score ----------------------------------


def enumerate_labels(name: str, row: np.ndarray):
    """Every label of one example (1, K) with its probability; statistics T(y) beside them."""
    K = row.shape[0]
    if name == "categorical":
        return [(np.array([k]), np.eye(K)[k], scipy.special.softmax(row)[k]) for k in range(K)]
    if name == "gaussian":  # Gauss-Hermite quadrature: exact for the quadratic moments
        nodes, weights = np.polynomial.hermite_e.hermegauss(4)
        one = [(row_k + np.sqrt(0.3) * nodes, weights / weights.sum()) for row_k in row]
    elif name == "bernoulli":
        one = [(np.array([0.0, 1.0]), np.array([1 - s, s])) for s in scipy.special.expit(row)]
    else:  # rates below 4 here: the tail beyond 40 counts is below 1e-26
        counts = np.arange(40.0)
        one = [(counts, scipy.stats.poisson.pmf(counts, np.exp(row_k))) for row_k in row]
    labels = []
    for picks in itertools.product(*(range(len(values)) for values, _ in one)):
        y = np.array([one[k][0][i] for k, i in enumerate(picks)])
        labels.append((y[None, :], y, float(np.prod([one[k][1][i] for k, i in enumerate(picks)]))))
    return labels


def assert_fisher_is_covariance(name: str, likelihood, f: np.ndarray) -> None:
    Om, mean = likelihood.fisher(f), likelihood.mean(f)
    for n in range(f.shape[0]):
        labels = enumerate_labels(name, f[n])
        p = np.array([probability for *_, probability in labels])
        T = np.array([statistic for _, statistic, _ in labels])
        score = np.array([likelihood.gradient(f[n : n + 1], y)[0] for y, *_ in labels])
        centred = T - mean[n]
        unit = 0.3 if name == "gaussian" else 1.0  # f = s2 times the natural parameter
        assert_values_close(p @ T, mean[n], dtype="float64", rtol=tolerance("float64", terms=len(p)))
        assert_values_close(np.einsum("i,ij,ik->jk", p, centred, centred) / unit**2, Om[n], dtype="float64")
        assert_values_close(np.einsum("i,ij,ik->jk", p, score, score), Om[n], dtype="float64")
        largest = float(np.max(np.abs(score * p[:, None])))
        assert_values_close(
            p @ score, np.zeros(f.shape[1]), dtype="float64", atol=tolerance("float64") * largest
        )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_fisher_is_the_covariance_of_statistic_and_score(name):
    f = np.random.default_rng(3).normal(0.0, 0.6, (3, 2))
    assert_fisher_is_covariance(name, LIKELIHOODS[name], f)


@dataclass(frozen=True)
class UncenteredFisher(Categorical):
    """Planted: the second moment of the label, without - p p^T."""

    def fisher(self, f):
        return self.mean(f)[:, :, None] * np.eye(f.shape[1])


@dataclass(frozen=True)
class HalvedFisher(Bernoulli):
    """Planted: a mean over the outputs in place of the sum."""

    def fisher(self, f):
        return super().fisher(f) / f.shape[1]


@pytest.mark.parametrize(
    ("name", "planted"), [("categorical", UncenteredFisher()), ("bernoulli", HalvedFisher())]
)
def test_planted_fisher_is_caught(name, planted):
    f = np.random.default_rng(3).normal(0.0, 0.6, (3, 2))
    with pytest.raises(AssertionError, match="entries differ"):
        assert_fisher_is_covariance(name, planted, f)


# --- gradient and Hessian are derivatives of the loss ---------------------------------------------------


def loss_of_row(name: str, f, y, library):
    """The definition, for complex numbers (``library`` NumPy) and for multiprecision ones (mpmath)."""
    K = range(len(f))
    if name == "categorical":
        return library.log(sum(library.exp(v) for v in f)) - f[int(y)]
    if name == "gaussian":
        return sum((f[k] - y[k]) ** 2 for k in K) / (2 * LIKELIHOODS["gaussian"].variance)
    if name == "bernoulli":
        return sum(library.log(1 + library.exp(f[k])) - y[k] * f[k] for k in K)
    return sum(library.exp(f[k]) - y[k] * f[k] for k in K)


def assert_derivatives(name: str, likelihood, f, y) -> None:
    step = 1e-30
    for n in range(f.shape[0]):
        label = y[n] if name == "categorical" else [float(v) for v in y[n]]
        value = loss_of_row(name, f[n], label, np)
        gradient = [
            loss_of_row(name, f[n] + 1j * step * np.eye(f.shape[1])[k], label, np).imag / step
            for k in range(f.shape[1])
        ]
        assert_values_close(likelihood.loss(f, y)[n], np.asarray(value), dtype="float64")
        assert_values_close(likelihood.gradient(f, y)[n], np.array(gradient), dtype="float64")
        hessian = hessian_of_row(name, f[n], label)
        assert_values_close(likelihood.hessian(f, y)[n], hessian, dtype="float64")


def hessian_of_row(name: str, f, label) -> np.ndarray:
    """Second partial derivatives by mpmath's differences at 60 digits."""
    unit = np.eye(len(f), dtype=int)
    with mpmath.workdps(60):
        point = tuple(mpmath.mpf(float(v)) for v in f)
        entries = [
            mpmath.diff(
                lambda *v: loss_of_row(name, v, label, mpmath), point, tuple((first + second).tolist())
            )
            for first, second in itertools.product(unit, unit)
        ]
        return np.array([float(v) for v in entries]).reshape(len(f), len(f))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradient_and_hessian_are_derivatives_of_the_loss(name):
    assert_derivatives(name, LIKELIHOODS[name], *random_case(name, size=3))


@dataclass(frozen=True)
class StandardDeviation(Gaussian):
    """Planted: a division by the standard deviation in place of the variance."""

    def gradient(self, f, y):
        return self.coefficients(f, y)


@dataclass(frozen=True)
class DoubledHessian(Poisson):
    """Planted: a Hessian that is twice the Fisher."""

    def hessian(self, f, y):
        return 2.0 * self.fisher(f)


@pytest.mark.parametrize(
    ("name", "planted"), [("gaussian", StandardDeviation(variance=0.3)), ("poisson", DoubledHessian())]
)
def test_planted_derivative_is_caught(name, planted):
    with pytest.raises(AssertionError, match="entries differ"):
        assert_derivatives(name, planted, *random_case(name, size=3))
