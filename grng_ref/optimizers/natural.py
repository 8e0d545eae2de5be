"""Natural gradient with and without gradient regularization, K-FAC: one algorithm, parameterised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import (
    Array,
    NumericalError,
    check_integer,
    check_real,
    check_shape,
    host_generator,
    namespace,
    row_major_copy,
)
from ..arrays.linalg import norm, quiet
from ..curvature import (
    STRUCTURES,
    Curvature,
    Structure,
    build_curvature,
    find_structure,
    raise_on_failure,
    solve,
)
from ..directions import gradient_difference, regularized_gradient, ring_damping
from ..problem import Problem
from .base import (
    Schedule,
    SolveInfo,
    StepInfo,
    SteppingOptimizer,
    check_schedule,
    check_state,
    check_theta,
    refuse_draws,
    require_finite,
    value_at,
)
from .options import CurvatureOptions, Regularization


@dataclass(frozen=True, eq=False)
class NaturalState:
    """State of a natural-gradient optimizer."""

    step: int  # steps taken
    curvature: Curvature | None = None  # used by the last step; kept only for ema or refresh > 1
    refreshes: int = 0  # how many curvatures that one averages, or has replaced
    previous: Array | None = None  # (P,), the last step before weight decay; kept only for momentum


class _View(NamedTuple):
    """What one step sees at theta, and the curvature that it uses."""

    loss: Array
    gradient: Array
    coefficients: Array | None  # c with g = B^T c, where the curvature is that of these B
    samples: Array | None
    curvature: Curvature
    refreshes: int


@dataclass(frozen=True, eq=False)
class NaturalGradient(SteppingOptimizer):
    """``delta_t = -lr (C + a I)^{-1} v + momentum delta_{t-1}``, then ``- lr weight_decay theta``.

    ``regularization.kind``: ``"none"`` (NGD: v = g, a = damping), ``"implicit"`` (RING:
    a = damping + rho |g|^2), ``"explicit"`` (RENG: v = g + rho H g). C is the Fisher at theta in a structure,
    or a moving average of them. Made by `ngd`, `ring`, `reng` and `kfac`.
    """

    problem: Problem
    lr: Schedule
    damping: Schedule
    regularization: Regularization
    curvature: CurvatureOptions
    momentum: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem must be a Problem, got {type(self.problem).__name__}")
        check_schedule("lr", self.lr, minimum=0.0, exclusive=True)
        check_schedule("damping", self.damping, minimum=0.0)
        if check_real("momentum", self.momentum, minimum=0.0) >= 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        check_real("weight_decay", self.weight_decay, minimum=0.0)
        check_integer("seed", self.seed, minimum=0)

    def init(self, theta: Array) -> NaturalState:
        """The state before the first step; theta is checked."""
        check_theta(self.problem, theta)
        return NaturalState(step=0)

    def update(
        self,
        theta: Array,
        state: NaturalState,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, NaturalState, StepInfo]:
        """The step ``delta`` (P,) to add to theta, the next state, and what happened.

        Monte-Carlo labels are drawn with ``numpy.random.default_rng([seed, step])`` unless ``samples`` are
        given; a step that keeps the curvature of an earlier one draws none.

        Raises
        ------
        TypeError, ValueError
            Bad arguments.
        NumericalError
            The solve failed or the step overflowed: carries the StepInfo. The curvature overflowed.
        """
        check_state(state, NaturalState, "opt")
        refuse_draws("opt", probes=probes)
        lr = value_at("lr", self.lr, state.step)
        rho = value_at("rho", self.regularization.rho, state.step)
        damping = value_at("damping", self.damping, state.step)

        view = self._view(theta, state, x, y, samples)
        gradient_norm = norm(view.gradient)
        v, coefficients = view.gradient, view.coefficients
        if self.regularization.kind == "implicit":
            damping = ring_damping(gradient_norm, rho=rho, damping=damping)
        elif self.regularization.kind == "explicit" and rho > 0.0:
            v = regularized_gradient(v, lambda u: self._hessian_product(theta, x, y, u), rho=rho)
            coefficients = None  # H g need not lie in the row space of B

        result = solve(
            view.curvature,
            v,
            damping=damping,
            damping_kind=self.curvature.damping_kind,
            method=self.curvature.method,
            coefficients=coefficients,
        )
        info = StepInfo(
            step=state.step,
            loss=float(view.loss),
            gradient_norm=gradient_norm,
            damping=damping,
            step_norm=None,
            solve=SolveInfo.of(result),
            samples=view.samples,
        )
        try:
            raise_on_failure(result, damping)
        except NumericalError as error:
            raise NumericalError(f"step {state.step}: {error}", info) from None
        with quiet():
            moved = self._with_momentum(-lr * result.x, state)
            delta = moved - (lr * self.weight_decay) * theta if self.weight_decay > 0.0 else moved
        require_finite(info, delta=delta)
        return delta, self._next_state(state, view, moved), info._replace(step_norm=norm(delta))

    # --- inner functions -----------------------------------------------------------------------------

    def _view(self, theta: Array, state: NaturalState, x: Array, y: Array, samples: Array | None) -> _View:
        """Loss and gradient at theta, and the curvature: kept, built anew, or averaged."""
        options, kept = self.curvature, state.curvature
        if kept is not None and state.step % options.refresh != 0:
            refuse_draws("opt", samples=samples)
            loss, gradient = self.problem.loss(theta, x, y), self.problem.gradient(theta, x, y)
            return _View(loss, gradient, None, None, kept, state.refreshes)
        at = self.problem.linearize(
            theta,
            x,
            y,
            kind=options.kind,
            samples=samples,
            num_samples=options.num_samples,
            rng=host_generator([self.seed, state.step]),
        )
        structure = find_structure(options.structure)
        built = build_curvature(structure, at.activations, at.signals)
        if kept is None or options.ema is None:
            refreshes = 1 if kept is None else state.refreshes + 1
            # A structure of the user's may be made of other rows, of which c says nothing.
            coefficients = at.coefficients if structure in STRUCTURES.values() else None
            return _View(at.loss, at.gradient, coefficients, at.samples, built, refreshes)
        average = options.average(kept, built, state.refreshes + 1)
        return _View(at.loss, at.gradient, None, at.samples, average, state.refreshes + 1)

    def _hessian_product(self, theta: Array, x: Array, y: Array, g: Array) -> Array:
        if self.regularization.hvp == "exact":
            return self.problem.hvp(theta, x, y, g)
        return gradient_difference(lambda moved: self.problem.gradient(moved, x, y), theta, g)

    def _with_momentum(self, descent: Array, state: NaturalState) -> Array:
        """The heavy ball: ``momentum`` times the last step added."""
        if self.momentum == 0.0 or state.previous is None:
            return descent
        namespace(theta=descent, **{"state.previous": state.previous})
        check_shape("state.previous", state.previous, tuple(descent.shape), "one entry a parameter")
        return descent + self.momentum * state.previous

    def _next_state(self, state: NaturalState, view: _View, moved: Array) -> NaturalState:
        kept = view.curvature if self.curvature.keeps_curvature else None
        if kept is not state.curvature:  # else it is a copy already
            kept = row_major_copy(kept)
        return NaturalState(
            step=state.step + 1,
            curvature=kept,
            refreshes=view.refreshes if self.curvature.keeps_curvature else 0,
            previous=row_major_copy(moved) if self.momentum > 0.0 else None,
        )


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
    ema: float | None = None,
    refresh: int = 1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> NaturalGradient:
    """Natural gradient descent: ``delta = -lr (C + damping I)^{-1} g``.

    Parameters
    ----------
    problem : Problem
    lr, damping : float or callable of the step number
        Step size eta > 0; damping lam >= 0, added to the mean-normalised curvature. At damping 0 the full
        and block structures take the minimum-norm step.
    structure : str or Structure
        C, by a name that `fisher` takes; with ``"full"`` this is the exact natural gradient.
    kind : {"expected", "monte_carlo", "empirical"}
        Which Fisher.
    num_samples : int
        Label draws an example for ``"monte_carlo"``.
    damping_kind : {None, "exact", "factored"}
        ``None``: exact where the structure has it.
    method : str
        Solver; see `solve`. Not ``"gram"`` with ``ema``.
    ema : float, optional
        beta in (0, 1): C is the moving average of the structure's factors (for K-FAC of A and G separately),
        ``(1 - beta) sum_s beta^(t-s) C_s / (1 - beta^t)`` after t of them. The division corrects the bias of
        a start at zero: the weights sum to one, and the first average is the first curvature. EKFAC's
        moments alone follow a recursion that is not this sum, see `EKFACStructure.average`. ``None``: C of
        this step only.
    refresh : int
        C is built anew (and averaged) at steps 0, k, 2k, ..., and used unchanged in between.
    momentum : float
        mu in [0, 1), a heavy ball on the step: ``delta_t = -lr d_t + mu delta_{t-1}``.
    weight_decay : float
        w >= 0, decoupled: ``- lr w theta`` is added last, and is not carried on by the momentum.
    seed : int
        Draws of step k come from ``numpy.random.default_rng([seed, k])``.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; with ``ema`` a structure that has no ``average``.

    Notes
    -----
    Source: classical (Amari 1998; K-FAC, its averages and refreshing: Martens and Grosse 2015; bias
    correction: Kingma and Ba 2015; decoupled decay: Loshchilov and Hutter 2019).
    """
    return NaturalGradient(
        problem,
        lr,
        damping,
        Regularization(),
        CurvatureOptions(structure, kind, num_samples, damping_kind, method, ema, refresh),
        momentum,
        weight_decay,
        seed,
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
    ema: float | None = None,
    refresh: int = 1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> NaturalGradient:
    """RING, implicit gradient regularization: ``delta = -lr (C + (damping + rho |g|^2) I)^{-1} g``.

    Parameters as in `ngd`; ``rho >= 0`` may be a schedule too. ``|g|`` is the norm of the gradient of the
    mean loss on the observed labels, over all layers, at every step. With factored damping the whole
    ``damping + rho |g|^2`` is factored.

    Notes
    -----
    Source: the quadratic model with curvature ``F + rho |grad L|^2 I`` is the paper's.
    """
    return NaturalGradient(
        problem,
        lr,
        damping,
        Regularization("implicit", rho),
        CurvatureOptions(structure, kind, num_samples, damping_kind, method, ema, refresh),
        momentum,
        weight_decay,
        seed,
    )


def reng(
    problem: Problem,
    *,
    lr: Schedule,
    rho: Schedule,
    damping: Schedule = 0.0,
    hvp: str = "exact",
    structure: str | Structure = "full",
    kind: str = "expected",
    num_samples: int = 1,
    damping_kind: str | None = None,
    method: str = "auto",
    ema: float | None = None,
    refresh: int = 1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> NaturalGradient:
    """RENG, explicit gradient regularization: ``delta = -lr (C + damping I)^{-1} (g + rho H g)``.

    ``g + rho H g`` is the gradient of ``L + (rho/2) |grad L|^2``. Parameters as in `ngd`; ``rho >= 0`` may be
    a schedule too. ``hvp="exact"`` takes ``H g`` by double backprop; ``"finite_difference"`` takes
    ``(g(theta + e g) - g) / e`` with ``e |g| = sqrt(eps) (1 + |theta|)``, at the cost of one gradient and
    with an error of O(e): about half the digits of the dtype are lost.

    Notes
    -----
    Source: the objective and the double backprop are the paper's.
    """
    return NaturalGradient(
        problem,
        lr,
        damping,
        Regularization("explicit", rho, hvp),
        CurvatureOptions(structure, kind, num_samples, damping_kind, method, ema, refresh),
        momentum,
        weight_decay,
        seed,
    )


def kfac(
    problem: Problem,
    *,
    lr: Schedule,
    damping: Schedule = 1e-3,
    kind: str = "expected",
    num_samples: int = 1,
    method: str = "auto",
    ema: float | None = 0.95,
    refresh: int = 1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> NaturalGradient:
    """K-FAC, the baseline: `ngd` with the structure ``"kfac"``, factored damping, averages and momentum.

    ``D = (G + sqrt(a)/pi I)^{-1} V (A + pi sqrt(a) I)^{-1}`` in every layer, with a the damping, V the
    gradient, A and G the bias-corrected moving averages of the factors, and
    ``pi^2 = (tr A/dim A)/(tr G/dim G)``; then ``delta_t = -lr d_t + momentum delta_{t-1}``. The step is
    neither rescaled by the quadratic model nor clipped, and the damping does not adapt.
    Parameters as in `ngd`.

    Notes
    -----
    Source: classical (Martens and Grosse 2015).
    """
    return NaturalGradient(
        problem,
        lr,
        damping,
        Regularization(),
        CurvatureOptions("kfac", kind, num_samples, "factored", method, ema, refresh),
        momentum,
        weight_decay,
        seed,
    )
