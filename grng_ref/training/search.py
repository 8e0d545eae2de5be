"""Seeded random search with the same number of trials for every optimizer."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..arrays import check_integer, host_generator


def draw_trials(
    space: Mapping[str, tuple[float, float]], trials: int, *, seed: int
) -> list[dict[str, float]]:
    """Log-uniform draws ``low (high / low)^u`` from a box, one dictionary a trial.

    u of trial t depends on the seed, on t and on the setting's name only: two entries that share a setting
    and its range try the same values of it (common random numbers), so that one with a setting more is no
    luckier in the others.

    Parameters
    ----------
    space : dict
        ``{name: (low, high)}``.
    trials : int
        How many, at least 1.
    seed : int
        At least 0.

    Raises
    ------
    ValueError
        A bad range, number of trials or seed.
    """
    check_integer("trials", trials, minimum=1)
    check_integer("seed", seed, minimum=0)

    def value(name: str, trial: int) -> float:
        low, high = space[name]
        u = host_generator([seed, trial, zlib.crc32(name.encode())]).random()
        return float(low * (high / low) ** u)

    return [{name: value(name, trial) for name in space} for trial in range(trials)]


def choose(tried: Sequence[Mapping[str, Any]]) -> int | None:
    """Index of the trial with the least validation loss at its end; None where every trial failed.

    Parameters
    ----------
    tried : sequence of dict
        Each with ``validation_loss``, None of a failed trial.

    Notes
    -----
    The first of equals.
    """
    losses = [
        math.inf if trial["validation_loss"] is None else float(trial["validation_loss"]) for trial in tried
    ]
    best = min(losses, default=math.inf)
    return losses.index(best) if math.isfinite(best) else None
