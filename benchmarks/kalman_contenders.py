"""What `kalman_step.py` times: one extended Kalman update, by each library.

Ours and the jitted JAX one start from the Jacobian and the residual of the example; dynamax forms both, so
ours is there once more with them (`rkalman.step`). dynamax's filter predicts after it has updated, with
products of P x P matrices even where nothing moves; its update alone is there too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from workers import Contender

SIZES = (64, 32, 10)
EXAMPLES = 256  # seen before

Data = dict[str, np.ndarray]


def grng_ref_contenders(data: Data) -> list[Contender]:
    import grng_ref as gr

    theta, x, y = data["theta"], data["x"], data["y"]
    problem = gr.Problem(gr.MLP(SIZES, activation="tanh"), gr.Gaussian())
    B = problem.score_rows(theta, x)
    c = problem.score_coefficients(theta, x, y)
    g = problem.gradient(theta, x, y)
    seen = problem.score_rows(theta, data["seen"]) * EXAMPLES**0.5

    def flat(mean: Any, belief: Any) -> np.ndarray:
        return np.concatenate([mean, belief.covariance().ravel()])

    made = []
    for form in ("covariance", "square_root_information"):
        before, _ = gr.full_belief(theta, prior_variance=1.0, form=form).update(seen, np.zeros(theta.size))
        opt = gr.rkalman(problem, belief=before)

        def update(before: Any = before) -> Any:
            return gr.kalman_update(theta, before, B, g, num_examples=1, coefficients=c)

        def step(opt: Any = opt) -> Any:
            return opt.step(theta, opt.init(theta), x, y)

        made += [
            Contender("step", form, update, lambda found: flat(found.mean, found.belief)),
            Contender("step", f"{form}, whole step", step, lambda found: flat(found[0], found[1].belief)),
        ]
    # the order in which the values are compared, and the reference first: the accurate form
    return [made[2], made[0], made[3], made[1]]


def jax_contenders(data: Data) -> list[Contender]:
    """A covariance update as one would write it, compiled; and dynamax, compiled."""
    import dynamax_at_work as dynamax
    import jax
    import jax.numpy as jnp

    theta, seen, x, y = (jnp.asarray(data[name]) for name in ("theta", "seen", "x", "y"))

    def outputs(theta: Any, xn: Any) -> Any:
        a = s = xn
        start = 0
        for d_in, d_out in pairwise(SIZES):
            layer = theta[start : start + d_out * (d_in + 1)].reshape(d_out, d_in + 1)
            start += layer.size
            s = layer[:, :-1] @ a + layer[:, -1]
            a = jnp.tanh(s)
        return s

    J = jax.vmap(jax.jacrev(outputs), (None, 0))(theta, seen).reshape(-1, theta.size)
    P = jnp.linalg.inv(jnp.eye(theta.size) + J.T @ J)
    P = (P + P.T) / 2
    H, e = jax.jacrev(outputs)(theta, x[0]), y[0] - outputs(theta, x[0])

    @jax.jit
    def covariance(mean: Any, P: Any, H: Any, e: Any) -> Any:
        W = P @ H.T
        L = jax.scipy.linalg.cholesky(H @ W + jnp.eye(e.size), lower=True)
        half = jax.scipy.linalg.solve_triangular(L, W.T, lower=True)
        return mean + half.T @ jax.scipy.linalg.solve_triangular(L, e, lower=True), P - half.T @ half

    filtered = dynamax.filter_step(outputs, theta, P, SIZES[-1])
    updated = dynamax.update_alone(outputs, theta, P, SIZES[-1])

    def flat(found: Any) -> np.ndarray:
        return np.concatenate([np.asarray(part).ravel() for part in found[:2]])

    return [
        Contender("step", "JAX covariance", lambda: jax.block_until_ready(covariance(theta, P, H, e)), flat),
        Contender("step", "dynamax filter step", lambda: jax.block_until_ready(filtered(x, y)), flat),
        Contender("step", "dynamax update alone", lambda: jax.block_until_ready(updated(x, y)), flat),
    ]


LIBRARIES = {"grng-ref": grng_ref_contenders, "jax": jax_contenders}
