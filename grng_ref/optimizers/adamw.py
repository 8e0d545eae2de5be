"""AdamW: adaptive moments with decoupled weight decay."""

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
    check_betas,
    check_problem,
    check_schedule,
    check_state,
    check_theta,
    observe,
    refuse_draws,
    require_finite,
    value_at,
)


@dataclass(frozen=True, eq=False)
class AdamWState:
    """State of `adamw`: moving averages from zero, not yet bias corrected."""

    step: int  # steps taken
    mean: Array  # (P,), m: average of g
    square: Array  # (P,), v: average of g * g


@dataclass(frozen=True, eq=False)
class AdamW(SteppingOptimizer):
    """AdamW; made by `adamw`."""

    problem: Problem
    lr: Schedule
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    def __post_init__(self) -> None:
        check_problem(self.problem)
        check_schedule("lr", self.lr, minimum=0.0, exclusive=True)
        check_betas(self.betas)
        check_real("eps", self.eps, minimum=0.0, exclusive=True)
        check_real("weight_decay", self.weight_decay, minimum=0.0)

    def init(self, theta: Array) -> AdamWState:
        """The state before the first step, its averages zero; theta is checked."""
        check_theta(self.problem, theta)
        zero = namespace(theta=theta).zeros_like(theta)
        return AdamWState(step=0, mean=zero, square=zero)

    def update(
        self,
        theta: Array,
        state: AdamWState,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, AdamWState, StepInfo]:
        """The step ``delta`` (P,) to add to theta, the next state, and what happened.

        Raises
        ------
        TypeError, ValueError
            Bad arguments; draws, of which this optimizer uses none.
        NumericalError
            Loss, gradient, its square or the step overflowed; the last two carry the StepInfo.
        """
        check_state(state, AdamWState, "opt")
        refuse_draws("adamw", samples=samples, probes=probes)
        lr = value_at("lr", self.lr, state.step)
        gradient, info = observe(self.problem, theta, x, y, step=state.step)
        check_average("state.mean", state.mean, theta)
        check_average("state.square", state.square, theta)

        xp, taken = namespace(theta=theta), state.step + 1
        first, second = self.betas
        with quiet():
            mean = first * state.mean + (1.0 - first) * gradient
            square = second * state.square + (1.0 - second) * (gradient * gradient)
            # averages that start at zero are too small by 1 - beta^t
            scale = xp.sqrt(square / (1.0 - second**taken)) + self.eps
            delta = -lr * (mean / (1.0 - first**taken) / scale + self.weight_decay * theta)
        require_finite(info, square=square, delta=delta)
        return delta, AdamWState(taken, mean, square), info._replace(step_norm=norm(delta))


def adamw(
    problem: Problem,
    *,
    lr: Schedule,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> AdamW:
    """AdamW: ``delta = -lr (mhat / (sqrt(vhat) + eps) + weight_decay theta)``.

    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g * g``, from 0; at step t = 1, 2, ...
    ``mhat = m / (1 - beta1^t)``, ``vhat = v / (1 - beta2^t)``. g is the gradient of the mean loss; products,
    roots and quotients are those of the entries. Defaults, and place of eps, as in PyTorch.

    Parameters
    ----------
    problem : Problem
    lr : float or callable of the step number
        Step size > 0; it multiplies the weight decay too.
    betas : (float, float)
        Decay rates in [0, 1).
    eps : float
        > 0, added to the root.
    weight_decay : float
        Decoupled, >= 0: acts on theta directly, and not through the averages.

    Notes
    -----
    Source: classical (Kingma and Ba 2015; Loshchilov and Hutter 2019).
    """
    return AdamW(problem, lr, betas, eps, weight_decay)
