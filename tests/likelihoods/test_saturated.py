"""Every quantity of every likelihood, component by component, against 400-digit arithmetic.

The references are the textbook formulas, without our rearrangements: at 400 digits their cancellation, which
reaches exp(-700) = 1e-304, still leaves 90 digits.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special
from support import Backend

from grng_ref.arrays import NumericalError
from grng_ref.likelihoods import Bernoulli, Categorical, Gaussian, Poisson

DIGITS = 400
# At most ten operations follow one another (exponential, correction, sum, quotient, product), each with 1.5
# eps at most. The promised 1e-14 is 45 eps in float64.
ROUNDINGS = 16.0
QUANTITIES = ("loss", "mean", "gradient", "fisher", "factor", "coefficients", "hessian")
LIKELIHOODS = {
    "gaussian": Gaussian(variance=0.3),
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
}


# --- data: the largest logarithm of a probability is a parameter, since float32 ends at exp(-87) ------------


def outputs(depth: float) -> np.ndarray:
    """(N, 4) logits: the case of the specification, saturated ones of two kinds, ties, moderate ones."""
    rng = np.random.default_rng(7)
    saturated = rng.uniform(-depth, 0.0, (12, 4))
    saturated[np.arange(12), rng.integers(4, size=12)] = 0.0
    shifted = saturated + rng.uniform(-depth / 2, depth / 2, (12, 1))  # f - max f is rounded here
    shifted -= np.maximum(0.0, np.max(shifted, axis=1, keepdims=True) - 0.9 * depth)
    fixed = [
        [70.0, 0.0, 1.0, -1.0],
        [0.0, 0.0, -depth, 0.0],
        [1e-9, 0.0, -1e-9, 2e-9],
        [-depth, 0.0, -1.0, -depth],
        [40.0, 50.0, -60.0, 0.9 * depth],
    ]
    return np.concatenate([fixed, saturated, shifted, rng.normal(0.0, 3.0, (8, 4))])


def labels(name: str, f: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(8)
    if name == "categorical":
        return np.concatenate([np.argmax(f[:16], axis=1), rng.integers(4, size=f.shape[0] - 16)])
    if name == "bernoulli":
        return np.concatenate([f[:16] > 0, rng.integers(2, size=(f.shape[0] - 16, 4))]).astype(float)
    if name == "poisson":
        return rng.choice([0.0, 0.0, 1.0, 7.0], size=f.shape)
    return rng.normal(0.0, 2.0, f.shape)


def case(name: str, backend):
    depth = 700.0 if backend.dtype == "float64" else 80.0
    f = outputs(depth)
    if name == "categorical":
        f = np.concatenate([f, f[:16]])  # the first rows twice: with the likeliest label, and with another
    y = labels(name, f)
    f = f.astype(backend.dtype).astype(float)  # the reference gets the very numbers that the backend holds
    y = y if name == "categorical" else y.astype(backend.dtype).astype(float)
    return f, y


# --- references -------------------------------------------------------------------------------------------


def exact_row(name: str, f, y) -> dict[str, np.ndarray]:
    """The quantities of one example, and under ``..._scale`` the terms that cancel in a difference."""
    mp = mpmath
    f = [mp.mpf(float(v)) for v in f]
    K = range(len(f))
    if name == "categorical":
        weights = [mp.exp(v) for v in f]
        p = [w / mp.fsum(weights) for w in weights]
        onehot = [mp.mpf(int(k == y)) for k in K]
        root = [mp.sqrt(v) for v in p]
        fisher = [[p[i] * (i == j) - p[i] * p[j] for j in K] for i in K]
        return {
            "loss": -mp.log(p[y]),
            "mean": p,
            "gradient": [p[k] - onehot[k] for k in K],
            "fisher": fisher,
            "hessian": fisher,
            "factor": [[root[i] * (i == j) - p[i] * root[j] for j in K] for i in K],
            "coefficients": [root[k] - onehot[k] / root[k] for k in K],
        }
    y = [mp.mpf(float(v)) for v in y]
    if name == "gaussian":
        s2 = mp.mpf(LIKELIHOODS["gaussian"].variance)
        mean, slope = f, [1 / s2] * len(f)
        gradient = [(f[k] - y[k]) / s2 for k in K]
        loss = mp.fsum((f[k] - y[k]) ** 2 for k in K) / (2 * s2)
    elif name == "bernoulli":
        mean = [1 / (1 + mp.exp(-v)) for v in f]
        slope = [s * (1 - s) for s in mean]
        gradient = [mean[k] - y[k] for k in K]
        loss = mp.fsum(mp.log(1 + mp.exp(f[k])) - y[k] * f[k] for k in K)
    else:
        mean = slope = [mp.exp(v) for v in f]
        gradient = [mean[k] - y[k] for k in K]
        loss = mp.fsum(mean[k] - y[k] * f[k] for k in K)
    root = [mp.sqrt(v) for v in slope]
    fisher = [[slope[i] * (i == j) for j in K] for i in K]
    row = {
        "loss": loss,
        "mean": mean,
        "gradient": gradient,
        "fisher": fisher,
        "hessian": fisher,
        "factor": [[root[i] * (i == j) for j in K] for i in K],
        "coefficients": [gradient[k] / root[k] for k in K],
    }
    if name == "poisson":  # documented: differences are right relative to their terms
        row["loss_scale"] = mp.fsum(mean[k] + abs(y[k] * f[k]) for k in K)
        row["gradient_scale"] = [max(mean[k], y[k]) for k in K]
        row["coefficients_scale"] = [max(mean[k], y[k]) / root[k] for k in K]
    return row


def exact(name: str, f: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    with mpmath.workdps(DIGITS):
        rows = [exact_row(name, f[n], y[n]) for n in range(f.shape[0])]
        return {key: np.array([row[key] for row in rows], dtype=object) for key in rows[0]}


def assert_componentwise(got, want: np.ndarray, dtype: str, scale: np.ndarray | None = None) -> None:
    """``|got - want| <= 16 eps |want|``, or the least normal number where the result is smaller than that."""
    info = np.finfo(dtype)
    got = np.asarray(got)
    assert got.shape == want.shape
    assert np.all(np.isfinite(got))
    with mpmath.workdps(DIGITS):
        for index in np.ndindex(want.shape):
            error = abs(mpmath.mpf(float(got[index])) - want[index])
            size = abs((want if scale is None else scale)[index])
            allowed = ROUNDINGS * float(info.eps) * size + float(info.tiny)
            assert error <= allowed, (
                f"entry {index}: got {got[index]!r}, exact {mpmath.nstr(want[index], 20)}, "
                f"relative error {mpmath.nstr(error / size, 3)}"
            )


_EXACT: dict[tuple[str, str], dict[str, np.ndarray]] = {}


def exact_case(name: str, backend):
    """The case and its reference, which all backends of a dtype share."""
    f, y = case(name, backend)
    if (name, backend.dtype) not in _EXACT:
        _EXACT[name, backend.dtype] = exact(name, f, y)
    return f, y, _EXACT[name, backend.dtype]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_quantity_is_right_component_by_component(name, backend):
    f, y, want = exact_case(name, backend)
    likelihood = LIKELIHOODS[name]
    held_f, held_y = backend.asarray(f), backend.asarray(y)
    likelihood.check_targets(held_f, held_y)
    for quantity in QUANTITIES:
        method = getattr(likelihood, quantity)
        got = method(held_f) if quantity in ("mean", "fisher", "factor") else method(held_f, held_y)
        if quantity == "coefficients":
            # one over the root of a probability may be large, but float32's exp(-80) is not beyond it
            assert np.all(np.isfinite(backend.to_numpy(got)))
        backend.assert_close(got, want[quantity].astype(float), rtol=1e-3)  # namespace, device, dtype, shape
        assert_componentwise(
            backend.to_numpy(got), want[quantity], backend.dtype, want.get(f"{quantity}_scale")
        )


# --- the case of the specification, by hand ----------------------------------------------------------------


def test_saturated_categorical_gradient_by_hand():
    f, y = np.array([[70.0, 0.0, 1.0, -1.0]]), np.array([0])
    tail = np.exp(-70.0) + np.exp(-69.0) + np.exp(-71.0)  # the other terms of the denominator are below 1e-29
    gradient = Categorical().gradient(f, y)[0]
    np.testing.assert_allclose(gradient[0], -tail, rtol=1e-14)
    np.testing.assert_allclose(Categorical().loss(f, y)[0], tail, rtol=1e-14)
    assert gradient[0] != 0.0


# --- where exponentials end -------------------------------------------------------------------------------


def test_coefficients_overflow_to_infinity_without_a_warning():
    f = np.array([[0.0, -200.0, 3.0]], dtype=np.float32)
    coefficients = Categorical().coefficients(f, np.array([1]))
    assert coefficients[0, 1] == -np.inf
    assert np.all(np.isfinite(coefficients[0, [0, 2]]))
    y = np.array([[1.0, 1.0, 0.0]], dtype=np.float32)
    assert Bernoulli().coefficients(f, y)[0, 1] == -np.inf
    assert Poisson().coefficients(f, y)[0, 1] == -np.inf
    assert np.all(np.isfinite(Bernoulli().coefficients(f, 1.0 - y)[0, 1]))
    assert Poisson().coefficients(f, np.zeros_like(y))[0, 1] >= 0.0  # no count: the infinite term is absent


def test_extreme_logits_stay_free_of_nan(backend):
    largest = 0.9 * float(np.finfo(backend.dtype).max)
    f, y = (
        backend.asarray(np.array([[largest, 0.0, -1.0], [0.0, -largest, 1.0]])),
        backend.asarray(np.array([1, 0])),
    )
    for quantity in ("mean", "fisher", "factor"):
        assert np.all(np.isfinite(backend.to_numpy(getattr(Categorical(), quantity)(f))))
    gradient = backend.to_numpy(Categorical().gradient(f, y))
    np.testing.assert_array_equal(gradient[0], [1.0, -1.0, 0.0])


def test_factor_is_right_where_the_probability_underflows():
    """log p = -1000: p is zero in float64, sqrt(p) = exp(-500) is not."""
    factor = Categorical().factor(np.array([[0.0, -1000.0]]))
    np.testing.assert_allclose(factor[0, 1, 1], np.exp(-500.0), rtol=1e-14)
    assert Categorical().mean(np.array([[0.0, -1000.0]]))[0, 1] == 0.0


def test_poisson_overflow_is_an_error(backend):
    limit = 709.78 if backend.dtype == "float64" else 88.72
    y = backend.asarray(np.ones((1, 2)))
    fits, too_large = (backend.asarray(np.array([[0.0, value]])) for value in (limit, limit + 0.01))
    assert np.all(np.isfinite(backend.to_numpy(Poisson().mean(fits))))
    for quantity in QUANTITIES:
        method = getattr(Poisson(), quantity)
        with pytest.raises(NumericalError, match=r"largest f is (709\.79|88\.73).*float64"):
            method(too_large) if quantity in ("mean", "fisher", "factor") else method(too_large, y)


# --- negative controls: the naive formulas fail the very same check -------------------------------------


def naive_categorical(f: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    p = scipy.special.softmax(f, axis=1)
    onehot = np.eye(f.shape[1])[y]
    root = np.sqrt(p)
    fisher = p[:, :, None] * np.eye(f.shape[1]) - p[:, :, None] * p[:, None, :]
    return {
        "loss": -np.log(np.sum(p * onehot, axis=1)),
        "mean": p,  # exp(f - max f) with the rounding of the difference
        "gradient": p - onehot,
        "fisher": fisher,
        "factor": root[:, :, None] * np.eye(f.shape[1]) - p[:, :, None] * root[:, None, :],
        "coefficients": root - onehot / root,
    }


def naive_bernoulli(f: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    s = scipy.special.expit(f)
    slope = s * (1.0 - s)
    return {
        "loss": np.sum(np.logaddexp(0.0, f) - y * f, axis=1),
        "gradient": s - y,
        "fisher": slope[:, :, None] * np.eye(f.shape[1]),
        "factor": np.sqrt(slope)[:, :, None] * np.eye(f.shape[1]),
    }


@pytest.mark.parametrize(
    ("name", "naive"), [("categorical", naive_categorical), ("bernoulli", naive_bernoulli)]
)
@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_naive_formulas_fail(name, naive, dtype):
    f, y, want = exact_case(name, Backend("numpy", "numpy", dtype))
    for quantity, got in naive(f, y).items():
        with pytest.raises(AssertionError, match="relative error"):
            assert_componentwise(got, want[quantity], dtype)
