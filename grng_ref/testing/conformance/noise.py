"""Seeded relative perturbations that stand in for the roundings of an implementation."""

from __future__ import annotations

from typing import Any

import numpy as np


class Noise:
    """Perturbs arrays by a relative ``size``; the base class of `Silence`, which does not."""

    def __init__(self, size: float, seed: int) -> None:
        self.size = size
        self._rng = np.random.default_rng(seed)

    def entries(self, array: Any) -> Any:
        """Every entry times ``1 + size xi``: a stored result, or the terms of a sum."""
        array = np.asarray(array)
        return array * (1.0 + self.size * self._rng.standard_normal(array.shape))

    def symmetric(self, matrix: Any) -> Any:
        """``M + size |M|_2 E``, E symmetric with norm about one: the backward error of a solve."""
        n = matrix.shape[0]
        error = self._rng.standard_normal((n, n))
        error = (error + error.T) / (2.0 * np.sqrt(n))
        return matrix + self.size * np.linalg.norm(matrix, 2) * error

    def absolute(self, array: Any) -> Any:
        """Every entry plus ``size xi``: a derivative such as ``1 - a^2`` of a rounded activation."""
        return array + self.size * self._rng.standard_normal(np.shape(array)) * (array != 0.0)


class Silence(Noise):
    """No perturbation."""

    def __init__(self) -> None:
        self.size = 0.0

    def entries(self, array: Any) -> Any:
        """The array."""
        return array

    symmetric = absolute = entries
