"""Inverse roots: right in high precision, the law of the error, honest failures, every backend."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, assert_values_close, tolerance

from grng_ref.solvers import inverse_root, newton_schulz_inverse

ORDERS = (1, 2, 3, 4, 8)


def symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((values.size, values.size)))[0]
    matrix = (q * values) @ q.T
    return 0.5 * (matrix + matrix.T)


def exact_root(matrix: np.ndarray, order: int) -> np.ndarray:
    """``V diag(lambda^{-1/p}) V^T`` in 50 digits, from the stored floats."""
    with mpmath.workdps(50):
        values, vectors = mpmath.eigsy(mpmath.matrix(matrix.astype(float).tolist()))
        powers = mpmath.diag([value ** (mpmath.mpf(-1) / order) for value in values])
        root = vectors * powers * vectors.T
        return np.array(root.tolist(), dtype=float)


def exact_residual(matrix: np.ndarray, root: np.ndarray, order: int) -> float:
    """``|I - M R^p|_F`` in 50 digits, from the stored floats."""
    with mpmath.workdps(50):
        m, r = (mpmath.matrix(part.astype(float).tolist()) for part in (matrix, root))
        return float(mpmath.norm(mpmath.eye(len(matrix)) - m * r**order, 2))


def rounding(matrix: np.ndarray, root: np.ndarray, order: int) -> float:
    """What the rounding of ``M R^p``, p products of n terms each, may add to a residual."""
    eps = float(np.finfo(matrix.dtype).eps)
    sizes = np.linalg.norm(matrix.astype(float)) * np.linalg.norm(root.astype(float), 2) ** order
    return len(matrix) * (order + 1) * eps * float(sizes)


# --- the answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e3])
def test_the_root_on_every_backend(backend: Backend, order: int, condition: float):
    matrix = symmetric(np.geomspace(1.0, 1.0 / condition, 5)).astype(backend.dtype)
    result = inverse_root(backend.asarray(matrix), order=order)
    assert result.status == "converged"
    # a root moves by cond/p of what its matrix moves, and the iteration rounds as often as an inverse's
    rtol = tolerance(backend.dtype, condition, terms=5)
    backend.assert_close(result.inverse, exact_root(matrix, order), rtol=rtol)
    host = backend.to_numpy(result.inverse)
    np.testing.assert_array_equal(host, host.T)


@pytest.mark.parametrize("order", ORDERS)
def test_known_roots(order: int):
    """A matrix made from its root, by SciPy's fractional power, and a diagonal by hand."""
    matrix = symmetric(np.array([0.3, 1.0, 2.0, 7.0]), seed=3)
    expected = scipy.linalg.fractional_matrix_power(matrix, -1.0 / order)
    np.testing.assert_allclose(inverse_root(matrix, order=order).inverse, expected, rtol=0, atol=1e-13)
    powers = np.diag([1.0, 2.0**order, 3.0**order])
    found = inverse_root(powers, order=order).inverse
    rtol = tolerance("float64", 3.0**order)  # the condition number
    np.testing.assert_allclose(found, np.diag([1.0, 1 / 2, 1 / 3]), rtol=rtol, atol=1e-300)


def test_order_one_is_newton_schulz():
    """The same iterates, step by step: ``X (2 I - M X)``; only the scaling rounds differently."""
    matrix = symmetric(np.geomspace(3.0, 0.1, 6))
    for steps in range(10):
        found = inverse_root(matrix, order=1, max_iterations=steps)
        other = newton_schulz_inverse(matrix, max_iterations=steps)
        assert found.iterations == other.iterations
        rtol = tolerance("float64", 30.0, terms=6)  # the condition number
        assert_values_close(found.inverse, other.inverse, dtype="float64", rtol=rtol)
    square_root = inverse_root(matrix, order=2, max_iterations=3).inverse  # another order is told apart
    assert not np.allclose(square_root, newton_schulz_inverse(matrix, max_iterations=3).inverse, rtol=0.01)


# --- the law of the error ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_every_step_follows_the_scalar_law(order: int):
    """In the eigenbasis: ``l <- l (1 + (1 - l)/p)^p``, one number at a time; and ``0 <= e' <= e^2``."""
    values = np.geomspace(2.0, 0.02, 6)
    matrix = symmetric(values)
    scaled = values / np.abs(matrix).sum(axis=1).max()
    linear = 1.0 - scaled
    for steps in range(12):
        result = inverse_root(matrix, order=order, max_iterations=steps)
        errors = 1.0 - scaled
        expected = float(np.linalg.norm(errors))
        atol = tolerance("float64", 100.0, terms=6)  # the condition number
        if expected > math.sqrt(atol):
            assert result.iterations == steps
        assert result.residual == pytest.approx(expected, rel=1e-9, abs=atol)
        if steps > 1 and expected > 1e-8:  # negative control: a linear law is told apart
            assert result.residual != pytest.approx(float(np.linalg.norm(linear)), rel=0.01)
        scaled = scaled * (1.0 + errors / order) ** order
        assert np.all(1.0 - scaled <= errors**2 + 1e-15)
        assert np.all(1.0 - scaled >= -1e-15)
        linear = linear * (1.0 - values / np.abs(matrix).sum(axis=1).max())


