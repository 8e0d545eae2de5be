"""The Kalman filter step by step: the textbook's filter, and online natural gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, on_host, synthetic
from proofs_check.tolerance import roundoff


class _Record(NamedTuple):
    """One step of the filter, seen from outside."""

    theta: Any  # before the step, (P,)
    x: Any
    y: Any
    delta: np.ndarray
    covariance: np.ndarray  # after the step


def _filter_run(instance: Instance, batch_size: int, **options: Any) -> list[_Record]:
    optimizer = gr.rkalman(instance.problem, **options)
    theta, state, records = instance.theta, optimizer.init(instance.theta), []
    for x, y in instance.batches(batch_size):
        delta, state, _ = optimizer.update(theta, state, x, y)
        records.append(_Record(theta, x, y, on_host(delta), on_host(state.covariance())))
        theta = theta + delta
    return records


def _small_networks(run: Run, num_examples: int, key: int) -> list[Instance]:
    return [
        synthetic(run, likelihood, (2, 3, 3), num_examples=num_examples, key=(key, i))
        for i, likelihood in enumerate(("gaussian", "categorical", "bernoulli", "poisson"))
    ]


def _steps_agree(
    instance: Instance, records: list[_Record], deltas: list[np.ndarray], detail: str
) -> Finding:
    """All steps, each in units of the reference's length."""
    condition = max(float(np.linalg.cond(record.covariance)) for record in records)
    lengths = [np.linalg.norm(delta) for delta in deltas]
    return identity(
        np.stack([record.delta / length for record, length in zip(records, lengths, strict=True)]),
        np.stack([delta / length for delta, length in zip(deltas, lengths, strict=True)]),
        **roundoff(instance.run, condition=condition, terms=len(records)),
        detail=f"{instance.name}, {len(records)} steps of {instance.num_examples // len(records)}, {detail}",
    )


