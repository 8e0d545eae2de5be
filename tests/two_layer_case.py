"""A two-layer network at its initialisation, for tests of certificates."""

from __future__ import annotations

from typing import Any

import numpy as np

import grng_ref as gr


def network(
    activation: str = "softplus", n: int = 3, width: int = 32, seed: int = 0, size: float | None = None
) -> tuple[gr.Problem, Any, Any, Any]:
    """Problem, theta, x and y; all of length one, or the residual of the given length."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2 * n))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = gr.Problem(gr.two_layer(2 * n, width, activation), gr.Gaussian())
    theta = problem.init(rng)
    y = rng.normal(size=(n, 1))
    y /= np.linalg.norm(y)
    if size is not None:
        y = problem.outputs(theta, x) - size * y
    return problem, theta, x, y
