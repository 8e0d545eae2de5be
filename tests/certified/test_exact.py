"""Exact posteriors against fractions: by hand, by another formula (gain form), and with planted errors."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from support import Backend

from grng_ref.arrays import NumericalError
from grng_ref.certified import ExactGaussian, exact_log_marginal_likelihood, exact_posterior

Vector = list[Fraction]
Matrix = list[Vector]

# --- fractions, in the gain form: the covariance form of Kalman's filter, one observation after the other --


def sequential_filter(
    mean, rows, targets, noise: Fraction, P: Matrix
) -> tuple[Vector, Matrix, Fraction, Fraction]:
    """Mean, covariance, the product of the innovations' variances, the sum of squares over variances."""
    m = [Fraction(float(value)) for value in mean]
    determinant, square = Fraction(1), Fraction(0)
    for row, target in zip(rows, targets, strict=True):
        h = [Fraction(float(value)) for value in row]
        Ph = [sum(p * x for p, x in zip(line, h, strict=True)) for line in P]
        spread = sum(x * v for x, v in zip(h, Ph, strict=True)) + noise
        innovation = Fraction(float(target)) - sum(x * v for x, v in zip(h, m, strict=True))
        determinant, square = determinant * spread, square + innovation * innovation / spread
        m = [value + v * innovation / spread for value, v in zip(m, Ph, strict=True)]
        P = [
            [p - v * w / spread for p, w in zip(line, Ph, strict=True)] for line, v in zip(P, Ph, strict=True)
        ]
    return m, P, determinant, square


def isotropic(variance: Fraction, size: int) -> Matrix:
    return [[variance if i == j else Fraction(0) for j in range(size)] for i in range(size)]


def entries(gaussian: ExactGaussian, which: str) -> list[Fraction]:
    return [Fraction(int(q.p), int(q.q)) for q in getattr(gaussian, which).entries()]


def problem(seed: int, size: int = 3, observations: int = 5, dtype: str = "float64"):
    rng = np.random.default_rng(seed)
    shapes = (size, (observations, size), observations)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def flat(matrix: Matrix) -> list[Fraction]:
    return [value for row in matrix for value in row]


# --- posterior ----------------------------------------------------------------------------------------------


def test_one_parameter_by_hand():
    """Prior N(1, 2), observed 3 = 2 theta + noise of variance 4: Y = 1/2 + 4/4, m = 1 + (2/3)(2 / 4)."""
    posterior = exact_posterior(
        np.array([1.0]), np.array([[2.0]]), np.array([3.0]), noise_variance=4, prior_variance=2
    )
    assert entries(posterior, "information") == [Fraction(3, 2)]
    assert entries(posterior, "covariance") == [Fraction(2, 3)]
    assert entries(posterior, "mean") == [Fraction(4, 3)]
    assert posterior.rounded("mean")[0] == 4 / 3
    assert posterior.rounded("covariance").shape == (1, 1)


@pytest.mark.parametrize("ratio", [10**0, 10**12, 10**18, 10**40])
@pytest.mark.parametrize("noise", [Fraction(1, 3), 0.1, 2])
def test_posterior_is_the_filter_in_fractions(ratio, noise):
    mean, rows, targets = problem(ratio % 97)
    R = Fraction(noise)
    posterior = exact_posterior(mean, rows, targets, noise_variance=noise, prior_variance=R * ratio)
    m, P, _, _ = sequential_filter(mean, rows, targets, R, isotropic(R * ratio, 3))
    assert entries(posterior, "mean") == m
    assert entries(posterior, "covariance") == flat(P)
    product = posterior.information * posterior.covariance
    assert all(product[i, j] == int(i == j) for i in range(3) for j in range(3))


def test_float32_is_taken_as_stored():
    mean, rows, targets = problem(5, dtype="float32")
    posterior = exact_posterior(mean, rows, targets, noise_variance=np.float32(0.1), prior_variance=7)
    m, P, _, _ = sequential_filter(mean, rows, targets, Fraction(13421773, 2**27), isotropic(Fraction(7), 3))
    assert entries(posterior, "mean") == m
    assert entries(posterior, "covariance") == flat(P)


def test_forms_of_the_prior_agree():
    mean, rows, targets = problem(6)
    information = np.diag([0.5, 4.0, 0.25]) + 0.125
    covariance = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.25], [0.0, -0.25, 3.0]])
    exact_information = [[Fraction(value) for value in row] for row in information]
    posterior = exact_posterior(mean, rows, targets, noise_variance=1, prior_information=information)
    gram = [[sum(Fraction(x[i]) * Fraction(x[j]) for x in rows) for j in range(3)] for i in range(3)]
    assert entries(posterior, "information") == [
        a + b for a, b in zip(flat(exact_information), flat(gram), strict=True)
    ]
    posterior = exact_posterior(mean, rows, targets, noise_variance=1, prior_covariance=covariance)
    prior = [[Fraction(value) for value in row] for row in covariance]
    m, P, _, _ = sequential_filter(mean, rows, targets, Fraction(1), prior)
    assert entries(posterior, "mean") == m
    assert entries(posterior, "covariance") == flat(P)
    scalar = exact_posterior(mean, rows, targets, noise_variance=1, prior_variance=0.25)
    matrix = exact_posterior(mean, rows, targets, noise_variance=1, prior_information=4.0 * np.eye(3))
    assert entries(scalar, "mean") == entries(matrix, "mean")


