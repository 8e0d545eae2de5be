"""An optimizer of a user: the page "How to add an optimizer" explains it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import array_api_compat

import grng_ref as gr
from grng_ref.arrays import check_finite, check_shape


@dataclass(frozen=True)
class DescentState:
    """The state: steps taken."""

    step: int


@dataclass(frozen=True, eq=False)
class GradientDescent:
    """``delta = -lr g``; lr is a number > 0 or a function of the step number."""

    problem: gr.Problem
    lr: float | Callable[[int], float]

    def __post_init__(self):
        if not callable(self.lr) and not 0.0 < self.lr < math.inf:
            raise ValueError(f"lr must be a finite number > 0, got {self.lr}")

    def init(self, theta):
        check_finite(theta=theta)
        check_shape("theta", theta, (self.problem.num_parameters,), "one flat parameter vector")
        return DescentState(step=0)

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        if not isinstance(state, DescentState):
            raise TypeError(f"state must be the DescentState that init returns, got {type(state).__name__}")
        if samples is not None or probes is not None:
            raise ValueError("samples and probes must be None: gradient descent draws nothing")
        g = self.problem.gradient(theta, x, y)
        delta = -(self.lr(state.step) if callable(self.lr) else self.lr) * g
        xp = array_api_compat.array_namespace(theta)
        info = gr.StepInfo(
            step=state.step,
            loss=float(self.problem.loss(theta, x, y)),
            gradient_norm=float(xp.linalg.vector_norm(g)),
            damping=0.0,
            step_norm=float(xp.linalg.vector_norm(delta)),
            solve=None,
            samples=None,
        )
        return delta, DescentState(step=state.step + 1), info

    def step(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = self.update(theta, state, x, y, samples=samples, probes=probes)
        return theta + delta, state, info
