"""python-flint, loaded when it is needed, its working precision, and arguments as exact numbers."""

from __future__ import annotations

import importlib
import numbers
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import (
    Array,
    BackendError,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    namespace,
    to_numpy,
)

# The precision of python-flint is one number of the whole process, not of a thread. The lock keeps threads of
# ours from changing it under each other; balls stay right at any precision, only their radius depends on it.
_PRECISION = threading.RLock()

SMALLEST_PRECISION = 53


def load_flint() -> Any:
    """The module ``flint``.

    Raises
    ------
    BackendError
        It is not installed.
    """
    try:
        return importlib.import_module("flint")
    except ImportError as error:
        raise BackendError(
            f"python-flint is not installed ({error}): pip install 'grng-ref[verify]'"
        ) from error


@contextmanager
def working_precision(bits: int) -> Iterator[Any]:
    """The module ``flint`` at a precision in bits, which is set back at the end.

    Not concurrent: the precision belongs to the process, so a second thread waits here.
    """
    flint = load_flint()
    with _PRECISION, flint.ctx.workprec(bits):
        yield flint


def check_precision(precision: Any) -> int:
    """The precision as an integer of at least 53 bits."""
    return check_integer("precision", precision, minimum=SMALLEST_PRECISION)


# --- arguments ---------------------------------------------------------------------------------------------


def on_host(name: str, value: Array, shape: tuple[int | None, ...], meaning: str) -> np.ndarray:
    """A float32 or float64 array of any backend as float64 on the host, which changes no value."""
    namespace(**{name: value})
    check_shape(name, value, shape, meaning)
    check_finite(**{name: value})
    return np.asarray(to_numpy(value), dtype=np.float64)


def exact_number(name: str, value: Any, *, exclusive: bool = True) -> Fraction:
    """A float, integer or fraction as exactly what it is; positive, or (not exclusive) not negative."""
    if isinstance(value, numbers.Rational) and not isinstance(value, bool):
        number = Fraction(int(value.numerator), int(value.denominator))
        if number < 0 or (exclusive and number == 0):
            raise ValueError(f"{name} must be a finite number {'>' if exclusive else '>='} 0, got {value}")
        return number
    return Fraction(check_real(name, value, minimum=0.0, exclusive=exclusive))


def symmetric(name: str, value: Array, size: int) -> np.ndarray:
    """A (P, P) array on the host that equals its transpose in every bit, or a ValueError."""
    matrix = on_host(name, value, (size, size), "(parameters, parameters)")
    if not np.array_equal(matrix, matrix.T):
        i, j = np.argwhere(matrix != matrix.T)[0]
        raise ValueError(
            f"{name} must equal its transpose exactly, got {float(matrix[i, j])!r} at [{i}, {j}] and "
            f"{float(matrix[j, i])!r} at [{j}, {i}]; pass (A + A.T) / 2"
        )
    return matrix
