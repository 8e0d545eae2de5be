"""The two halves of the regularized Kalman filter on arrays: score rows in, posterior out."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..arrays import (
    Array,
    NumericalError,
    check_choice,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    epsilon,
    namespace,
)
from ..arrays.linalg import cholesky, cholesky_solve, diagonal, norm, quiet, transpose
from ..directions import ring_damping
from ..solvers import check_row_coefficients
from .base import Belief, require_finite
from .whitened import Stacked, compressed

REGULARIZATIONS = ("implicit", "explicit")


class KalmanInfo(NamedTuple):
    """What one update did."""

    gradient_norm: float  #: ``|g|``, of the mean loss
    precision: float  #: ``N rho |g|^2``, added to the information (implicit regularization), else 0
    step_norm: float  #: ``|mean - predicted mean|``


class KalmanResult(NamedTuple):
    """The posterior of one update."""

    mean: Array  #: (P,)
    belief: Belief  #: the posterior
    info: KalmanInfo  #: what the update did


def kalman_update(
    mean: Array,
    belief: Belief,
    B: Array,
    g: Array,
    *,
    num_examples: int,
    rho: float = 0.0,
    regularization: str = "implicit",
    hessian: Array | None = None,
    coefficients: Array | None = None,
) -> KalmanResult:
    """Condition a Gaussian belief on a batch, linearised at the mean, with gradient regularization.

    ``Y = Y^- + N B^T B`` and ``mean = mean^- - Y^{-1} N g``; the information is a sum over the N examples.

    - Implicit: the mean is observed at itself with precision ``N rho |g|^2``: ``Y += N rho |g|^2 I``. From
      ``P_0 = I / (N lam)`` this is the RING step with damping lam and step size 1.
    - Explicit: ``0 = sqrt(N rho) grad L(theta) + noise(I)`` is observed: ``Y += N rho H^2``, and the
      gradient is ``N (g + rho H g)``.

    Parameters
    ----------
    mean : array (P,)
        The predicted mean.
    belief : Belief
        The predicted belief; for example `full_belief`.
    B : array (rows, P)
        Score rows with ``B^T B`` the mean-normalised Fisher, at the mean.
    g : array (P,)
        Gradient of the mean loss, at the mean.
    num_examples : int
        N.
    rho : float
        >= 0.
    regularization : {"implicit", "explicit"}
    hessian : array (P, P), optional
        H of the mean loss; needed by explicit regularization with rho > 0.
    coefficients : array (rows,), optional
        c with ``g = B^T c``, where known: the least-squares route.

    Returns
    -------
    KalmanResult
        ``mean, belief, info``.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        The information matrix is singular or overflowed.

    Notes
    -----
    The innovation is formed in the natural parameter, so that a saturated softmax needs no epsilon and
    no dropped class. Source: our reconstruction of R-Kalman; exact Bayes for these observations.
    """
    check_belief_object(belief)
    namespace(mean=mean, B=B)
    check_shape("mean", mean, (belief.size,), "one entry a parameter of the belief")
    check_shape("B", B, (None, belief.size), "(score rows, parameters)")
    check_finite(mean=mean)
    if rho > 0.0 and regularization == "explicit" and not belief.explicit:
        raise ValueError(
            f"regularization must be 'implicit' for a {type(belief).__name__}: explicit regularization "
            "observes the whole Hessian, which full and block-diagonal beliefs take"
        )
    seen = observation(
        B,
        g,
        num_examples=num_examples,
        rho=rho,
        regularization=regularization,
        hessian=hessian,
        coefficients=coefficients,
    )
    posterior, step = seen.update(belief)
    info = KalmanInfo(gradient_norm=norm(g), precision=seen.precision, step_norm=norm(step))
    return KalmanResult(mean + step, posterior, info)


class Observation(NamedTuple):
    """A batch, and the regularization, as a belief observes them."""

    rows: Array  #: (m, P), whitened
    gradient: Array  #: (P,), summed over the examples
    targets: Array | None  #: (m,), t with ``gradient = -rows^T t``
    precision: float  #: of the mean, observed at itself

    def update(self, belief: Belief) -> tuple[Belief, Array]:
        """The posterior and the step of the mean."""
        return belief.update(self.rows, self.gradient, targets=self.targets, precision=self.precision)

    def seen_from(self, offset: Array) -> Observation:
        """The same linear model, made at ``mean + offset``, as it looks from the mean."""
        shift = self.rows @ offset
        targets = None if self.targets is None else self.targets + shift
        return self._replace(gradient=self.gradient - transpose(self.rows) @ shift, targets=targets)


def observation(
    B: Array,
    g: Array,
    *,
    num_examples: int,
    rho: float,
    regularization: str,
    hessian: Array | None,
    coefficients: Array | None,
) -> Observation:
    """What `kalman_update` observes, from the same arguments."""
    xp = namespace(B=B, g=g, hessian=hessian, coefficients=coefficients)
    check_shape("g", g, (B.shape[1],), "one entry a parameter")
    if coefficients is not None:
        check_shape("coefficients", coefficients, (B.shape[0],), "one entry a score row")
        with quiet():
            product, terms = transpose(B) @ coefficients, norm(B) * norm(coefficients)
            check_row_coefficients("g", g, product, size=max(B.shape), terms=terms)
    check_finite(B=B, g=g, hessian=hessian, coefficients=coefficients)
    n = check_integer("num_examples", num_examples, minimum=1)
    rho = check_real("rho", rho, minimum=0.0)
    check_choice("regularization", regularization, REGULARIZATIONS)

    rows = math.sqrt(n) * B
    gradient = n * g
    targets = None if coefficients is None else -math.sqrt(n) * coefficients
    precision = 0.0
    if rho > 0.0 and regularization == "implicit":
        precision = n * ring_damping(norm(g), rho=rho, damping=0.0)
    elif rho > 0.0:
        if hessian is None:
            raise ValueError("hessian must be given for regularization='explicit' with rho > 0, got None")
        check_shape("hessian", hessian, (B.shape[1], B.shape[1]), "(parameters, parameters)")
        root = math.sqrt(n * rho)
        rows = xp.concat([rows, root * hessian])
        gradient = gradient + n * rho * (hessian @ g)
        targets = None if targets is None else xp.concat([targets, -root * g])
    return Observation(rows, gradient, targets, precision)


def log_evidence(belief: Belief, rows: Array, targets: Array) -> float:
    """``log E exp(t^T rows d - |rows d|^2 / 2)`` over ``d ~ N(0, P)``: what a linear model gains by its fit.

    ``(t^T A S^{-1} t - log det S) / 2`` with ``A = rows P rows^T`` and ``S = I + A``. Added to the log
    likelihood at the mean it is the log marginal likelihood: exactly for a linear-Gaussian model, else of
    the Gaussian approximation that the filter makes.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        S overflowed, or its digits are lost (a belief without ``observed_root``).
    """
    check_belief_object(belief)
    namespace(rows=rows, targets=targets)
    count = rows.shape[0] if rows.ndim == 2 else None  # it may be 0
    check_shape("rows", rows, (count, belief.size), "(observations, parameters of the belief)")
    check_shape("targets", targets, (rows.shape[0],), "one entry an observation")
    check_finite(rows=rows, targets=targets)
    if rows.shape[0] == 0:
        return 0.0
    rows, targets = compressed(rows, targets)  # neither term changes, and S gets no larger than P x P
    if hasattr(belief, "observed_root"):
        return _evidence_of_root(belief.observed_root(rows), targets)
    return _evidence_of_covariance(belief.observed_covariance(rows), targets)


def _evidence_of_root(white: Array, targets: Array) -> float:
    """The evidence from V, ``V^T V = A``: ``t^T A S^{-1} t = (V t)^T u``, u the least-squares solution."""
    xp = namespace(white=white, targets=targets)
    with quiet():
        stacked = Stacked.of(require_finite("covariance of the observations", white))
        fit = (white @ targets) @ (stacked.basis[: white.shape[0], :] @ stacked.whiten(targets))
        return float(0.5 * fit - xp.sum(xp.log(xp.abs(diagonal(stacked.triangle)))))


def _evidence_of_covariance(spread: Array, targets: Array) -> float:
    """The evidence from A itself, where its largest eigenvalue leaves digits for the smallest of S."""
    xp = namespace(spread=spread, targets=targets)
    m = spread.shape[0]
    with quiet():
        root = cholesky(spread, shift=1.0)
        lost = math.sqrt(epsilon(spread))  # relative to a pivot, whose logarithm it changes by as much
        if root is None or not m * epsilon(spread) * norm(spread) <= lost * float(
            xp.min(diagonal(root)) ** 2
        ):
            raise NumericalError("the covariance of the observations has lost the digits of the evidence")
        fit = targets @ (spread @ cholesky_solve(root, targets))
        return float(0.5 * fit - xp.sum(xp.log(diagonal(root))))


def kalman_predict(
    mean: Array,
    belief: Belief,
    *,
    transition: Array | None = None,
    offset: Array | None = None,
    noise: float | Array = 0.0,
    forgetting: float = 1.0,
) -> tuple[Array, Belief]:
    """Mean and belief after the motion ``theta <- A theta + b + w``, w ~ N(0, Q).

    ``mean <- A mean + b`` and ``P <- A P A^T / forgetting + Q``.

    Parameters
    ----------
    mean : array (P,)
    belief : Belief
    transition, offset, noise, forgetting
        A, b, Q and phi; see `Belief.predict`.

    Returns
    -------
    mean, belief

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a transition that the belief's structure does not survive.
    NumericalError
        A is singular where the belief stores an information, or the result overflowed.

    Notes
    -----
    Source: classical (Kalman 1960).
    """
    check_belief_object(belief)
    namespace(mean=mean, transition=transition, offset=offset)
    check_shape("mean", mean, (belief.size,), "one entry a parameter of the belief")
    check_finite(mean=mean)
    moved = belief.predict(transition=transition, offset=offset, noise=noise, forgetting=forgetting)
    if transition is not None:
        with quiet():
            mean = transition @ mean
    return require_finite("mean", mean if offset is None else mean + offset), moved


def check_belief_object(belief: Belief) -> None:
    """Raise a TypeError unless it is a belief."""
    if isinstance(belief, type) or not isinstance(belief, Belief):
        got = getattr(belief, "__name__", type(belief).__name__)
        raise TypeError(f"belief must be a Belief such as gr.full_belief(...), got {got}")