def test_every_backend(backend: Backend):
    arrays = problem(7, dtype=backend.dtype)
    here = exact_posterior(*arrays, noise_variance=0.3, prior_information=np.eye(3))
    prior = backend.asarray(np.eye(3))
    there = exact_posterior(*map(backend.asarray, arrays), noise_variance=0.3, prior_information=prior)
    for which in ("mean", "information", "covariance"):
        assert entries(there, which) == entries(here, which)
        rounded = here.rounded(which).astype(backend.dtype)
        error = there.relative_error(backend.asarray(rounded), which)
        assert 0.0 < error <= np.finfo(backend.dtype).eps / 2


# --- errors of computed posteriors --------------------------------------------------------------------------


def test_rounded_is_correctly_rounded():
    mean, rows, targets = problem(8)
    posterior = exact_posterior(mean, rows, targets, noise_variance=0.7, prior_variance=1e12)
    for which in ("mean", "covariance"):
        rounded, exact = posterior.rounded(which).ravel(), entries(posterior, which)
        for value, truth in zip(rounded, exact, strict=True):
            distance = abs(Fraction(float(value)) - truth)
            for other in (np.nextafter(value, -np.inf), np.nextafter(value, np.inf)):
                assert distance <= abs(Fraction(float(other)) - truth)


def test_relative_error_is_the_ratio_of_frobenius_norms():
    mean, rows, targets = problem(9)
    posterior = exact_posterior(mean, rows, targets, noise_variance=0.7, prior_variance=1e12)
    computed = posterior.rounded("covariance") * (
        1.0 + 1e-9 * np.random.default_rng(0).standard_normal((3, 3))
    )
    truth = entries(posterior, "covariance")
    difference = [Fraction(float(c)) - t for c, t in zip(computed.ravel(), truth, strict=True)]
    square = sum(d * d for d in difference) / sum(t * t for t in truth)
    error = posterior.relative_error(computed, "covariance")
    assert Fraction(error) ** 2 >= square
    assert Fraction(error) ** 2 <= square * (1 + Fraction(1, 10**15))
    assert 1e-10 < error < 1e-8


def test_planted_errors_are_seen():
    """The noise forgotten, the prior forgotten, a target more, the wrong factor of the prior."""
    mean, rows, targets = problem(10)
    R, p0 = Fraction(1, 10), Fraction(10)
    truth = exact_posterior(mean, rows, targets, noise_variance=R, prior_variance=p0)
    wrong = [
        exact_posterior(mean, rows, targets, noise_variance=1, prior_variance=p0),
        exact_posterior(mean, rows, targets, noise_variance=R, prior_variance=p0 * 10**9),
        exact_posterior(mean, rows[:-1], targets[:-1], noise_variance=R, prior_variance=p0),
        exact_posterior(mean, rows, targets, noise_variance=R, prior_variance=1 / p0),
    ]
    for planted in wrong:
        for which in ("mean", "covariance"):
            assert truth.relative_error(planted.rounded(which), which) > 1e-4
    assert truth.relative_error(truth.rounded("mean"), "mean") < 2e-16


def test_relative_error_of_zero():
    zero = exact_posterior(np.zeros(1), np.ones((1, 1)), np.zeros(1), noise_variance=1, prior_variance=1)
    assert zero.relative_error(np.zeros(1), "mean") == 0.0
    assert zero.relative_error(np.full(1, 1e-300), "mean") == math.inf


# --- marginal likelihood ------------------------------------------------------------------------------------


def rational_of(number: mpmath.mpf) -> Fraction:
    return Fraction(*map(int, mpmath.libmp.to_rational(number._mpf_)))


