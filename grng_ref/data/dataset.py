"""The record of a data set, the split, and the scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..likelihoods import Likelihood

TRAIN, VALIDATION = 0.6, 0.2  # the rest is for the test


@dataclass(frozen=True, eq=False)
class DataSet:
    """Examples in three disjoint parts, as NumPy arrays; made by `load`.

    ``x`` is (N, d), float64; ``y`` is (N,) integers for a categorical likelihood, else (N, K) floats.
    """

    name: str
    likelihood: Likelihood  #: for `grng_ref.Problem`
    outputs: int  #: K, the number of outputs that a network for this likelihood has
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str  #: what was read: package and version, and for text its length and SHA-256
    note: str  #: how the arrays were made from it
    optimum: float | None = None  #: least test loss of any predictor, where it is known exactly

    @property
    def inputs(self) -> int:
        """Number d of inputs."""
        return int(self.x_train.shape[1])


def assemble(
    name: str,
    likelihood: Likelihood,
    outputs: int,
    x: Sequence[np.ndarray],
    y: Sequence[np.ndarray],
    *,
    source: str,
    note: str,
    optimum: float | None = None,
) -> DataSet:
    """The data set of these three parts."""
    train, validation, test = zip(x, y, strict=True)
    return DataSet(name, likelihood, outputs, *train, *validation, *test, source, note, optimum)


def split_sizes(count: int) -> tuple[int, int, int]:
    """How many of so many examples go to training, validation and test."""
    train, validation = round(TRAIN * count), round(VALIDATION * count)
    return train, validation, count - train - validation


def split(count: int, rng: np.random.Generator, size: int | None = None) -> tuple[np.ndarray, ...]:
    """Indices of training, validation and test: parts of the first ``size`` of a permutation."""
    order = rng.permutation(count)[: count if size is None else size]
    train, validation, _ = split_sizes(len(order))
    return order[:train], order[train : train + validation], order[train + validation :]


def standardize(parts: tuple[np.ndarray, ...], *, each: bool) -> tuple[np.ndarray, ...]:
    """Centre and scale all parts by the mean and standard deviation of the first one, the training part.

    ``each=True`` scales every column by its own deviation, a constant one by 1; ``each=False`` scales all by
    one number, as for the pixels of images, some of which hardly ever differ from 0.
    """
    centre = np.mean(parts[0], axis=0)
    spread = np.std(parts[0], axis=0) if each else np.asarray(np.sqrt(np.mean((parts[0] - centre) ** 2)))
    spread = np.where(spread > 0.0, spread, 1.0)
    return tuple((part - centre) / spread for part in parts)