@pytest.mark.parametrize("order", ORDERS)
def test_the_spectral_error_is_at_least_squared(order: int):
    matrix = symmetric(np.geomspace(1.0, 0.01, 7), seed=4)

    def error(steps: int) -> float:
        root = inverse_root(matrix, order=order, max_iterations=steps).inverse
        return float(np.linalg.norm(np.eye(7) - matrix @ np.linalg.matrix_power(root, order), 2))

    errors = [error(steps) for steps in range(14)]
    for before, after in itertools.pairwise(errors):
        assert after <= before**2 + tolerance("float64", 100.0, terms=7)  # the condition number
    assert errors[0] > 0.9  # far from the answer at first,
    assert errors[-1] < 1e-11  # and there in the end


@given(
    log_condition=st.floats(0, 3),
    size=st.integers(1, 7),
    order=st.integers(1, 9),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 10**6),
)
def test_scaling_the_matrix_scales_the_root(log_condition, size, order, exponent, seed):
    """``(c M)^{-1/p} = c^{-1/p} M^{-1/p}``, in the same number of steps up to one that roundoff decides."""
    matrix = symmetric(np.geomspace(1.0, 10.0**-log_condition, size), seed)
    one, other = (inverse_root(c * matrix, order=order) for c in (1.0, 10.0**exponent))
    assert one.status == other.status == "converged"
    assert abs(one.iterations - other.iterations) <= 1
    rtol = tolerance("float64", 10.0**log_condition, terms=size)
    expected = 10.0 ** (-exponent / order) * one.inverse
    np.testing.assert_allclose(other.inverse, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("order", [1, 2, 8])
@pytest.mark.parametrize(
    "dtype, exponent", [("float32", -30), ("float32", 30), ("float64", -295), ("float64", 295)]
)
def test_no_power_overflows_where_the_root_does_not(dtype: str, exponent: int, order: int):
    """``X^p`` is near 1e30 / lmin; warnings are errors in these tests."""
    matrix = (symmetric(np.geomspace(1.0, 1e-2, 4)) * 10.0**exponent).astype(dtype)
    result = inverse_root(matrix, order=order)
    assert result.status == "converged"
    shrunk = matrix.astype(float) / 10.0**exponent  # of the size that mpmath's eigenvalues need
    assert_values_close(
        result.inverse,
        exact_root(shrunk, order) * 10.0 ** (-exponent / order),
        dtype=dtype,
        rtol=tolerance(dtype, 100.0, terms=4),  # the condition number
    )


def test_an_inverse_that_overflows_is_not_finite():
    tiny = np.diag([1e-320, 1e-321])
    assert inverse_root(tiny, order=1).status == "not_finite"
    root = inverse_root(tiny, order=2)  # 1e160: it is there, with the digits that a subnormal number has
    assert root.inverse[0, 0] == pytest.approx(1e160, rel=1e-3)
    huge = np.full((2, 2), 1.7e308)
    assert inverse_root(huge, order=2).status == "not_finite"


# --- honest status -----------------------------------------------------------------------------------------


def check_honest(matrix: np.ndarray, order: int) -> str:
    """The status, after the check that residual and status say what 50 digits say of the root."""
    result = inverse_root(matrix, order=order)
    eps = float(np.finfo(matrix.dtype).eps)
    assert result.success == (result.status == "converged") == (result.residual <= math.sqrt(eps))
    assert np.all(np.isfinite(result.inverse))
    true, slack = exact_residual(matrix, result.inverse, order), rounding(matrix, result.inverse, order)
    assert abs(true - result.residual) <= slack
    if result.success:
        assert true <= math.sqrt(eps) + slack
    return result.status


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ill_conditioned_matrices(dtype: str, order: int):
    """Roots get through to 1/sqrt(eps), and past it the status says what the residual is."""
    eps = float(np.finfo(dtype).eps)
    for log_condition in np.arange(0.0, -math.log10(eps) + 1.5, 0.5):
        condition = 10.0**log_condition
        for values in (
            np.geomspace(1.0, 1.0 / condition, 5),
            np.array([1.0, 1.0, 1.0, 1.0, 1.0 / condition]),
            np.array([1.0, *4 * [1.0 / condition]]),
        ):
            status = check_honest(symmetric(values, seed=int(2 * log_condition)).astype(dtype), order)
            assert status in ("converged", "stagnated")
            if condition < 0.02 / math.sqrt(eps):
                assert status == "converged", condition
            if condition > 1e3 / math.sqrt(eps):
                assert status == "stagnated", condition


@given(
    log_condition=st.floats(0, 17),
    size=st.integers(1, 6),
    order=st.integers(1, 9),
    seed=st.integers(0, 10**6),
)
def test_the_stated_residual_is_the_true_one(log_condition, size, order, seed):
    check_honest(symmetric(np.geomspace(1.0, 10.0**-log_condition, size), seed), order)


@given(
    negative=st.floats(-1.0, -1e-12),
    others=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=5),
    order=st.integers(1, 9),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 10**6),
)
def test_an_indefinite_matrix_never_converges(negative, others, order, exponent, seed):
    """M R^p has a negative eigenvalue, so its distance from I is above one. No NumPy warning escapes."""
    matrix = symmetric(np.array([negative, *others]), seed) * 10.0**exponent
    result = inverse_root(matrix, order=order)
    assert result.status in ("stagnated", "not_finite")
    assert not result.residual < 0.99


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [1, 3, 4])
def test_a_singular_matrix_never_converges(order: int, rank: int):
    rows = np.random.default_rng(rank).standard_normal((rank, 5))
    for matrix in (rows.T @ rows, np.diag([1.0] * rank + [0.0])):
        result = inverse_root(matrix, order=order)
        assert result.status == "stagnated"
        assert result.residual > 0.1
    zero = inverse_root(np.zeros((3, 3)), order=order)
    assert zero.status == "not_positive_definite"
    assert not zero.success


