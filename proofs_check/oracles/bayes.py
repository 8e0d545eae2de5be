"""Posteriors of linear Gaussian models, and the textbook's extended Kalman filter."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .differences import complex_step_jacobian
from .likelihoods import output_mean


def linear_gaussian_posterior(
    design: np.ndarray,
    targets: np.ndarray,
    prior_mean: np.ndarray,
    prior_covariance: np.ndarray,
    noise_variance: float,
    *,
    digits: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and covariance of ``y = design theta + noise`` by the normal equations.

    ``Y = P0^{-1} + X^T X / s2``, ``mean = Y^{-1} (P0^{-1} m0 + X^T y / s2)``, covariance ``Y^{-1}``.
    ``digits`` asks for mpmath with so many decimal digits (rounded to float64 at the end), for problems
    whose condition number defeats float64.
    """
    if digits is None:
        prior = np.linalg.inv(prior_covariance)
        information = prior + design.T @ design / noise_variance
        right = prior @ prior_mean + design.T @ targets / noise_variance
        return np.linalg.solve(information, right), np.linalg.inv(information)
    mpmath: Any = importlib.import_module("mpmath")  # only this reference needs it
    with mpmath.workdps(digits):
        x, y = mpmath.matrix(design.tolist()), mpmath.matrix(targets.tolist())
        prior = mpmath.matrix(prior_covariance.tolist()) ** -1
        variance = mpmath.mpf(float(noise_variance))
        covariance = (prior + x.T * x / variance) ** -1
        mean = covariance * (prior * mpmath.matrix(prior_mean.tolist()) + x.T * y / variance)
        size = len(prior_mean)
        return (
            np.array([float(mean[i]) for i in range(size)]),
            np.array([[float(covariance[i, j]) for j in range(size)] for i in range(size)]),
        )


def ekf_update(
    mean: np.ndarray, covariance: np.ndarray, jacobian: np.ndarray, innovation: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One update of the extended Kalman filter by its definition, in covariance form.

    ``S = H P H^T + R``, ``K = P H^T S^{-1}``; mean ``m + K (y - h(m))``, covariance ``P - K S K^T``.

    Parameters
    ----------
    jacobian : (M, P)
        ``H = dh/dtheta`` of the observed *mean*, all examples stacked.
    innovation : (M,)
        ``y - h(m)``.
    noise : (M, M)
        Covariance R of the observation.
    """
    spread = jacobian @ covariance @ jacobian.T + noise
    gain = np.linalg.solve(spread, jacobian @ covariance).T
    return mean + gain @ innovation, covariance - gain @ spread @ gain.T


def mean_space_observation(
    likelihood: str, outputs: np.ndarray, jacobians: np.ndarray, y: np.ndarray, variance: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(H, y - h, R)`` of a batch, for `ekf_update`: the mean is observed with the likelihood's covariance.

    ``h = E[y|f]``, ``H = (dh/df) J``, R block-diagonal with ``Cov[y|f]``. A categorical R is singular, so
    the covariance form does not exist for it.
    """
    if likelihood == "categorical":
        raise ValueError("likelihood must have a regular observation covariance, got 'categorical'")
    num_examples, num_outputs, size = jacobians.shape
    rows = np.zeros((num_examples * num_outputs, size))
    innovation = np.zeros(num_examples * num_outputs)
    noise = np.zeros((num_examples * num_outputs,) * 2)
    for n, (f, jacobian) in enumerate(zip(outputs, jacobians, strict=True)):
        part = slice(n * num_outputs, (n + 1) * num_outputs)
        slope = complex_step_jacobian(lambda z: output_mean(likelihood, z), f)
        rows[part] = slope @ jacobian
        innovation[part] = y[n] - output_mean(likelihood, f)
        # in an exponential family with natural parameter f the slope of the mean is the covariance
        noise[part, part] = variance * np.eye(num_outputs) if likelihood == "gaussian" else slope
    return rows, innovation, noise
