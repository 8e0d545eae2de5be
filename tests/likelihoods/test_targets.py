"""Labels and parameters that do not fit: the error kind, and a message that says what is needed."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from grng_ref.likelihoods import Bernoulli, Categorical, Gaussian, Poisson

F = np.zeros((4, 3))
ZEROS = np.zeros((4, 3))


def with_entry(value: float) -> np.ndarray:
    y = np.zeros((4, 3))
    y[2, 1] = value
    return y


REAL = {
    "a list": ([[0.0] * 3] * 4, TypeError, "y must be an array"),
    "float32 beside float64": (ZEROS.astype(np.float32), TypeError, "y has dtype float32 but f has float64"),
    "integers": (ZEROS.astype(int), TypeError, "y must be a float32 or float64 array, got dtype int64"),
    "another library": (
        array_api_strict.zeros((4, 3)),
        TypeError,
        "y belongs to array_api_strict but f to numpy",
    ),
    "another shape": (ZEROS[:3], ValueError, r"y must have shape \(4, 3\).*got \(3, 3\)"),
    "one-dimensional": (ZEROS[:, 0], ValueError, r"y must have shape \(4, 3\).*got \(4,\)"),
    "NaN": (with_entry(np.nan), ValueError, "y must be finite"),
    "infinite": (with_entry(np.inf), ValueError, "y must be finite"),
}


@pytest.mark.parametrize("likelihood", [Gaussian(), Bernoulli(), Poisson()], ids=lambda it: type(it).__name__)
@pytest.mark.parametrize(("y", "error", "message"), REAL.values(), ids=REAL)
def test_real_targets(likelihood, y, error, message):
    with pytest.raises(error, match=message):
        likelihood.check_targets(F, y)


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        (Bernoulli(), 0.5, r"y must hold zeros and ones.*got an entry 0\.5"),
        (Bernoulli(), -1.0, "y must hold zeros and ones.*got an entry -1"),
        (Bernoulli(), 2.0, "y must hold zeros and ones.*got an entry 2"),
        (Poisson(), -1.0, "y must hold nonnegative whole numbers.*got an entry -1"),
        (Poisson(), 1.5, r"y must hold nonnegative whole numbers.*got an entry 1\.5"),
    ],
)
def test_values_out_of_range(likelihood, value, message, backend):
    f, good, bad = backend.asarray((F, ZEROS, with_entry(value)))
    likelihood.check_targets(f, good)
    with pytest.raises(ValueError, match=message):
        likelihood.check_targets(f, bad)


CLASSES = {
    "a list": ([0, 1, 2, 0], TypeError, "y must be an array"),
    "floats": (np.zeros(4), TypeError, r"y must have an integer dtype \(class labels 0\.\.2\), got float64"),
    "booleans": (np.zeros(4, dtype=bool), TypeError, "y must have an integer dtype.*got bool"),
    "another library": (
        array_api_strict.zeros(4, dtype=array_api_strict.int64),
        TypeError,
        "y belongs to array_api_strict",
    ),
    "one-hot": (np.eye(4, 3, dtype=int), ValueError, r"y must have shape \(4,\).*got \(4, 3\)"),
    "another length": (np.zeros(5, dtype=int), ValueError, r"y must have shape \(4,\).*got \(5,\)"),
    "too large": (np.array([0, 1, 3, 0]), ValueError, r"labels 0\.\.2 for 3 outputs, got labels from 0 to 3"),
    "negative": (
        np.array([0, 1, -1, 0]),
        ValueError,
        r"labels 0\.\.2 for 3 outputs, got labels from -1 to 1",
    ),
}


@pytest.mark.parametrize(("y", "error", "message"), CLASSES.values(), ids=CLASSES)
def test_class_labels(y, error, message):
    with pytest.raises(error, match=message):
        Categorical().check_targets(F, y)


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint8"])
def test_class_labels_of_any_integer_dtype(kind, backend):
    """With more classes than the narrowest dtype counts, so that nothing may be compared in that dtype."""
    f = backend.asarray(np.random.default_rng(0).normal(size=(3, 300)))
    narrow, wide = backend.asarray((np.array([0, 5, 127], dtype=kind), np.array([0, 5, 127])))
    Categorical().check_targets(f, narrow)
    expected = backend.to_numpy(Categorical().gradient(f, wide))
    backend.assert_close(Categorical().gradient(f, narrow), expected, rtol=0.0)
    assert np.all(expected[np.arange(3), [0, 5, 127]] < 0.0)


@pytest.mark.parametrize("likelihood", [Gaussian(), Categorical(), Bernoulli(), Poisson()])
def test_outputs_on_another_device(likelihood):
    strict = array_api_strict
    there = strict.Device("device1")
    f = strict.zeros((4, 3), device=there)
    y = strict.zeros(4, dtype=strict.int64) if likelihood == Categorical() else strict.zeros((4, 3))
    with pytest.raises(ValueError, match=r"y is on device.*gr\.asarray"):
        likelihood.check_targets(f, y)


@pytest.mark.parametrize("likelihood", [Gaussian(), Categorical(), Bernoulli(), Poisson()])
@pytest.mark.parametrize("f", [np.zeros(3), np.zeros((0, 3)), np.zeros((4, 0)), np.zeros((2, 2, 2))])
def test_outputs_of_another_shape(likelihood, f):
    y = np.zeros(f.shape[:1], dtype=int) if likelihood == Categorical() else f
    with pytest.raises(ValueError, match="f must have shape"):
        likelihood.check_targets(f, y)


@pytest.mark.parametrize(
    ("variance", "error"),
    [(0.0, ValueError), (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError)],
)
def test_variance(variance, error):
    with pytest.raises(error, match="variance must be a"):
        Gaussian(variance=variance)
