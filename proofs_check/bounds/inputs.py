"""Arguments of the bounds: arrays of any backend as exact float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from grng_ref.arrays import Array, check_real
from grng_ref.certified.library import on_host


def square(name: str, value: Array) -> np.ndarray:
    """A square float array."""
    matrix = on_host(name, value, (None, None), "a square matrix")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    return matrix


def symmetric(name: str, value: Array) -> np.ndarray:
    """A square float array that equals its transpose in every bit."""
    matrix = square(name, value)
    if not np.array_equal(matrix, matrix.T):
        i, j = np.argwhere(matrix != matrix.T)[0]
        raise ValueError(
            f"{name} must equal its transpose exactly, got {float(matrix[i, j])!r} at [{i}, {j}] and "
            f"{float(matrix[j, i])!r} at [{j}, {i}]; pass (A + A.T) / 2"
        )
    return matrix


def examples(value: Array, inputs: int) -> np.ndarray:
    """The inputs (n, d) of a network."""
    return on_host("x", value, (None, inputs), "(examples, inputs)")


def radius_of(value: Any) -> float:
    """A radius >= 0 as a float."""
    return check_real("radius", value, minimum=0.0)
