"""Special functions against high-precision values; each tolerance is a count of roundings."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from grng_ref.arrays import special

POINTS = np.concatenate(
    [
        [0.0, 1e-300, 1e-30, 1e-8, 0.1, 0.5, 1.0, 1.5, 2.5, 3.0, 4.0, 5.5, 6.0, 9.0, 30.0, 87.0],
        np.random.default_rng(0).uniform(0.0, 6.0, 200),
        np.nextafter(2.0, [0.0, 2.0, 3.0]),  # where erf's series and fraction meet
    ]
)
POINTS = np.concatenate([POINTS, -POINTS])
SATURATED = np.array([0.0, 1e-9, 0.3, 1.0, 5.0, 36.0, 40.0, 87.0, 300.0, 700.0])
SATURATED = np.concatenate([SATURATED, -SATURATED])


def assert_within(got: np.ndarray, x: np.ndarray, function, roundings: float) -> None:
    """``|got - f(x)| <= roundings eps |f(x)|`` in the dtype of ``got``, or below the least normal number."""
    info = np.finfo(got.dtype)
    with mpmath.workdps(400):
        for value, point in zip(got.tolist(), x.tolist(), strict=True):
            want = function(mpmath.mpf(point))
            allowed = roundings * float(info.eps) * abs(want) + float(info.tiny)
            assert abs(value - want) <= allowed, f"at {point!r}: got {value!r}, exact {mpmath.nstr(want, 20)}"


def test_erf_by_series(backend):
    """8 eps: the square's rounding reaches exp(-x^2) multiplied by x^2 <= 4, and half as many in the sum."""
    x = POINTS.astype(backend.dtype)
    got = special.erf_by_series(backend.asarray(x))
    backend.assert_close(got, backend.to_numpy(got))
    assert_within(backend.to_numpy(got), x, mpmath.erf, 8.0)


def test_erf_of_the_backend(backend):
    """The library's own function is held to the same error."""
    x = POINTS.astype(backend.dtype)
    got = special.erf(backend.asarray(x))
    backend.assert_close(got, backend.to_numpy(got))
    assert_within(backend.to_numpy(got), x, mpmath.erf, 8.0)


@pytest.mark.parametrize(("name", "too_few"), [("_SERIES_TERMS", 20), ("_FRACTION_TERMS", 20)])
def test_truncated_erf_is_caught(name, too_few, monkeypatch):
    monkeypatch.setattr(special, name, too_few)
    with pytest.raises(AssertionError, match="at "):
        assert_within(special.erf_by_series(POINTS), POINTS, mpmath.erf, 8.0)


# Whole numbers that float32 holds too; where product and series meet (16), and beyond 1/eps, where y + 1 = y.
COUNTS = np.unique(
    np.concatenate([np.arange(200.0), np.round(np.geomspace(200, 1e6, 200)), [2.0**24, 2.0**53, 1e12, 1e30]])
).astype(np.float32)


def exact_log_factorial(y):
    return mpmath.loggamma(y + 1)


@pytest.mark.parametrize("function", [special.log_factorial, special.log_factorial_by_stirling])
def test_log_factorial(function, backend):
    """4 eps: a logarithm, a product and a sum, and y + 1 is rounded; 0! and 1! give exactly zero."""
    y = COUNTS.astype(backend.dtype)
    got = function(backend.asarray(y))
    backend.assert_close(got, backend.to_numpy(got))
    assert_within(backend.to_numpy(got), y, exact_log_factorial, 4.0)
    np.testing.assert_array_equal(backend.to_numpy(got)[:2], 0.0)


@pytest.mark.parametrize(
    ("name", "wrong"), [("_STIRLING", (1 / 12, -1 / 360, 1 / 1260)), ("_STIRLING_FROM", 9)]
)
def test_truncated_stirling_series_is_caught(name, wrong, monkeypatch):
    monkeypatch.setattr(special, name, wrong)
    y = COUNTS.astype("float64")
    with pytest.raises(AssertionError, match="at "):
        assert_within(special.log_factorial_by_stirling(y), y, exact_log_factorial, 4.0)


def exact_sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def exact_softplus(x):
    return mpmath.log(1 + mpmath.exp(x))


def test_sigmoid_and_softplus(backend):
    x = SATURATED.astype(backend.dtype)
    for function, exact in ((special.sigmoid, exact_sigmoid), (special.softplus, exact_softplus)):
        got = function(backend.asarray(x))
        backend.assert_close(got, backend.to_numpy(got))
        assert_within(backend.to_numpy(got), x, exact, 8.0)


def naive_sigmoid(x):
    return 1.0 - 1.0 / (1.0 + np.exp(x))


def naive_softplus(x):
    return np.log(1.0 + np.exp(x))


NAIVE = [(naive_sigmoid, exact_sigmoid), (naive_softplus, exact_softplus)]


@pytest.mark.parametrize(("naive", "exact"), NAIVE)
def test_naive_formulas_fail(naive, exact):
    with pytest.raises(AssertionError, match="at "):
        assert_within(naive(SATURATED), SATURATED, exact, 8.0)


def test_extreme_arguments_saturate(backend):
    largest = float(np.finfo(backend.dtype).max)
    x = backend.asarray(np.array([largest, -largest]))
    np.testing.assert_array_equal(backend.to_numpy(special.sigmoid(x)), [1.0, 0.0])
    np.testing.assert_array_equal(backend.to_numpy(special.softplus(x))[1], 0.0)
    np.testing.assert_array_equal(backend.to_numpy(special.erf_by_series(x)), [1.0, -1.0])