@claim(
    "filter-is-the-textbook-ekf",
    statement="With rho = 0 R-Kalman is the extended Kalman filter that observes the mean E[y|f] with its "
    "covariance: S = H P H^T + R, K = P H^T S^{-1}, theta += K (y - h), P -= K S K^T.",
    source="classical result (Ollivier 2018); the square-root information form is our choice",
    kind="identity",
    params={"steps": 20, "batch_size": 3, "settings": [[1.0, 0.0], [0.95, 0.01]]},
)
def textbook_ekf(run: Run, steps: int, batch_size: int, settings: list[list[float]]) -> Finding:
    """Fails if the filter in logit space is not the one in mean space, or predicts otherwise.

    Teacher-forced: each step starts at the filter's own mean; the reference carries its own covariance.
    Jacobians by complex step through loops. A softmax is observed without its last class, which the
    reference, unlike the filter, needs for a regular R. Control: the prediction is skipped, the covariance of
    the first step kept.
    """

    def check(instance: Instance, forgetting: float, noise: float) -> Finding:
        options = {"prior_variance": 0.5, "forgetting": forgetting, "process_noise": noise}
        records = _filter_run(instance, batch_size, **options)

        def finding(carry: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Finding:
            covariance, deltas = 0.5 * np.eye(instance.problem.num_parameters), []
            for record in records:
                predicted = covariance / forgetting + noise * np.eye(len(covariance))
                theta = on_host(record.theta)
                mean, updated = oracles.ekf_update(theta, predicted, *_observation(instance, record))
                deltas.append(mean - theta)
                covariance = carry(covariance, updated)
            return _steps_agree(instance, records, deltas, f"forgetting {forgetting:g}, noise {noise:g}")

        return finding(_updated_covariance).with_control(finding(_kept_covariance))

    networks = _small_networks(run, steps * batch_size, 66)
    return combine(check(one, *setting) for one in networks for setting in settings)


def _updated_covariance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return after


def _kept_covariance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Planted error: what was observed leaves no trace in the covariance."""
    return before


def _observation(instance: Instance, record: _Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``H, y - h, R`` of a batch in mean space."""
    theta, x = on_host(record.theta), on_host(record.x)
    y = gr.to_numpy(record.y)

    def network(z: np.ndarray) -> np.ndarray:
        return oracles.mlp_outputs(z, x, **instance.architecture)

    outputs, jacobians = network(theta), oracles.complex_step_jacobian(network, theta)
    if instance.likelihood != "categorical":
        return oracles.mean_space_observation(
            instance.likelihood, outputs, jacobians, y.astype(np.float64), instance.variance
        )
    parts = []
    for f, jacobian, label in zip(outputs, jacobians, y, strict=True):
        p = oracles.output_mean("categorical", f)
        spread = np.diag(p) - np.outer(p, p)
        parts.append(((spread @ jacobian)[:-1], (np.eye(len(p))[label] - p)[:-1], spread[:-1, :-1]))
    rows, innovations, covariances = zip(*parts, strict=True)
    kept = len(innovations[0])
    noise = np.zeros((len(parts) * kept,) * 2)
    for n, covariance in enumerate(covariances):
        noise[n * kept : (n + 1) * kept, n * kept : (n + 1) * kept] = covariance
    return np.concatenate(rows), np.concatenate(innovations), noise


@claim(
    "filter-is-online-natural-gradient",
    statement="With Q = 0, phi = 1 and rho = 0 the filter is online natural gradient: J_t = Y_t/(t+1), "
    "J_t = J_{t-1} + (F_t - J_{t-1})/(t+1), theta_t = theta_{t-1} - J_t^{-1} g_t/(t+1), F and g sums over "
    "the batch, J_0 = Y_0, the step with the updated J_t.",
    source="classical result (Ollivier 2018)",
    kind="identity",
    params={"steps": 25, "batch_size": 3, "prior_variance": 0.5},
)
def online_natural_gradient(run: Run, steps: int, batch_size: int, prior_variance: float) -> Finding:
    """Fails if the step uses another information than the updated one, or another step size than 1/(t+1).

    Teacher-forced over 25 steps and four likelihoods. Control: the information from before the update.
    """
    return combine(
        _is_natural_gradient(one, batch_size, prior_variance, forgetting=None)
        for one in _small_networks(run, steps * batch_size, 67)
    )


@claim(
    "forgetting-is-a-constant-step",
    statement="The filter with forgetting phi = 1 - eta is online natural gradient with the constant step "
    "eta: J_t = J_{t-1} + eta (F_t - J_{t-1}), theta_t = theta_{t-1} - eta J_t^{-1} g_t, J_0 = eta Y_0.",
    source="classical result (Ollivier 2018)",
    kind="identity",
    params={"steps": 25, "batch_size": 3, "prior_variance": 0.5, "forgetting": 0.9},
)
def forgetting_is_constant_step(
    run: Run, steps: int, batch_size: int, prior_variance: float, forgetting: float
) -> Finding:
    """Fails if forgetting is applied elsewhere than before each update, or to another quantity.

    Teacher-forced over 25 steps and four likelihoods. Control: the information from before the update.
    """
    return combine(
        _is_natural_gradient(one, batch_size, prior_variance, forgetting=forgetting)
        for one in _small_networks(run, steps * batch_size, 68)
    )


def _is_natural_gradient(
    instance: Instance, batch_size: int, prior_variance: float, *, forgetting: float | None
) -> Finding:
    """The filter against online natural gradient with decreasing or (given a forgetting) constant steps."""
    problem = instance.problem
    records = _filter_run(instance, batch_size, prior_variance=prior_variance, forgetting=forgetting or 1.0)
    moments = []
    for record in records:
        fisher = on_host(gr.fisher(problem, record.theta, record.x).to_dense())
        g = on_host(problem.gradient(record.theta, record.x, record.y))
        moments.append((batch_size * fisher, batch_size * g))

    def finding(choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Finding:
        start = 1.0 if forgetting is None else 1.0 - forgetting
        average, deltas = start * np.eye(problem.num_parameters) / prior_variance, []
        for t, (fisher, g) in enumerate(moments, start=1):
            eta = 1 / (t + 1) if forgetting is None else 1 - forgetting
            updated = average + eta * (fisher - average)
            deltas.append(-eta * np.linalg.solve(choose(average, updated), g))
            average = updated
        name = "decreasing steps" if forgetting is None else f"constant step {1 - forgetting:g}"
        return _steps_agree(instance, records, deltas, name)

    return finding(_updated_average).with_control(finding(_average_before_update))


def _updated_average(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return after


def _average_before_update(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Planted error: the step is taken with the information from before the update."""
    return before
