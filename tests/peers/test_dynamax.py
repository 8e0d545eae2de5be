"""R-Kalman as an extended Kalman filter over the weights of a small network, against dynamax.

dynamax solves with ``S + d I``, ``d = 1e-9``, where the innovation covariance is ``S = H P H^T + R``. That is
no rounding, so it is put into our side and not into a tolerance. With ``K' = P H^T (S + d I)^{-1}``:

- the mean moves by ``K' e``: exactly the filter with the observation noise ``R + d I``;
- the covariance becomes ``P - K' S K'^T = (P - K' (S + d I) K'^T) + d K' K'^T``: that filter's, and a little
  noise with the covariance ``d K' K'^T``, which `belief.predict` adds.

Nothing is left out, so what remains is roundoff.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import assert_values_close, import_peer, tolerance

import grng_ref as gr

pytestmark = pytest.mark.peers

jax = import_peer("jax")
jnp = jax.numpy
dynamax = import_peer("dynamax.nonlinear_gaussian_ssm")

BOOST = 1e-9  # what dynamax adds: `psd_solve` of its utilities
NOISE, PRIOR, WALK = 0.05, 0.5, 1e-3
SIZES, STEPS = (3, 4, 2), 30


class Run(NamedTuple):
    means: np.ndarray  # (T, P)
    covariances: np.ndarray  # (T, P, P)
    log_marginal: np.ndarray  # (T,), cumulative


def outputs(theta: Any, x: Any) -> Any:
    """3-4-2, tanh, by the definition: rows ``[W | b]``, one layer after the other."""
    (d, h, k), a = SIZES, x
    first, second = theta[: h * (d + 1)].reshape(h, d + 1), theta[h * (d + 1) :].reshape(k, h + 1)
    a = jnp.tanh(first[:, :-1] @ a + first[:, -1])
    return second[:, :-1] @ a + second[:, -1]


@functools.cache
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Initial weights, inputs (T, 3) and targets (T, 2)."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(STEPS, SIZES[0]))
    y = np.stack([np.sin(2 * x[:, 0]) * x[:, 1], x[:, 2] - x[:, 0] ** 2], axis=1)
    y = y + NOISE**0.5 * rng.normal(size=y.shape)
    return np.asarray(gr.Problem(gr.MLP(SIZES), gr.Gaussian()).init(rng=1)), x, y


@functools.cache
def judge() -> Run:
    theta, x, y = data()
    params = dynamax.ParamsNLGSSM(
        initial_mean=jnp.asarray(theta),
        initial_covariance=(PRIOR + WALK) * jnp.eye(theta.size),  # ours walks before the first batch too
        dynamics_function=lambda z, u: z,
        dynamics_covariance=WALK * jnp.eye(theta.size),
        emission_function=outputs,
        emission_covariance=NOISE * jnp.eye(SIZES[-1]),
    )
    fields = ["filtered_means", "filtered_covariances", "marginal_loglik"]
    found = dynamax.extended_kalman_filter(
        params, jnp.asarray(y), inputs=jnp.asarray(x), output_fields=fields
    )
    return Run(
        np.asarray(found.filtered_means),
        np.asarray(found.filtered_covariances),
        np.asarray(found.marginal_loglik),
    )


def ours(
    form: str, *, boosted_noise: bool = True, boosted_spread: bool = True, walk: float = WALK, times: int = 1
) -> Run:
    """Our filter, dynamax's 1e-9 I in it; options leave a part of that out, or plant other errors."""
    theta, x, y = data()
    variance = NOISE + BOOST if boosted_noise else NOISE
    model = gr.MLP(SIZES, activation="tanh")
    problem, exact = gr.Problem(model, gr.Gaussian(variance=variance)), gr.Problem(model, gr.Gaussian(NOISE))
    options = {"prior_variance": PRIOR, "process_noise": walk, "belief": "full", "form": form}
    opt, judged = gr.rkalman(problem, **options), gr.rkalman(exact, **options)
    state, means, covariances, total = opt.init(theta), [], [], [0.0]
    for n in range(STEPS):
        xn, yn = np.repeat(x[n : n + 1], times, axis=0), np.repeat(y[n : n + 1], times, axis=0)
        # dynamax's own likelihood has nothing added to its S
        total.append(total[-1] + judged.update(theta, state, xn, yn)[2].log_marginal)
        (H,) = problem.jacobian(theta, xn[:1])
        theta, state, _ = opt.step(theta, state, xn, yn)
        if boosted_spread:
            gain = state.covariance() @ H.T / variance
            state = dataclasses.replace(state, belief=state.belief.predict(noise=BOOST * gain @ gain.T))
        means.append(theta)
        covariances.append(state.covariance())
    return Run(np.stack(means), np.stack(covariances), np.array(total[1:]))


def rounding() -> float:
    """30 steps, each of which amplifies by the condition number of the covariance at worst."""
    condition = max(np.linalg.cond(P) for P in judge().covariances)
    return tolerance("float64", condition, terms=STEPS)


def check(found: Run, expected: Run) -> None:
    for got, want in zip(found, expected, strict=True):
        assert_values_close(got, want, dtype="float64", rtol=rounding())


@pytest.mark.parametrize("form", ["auto", "covariance"])
def test_agrees_with_dynamax(form: str) -> None:
    check(ours(form), judge())


@pytest.mark.parametrize(
    "planted",
    [
        {"boosted_noise": False, "boosted_spread": False},
        {"boosted_noise": False},
        {"boosted_spread": False},
        {"walk": 0.0},
        {"times": 2},  # every observation counted twice
    ],
    ids=str,
)
def test_what_is_left_out_is_caught(planted: dict[str, Any]) -> None:
    """Without the account of the 1e-9 I, whole or half, the filters differ by far more than roundoff."""
    found = ours("auto", **planted)
    parts = zip(found[:2], judge()[:2], strict=True)
    distance = max(np.max(np.abs(got - want)) / np.max(np.abs(want)) for got, want in parts)
    assert distance > 10 * rounding()
    with pytest.raises(AssertionError):
        check(found, judge())
