"""Schedules by name: a number that changes over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import check_choice, check_integer, check_real

_LAST = 0.01  # of an exponential schedule, as a fraction of the first value
_WARMUP = 0.1  # part of the steps


def _cosine(t: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * t))


_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "cosine": _cosine,
    "exponential": lambda t: _LAST**t,
}
SCHEDULES = (*_SHAPES, "warmup")


@dataclass(frozen=True)
class NamedSchedule:
    """A schedule over ``steps`` steps; made by `schedule`. Called with the number of a step, from 0."""

    name: str
    value: float
    steps: int

    def __call__(self, step: int) -> float:
        """The value at a step; that of the last step of the run after it."""
        step = min(step, self.steps - 1)
        if self.name == "warmup":
            rising = math.ceil(_WARMUP * self.steps)
            if step < rising:
                return self.value * (step + 1) / rising
            return self.value * _cosine((step - rising) / (self.steps - rising))
        return self.value * _SHAPES[self.name](step / self.steps)


def schedule(name: str, value: float, *, steps: int) -> NamedSchedule:
    """A schedule of a run of ``steps`` steps, for the arguments lr, damping and rho of the optimizers.

    With t = step / steps in [0, 1): ``"constant"`` is ``value``, ``"linear"`` is ``value (1 - t)``,
    ``"cosine"`` is ``value (1 + cos(pi t)) / 2``, ``"exponential"`` is ``value 0.01^t``; ``"warmup"`` rises
    linearly to ``value`` over the first tenth of the steps, and falls as the cosine over the others.

    Parameters
    ----------
    name : {"constant", "linear", "cosine", "exponential", "warmup"}
    value : float
        >= 0.
    steps : int
        >= 1.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Unlike a lambda, a schedule of this kind is written into records and checkpoints by its fields, so
    that a run is not resumed with another one. Source: classical (cosine: Loshchilov and Hutter 2017).
    """
    check_choice("name", name, SCHEDULES)
    return NamedSchedule(
        name, check_real("value", value, minimum=0.0), check_integer("steps", steps, minimum=1)
    )
