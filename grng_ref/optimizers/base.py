"""The contract that every optimizer keeps: ``init``, a pure ``update``, and ``step``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..arrays import Array, check_finite, check_real, check_shape, namespace
from ..problem import Problem
from ..solvers import SolveResult

Schedule = float | Callable[[int], float]
"""A number, or a function of the step number (from 0)."""


class SolveInfo(NamedTuple):
    """How the linear solve of a step went; see `SolveResult`."""

    status: str  #: ``"converged"`` for a good solve
    residual: float  #: scaled residual
    iterations: int  #: Newton-Schulz iterations, or refinement steps
    rank: int | None  #: numerical rank, where the method finds it
    method: str  #: the method that ran

    @classmethod
    def of(cls, result: SolveResult) -> SolveInfo:
        """The result without its array."""
        return cls(result.status, result.residual, result.iterations, result.rank, result.method)


class StepInfo(NamedTuple):
    """What one step saw and did; numbers on the host, ready for a record."""

    step: int  #: number of this step, from 0
    loss: float  #: mean loss before the step
    gradient_norm: float  #: ``|g|`` before the step
    damping: float  #: total damping of the solve, gradient regularization included
    step_norm: float | None  #: ``|delta|``; None where the step failed
    solve: SolveInfo | None  #: None where the optimizer solves no linear system
    samples: Array | None  #: labels drawn for a Monte-Carlo Fisher


class Optimizer(Protocol):
    """The contract. States are immutable; an error leaves everything as it was."""

    def init(self, theta: Array) -> Any:
        """The state before the first step."""

    def update(
        self, theta: Array, state: Any, x: Array, y: Array, *, samples: Array | None = None
    ) -> tuple[Array, Any, StepInfo]:
        """``delta, state, info``: the step to add to theta; pure."""

    def step(
        self, theta: Array, state: Any, x: Array, y: Array, *, samples: Array | None = None
    ) -> tuple[Array, Any, StepInfo]:
        """``theta + delta, state, info``."""


class SteppingOptimizer:
    """Gives an optimizer its ``step`` from its ``update``."""

    def update(
        self, theta: Array, state: Any, x: Array, y: Array, *, samples: Array | None = None
    ) -> tuple[Array, Any, StepInfo]:
        """The step to add to theta; a subclass implements it."""
        raise NotImplementedError

    def step(
        self, theta: Array, state: Any, x: Array, y: Array, *, samples: Array | None = None
    ) -> tuple[Array, Any, StepInfo]:
        """One step: ``theta + delta, state, info``.

        Raises
        ------
        NumericalError
            The solve failed; carries the StepInfo. Neither theta nor state has changed.
        """
        delta, state, info = self.update(theta, state, x, y, samples=samples)
        return theta + delta, state, info


def check_schedule(name: str, schedule: Any, *, minimum: float, exclusive: bool = False) -> None:
    """Accept a callable, or a number in range."""
    if not callable(schedule):
        check_real(name, schedule, minimum=minimum, exclusive=exclusive)


def value_at(name: str, schedule: Schedule, step: int, *, minimum: float = 0.0) -> float:
    """The schedule's value at a step, checked."""
    value = schedule(step) if callable(schedule) else schedule
    return check_real(name, value, minimum=minimum)


def check_theta(problem: Problem, theta: Array) -> None:
    """Raise unless theta is a finite (P,) array that fits the problem and its frozen layers."""
    namespace(theta=theta)
    check_shape("theta", theta, (problem.num_parameters,), "one flat parameter vector")
    check_finite(theta=theta)
    problem.model.all_layers(theta)


def check_state(state: Any, kind: type, optimizer: str) -> None:
    """Raise a TypeError unless the state came from this optimizer's ``init``."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state must be the {kind.__name__} that {optimizer}.init(theta) returns, "
            f"got {type(state).__name__}"
        )
