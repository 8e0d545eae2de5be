"""Natural gradient with and without gradient regularization: one algorithm, parameterised."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, NumericalError, check_choice, check_integer, host_generator
from ..arrays.linalg import norm
from ..curvature import Structure, find_structure, raise_on_failure, solve
from ..directions import regularized_gradient, ring_damping
from ..problem import KINDS, Problem
from .base import (
    Schedule,
    SolveInfo,
    StepInfo,
    SteppingOptimizer,
    check_schedule,
    check_state,
    check_theta,
    value_at,
)

REGULARIZATIONS = ("none", "implicit", "explicit")
_DAMPING_KINDS = ("exact", "factored")


@dataclass(frozen=True)
class NaturalState:
    """State of a natural-gradient optimizer."""

    step: int  # steps taken


@dataclass(frozen=True, eq=False)
class NaturalGradient(SteppingOptimizer):
    """``delta = -lr (C + a I)^{-1} v`` with the structure C of the Fisher at theta.

    ``regularization``: ``"none"`` (NGD: v = g, a = damping), ``"implicit"`` (RING: a = damping + rho |g|^2),
    ``"explicit"`` (RENG: v = g + rho H g). Made by `ngd`, `ring` and `reng`.
    """

    problem: Problem
    lr: Schedule
    damping: Schedule
    rho: Schedule
    regularization: str
    structure: str | Structure
    kind: str
    num_samples: int
    damping_kind: str | None
    method: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem must be a Problem, got {type(self.problem).__name__}")
        check_schedule("lr", self.lr, minimum=0.0, exclusive=True)
        check_schedule("damping", self.damping, minimum=0.0)
        check_schedule("rho", self.rho, minimum=0.0)
        find_structure(self.structure)
        check_choice("kind", self.kind, KINDS)
        check_integer("num_samples", self.num_samples, minimum=1)
        if self.damping_kind is not None:
            check_choice("damping_kind", self.damping_kind, _DAMPING_KINDS)
        check_integer("seed", self.seed, minimum=0)

    def init(self, theta: Array) -> NaturalState:
        """The state before the first step; theta is checked."""
        check_theta(self.problem, theta)
        return NaturalState(step=0)

    def update(
        self, theta: Array, state: NaturalState, x: Array, y: Array, *, samples: Array | None = None
    ) -> tuple[Array, NaturalState, StepInfo]:
        """The step ``delta`` (P,) to add to theta, the next state, and what happened.

        Monte-Carlo labels are drawn with ``numpy.random.default_rng([seed, step])`` unless ``samples`` are
        given.

        Raises
        ------
        TypeError, ValueError
            Bad arguments.
        NumericalError
            The solve failed; carries the StepInfo.
        """
        check_state(state, NaturalState, "opt")
        lr = value_at("lr", self.lr, state.step)
        rho = value_at("rho", self.rho, state.step)
        damping = value_at("damping", self.damping, state.step)

        at = self.problem.linearize(
            theta,
            x,
            y,
            kind=self.kind,
            samples=samples,
            num_samples=self.num_samples,
            rng=host_generator([self.seed, state.step]),
        )
        gradient_norm = norm(at.gradient)
        v, coefficients = at.gradient, at.coefficients
        if self.regularization == "implicit":
            damping = ring_damping(gradient_norm, rho=rho, damping=damping)
        elif self.regularization == "explicit" and rho > 0.0:
            v = regularized_gradient(v, lambda u: self.problem.hvp(theta, x, y, u), rho=rho)
            coefficients = None  # H g need not lie in the row space of B

        built = find_structure(self.structure).build(at.activations, at.signals)
        result = solve(
            built,
            v,
            damping=damping,
            damping_kind=self.damping_kind,
            method=self.method,
            coefficients=coefficients,
        )
        delta = -lr * result.x
        info = StepInfo(
            step=state.step,
            loss=float(at.loss),
            gradient_norm=gradient_norm,
            damping=damping,
            step_norm=norm(delta) if result.success else None,
            solve=SolveInfo.of(result),
            samples=at.samples,
        )
        try:
            raise_on_failure(result, damping)
        except NumericalError as error:
            raise NumericalError(f"step {state.step}: {error}", info) from None
        return delta, NaturalState(step=state.step + 1), info


def ngd(
    problem: Problem,
    *,
    lr: Schedule,
    damping: Schedule = 0.0,
    structure: str | Structure = "full",
    kind: str = "expected",
    num_samples: int = 1,
    damping_kind: str | None = None,
    method: str = "auto",
    seed: int = 0,
) -> NaturalGradient:
    """Natural gradient descent: ``delta = -lr (C + damping I)^{-1} g``.

    Parameters
    ----------
    problem : Problem
    lr, damping : float or callable of the step number
        Step size eta > 0; damping lam >= 0, added to the mean-normalised curvature. At damping 0 the full
        and block structures take the minimum-norm step.
    structure : {"full", "block_diagonal", "kfac"} or Structure
        C; with ``"full"`` this is the exact natural gradient.
    kind : {"expected", "monte_carlo", "empirical"}
        Which Fisher.
    num_samples : int
        Label draws an example for ``"monte_carlo"``.
    damping_kind : {None, "exact", "factored"}
        ``None``: exact where the structure has it.
    method : str
        Solver; see `solve`.
    seed : int
        Draws of step k come from ``numpy.random.default_rng([seed, k])``.

    Notes
    -----
    Source: classical (Amari 1998; K-FAC: Martens and Grosse 2015).
    """
    return NaturalGradient(
        problem, lr, damping, 0.0, "none", structure, kind, num_samples, damping_kind, method, seed
    )


def ring(
    problem: Problem,
    *,
    lr: Schedule,
    rho: Schedule,
    damping: Schedule = 0.0,
    structure: str | Structure = "full",
    kind: str = "expected",
    num_samples: int = 1,
    damping_kind: str | None = None,
    method: str = "auto",
    seed: int = 0,
) -> NaturalGradient:
    """RING, implicit gradient regularization: ``delta = -lr (C + (damping + rho |g|^2) I)^{-1} g``.

    Parameters as in `ngd`; ``rho >= 0`` may be a schedule too. ``|g|`` is the norm of the gradient of the
    mean loss on the observed labels, over all layers.

    Notes
    -----
    Source: the quadratic model with curvature ``F + rho |grad L|^2 I`` is the paper's.
    """
    return NaturalGradient(
        problem, lr, damping, rho, "implicit", structure, kind, num_samples, damping_kind, method, seed
    )


def reng(
    problem: Problem,
    *,
    lr: Schedule,
    rho: Schedule,
    damping: Schedule = 0.0,
    structure: str | Structure = "full",
    kind: str = "expected",
    num_samples: int = 1,
    damping_kind: str | None = None,
    method: str = "auto",
    seed: int = 0,
) -> NaturalGradient:
    """RENG, explicit gradient regularization: ``delta = -lr (C + damping I)^{-1} (g + rho H g)``.

    ``g + rho H g`` is the gradient of ``L + (rho/2) |grad L|^2``, by double backprop. Parameters as in `ngd`;
    ``rho >= 0`` may be a schedule too.

    Notes
    -----
    Source: the objective and the double backprop are the paper's.
    """
    return NaturalGradient(
        problem, lr, damping, rho, "explicit", structure, kind, num_samples, damping_kind, method, seed
    )
