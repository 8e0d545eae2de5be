"""The activations and their derivatives against high-precision differentiation of their definitions."""

from __future__ import annotations

import dataclasses

import mpmath
import numpy as np
import pytest
from support import Backend

from grng_ref.models.activations import ACTIVATIONS, Activation, find_activation

DIGITS = 60
DIGITS_OF_TAILS = (
    400  # sigmoid''(700) is 1e-304 beside sigmoid(700) = 1: a difference of values needs that many
)
ROUNDINGS = 16.0  # about ten operations, each with 1.5 eps at most; the promised 1e-14 is 45
POINTS = [1e-8, 0.1, 0.7, 1.0, 2.0, 3.3, 5.0, 8.4, 20.0, 37.5, 87.0, 300.3, 699.7]
POINTS = [0.0, *POINTS, *(-x for x in POINTS)]
ORDERS = ("value", "first", "second")


def definitions():
    mp = mpmath
    return {
        "identity": lambda x: x,
        "relu": lambda x: x if x > 0 else 0 * x,
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "softplus": lambda x: mp.log(1 + mp.exp(x)),
        "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "silu": lambda x: x / (1 + mp.exp(-x)),
    }


def allowed_scale(name: str, order: str, x, want):
    """What the error is relative to: the value, but for the exceptions that the documentation states."""
    if name == "gelu":
        return max(1, abs(x))
    if name == "silu" and order != "value":  # terms that cancel near the zeros of the derivatives
        s = 1 / (1 + mpmath.exp(-x))
        slope = s * (1 - s)
        return abs(s) + abs(x) * slope if order == "first" else slope * (2 + abs(x * mpmath.tanh(x / 2)))
    return abs(want)


_EXACT: dict[tuple[str, str, float], tuple] = {}


def exact(name: str, order: str, x: float) -> tuple:
    """The exact derivative at x and the scale of its allowed error."""
    key = (name, order, x)
    if key not in _EXACT:
        # gelu's accuracy is absolute, and erfc at 400 digits is slow
        with mpmath.workdps(DIGITS if name == "gelu" else DIGITS_OF_TAILS):
            point = mpmath.mpf(x)
            if name == "relu" and x == 0.0:
                want = mpmath.mpf(0)  # by convention, for both derivatives
            else:
                want = mpmath.diff(definitions()[name], point, ORDERS.index(order))
            scale = allowed_scale(name, order, point, want)
        with mpmath.workdps(DIGITS):
            _EXACT[key] = (+want, +scale)
    return _EXACT[key]


def assert_right(name: str, order: str, x: np.ndarray, got: np.ndarray) -> None:
    """``|got - want| <= 16 eps scale``, or the least normal number where the value is below it."""
    info = np.finfo(got.dtype)
    for point, value in zip(x.tolist(), got.tolist(), strict=True):
        want, scale = exact(name, order, point)
        with mpmath.workdps(DIGITS):
            error = abs(mpmath.mpf(value) - want)
            assert error <= ROUNDINGS * float(info.eps) * scale + float(info.tiny), (
                f"{name} {order} at {point!r}: got {value!r}, exact {mpmath.nstr(want, 20)}"
            )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, order, backend):
    x = np.array(POINTS).astype(backend.dtype)
    held = backend.asarray(x)
    got = getattr(find_activation(name), order)(held)
    backend.assert_close(got, backend.to_numpy(got))  # namespace, device, dtype and shape
    assert_right(name, order, x, backend.to_numpy(got))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extreme_preactivations_are_finite_and_warn_nothing(name, backend):
    largest = 0.5 * float(np.finfo(backend.dtype).max)
    x = backend.asarray(np.array([[largest, -largest]]))
    activation = find_activation(name)
    value, first, second = (backend.to_numpy(getattr(activation, order)(x)) for order in ORDERS)
    limits = {"identity": (1.0, 1.0), "tanh": (0.0, 0.0), "sigmoid": (0.0, 0.0)}
    assert np.all(np.isfinite(value))
    np.testing.assert_array_equal(first[0], limits.get(name, (1.0, 0.0)))
    np.testing.assert_array_equal(second[0], [0.0, 0.0])


def test_a_nan_stays_a_nan():
    for activation in ACTIVATIONS.values():
        assert np.isnan(activation.value(np.array([np.nan]))[0]), activation.name


# --- finding one ------------------------------------------------------------------------------------------


def test_the_seven_names():
    assert set(ACTIVATIONS) == {"identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu"}
    assert all(find_activation(name).name == name for name in ACTIVATIONS)


def test_an_activation_of_the_users_own_is_taken_as_it_is():
    square = Activation("square", lambda x: x * x, lambda x: 2.0 * x, lambda x: 2.0 + 0.0 * x)
    assert find_activation(square) is square
    with pytest.raises(dataclasses.FrozenInstanceError):
        square.name = "cube"


@pytest.mark.parametrize("unknown", ["swish", "ReLU", None, np.tanh])
def test_unknown_activation(unknown):
    with pytest.raises(ValueError, match=r"activation must be one of 'identity', 'relu'.*; got"):
        find_activation(unknown)


# --- negative controls --------------------------------------------------------------------------------------

PLANTED = {
    "1 - tanh^2": ("tanh", "first", lambda x: 1.0 - np.tanh(x) ** 2),
    "tanh'' from 1 - tanh^2": ("tanh", "second", lambda x: -2.0 * np.tanh(x) * (1.0 - np.tanh(x) ** 2)),
    "s (1 - s)": ("sigmoid", "first", lambda x: (s := ACTIVATIONS["sigmoid"].value(x)) * (1.0 - s)),
    "1 - 2 s": (
        "sigmoid",
        "second",
        lambda x: ACTIVATIONS["sigmoid"].first(x) * (1.0 - 2.0 * ACTIVATIONS["sigmoid"].value(x)),
    ),
    "log(1 + exp x)": ("softplus", "value", lambda x: np.log(1.0 + np.exp(x))),
    "gelu by tanh": (
        "gelu",
        "value",
        lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "gelu' without x phi": ("gelu", "first", lambda x: ACTIVATIONS["gelu"].value(x + 1e-9) / (x + 1e-9)),
    "silu' without x s'": ("silu", "first", ACTIVATIONS["sigmoid"].value),
    "relu'(0) = 1": ("relu", "first", lambda x: (x >= 0).astype(x.dtype)),
}


@pytest.mark.parametrize(("name", "order", "planted"), PLANTED.values(), ids=PLANTED)
def test_planted_activation_is_caught(name, order, planted):
    x = Backend("numpy", "numpy", "float64").asarray(np.array(POINTS))
    with pytest.raises(AssertionError, match=f"{name} {order} at"):
        assert_right(name, order, x, planted(x))