@pytest.mark.parametrize("ratio", [1, 10**12, 10**18])
@pytest.mark.parametrize("precision", [53, 256])
def test_marginal_likelihood_is_that_of_the_innovations(ratio, precision):
    """log N(y; X m, S) as a product over one observation after the other, its logarithms in 80 digits."""
    mean, rows, targets = problem(11)
    R = Fraction(1, 3)
    enclosure = exact_log_marginal_likelihood(
        mean, rows, targets, noise_variance=R, prior_variance=R * ratio, precision=precision
    )
    _, _, determinant, square = sequential_filter(mean, rows, targets, R, isotropic(R * ratio, 3))
    with mpmath.workdps(80):

        def number(q: Fraction) -> mpmath.mpf:
            return mpmath.mpf(q.numerator) / q.denominator

        log_determinant = mpmath.log(number(determinant))
        truth = -(len(rows) * mpmath.log(2 * mpmath.pi) + log_determinant + number(square)) / 2
        without_constant = truth + len(rows) * mpmath.log(2 * mpmath.pi) / 2
    exact = rational_of(truth)
    distance = abs(exact - Fraction(float(enclosure.midpoint)))
    assert distance <= Fraction(float(enclosure.radius))
    assert float(enclosure.radius) <= (8e-16 if precision == 53 else 1.2e-16) * max(abs(truth), 30)
    # planted: the constant left out; another noise
    assert not enclosure.contains(float(without_constant))
    other = exact_log_marginal_likelihood(mean, rows, targets, noise_variance=R * 2, prior_variance=R * ratio)
    assert abs(float(other.midpoint) - float(truth)) > 0.1


# --- bad arguments ------------------------------------------------------------------------------------------

INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
SINGULAR = np.ones((2, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mean": np.ones((2, 1))}, ValueError, r"mean must have shape \(any,\)"),
        ({"mean": [1.0, 2.0]}, TypeError, "mean must be an array"),
        ({"mean": np.array([1, 2])}, TypeError, "mean must be a float32 or float64 array"),
        ({"rows": np.ones((3, 3))}, ValueError, r"rows must have shape \(any, 2\)"),
        ({"targets": np.ones(2)}, ValueError, r"targets must have shape \(3,\)"),
        ({"targets": np.array([1.0, np.nan, 0.0])}, ValueError, "targets must be finite"),
        ({"noise_variance": 0}, ValueError, "noise_variance must be a finite number > 0, got 0"),
        ({"noise_variance": "1"}, TypeError, "noise_variance must be a real number, got str"),
        ({"prior_variance": None}, ValueError, "exactly one of prior_variance, .* got none"),
        ({"prior_information": np.eye(2)}, ValueError, "got prior_variance and prior_information"),
        ({"prior_variance": -1.0}, ValueError, "prior_variance must be a finite number > 0"),
        ({"prior_variance": None, "prior_information": np.eye(3)}, ValueError, "prior_information must have"),
        (
            {"prior_variance": None, "prior_information": INDEFINITE},
            ValueError,
            "prior_information must be pos",
        ),
        (
            {"prior_variance": None, "prior_information": SINGULAR},
            ValueError,
            "prior_information must be pos",
        ),
        (
            {"prior_variance": None, "prior_covariance": INDEFINITE},
            ValueError,
            "prior_covariance must be pos",
        ),
        ({"prior_variance": None, "prior_covariance": SINGULAR}, ValueError, "prior_covariance must be pos"),
        ({"prior_variance": None, "prior_covariance": np.triu(SINGULAR)}, ValueError, "equal its transpose"),
    ],
)
def test_bad_arguments(change, error, message):
    good = {
        "mean": np.zeros(2),
        "rows": np.ones((3, 2)),
        "targets": np.ones(3),
        "noise_variance": 1.0,
        "prior_variance": 1.0,
    }
    exact_posterior(**good)
    for function in (exact_posterior, exact_log_marginal_likelihood):
        with pytest.raises(error, match=message):
            function(**(good | change))


def test_bad_names_and_shapes_of_results():
    posterior = exact_posterior(np.zeros(2), np.ones((3, 2)), np.ones(3), noise_variance=1, prior_variance=1)
    with pytest.raises(ValueError, match="which must be one of 'mean', 'information', 'covariance'"):
        posterior.rounded("variance")
    with pytest.raises(ValueError, match=r"computed must have shape \(2,\) = the shape of the mean"):
        posterior.relative_error(np.ones((2, 2)), "mean")
    with pytest.raises(ValueError, match="computed must be finite"):
        posterior.relative_error(np.full((2, 2), np.inf), "covariance")
    for precision, error in ((52, ValueError), (64.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="precision must be an integer"):
            exact_log_marginal_likelihood(
                np.zeros(1),
                np.ones((1, 1)),
                np.ones(1),
                noise_variance=1,
                prior_variance=1,
                precision=precision,
            )


def test_results_beyond_float64_are_refused():
    huge = exact_posterior(
        np.zeros(1), np.full((1, 1), 2.0), np.ones(1), noise_variance=Fraction(1, 10**400), prior_variance=1
    )
    assert entries(huge, "information") == [1 + 4 * Fraction(10) ** 400]
    with pytest.raises(NumericalError, match="leaves the range of float64"):
        huge.rounded("information")
    assert huge.rounded("covariance")[0, 0] == 0.0