def test_a_matrix_that_is_not_symmetric_is_not_answered():
    matrix = symmetric(np.array([1.0, 2.0, 3.0]))
    matrix[0, 1] += 1e-3
    assert inverse_root(matrix, order=2).status == "stagnated"


@pytest.mark.parametrize("order", ORDERS)
def test_one_by_one(backend: Backend, order: int):
    result = inverse_root(backend.asarray(np.array([[2.0**order]])), order=order)
    assert (result.status, result.iterations) == ("converged", 0)
    backend.assert_close(result.inverse, np.array([[0.5]]))


def test_an_end_by_the_count_of_iterations_is_no_answer():
    matrix = symmetric(np.geomspace(1.0, 1e-3, 4))
    enough = inverse_root(matrix, order=2).iterations
    for steps in range(enough - 2):
        result = inverse_root(matrix, order=2, max_iterations=steps)
        assert (result.iterations, result.status) == (steps, "stagnated")


# --- planted errors: what the tests above must catch -------------------------------------------------------


PLANTED = {
    # one line of the iteration, what it is changed to, and the test that must fail
    "N not updated": (
        "coupled = symmetrize(xp.linalg.matrix_power(step, p) @ coupled)",
        "coupled = scaled",
        lambda: test_every_step_follows_the_scalar_law(2),
    ),
    "a power too little in the coupling": (
        "matrix_power(step, p)",
        "matrix_power(step, p - 1)",
        lambda: test_known_roots(3),
    ),
    "slow steps": (
        "(unit - coupled) / p",
        "(unit - coupled) / (p + 1)",
        lambda: test_the_spectral_error_is_at_least_squared(2),
    ),
    "scaled back by t, not by its root": ("bound ** (1.0 / p)", "bound", lambda: test_known_roots(2)),
    "not scaled back": ("x / bound ** (1.0 / p)", "x", lambda: test_known_roots(2)),
    "X not symmetrized": (
        "symmetrize(x @ step)",
        "x @ step",
        lambda: test_the_root_on_every_backend(Backend("numpy", "numpy", "float64"), 2, 1e3),
    ),
    "a residual of another power": (
        "matrix_power(x, p)",
        "matrix_power(x, p + 1)",
        lambda: test_ill_conditioned_matrices("float64", 2),
    ),
    "a residual read off N": (
        "norm(unit - scaled @ xp.linalg.matrix_power(x, p))",
        "norm(unit - coupled)",
        lambda: test_ill_conditioned_matrices("float64", 2),
    ),
    "any end taken for an answer": (
        "residual <= math.sqrt(eps) else",
        "residual <= 1.0 else",
        lambda: test_ill_conditioned_matrices("float64", 2),
    ),
    "stopped too early": (
        "residual > n * eps and",
        "residual > 1e-3 and",
        lambda: test_the_root_on_every_backend(Backend("numpy", "numpy", "float64"), 1, 1e2),
    ),
    "warnings let out": ("with quiet():", "if True:", test_an_inverse_that_overflows_is_not_finite),
    "no test for overflow": (
        "not math.isfinite(residual) or not bool(xp.all(xp.isfinite(root)))",
        "False",
        test_an_inverse_that_overflows_is_not_finite,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_caught(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    old, new, check = PLANTED[name]
    check()
    source = inspect.getsource(importlib.import_module("grng_ref.solvers.inverse_root"))
    assert source.count(old) == 1
    path = tmp_path / "planted.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("grng_ref.solvers.planted", path)
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    monkeypatch.setitem(globals(), "inverse_root", changed.inverse_root)
    with pytest.raises((AssertionError, RuntimeWarning)):
        check()
