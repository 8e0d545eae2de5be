"""Random numbers are drawn on the host by NumPy, so that every backend sees the same draws."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np


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
    seeds: Sequence[Any] = rng if isinstance(rng, tuple | list) else (rng,)
    if any(isinstance(s, bool) or not isinstance(s, numbers.Integral) for s in seeds):
        raise TypeError(
            f"rng must be an integer seed or a numpy.random.Generator, got {type(rng).__name__}; "
            "draws are always seeded"
        )
    if any(s < 0 for s in seeds):
        raise ValueError(f"rng must be a seed >= 0, got {rng}")
    # One seed is passed as a number: default_rng(3) and default_rng([3]) are different streams.
    return np.random.default_rng([int(s) for s in seeds] if isinstance(rng, tuple | list) else int(seeds[0]))
