"""One regularized Kalman update on arrays: score rows in, posterior out."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..arrays import (
    Array,
    check_choice,
    check_finite,
    check_integer,
    check_real,
    check_shape,
    epsilon,
    namespace,
)
from ..arrays.linalg import norm, transpose
from ..directions import ring_damping
from .base import Belief

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
    if isinstance(belief, type) or not isinstance(belief, Belief):
        got = getattr(belief, "__name__", type(belief).__name__)
        raise TypeError(f"belief must be a Belief such as gr.full_belief(...), got {got}")
    xp = namespace(mean=mean, B=B, g=g, hessian=hessian, coefficients=coefficients)
    check_shape("mean", mean, (belief.size,), "one entry a parameter of the belief")
    check_shape("B", B, (None, belief.size), "(score rows, parameters)")
    check_shape("g", g, (belief.size,), "one entry a parameter")
    if coefficients is not None:
        check_shape("coefficients", coefficients, (B.shape[0],), "one entry a score row")
        _check_coefficients(B, g, coefficients)
    check_finite(mean=mean, B=B, g=g, hessian=hessian, coefficients=coefficients)
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
        check_shape("hessian", hessian, (belief.size, belief.size), "(parameters, parameters)")
        root = math.sqrt(n * rho)
        rows = xp.concat([rows, root * hessian])
        gradient = gradient + n * rho * (hessian @ g)
        targets = None if targets is None else xp.concat([targets, -root * g])
    posterior, step = belief.update(rows, gradient, targets=targets, precision=precision)
    info = KalmanInfo(gradient_norm=norm(g), precision=precision, step_norm=norm(step))
    return KalmanResult(mean + step, posterior, info)


def _check_coefficients(B: Array, g: Array, coefficients: Array) -> None:
    """Raise a ValueError unless ``g = B^T c`` up to the roundoff of the product: the step is made from c."""
    roundoff = B.shape[0] * epsilon(g) * norm(B) * norm(coefficients)
    distance = norm(g - transpose(B) @ coefficients)
    if distance > roundoff:
        raise ValueError(
            f"coefficients must satisfy g = B^T c, got |g - B^T c| = {distance:.3g} where roundoff explains "
            f"{roundoff:.3g}"
        )
