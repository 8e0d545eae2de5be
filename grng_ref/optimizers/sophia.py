"""Sophia: clipped steps preconditioned by a moving average of the Hessian's diagonal."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import (
    Array,
    NumericalError,
    check_choice,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    from_host,
    host_generator,
    namespace,
    namespace_of_mixed,
)
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

ESTIMATORS = ("gauss_newton_bartlett", "hutchinson")


@dataclass(frozen=True, eq=False)
class SophiaState:
    """State of `sophia`: moving averages from zero, never bias corrected."""

    step: int  # steps taken
    momentum: Array  # (P,), m: average of the gradient
    hessian: Array  # (P,), h: average of the estimates of the Hessian's diagonal


@dataclass(frozen=True, eq=False)
class Sophia(SteppingOptimizer):
    """Sophia-G or Sophia-H; made by `sophia`."""

    problem: Problem
    lr: Schedule
    estimator: str
    betas: tuple[float, float]
    gamma: float
    eps: float
    refresh: int
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        check_problem(self.problem)
        check_schedule("lr", self.lr, minimum=0.0, exclusive=True)
        check_choice("estimator", self.estimator, ESTIMATORS)
        check_betas(self.betas)
        check_real("gamma", self.gamma, minimum=0.0, exclusive=True)
        check_real("eps", self.eps, minimum=0.0, exclusive=True)
        check_integer("refresh", self.refresh, minimum=1)
        check_real("weight_decay", self.weight_decay, minimum=0.0)
        check_integer("seed", self.seed, minimum=0)

    def init(self, theta: Array) -> SophiaState:
        """The state before the first step, its averages zero; theta is checked."""
        check_theta(self.problem, theta)
        zero = namespace(theta=theta).zeros_like(theta)
        return SophiaState(step=0, momentum=zero, hessian=zero)

    def update(
        self,
        theta: Array,
        state: SophiaState,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, SophiaState, StepInfo]:
        """The step ``delta`` (P,) to add to theta, the next state, and what happened.

        Parameters
        ----------
        samples : array (M, *labels), optional
            Labels for the Gauss-Newton-Bartlett estimate, in place of M = 1 draw from the model; the estimate
            is the mean over the M draws.
        probes : array (M, P), optional
            Directions for Hutchinson's estimate, in place of M = 1 draw of N(0, I).

        Raises
        ------
        TypeError, ValueError
            Bad arguments; draws that this step does not use: those of the other estimator, or any between
            two refreshes.
        NumericalError
            Loss, gradient, the estimate or the step overflowed; the last two carry the StepInfo.

        Notes
        -----
        Own draws come from ``numpy.random.default_rng([seed, step])``. ``info.clipped`` is the fraction of
        entries with ``|m| > max(gamma h, eps)``.
        """
        check_state(state, SophiaState, "opt")
        self._refuse_unused(state.step, samples, probes)
        lr = value_at("lr", self.lr, state.step)
        gradient, info = observe(self.problem, theta, x, y, step=state.step)
        check_average("state.momentum", state.momentum, theta)
        check_average("state.hessian", state.hessian, theta)

        hessian, (first, second) = state.hessian, self.betas
        if self._refreshes(state.step):
            samples, probes = self._draws(state.step, theta, x, samples, probes)
            info = info._replace(samples=samples, probes=probes)
            try:
                with quiet():
                    if samples is not None:
                        estimate = gauss_newton_bartlett(self.problem, theta, x, samples)
                    else:
                        estimate = hutchinson(self.problem, theta, x, y, probes)
            except NumericalError as error:
                raise NumericalError(f"step {state.step}: {error}", info) from error
            require_finite(info, estimate=estimate)
            hessian = second * hessian + (1.0 - second) * estimate

        xp = namespace(theta=theta)
        with quiet():
            momentum = first * state.momentum + (1.0 - first) * gradient
            scaled, size = self.gamma * hessian, xp.abs(momentum)
            bound = xp.where(scaled > self.eps, scaled, self.eps * xp.ones_like(scaled))
            # clip(m / bound, 1): a quotient that is clipped is never formed, it could overflow
            clipped = momentum / xp.where(size > bound, size, bound)
            delta = -lr * (clipped + self.weight_decay * theta)
        require_finite(info, hessian=scaled, delta=delta)
        fraction = int(xp.count_nonzero(size > bound)) / theta.shape[0]
        after = SophiaState(state.step + 1, momentum, hessian)
        return delta, after, info._replace(step_norm=norm(delta), clipped=fraction)

    def _refreshes(self, step: int) -> bool:
        return step % self.refresh == 0

    def _refuse_unused(self, step: int, samples: Array | None, probes: Array | None) -> None:
        bartlett = self.estimator == "gauss_newton_bartlett"
        if not (self._refreshes(step) and bartlett):
            refuse_draws("sophia", samples=samples)
        if not self._refreshes(step) or bartlett:
            refuse_draws("sophia", probes=probes)

    def _draws(
        self, step: int, theta: Array, x: Array, samples: Array | None, probes: Array | None
    ) -> tuple[Array | None, Array | None]:
        """The draws that the estimator uses, those given or its own; the other one is None."""
        rng = host_generator([self.seed, step])
        if self.estimator == "gauss_newton_bartlett":
            return self.problem.sample(theta, x, rng=rng) if samples is None else samples, None
        return None, from_host(rng.standard_normal((1, theta.shape[0])), theta) if probes is None else probes


def gauss_newton_bartlett(problem: Problem, theta: Array, x: Array, samples: Array) -> Array:
    """``N ghat * ghat`` (P,), the mean over M draws of labels; its expectation is the diagonal of the Fisher.

    ``ghat`` is the gradient of the mean loss on labels (M, *labels) drawn from the model at theta.
    """
    namespace_of_mixed(theta=theta, samples=samples)
    draws = samples.shape[0] if samples.ndim > 0 else 0
    if draws == 0:
        raise ValueError(f"samples must have shape (draws, *labels), got {tuple(samples.shape)}")
    total = 0.0
    for m in range(draws):
        try:
            gradient = problem.gradient(theta, x, samples[m, ...])
        except (TypeError, ValueError) as error:  # which speaks of y
            raise type(error)(f"samples[{m}] must hold labels: {error}") from None
        total = total + gradient * gradient
    return total * (x.shape[0] / draws)


def hutchinson(problem: Problem, theta: Array, x: Array, y: Array, probes: Array) -> Array:
    """``u * (H u)`` (P,), the mean over M probes u ~ N(0, I); its expectation is the diagonal of H.

    H is the Hessian of the mean loss on the observed labels; its diagonal may have negative entries.
    """
    namespace(theta=theta, probes=probes)
    check_shape("probes", probes, (None, theta.shape[0]), "(draws, parameters)")
    check_finite(probes=probes)
    total = 0.0
    for m in range(probes.shape[0]):
        u = probes[m, ...]
        total = total + u * problem.hvp(theta, x, y, u)
    return total / probes.shape[0]


def sophia(
    problem: Problem,
    *,
    lr: Schedule,
    estimator: str = "gauss_newton_bartlett",
    betas: tuple[float, float] = (0.96, 0.99),
    gamma: float = 0.05,
    eps: float = 1e-12,
    refresh: int = 10,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Sophia:
    """Sophia: ``delta = -lr (clip(m / max(gamma h, eps), 1) + weight_decay theta)``.

    ``m <- beta1 m + (1 - beta1) g``; at the steps 0, k, 2k, ... with k = ``refresh`` also
    ``h <- beta2 h + (1 - beta2) hhat``; both from 0, without bias correction. ``clip(z, 1)`` limits every
    entry to [-1, 1]; where h is not positive, any ``|m| >= eps`` gives ``-lr sign(m)``. g is the gradient of
    the mean loss; products and quotients are those of the entries.

    Parameters
    ----------
    problem : Problem
    lr : float or callable of the step number
        Step size > 0, the largest change of an entry; it multiplies the weight decay too.
    estimator : {"gauss_newton_bartlett", "hutchinson"}
        hhat. Sophia-G: ``N ghat * ghat``, ghat the gradient of the mean loss on labels drawn from the model
        at theta. Sophia-H: ``u * (H u)``, u ~ N(0, I), H the Hessian of the mean loss.
    betas : (float, float)
        Decay rates in [0, 1).
    gamma : float
        > 0; the larger, the fewer entries are clipped (`StepInfo.clipped`). The default is the authors' for
        Sophia-G; for Sophia-H they take 0.01.
    eps : float
        > 0.
    refresh : int
        k >= 1.
    weight_decay : float
        Decoupled, >= 0.
    seed : int
        Draws of step k come from ``numpy.random.default_rng([seed, k])``.

    Notes
    -----
    Source: classical (Liu, Li, Hall, Liang and Ma 2023, Algorithms 1 to 3).
    """
    return Sophia(problem, lr, estimator, betas, gamma, eps, refresh, weight_decay, seed)
