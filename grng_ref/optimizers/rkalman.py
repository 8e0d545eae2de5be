"""R-Kalman: a regularized extended Kalman filter over the parameters, without a Fisher inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import (
    Array,
    NumericalError,
    check_choice,
    check_integer,
    check_real,
    host_generator,
    like,
    namespace,
)
from ..arrays.linalg import norm
from ..beliefs import (
    FORMS,
    REGULARIZATIONS,
    Belief,
    Observation,
    block_diagonal_belief,
    diagonal_belief,
    full_belief,
    log_evidence,
    low_rank_belief,
    observation,
)
from ..curvature import LayerRows
from ..directions import ring_damping
from ..problem import KINDS, Linearization, Problem
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

BELIEFS = ("full", "block_diagonal", "diagonal", "low_rank")
FORGETTING_KINDS = ("plain", "prior")

_RANK = 16  # of the belief named "low_rank", where there are as many parameters


@dataclass(frozen=True, eq=False)
class RKalmanState:
    """The filter's Gaussian after ``step`` batches."""

    step: int
    mean: Array  # (P,)
    belief: Belief
    prior_mean: Array | None = None  # (P,), where forgetting falls back to the prior

    def covariance(self) -> Array:
        """The covariance (P, P)."""
        return self.belief.covariance()

    def information(self) -> Array:
        """The information matrix (P, P), a sum over examples."""
        return self.belief.information()


