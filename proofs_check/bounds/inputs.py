"""Arguments of the bounds: arrays of any backend as exact float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from grng_ref.arrays import Array, check_real
from grng_ref.certified.library import on_host
from grng_ref.certified.library import symmetric as symmetric_on_host


def square(name: str, value: Array) -> np.ndarray:
    """A square float array."""
    matrix = on_host(name, value, (None, None), "a square matrix")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    return matrix


def symmetric(name: str, value: Array) -> np.ndarray:
    """A square float array that equals its transpose in every bit."""
    matrix = square(name, value)
    return symmetric_on_host(name, matrix, matrix.shape[0])


def examples(value: Array, inputs: int) -> np.ndarray:
    """The inputs (n, d) of a network."""
    return on_host("x", value, (None, inputs), "(examples, inputs)")


def radius_of(value: Any) -> float:
    """A radius >= 0 as a float."""
    return check_real("radius", value, minimum=0.0)
