"""dynamax's extended Kalman filter over a network's weights, compiled; only the JAX process imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers import prepare_jax

prepare_jax()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from dynamax.nonlinear_gaussian_ssm import ParamsNLGSSM, extended_kalman_filter  # noqa: E402
from dynamax.nonlinear_gaussian_ssm.inference_ekf import _condition_on  # noqa: E402


def filter_step(outputs: Callable[..., Any], mean: Any, P: Any, K: int) -> Callable[[Any, Any], Any]:
    """Mean and covariance of `extended_kalman_filter` after one observation, and those predicted next."""

    def step(mean: Any, P: Any, x: Any, y: Any) -> Any:
        params = ParamsNLGSSM(
            initial_mean=mean,
            initial_covariance=P,
            dynamics_function=lambda z: z,
            dynamics_covariance=jnp.zeros_like(P),
            emission_function=lambda z: outputs(z, x[0]),
            emission_covariance=jnp.eye(K),
        )
        found = extended_kalman_filter(params, y)
        filtered = found.filtered_means[0], found.filtered_covariances[0]
        return *filtered, found.predicted_means, found.predicted_covariances  # unasked, XLA leaves them out

    compiled = jax.jit(step)
    return lambda x, y: compiled(mean, P, x, y)


def update_alone(outputs: Callable[..., Any], mean: Any, P: Any, K: int) -> Callable[[Any, Any], Any]:
    """What the filter does with an observation, without the prediction that follows (a private function)."""

    def step(mean: Any, P: Any, x: Any, y: Any) -> Any:
        return _condition_on(mean, P, outputs, jax.jacfwd(outputs), jnp.eye(K), x[0], y[0], 1)

    compiled = jax.jit(step)
    return lambda x, y: compiled(mean, P, x, y)