class Prediction(NamedTuple):
    """The Gaussian of the outputs f at new inputs, in the linearised model."""

    mean: Array  #: (N, K), the outputs at the mean
    covariance: Array  #: (N, K, K), ``J_n P J_n^T`` of every example, without the noise of the labels


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
    forgetting_kind: str
    information_increment: float
    iterations: int
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
        named = isinstance(self.belief, type) or not isinstance(self.belief, Belief)
        if named:
            check_choice("belief", self.belief, BELIEFS)
        check_choice("form", self.form, FORMS)
        if self.form != "auto" and self.belief != "full":
            raise ValueError(f"form must be 'auto' unless belief='full', got {self.form!r}")
        check_choice("forgetting_kind", self.forgetting_kind, FORGETTING_KINDS)
        if self.forgetting_kind == "prior" and not named:
            raise ValueError("forgetting_kind='prior' needs a named belief: its prior is prior_variance I")
        check_real("information_increment", self.information_increment, minimum=0.0)
        check_integer("iterations", self.iterations, minimum=1)
        check_choice("kind", self.kind, KINDS)
        check_integer("seed", self.seed, minimum=0)
        if self.regularization == "explicit" and not _takes_hessian(self.belief):
            raise ValueError(
                f"regularization must be 'implicit' for the belief {self._belief_name}: explicit "
                "regularization observes the whole Hessian, which full and block-diagonal beliefs take"
            )

    @property
    def _belief_name(self) -> str:
        return repr(self.belief) if isinstance(self.belief, str) else type(self.belief).__name__

    def init(self, theta: Array) -> RKalmanState:
        """The prior: mean theta, and covariance ``prior_variance I`` unless a belief was given."""
        check_theta(self.problem, theta)
        belief = self._named(theta) if isinstance(self.belief, str) else self.belief
        _check_size("belief", belief, theta)
        keep = self.forgetting_kind == "prior"
        mean = namespace(theta=theta).asarray(theta, copy=True)  # a caller may add steps to theta in place
        return RKalmanState(step=0, mean=mean, belief=belief, prior_mean=mean if keep else None)

    def _named(self, theta: Array) -> Belief:
        if self.belief == "full":
            return full_belief(theta, prior_variance=self.prior_variance, form=self.form)
        if self.belief == "block_diagonal":
            blocks = [math.prod(layer.shape) for layer in self.problem.unpack(theta)]
            return block_diagonal_belief(theta, prior_variance=self.prior_variance, blocks=blocks)
        if self.belief == "diagonal":
            return diagonal_belief(theta, prior_variance=self.prior_variance)
        rank = min(_RANK, theta.shape[0])
        return low_rank_belief(theta, prior_variance=self.prior_variance, rank=rank)

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
        """Predict, then condition on the batch, linearised at the predicted mean.

        theta is the mean before the prediction. ``info.damping`` is the mean-normalised precision
        ``rho |g|^2`` that implicit regularization added, and ``info.log_marginal`` the log marginal
        likelihood of the labels given all before them, pseudo-observations not counted (None without
        coefficients, or where a covariance form has lost its digits).

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
        check_theta(self.problem, theta)
        _check_size("state", state.belief, theta)
        if self.forgetting_kind == "prior" and state.prior_mean is None:
            raise ValueError(
                "state must hold the prior mean for forgetting_kind='prior': make it by opt.init"
            )
        implicit = self.regularization == "implicit"
        info = None
        try:
            mean, predicted = self._predict(theta, state)
            at = self.problem.linearize(
                mean, x, y, kind=self.kind, samples=samples, rng=host_generator([self.seed, state.step])
            )
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
            info = info._replace(log_marginal=self._log_marginal(mean, predicted, at, x, y))
            belief, delta = self._condition(mean, predicted, at, x, y, rho=rho)
        except NumericalError as error:
            raise NumericalError(f"step {state.step}: {error}", info) from error
        delta = delta + (mean - theta)
        info = info._replace(step_norm=norm(delta))
        # theta + delta, which `step` returns, may differ from mean + delta by a rounding
        return delta, RKalmanState(state.step + 1, theta + delta, belief, state.prior_mean), info

    def _predict(self, theta: Array, state: RKalmanState) -> tuple[Array, Belief]:
        """Mean and belief before the batch."""
        belief = state.belief.predict(noise=self.process_noise, forgetting=self.forgetting)
        xp = namespace(theta=theta)
        no_rows, mean = xp.zeros((0, theta.shape[0]), **like(theta)), theta
        if self.forgetting_kind == "prior":  # what is forgotten of the data, the prior says again
            returned = (1.0 - self.forgetting) / self.prior_variance
            pull = returned * (theta - state.prior_mean)
            belief, step = belief.update(no_rows, pull, precision=returned)
            mean = mean + step
        if self.information_increment > 0.0:
            at_the_mean = xp.zeros_like(theta)
            belief, _ = belief.update(no_rows, at_the_mean, precision=self.information_increment)
        return mean, belief

    def _condition(
        self, mean: Array, predicted: Belief, at: Linearization, x: Array, y: Array, *, rho: float
    ) -> tuple[Belief, Array]:
        """The posterior and the step from the predicted mean, by `iterations` linearisations.

        Every one starts from the predicted belief again, so the batch is observed once. An implicit
        regularization stays that of the predicted mean; the gradient that an explicit one observes is
        linearised again, too.
        """
        seen = self._observe(mean, at, x, y, rho=rho)
        belief, delta = seen.update(predicted)
        for _ in range(self.iterations - 1):
            point = mean + delta
            at = self.problem.linearize(point, x, y, kind=self.kind, samples=at.samples)
            again = self._observe(point, at, x, y, rho=rho).seen_from(delta)
            belief, delta = again._replace(precision=seen.precision).update(predicted)
        return belief, delta

    def _observe(self, theta: Array, at: Linearization, x: Array, y: Array, *, rho: float) -> Observation:
        explicit = self.regularization == "explicit" and rho > 0.0
        return observation(
            LayerRows(at.activations, at.signals).rows(),
            at.gradient,
            num_examples=x.shape[0],
            rho=rho,
            regularization=self.regularization,
            hessian=self.problem.hessian(theta, x, y) if explicit else None,
            coefficients=at.coefficients,
        )

    def _log_marginal(
        self, mean: Array, predicted: Belief, at: Linearization, x: Array, y: Array
    ) -> float | None:
        if at.coefficients is None:
            return None
        root = math.sqrt(x.shape[0])
        rows = root * LayerRows(at.activations, at.signals).rows()
        try:
            gain = log_evidence(predicted, rows, -root * at.coefficients)
        except NumericalError:  # a number for the record, which no step depends on
            return None
        return float(self.problem.log_likelihood(mean, x, y)) + gain

    def predict(self, theta: Array, state: RKalmanState, x: Array) -> Prediction:
        """The outputs f at new inputs, as Gaussians: of the model linearised at theta.

        Mean f(x) and covariance ``J P J^T`` of every example by itself. They are outputs in the natural
        parameter; a Gaussian label has its variance beside ``J P J^T``.

        Parameters
        ----------
        theta : array (P,)
        state : RKalmanState
            Its belief is taken as it is, without forgetting or process noise.
        x : array (N, d)

        Returns
        -------
        Prediction
            ``mean`` (N, K), ``covariance`` (N, K, K).

        Raises
        ------
        TypeError, ValueError
            Bad arguments.
        """
        check_state(state, RKalmanState, "opt")
        mean, jacobian = self.problem.outputs(theta, x), self.problem.jacobian(theta, x)
        xp = namespace(mean=mean)
        spread = [state.belief.observed_covariance(jacobian[n, :, :]) for n in range(mean.shape[0])]
        return Prediction(mean, xp.stack(spread))


def _check_size(name: str, belief: Belief, theta: Array) -> None:
    if belief.size != theta.shape[0]:
        raise ValueError(f"{name} must be over {theta.shape[0]} parameters, got {belief.size}")


def _takes_hessian(belief: str | Belief) -> bool:
    return belief in ("full", "block_diagonal") if isinstance(belief, str) else belief.explicit


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
    forgetting_kind: str = "plain",
    information_increment: float = 0.0,
    iterations: int = 1,
    kind: str = "expected",
    seed: int = 0,
) -> RKalman:
    """R-Kalman: the parameters as the state of an extended Kalman filter, with gradient regularization.

    Predict ``P^- = P/forgetting + process_noise I``; then, at the predicted mean,
    ``Y = Y^- + N F + N rho |g|^2 I`` (implicit) or ``Y = Y^- + N F + N rho H^2`` (explicit), and
    ``delta = -Y^{-1} N g`` or ``-Y^{-1} N (g + rho H g)``. The information is a sum over examples. A
    structured belief states its own step and projection.

    Parameters
    ----------
    problem : Problem
    prior_variance : float
        p0 > 0: the prior is N(theta_0, p0 I). Not used where a belief object is given.
    forgetting : float
        phi in (0, 1], applied before every batch, the first one too.
    process_noise : float
        Variance q >= 0 of a random walk of every parameter a step.
    rho : float or callable of the step number
        Gradient regularization >= 0.
    regularization : {"implicit", "explicit"}
        Explicit needs the dense Hessian, O(P^3) a step, and a full or block-diagonal belief.
    belief : {"full", "block_diagonal", "diagonal", "low_rank"} or Belief
        Blocks are layers, the diagonal projection is that of the covariance, the rank 16 (or P); make the
        belief with `block_diagonal_belief`, `diagonal_belief` or `low_rank_belief` for another choice.
    form : str
        Of the full belief, see `full_belief`.
    forgetting_kind : {"plain", "prior"}
        ``"prior"`` gives back what it forgets as prior: after the plain prediction
        ``Y^- += (1 - phi) I / p0`` and ``mean^- = P^- (phi Y theta + (1 - phi) theta_0 / p0)`` (with process
        noise: of the Y that it left).
    information_increment : float
        ``Y^- += increment I`` before every batch, at the predicted mean. It bounds what forgetting does to
        directions that no data reach: their variance stays below ``max(p0, (1 - phi) / increment)``.
    iterations : int
        Linearisations a batch (iterated extended Kalman filter); every one starts from the predicted belief,
        so that the batch counts once.
    kind : {"expected", "monte_carlo", "empirical"}
        Which Fisher rows observe the parameters.
    seed : int
        Draws of step k come from ``numpy.random.default_rng([seed, k])``.

    Notes
    -----
    A step with a full belief costs O(P^2 N K) with rho = 0, process_noise = 0 and no increment, else O(P^3).
    Source: our reconstruction of the paper's R-Kalman; with rho = 0 the classical extended Kalman filter
    (Ollivier 2018); iterated: Bell and Cathey (1993).
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
        forgetting_kind,
        information_increment,
        iterations,
        kind,
        seed,
    )
