"""Random numbers are drawn on the host by NumPy, so that every backend sees the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

STREAMS = ("batches", "data", "parameters")
"""Uses of a seed by training, each with draws of its own; see `stream`."""


def host_generator(rng: int | Sequence[int] | np.random.Generator | None) -> np.random.Generator:
    """A NumPy generator from an integer seed, a sequence of them, or a generator (used as it is).

    Raises
    ------
    TypeError
        Anything else; ``None`` as well, since unseeded draws could not be repeated.
    ValueError
        A negative seed.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(_checked(rng if isinstance(rng, tuple | list) else (rng,), rng))


def stream(rng: int | np.random.Generator, use: str, *numbers: int) -> np.random.Generator:
    """The draws of one use of a seed: ``default_rng(SeedSequence(rng, spawn_key=(i, *numbers)))``.

    i is the place of the use in `STREAMS`. Uses have nothing in common with each other, nor with
    ``default_rng(rng)`` and ``default_rng([rng, ...])``. A generator is used as it is.

    Raises
    ------
    TypeError, ValueError
        As `host_generator`.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    key = (STREAMS.index(use), *numbers)
    return np.random.default_rng(np.random.SeedSequence(*_checked((rng,), rng), spawn_key=key))


def _checked(seeds: Sequence[Any], given: Any) -> list[int]:
    if any(isinstance(s, bool) or not isinstance(s, Integral) for s in seeds):
        raise TypeError(
            f"rng must be an integer seed or a numpy.random.Generator, got {type(given).__name__}; "
            "draws are always seeded"
        )
    if any(s < 0 for s in seeds):
        raise ValueError(f"rng must be a seed >= 0, got {given}")
    return [int(s) for s in seeds]
