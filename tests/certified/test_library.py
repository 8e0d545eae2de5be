"""python-flint behind its door: absent, its precision set back, threads, arguments as exact numbers."""

from __future__ import annotations

import sys
import threading
from fractions import Fraction

import flint
import numpy as np
import pytest
from support import Backend

import grng_ref as gr
from grng_ref.certified import exact_posterior, kalman_enclosure
from grng_ref.certified.library import exact_number, on_host, symmetric, working_precision


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    one = np.ones(1)
    with pytest.raises(gr.BackendError, match=r"pip install 'grng-ref\[verify\]'"):
        exact_posterior(one, one[:, None], one, noise_variance=1, prior_variance=1)
    with pytest.raises(gr.BackendError, match=r"pip install 'grng-ref\[verify\]'"):
        kalman_enclosure(
            one, one[:, None], one[:, None, None], one[:, None], likelihood="poisson", prior_variance=1
        )


def test_package_is_loaded_when_it_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    for name in [name for name in sys.modules if name.startswith("grng_ref.certified")]:
        monkeypatch.delitem(sys.modules, name)
    import grng_ref.certified  # noqa: F401 - that it can be imported is the test


def test_precision_is_set_back_also_after_an_error():
    before = flint.ctx.prec
    with working_precision(before + 100) as module:
        assert module.ctx.prec == before + 100
    assert flint.ctx.prec == before

    def fail():
        with working_precision(before + 100):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert flint.ctx.prec == before


def test_threads_do_not_share_a_precision():
    """python-flint's precision is the process's: without the lock a thread would compute at the other's."""
    seen: dict[int, set[int]] = {100: set(), 200: set()}
    barrier = threading.Barrier(2)

    def work(bits: int) -> None:
        barrier.wait()
        for _ in range(200):
            with working_precision(bits) as module:
                third = module.arb(1) / 3
                seen[bits] |= {module.ctx.prec, third.rel_accuracy_bits() // 90 * 100}

    before = flint.ctx.prec
    threads = [threading.Thread(target=work, args=(bits,)) for bits in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {100: {100}, 200: {200}}
    assert flint.ctx.prec == before


def test_precision_belongs_to_the_process():
    """The reason for the lock: what one thread sets, another one sees."""
    seen = []
    with working_precision(123):
        thread = threading.Thread(target=lambda: seen.append(flint.ctx.prec))
        thread.start()
        thread.join()
    assert seen == [123]


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (0.1, Fraction(3602879701896397, 2**55)),
        (np.float32(0.1), Fraction(13421773, 2**27)),
        (Fraction(1, 3), Fraction(1, 3)),
        (10**18, Fraction(10**18)),
        (np.int64(3), Fraction(3)),
        (10**400, Fraction(10**400)),  # beyond float64, and exact all the same
    ],
)
def test_numbers_are_exact(value, exact):
    assert exact_number("value", value) == exact
    assert type(exact_number("value", value).numerator) is int


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), Fraction(-1, 3), 0])
def test_numbers_out_of_range(value):
    with pytest.raises(ValueError, match="noise_variance must be a finite number > 0"):
        exact_number("noise_variance", value)


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_no_numbers(value):
    with pytest.raises(TypeError, match="noise_variance must be a real number"):
        exact_number("noise_variance", value)


def test_zero_where_it_is_allowed():
    assert exact_number("rho", 0, exclusive=False) == exact_number("rho", 0.0, exclusive=False) == 0
    for value in (-1, -1.0):
        with pytest.raises(ValueError, match="rho must be a finite number >= 0"):
            exact_number("rho", value, exclusive=False)


def test_arrays_come_to_the_host_unchanged(backend: Backend):
    values = np.array([[1.0, 2.0**-120], [-3.0, 0.1]]).astype(backend.dtype)
    moved = on_host("values", backend.asarray(values), (2, 2), "a square")
    assert isinstance(moved, np.ndarray)
    assert moved.dtype == np.float64
    assert np.array_equal(moved, values.astype(np.float64))


def test_asymmetry_of_one_bit_is_refused():
    matrix = np.array([[2.0, 0.1], [0.1, 1.0]])
    assert np.array_equal(symmetric("hessian", matrix, 2), matrix)
    matrix[0, 1] = np.nextafter(0.1, 1.0)
    with pytest.raises(
        ValueError, match=r"hessian must equal its transpose exactly, got 0.1000.* at \[0, 1\]"
    ):
        symmetric("hessian", matrix, 2)
