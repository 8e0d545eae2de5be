"""R-Kalman: a regularized extended Kalman filter over the parameters, without a Fisher inverse."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, NumericalError, check_choice, check_integer, check_real, host_generator
from ..arrays.linalg import norm
from ..beliefs import Belief, full_belief, kalman_update
from ..beliefs.full import FORMS
from ..beliefs.update import REGULARIZATIONS
from ..curvature import LayerRows
from ..directions import ring_damping
from ..problem import KINDS, Problem
from .base import (
    Schedule,
    StepInfo,
    SteppingOptimizer,
    check_schedule,
    check_state,
    check_theta,
    refuse_draws,
    value_at,
)

_BELIEFS = {"full": full_belief}


@dataclass(frozen=True, eq=False)
class RKalmanState:
    """The filter's Gaussian after ``step`` batches."""

    step: int
    mean: Array  # (P,)
    belief: Belief

    def covariance(self) -> Array:
        """The covariance (P, P)."""
        return self.belief.covariance()

    def information(self) -> Array:
        """The information matrix (P, P), a sum over examples."""
        return self.belief.information()


@dataclass(frozen=True, eq=False)
class RKalman(SteppingOptimizer):
    """The regularized extended Kalman filter; made by `rkalman`."""

    problem: Problem
    prior_variance: float
    forgetting: float
    process_noise: float
    rho: Schedule
    regularization: str
    belief: str | Belief
    form: str
    kind: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem must be a Problem, got {type(self.problem).__name__}")
        check_real("prior_variance", self.prior_variance, minimum=0.0, exclusive=True)
        if check_real("forgetting", self.forgetting, minimum=0.0, exclusive=True) > 1.0:
            raise ValueError(f"forgetting must lie in (0, 1], got {self.forgetting}")
        check_real("process_noise", self.process_noise, minimum=0.0)
        check_schedule("rho", self.rho, minimum=0.0)
        check_choice("regularization", self.regularization, REGULARIZATIONS)
        if isinstance(self.belief, type) or not isinstance(self.belief, Belief):
            check_choice("belief", self.belief, _BELIEFS)
        check_choice("form", self.form, FORMS)
        check_choice("kind", self.kind, KINDS)
        check_integer("seed", self.seed, minimum=0)

    def init(self, theta: Array) -> RKalmanState:
        """The prior: mean theta, and covariance ``prior_variance I`` unless a belief was given."""
        check_theta(self.problem, theta)
        belief = self.belief
        if not isinstance(belief, Belief):
            belief = _BELIEFS[belief](theta, prior_variance=self.prior_variance, form=self.form)
        if belief.size != theta.shape[0]:
            raise ValueError(f"belief must be over {theta.shape[0]} parameters, got {belief.size}")
        return RKalmanState(step=0, mean=theta, belief=belief)

    def update(
        self,
        theta: Array,
        state: RKalmanState,
        x: Array,
        y: Array,
        *,
        samples: Array | None = None,
        probes: Array | None = None,
    ) -> tuple[Array, RKalmanState, StepInfo]:
        """Predict, then condition on the batch, linearised at theta, the predicted mean.

        ``info.damping`` is the mean-normalised precision ``rho |g|^2`` that implicit regularization added.

        Raises
        ------
        TypeError, ValueError
            Bad arguments.
        NumericalError
            The information matrix is singular or overflowed; carries the StepInfo.
        """
        check_state(state, RKalmanState, "opt")
        refuse_draws("opt", probes=probes)
        rho = value_at("rho", self.rho, state.step)
        at = self.problem.linearize(
            theta, x, y, kind=self.kind, samples=samples, rng=host_generator([self.seed, state.step])
        )
        implicit = self.regularization == "implicit"
        gradient_norm = norm(at.gradient)
        info = StepInfo(
            step=state.step,
            loss=float(at.loss),
            gradient_norm=gradient_norm,
            damping=ring_damping(gradient_norm, rho=rho, damping=0.0) if implicit else 0.0,
            step_norm=None,
            solve=None,
            samples=at.samples,
        )
        try:
            posterior = kalman_update(
                theta,
                state.belief.predict(noise=self.process_noise, forgetting=self.forgetting),
                LayerRows(at.activations, at.signals).rows(),
                at.gradient,
                num_examples=x.shape[0],
                rho=rho,
                regularization=self.regularization,
                hessian=None if implicit or rho == 0.0 else self.problem.hessian(theta, x, y),
                coefficients=at.coefficients,
            )
        except NumericalError as error:
            raise NumericalError(f"step {state.step}: {error}", info) from error
        delta = posterior.mean - theta
        info = info._replace(step_norm=norm(delta))
        # theta + delta, which `step` returns, may differ from posterior.mean by a rounding
        return delta, RKalmanState(state.step + 1, theta + delta, posterior.belief), info


def rkalman(
    problem: Problem,
    *,
    prior_variance: float = 1.0,
    forgetting: float = 1.0,
    process_noise: float = 0.0,
    rho: Schedule = 0.0,
    regularization: str = "implicit",
    belief: str | Belief = "full",
    form: str = "auto",
    kind: str = "expected",
    seed: int = 0,
) -> RKalman:
    """R-Kalman: the parameters as the state of an extended Kalman filter, with gradient regularization.

    Predict ``P^- = P/forgetting + process_noise I``; then, at the predicted mean,
    ``Y = Y^- + N F + N rho |g|^2 I`` (implicit) or ``Y = Y^- + N F + N rho H^2`` (explicit), and
    ``delta = -Y^{-1} N g`` or ``-Y^{-1} N (g + rho H g)``. The information is a sum over examples.

    Parameters
    ----------
    problem : Problem
    prior_variance : float
        p0 > 0: the prior is N(theta_0, p0 I).
    forgetting : float
        phi in (0, 1], applied before every batch, the first one too.
    process_noise : float
        Variance q >= 0 of a random walk of every parameter a step.
    rho : float or callable of the step number
        Gradient regularization >= 0.
    regularization : {"implicit", "explicit"}
        Explicit needs the dense Hessian: O(P^3) a step.
    belief : {"full"} or Belief
    form : {"auto", "square_root_information"}
        Form of the full belief.
    kind : {"expected", "monte_carlo", "empirical"}
        Which Fisher rows observe the parameters.
    seed : int
        Draws of step k come from ``numpy.random.default_rng([seed, k])``.

    Notes
    -----
    A step costs O(P^2 N K) with rho = 0 and process_noise = 0, else O(P^3). Source: our reconstruction
    of the paper's R-Kalman; with rho = 0 the classical extended Kalman filter (Ollivier 2018).
    """
    return RKalman(
        problem,
        prior_variance,
        forgetting,
        process_noise,
        rho,
        regularization,
        belief,
        form,
        kind,
        seed,
    )
