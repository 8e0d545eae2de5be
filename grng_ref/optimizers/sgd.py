"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, check_real, namespace
from ..arrays.linalg import norm, quiet
from ..problem import Problem
from .base import (
    Schedule,
    StepInfo,
    SteppingOptimizer,
    check_average,
    check_problem,
    check_rate,
    check_schedule,
    check_state,
    check_theta,
    observe,
    refuse_draws,
    require_finite,
    value_at,
)


@dataclass(frozen=True, eq=False)
class SGDState:
    """State of `sgd`."""

    step: int  # steps taken
    buffer: Array  # (P,), sum over the past of momentum^age times the gradient


@dataclass(frozen=True, eq=False)
class SGD(SteppingOptimizer):
    """Gradient descent with heavy-ball or Nesterov momentum; made by `sgd`."""

    problem: Problem
    lr: Schedule
    momentum: float
    nesterov: bool
    weight_decay: float

    def __post_init__(self) -> None:
        check_problem(self.problem)
        check_schedule("lr", self.lr, minimum=0.0, exclusive=True)
        check_rate("momentum", self.momentum)
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"nesterov must be True or False, got {type(self.nesterov).__name__}")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError(f"nesterov=True needs a momentum > 0, got momentum={self.momentum}")
        check_real("weight_decay", self.weight_decay, minimum=0.0)

    def init(self, theta: Array) -> SGDState:
        """The state before the first step, its buffer zero; theta is checked."""
        check_theta(self.problem, theta)
        return SGDState(step=0, buffer=namespace(theta=theta).zeros_like(theta))

    def update(
        self,
        theta: Array,
        state: SGDState,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, SGDState, StepInfo]:
        """The step ``delta`` (P,) to add to theta, the next state, and what happened.

        Raises
        ------
        TypeError, ValueError
            Bad arguments; draws, of which this optimizer uses none.
        NumericalError
            Loss, gradient or step overflowed; the last one carries the StepInfo.
        """
        check_state(state, SGDState, "opt")
        refuse_draws("sgd", samples=samples, probes=probes)
        lr = value_at("lr", self.lr, state.step)
        gradient, info = observe(self.problem, theta, x, y, step=state.step)
        check_average("state.buffer", state.buffer, theta)

        with quiet():
            decayed = gradient + self.weight_decay * theta
            buffer = self.momentum * state.buffer + decayed
            delta = -lr * (decayed + self.momentum * buffer if self.nesterov else buffer)
        require_finite(info, delta=delta)
        return delta, SGDState(state.step + 1, buffer), info._replace(step_norm=norm(delta))


def sgd(
    problem: Problem,
    *,
    lr: Schedule,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> SGD:
    """Gradient descent with momentum, as PyTorch has it.

    ``b <- momentum b + v`` with ``v = g + weight_decay theta``, from b = 0; ``delta = -lr b``, or with
    Nesterov's momentum ``-lr (v + momentum b)`` with the new b. g is the gradient of the mean loss.

    Parameters
    ----------
    problem : Problem
    lr : float or callable of the step number
        Step size > 0. It multiplies the buffer and is not in it: a change of it acts at once on the whole
        step.
    momentum : float
        In [0, 1).
    nesterov : bool
        Needs a momentum > 0.
    weight_decay : float
        L2 regularization >= 0: the gradient of ``(weight_decay / 2) |theta|^2`` enters the momentum. This is
        PyTorch's meaning for this optimizer; everywhere else in this package weight decay is decoupled.

    Notes
    -----
    Source: classical (Polyak 1964; Nesterov 1983 in the form of Sutskever and others 2013).
    """
    return SGD(problem, lr, momentum, nesterov, weight_decay)
