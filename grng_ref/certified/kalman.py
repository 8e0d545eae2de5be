"""One step of the regularized extended Kalman filter in ball arithmetic, from stored floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, check_choice
from .enclosure import Enclosure, enclose
from .library import check_precision, exact_number, load_flint, on_host, symmetric, working_precision
from .linear import (
    inverse_in_balls,
    log_of_product,
    positive_pivots,
    rational,
    rational_matrix,
    scaled_identity,
)
from .outputs import Outputs, read_likelihood, read_targets
from .prior import read_prior

REGULARIZATIONS = ("implicit", "explicit")


@dataclass(frozen=True, eq=False)
class KalmanEnclosures:
    """What one update computes, each as an `Enclosure` of its exact value."""

    gradient: Enclosure  #: g (P,), of the mean loss
    information: Enclosure  #: Y (P, P), after the update
    covariance: Enclosure  #: ``Y^{-1}`` (P, P)
    step: Enclosure  #: ``mean - mean^-`` (P,), with digits of its own
    mean: Enclosure  #: (P,), after the update
    log_marginal_likelihood: Enclosure  #: ``log p(y)``, shape (), see `kalman_enclosure`


def kalman_enclosure(
    mean: Array,
    f: Array,
    jacobian: Array,
    y: Array,
    *,
    likelihood: str,
    variance: Any = None,
    prior_variance: Any = None,
    prior_information: Array | None = None,
    prior_covariance: Array | None = None,
    rho: Any = 0.0,
    regularization: str = "implicit",
    hessian: Array | None = None,
    precision: int = 256,
) -> KalmanEnclosures:
    """Enclosures of one Kalman update of a batch, linearised at the predicted mean.

    With ``g = (1/N) sum_n J_n^T grad l_n`` and ``F = (1/N) sum_n J_n^T Om_n J_n``:

    - ``Y = Y^- + N F``, plus ``N rho |g|^2 I`` (implicit) or ``N rho H^2`` (explicit): a sum over examples.
    - ``mean = mean^- - Y^{-1} N g``; explicit regularization has ``g + rho H g`` for g.
    - ``log p(y) = log p(y | f) + G^T Y_d^{-1} G / 2 - log(det Y_d / det Y^-) / 2``, ``G = N g``,
      ``Y_d = Y^- + N F``: the log likelihood replaced by its second-order expansion at mean^-, integrated
      over the prior. Regularization is no data and not in it. ``log p(y | f)`` has its constants:
      ``-K log(2 pi s2) / 2`` a Gaussian example, ``-log y!`` a Poisson count.

    Parameters
    ----------
    mean : array (P,)
        mean^-, the predicted mean.
    f : array (N, K)
        Outputs at mean^-: natural parameters (logits, log rates; the mean of a Gaussian).
    jacobian : array (N, K, P)
        ``J_n = d f_n / d theta`` at mean^-.
    y : array
        Integers (N,) for a categorical likelihood, else floating (N, K).
    likelihood : {"gaussian", "categorical", "bernoulli", "poisson"}
    variance : float, int or fractions.Fraction, optional
        s2 > 0 of the Gaussian likelihood, 1 unless given; not for others.
    prior_variance : float, int or fractions.Fraction, optional
        p0 > 0: ``Y^- = I / p0``. One of the three forms of the predicted belief must be given.
    prior_information : array (P, P), optional
        Y^-, symmetric in every bit and positive definite.
    prior_covariance : array (P, P), optional
        ``(Y^-)^{-1}``, likewise.
    rho : float, int or fractions.Fraction
        >= 0.
    regularization : {"implicit", "explicit"}
    hessian : array (P, P), optional
        H of the mean loss at mean^-, symmetric in every bit; needed by explicit regularization with rho > 0.
    precision : int
        Bits of the arithmetic, at least 53.

    Returns
    -------
    KalmanEnclosures

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a prior that is not positive definite.
    BackendError
        python-flint is not installed.
    NumericalError
        The precision is too small for an inverse or a determinant, or a result leaves the range of float64.

    Notes
    -----
    Arrays are of any backend, float32 or float64 and also mixed: copied to the host and taken as the exact
    numbers that they store. The output Fisher is dense: no factor, no square root. A log marginal
    likelihood next to 0 has lost as many bits as its probabilities have zeros: raise ``precision`` for its
    relative accuracy. Threads wait for each other, since python-flint has one precision a process.

    Source: classical (extended Kalman filter; marginal likelihood by Laplace's approximation); the
    regularizations as in `grng_ref.kalman_update`.
    """
    bits = check_precision(precision)
    check_choice("regularization", regularization, REGULARIZATIONS)
    theta = on_host("mean", mean, (None,), "one entry a parameter")
    outputs = on_host("f", f, (None, None), "(examples, outputs)")
    (n, k), size = outputs.shape, len(theta)
    jacobians = on_host("jacobian", jacobian, (n, k, size), "(examples, outputs, parameters)")
    output_terms = read_likelihood(likelihood, variance)
    labels = read_targets(likelihood, y, n, k)
    prior = read_prior(
        size, variance=prior_variance, information=prior_information, covariance=prior_covariance
    )
    strength = exact_number("rho", rho, exclusive=False)
    H = None if hessian is None else rational_matrix(symmetric("hessian", hessian, size))
    if strength and regularization == "explicit" and H is None:
        raise ValueError("hessian must be given for regularization='explicit' with rho > 0, got None")
    with working_precision(bits) as flint:
        before, logdet_before = prior.information_in_balls()
        terms = [output_terms(*pair) for pair in zip(outputs, labels, strict=True)]
        data = _sum_over_examples(terms, jacobians)
        informed = before + data.information
        log_evidence = _log_evidence(data, informed, logdet_before)
        gradient, information, pull = data.gradient / n, informed, data.gradient
        weight = n * flint.arb(rational(strength))  # N rho
        if strength and regularization == "implicit":
            square = (gradient.transpose() * gradient)[0, 0]
            information = informed + scaled_identity(size, weight * square)
        elif strength:
            curvature = flint.arb_mat(H)
            information = informed + curvature * curvature * weight
            pull = data.gradient + curvature * gradient * weight
        covariance = inverse_in_balls("the information", information)
        step = -(covariance * pull)
        return KalmanEnclosures(
            gradient=enclose("gradient", gradient, (size,)),
            information=enclose("information", information, (size, size)),
            covariance=enclose("covariance", covariance, (size, size)),
            step=enclose("step", step, (size,)),
            mean=enclose("mean", flint.arb_mat(rational_matrix(theta)) + step, (size,)),
            log_marginal_likelihood=enclose("log_marginal_likelihood", log_evidence, ()),
        )


class _Batch(NamedTuple):
    """Sums over the examples."""

    log_density: Any  # arb
    gradient: Any  # arb_mat (P, 1): N g
    information: Any  # arb_mat (P, P): N F


def _sum_over_examples(terms: list[Outputs], jacobians: np.ndarray) -> _Batch:
    flint = load_flint()
    size = jacobians.shape[2]
    total = _Batch(flint.arb(0), flint.arb_mat(size, 1), flint.arb_mat(size, size))
    for outputs, jacobian in zip(terms, jacobians, strict=True):
        J = flint.arb_mat([[float(entry) for entry in row] for row in jacobian])
        transposed = J.transpose()
        slopes = flint.arb_mat([[slope] for slope in outputs.gradient])
        total = _Batch(
            total.log_density + outputs.log_density,
            total.gradient + transposed * slopes,
            total.information + transposed * (flint.arb_mat(outputs.fisher) * J),
        )
    return total


def _log_evidence(data: _Batch, informed: Any, logdet_before: Any) -> Any:
    logdet = log_of_product(positive_pivots("the information", informed))
    solved = inverse_in_balls("the information", informed) * data.gradient
    explained = (data.gradient.transpose() * solved)[0, 0]
    return data.log_density + (explained - logdet + logdet_before) / 2
