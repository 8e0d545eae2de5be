"""The contract that every optimizer keeps: ``init``, a pure ``update``, and ``step``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..arrays import Array, NumericalError, check_finite, check_real, check_shape, namespace
from ..arrays.linalg import norm
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
    samples: Array | None  #: labels ``(M, *labels)`` drawn from the model at this step
    probes: Array | None = None  #: random directions (M, P) drawn at this step
    clipped: float | None = None  #: fraction of entries that were clipped; None where nothing is
    log_marginal: float | None = None  #: of the labels of this batch under a belief; None without one


class Optimizer(Protocol):
    """The contract. States are immutable; an error leaves everything as it was."""

    def init(self, theta: Array) -> Any:
        """The state before the first step."""

    def update(
        self,
        theta: Array,
        state: Any,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, Any, StepInfo]:
        """``delta, state, info``: the step to add to theta; pure.

        ``samples`` and ``probes`` stand in for the draws of this step; where it draws none, a ValueError.
        """

    def step(
        self,
        theta: Array,
        state: Any,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, Any, StepInfo]:
        """``theta + delta, state, info``."""


class SteppingOptimizer:
    """Gives an optimizer its ``step`` from its ``update``."""

    def update(
        self,
        theta: Array,
        state: Any,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, Any, StepInfo]:
        """The step to add to theta; a subclass implements it."""
        raise NotImplementedError

    def step(
        self,
        theta: Array,
        state: Any,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, Any, StepInfo]:
        """One step: ``theta + delta, state, info``.

        Raises
        ------
        NumericalError
            The solve failed; carries the StepInfo. Neither theta nor state has changed.
        """
        delta, state, info = self.update(theta, state, x, y, samples=samples, probes=probes)
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


def refuse_draws(optimizer: str, **draws: Array | None) -> None:
    """Raise a ValueError for draws that were given to a step that uses none: they are not ignored."""
    for name, given in draws.items():
        if given is not None:
            raise ValueError(
                f"{name} must be None: this step of {optimizer} uses none, got {type(given).__name__}"
            )


# --- shared by the first-order optimizers ------------------------------------------------------------------


def check_problem(problem: Any) -> None:
    """Raise a TypeError unless it is a Problem."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a Problem, got {type(problem).__name__}")


def check_betas(betas: Any) -> None:
    """Raise unless betas are two decay rates in [0, 1) of moving averages."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
    for i, beta in enumerate(betas):
        check_rate(f"betas[{i}]", beta)


def check_rate(name: str, rate: Any) -> None:
    """Raise unless the number lies in [0, 1)."""
    if check_real(name, rate, minimum=0.0) >= 1.0:
        raise ValueError(f"{name} must lie in [0, 1), got {rate}")


def check_average(name: str, average: Array, theta: Array) -> None:
    """Raise unless a moving average of a state belongs to theta: its library, dtype, device and length."""
    namespace(theta=theta, **{name: average})
    check_shape(name, average, tuple(theta.shape), "one entry a parameter")


def observe(problem: Problem, theta: Array, x: Array, y: Array, *, step: int) -> tuple[Array, StepInfo]:
    """The gradient of the mean loss, and the info of a step that solves nothing, not yet taken."""
    gradient = problem.gradient(theta, x, y)
    info = StepInfo(
        step=step,
        loss=float(problem.loss(theta, x, y)),
        gradient_norm=norm(gradient),
        damping=0.0,
        step_norm=None,
        solve=None,
        samples=None,
    )
    return gradient, info


def require_finite(info: StepInfo, **named: Array) -> None:
    """Raise a NumericalError that carries the info where an array overflowed.

    Not only the step: a divisor that overflowed would give a silent step of zero.
    """
    for name, array in named.items():
        xp = namespace(**{name: array})
        if not bool(xp.all(xp.isfinite(array))):
            raise NumericalError(
                f"step {info.step}: {name} overflowed: NaN or infinite entries from a finite gradient", info
            )
