"""The comparator and the tolerances must catch what is planted here."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
import support
from support import Backend, assert_close, assert_values_close, import_peer, tolerance

DEVICE = array_api_strict.Device("device1")


def test_equal_arrays_pass_on_every_backend(backend):
    values = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    backend.assert_close(backend.asarray(values), values)


def test_backend_makes_arrays_of_its_own_kind(backend):
    array, labels = backend.asarray((np.ones(3), np.arange(3)))
    assert str(array.dtype).endswith(backend.dtype)
    assert "int64" in str(labels.dtype)


def test_read_only_arrays_refuse_writing_and_leave_the_source_alone():
    source = np.ones(3)
    array = Backend("numpy_readonly", "numpy", "float64", read_only=True).asarray(source)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2.0
    source[0] = 2.0
    assert array[0] == 1.0


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        (array_api_strict.ones(3, dtype=array_api_strict.float64), "namespace"),
        (np.ones(3, dtype=np.float32), "dtype"),
        (np.ones((3, 1)), "shape"),
        ([1.0, 1.0, 1.0], "expected an array"),
        (np.array([1.0, 1.0, np.nan]), "NaN"),
        (np.array([1.0, 1.0, np.inf]), "NaN or infinite"),
        (np.array([1.0, 1.0, 1.0 + 1e-13]), "1 of 3 entries"),
    ],
)
def test_planted_difference_is_caught(planted, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(planted, np.ones(3))


def test_planted_device_is_caught():
    with pytest.raises(AssertionError, match="device"):
        assert_close(array_api_strict.ones(3, device=DEVICE), array_api_strict.ones(3))


def test_planted_numpy_scalar_is_caught():
    with pytest.raises(AssertionError, match="scalar"):
        assert_close(np.float64(1.0), np.asarray(1.0))


def test_planted_infinity_of_the_other_sign_is_caught():
    with pytest.raises(AssertionError, match="infinite"):
        assert_values_close(np.array([-np.inf]), np.array([np.inf]), dtype="float64")


def test_planted_relative_error_of_a_small_entry_needs_elementwise():
    expected, planted = np.array([1.0, 1e-20]), np.array([1.0, 2e-20])
    assert_values_close(planted, expected, dtype="float64")
    with pytest.raises(AssertionError, match="1 of 2 entries"):
        assert_values_close(planted, expected, dtype="float64", elementwise=True)


def test_float32_is_judged_by_its_own_precision():
    value = np.float32(0.1)
    assert_values_close(value, np.asarray(0.1), dtype="float32")
    with pytest.raises(AssertionError, match="1 of 1 entries"):
        assert_values_close(value, np.asarray(0.1), dtype="float64")


def test_integers_must_be_equal():
    with pytest.raises(AssertionError, match="expected"):
        assert_values_close(np.array([1, 2]), np.array([1, 3]), dtype="int64")


def test_tolerance_refuses_to_leave_no_digit():
    assert tolerance("float64", 1e6, terms=100) == pytest.approx(32 * 10 * 1e6 * 2.0**-52)
    with pytest.raises(ValueError, match="no digit"):
        tolerance("float32", 1e6)


def test_missing_peer_skips_unless_it_is_required(monkeypatch):
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        import_peer("no_such_peer")
    monkeypatch.setattr(support, "REQUIRED", frozenset({"no_such_peer"}))
    with pytest.raises(ModuleNotFoundError, match="GRNG_REQUIRE_BACKENDS"):
        import_peer("no_such_peer")
