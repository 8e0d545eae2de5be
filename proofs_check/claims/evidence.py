"""The filter's log marginal likelihood, and the iterated update that counts a batch once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, on_host
from proofs_check.filtering import (
    FORMS,
    NOISE_VARIANCE,
    FilterStep,
    design,
    filter_steps,
    linear_gaussian,
    mean_and_covariance,
    one_of_each_likelihood,
    posteriors_agree,
)
from proofs_check.tolerance import roundoff

PRIOR_VARIANCE = 2.0

# --- log marginal likelihood ---------------------------------------------------------------------------


@claim(
    "log-marginal-likelihood-is-exact-on-linear-gaussian-models",
    statement="On a linear-Gaussian model the log marginal likelihood is log N(y; f, J P J^T + s2 I) with "
    "its constants, in every form, and those of successive batches add up to that of all data at once.",
    source="classical result (prediction error decomposition, Schweppe 1965)",
    kind="identity",
    params={"num_examples": 12, "batch_size": 5},
)
def exact_log_marginal(run: Run, num_examples: int, batch_size: int) -> Finding:
    """Fails if constants are left out, or a batch is predicted with what it has itself taught.

    Reference: the dense Gaussian density in float64. Controls: the constant N K log(2 pi s2) / 2 left out;
    every batch judged after its update.
    """
    instance = linear_gaussian(run, (3, 2), num_examples=num_examples, key=91)
    J, residuals = design(instance), instance.host[2].ravel() - on_host(instance.outputs()).ravel()
    spread = PRIOR_VARIANCE * J @ J.T
    covariance = spread + NOISE_VARIANCE * np.eye(len(J))
    joint = _log_density(residuals, covariance)
    # log det and the quadratic form move by eps cond each, next to the sum of their absolute terms
    limit = roundoff(run, condition=float(np.linalg.cond(covariance)), terms=len(J))

    def check(form: str, size: int) -> list[Finding]:
        optimizer = gr.rkalman(instance.problem, prior_variance=PRIOR_VARIANCE, form=form)
        steps = filter_steps(instance, optimizer, instance.batches(size))
        computed = np.array([sum(_evidence(step) for step in steps)])

        def finding(reference: float) -> Finding:
            return identity(
                computed,
                np.array([reference]),
                **limit,
                scale=abs(joint) + len(J),
                detail=f"{instance.name}, {num_examples} examples in batches of {size}, {form}",
            )

        without_constants = joint + 0.5 * len(J) * _constant(NOISE_VARIANCE)
        known = _log_density_of_what_is_known(residuals, spread, 2 * size)
        return [finding(joint).with_control(finding(wrong)) for wrong in (without_constants, known)]

    sizes = (num_examples, batch_size, 1)
    return combine(found for form in FORMS for size in sizes for found in check(form, size))


def _constant(variance: float) -> float:
    return math.log(2 * math.pi * variance)


def _evidence(step: FilterStep) -> float:
    value = step.info.log_marginal
    return math.nan if value is None else value


def _log_density(residuals: np.ndarray, covariance: np.ndarray) -> float:
    """``log N(residuals; 0, covariance)``."""
    _, log_determinant = np.linalg.slogdet(covariance)
    quadratic = float(residuals @ np.linalg.solve(covariance, residuals))
    return -0.5 * (quadratic + float(log_determinant) + len(residuals) * math.log(2 * math.pi))


def _log_density_of_what_is_known(residuals: np.ndarray, spread: np.ndarray, size: int) -> float:
    """Planted error: every batch of so many labels is judged by the filter that has just learnt it."""
    total = 0.0
    for start in range(0, len(residuals), size):
        seen = slice(0, start + size)
        prior = spread[seen, seen]
        gain = np.linalg.solve(prior + NOISE_VARIANCE * np.eye(len(prior)), prior).T
        left = residuals[seen] - gain @ residuals[seen]
        covariance = prior - gain @ prior + NOISE_VARIANCE * np.eye(len(prior))
        total += _log_density(left[start:], covariance[start:, start:])
    return total


@claim(
    "log-marginal-likelihood-is-that-of-the-gaussian-approximation",
    statement="For every likelihood the log marginal likelihood is log p(y | f) + "
    "N^2 g^T (Y^- + N F)^{-1} g / 2 - log det(I + P^- N F) / 2 at the predicted mean, with the "
    "constants of log p.",
    source="our reconstruction (Gaussian approximation of the likelihood by its score and Fisher)",
    kind="identity",
    params={"steps": 6, "batch_size": 3, "forgetting": 0.95, "process_noise": 0.01},
)
def approximate_log_marginal(
    run: Run, steps: int, batch_size: int, forgetting: float, process_noise: float
) -> Finding:
    """Fails if the prediction is left out of it, or the gain by the fit, or a constant of the likelihood.

    Teacher-forced, each term from dense matrices; the log likelihood by loops. Control: log p(y | f) of the
    mean alone, without the spread of the parameters.
    """

    def check(instance: Instance) -> Finding:
        optimizer = gr.rkalman(
            instance.problem, prior_variance=0.25, forgetting=forgetting, process_noise=process_noise
        )
        records = list(filter_steps(instance, optimizer, instance.batches(batch_size)))
        plugged = np.array([_log_likelihood(instance, step) for step in records])
        gains, conditions = [], []
        for step in records:
            fisher, g = step.moments(instance.problem)
            predicted = on_host(step.before.covariance()) / forgetting + process_noise * np.eye(len(g))
            joint = np.linalg.inv(predicted) + fisher
            _, log_determinant = np.linalg.slogdet(np.eye(len(g)) + predicted @ fisher)
            gains.append(0.5 * (g @ np.linalg.solve(joint, g) - log_determinant))
            conditions.append(float(np.linalg.cond(joint)))
        limit = roundoff(run, condition=max(conditions), terms=3 * batch_size)
        size = float(np.linalg.norm(plugged))

        def finding(reference: np.ndarray) -> Finding:
            computed = np.array([_evidence(step) for step in records])
            detail = f"{instance.name}, {len(records)} steps of {batch_size}"
            return identity(computed, reference, **limit, scale=size, detail=detail)

        return finding(plugged + np.array(gains)).with_control(finding(plugged))

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=92)
    return combine(check(one) for one in networks)


def _log_likelihood(instance: Instance, step: FilterStep) -> float:
    """``log p(y | f(theta))`` of a batch, a sum with all constants."""
    theta, x = on_host(step.theta), on_host(step.x)
    y = gr.to_numpy(step.y)
    outputs = oracles.mlp_outputs(theta, x, **instance.architecture)
    value = -len(x) * oracles.mean_loss(instance.likelihood, outputs, y, instance.variance).real
    if instance.likelihood == "gaussian":
        value -= 0.5 * y.size * _constant(instance.variance)
    elif instance.likelihood == "poisson":
        value -= float(np.sum(gammaln(y.astype(np.float64) + 1)))
    return float(value)


# --- iterated updates ----------------------------------------------------------------------------------


@claim(
    "iterated-update-counts-a-batch-once",
    statement="On a linear-Gaussian model five linearisations give the posterior of one.",
    source="classical result (iterated extended Kalman filter, Bell and Cathey 1993)",
    kind="identity",
    params={"num_examples": 12, "batch_size": 4, "iterations": 5},
)
def iterated_update_counts_once(run: Run, num_examples: int, batch_size: int, iterations: int) -> Finding:
    """Fails if an iteration starts from the posterior of the one before it.

    Several batches, with forgetting and regularization. Control of mean and covariance: a filter that gets
    each batch five times.
    """
    instance = linear_gaussian(run, (3, 2), num_examples=num_examples, key=93)
    options: dict[str, Any] = {"prior_variance": PRIOR_VARIANCE, "forgetting": 0.9, "rho": 0.02}

    def filtered(repeats: int = 1, **more: Any) -> FilterStep:
        optimizer = gr.rkalman(instance.problem, **options, **more)
        batches = [batch for batch in instance.batches(batch_size) for _ in range(repeats)]
        *_, last = filter_steps(instance, optimizer, batches)
        return last

    once = filtered()
    exact, planted = mean_and_covariance(once), mean_and_covariance(filtered(repeats=iterations))
    computed = mean_and_covariance(filtered(iterations=iterations))
    limit = roundoff(run, condition=float(np.linalg.cond(once.covariance)), terms=num_examples)
    detail = f"{instance.name}, {num_examples // batch_size} batches, {iterations} iterations"
    return combine(posteriors_agree(computed, exact, (planted, exact), limit, detail))


@claim(
    "iterated-update-ends-at-the-mode-of-the-posterior",
    statement="On a network the iterated update converges to a stationary point of the log posterior: "
    "Y_0 (theta - theta_0) + N g(theta) = 0, with the information Y_0 + N F there.",
    source="classical result (a Gauss-Newton iteration, Bell and Cathey 1993)",
    kind="identity",
    params={"num_examples": 6, "prior_variance": 0.004, "iterations": 25},
)
def iterated_update_ends_at_the_mode(
    run: Run, num_examples: int, prior_variance: float, iterations: int
) -> Finding:
    """Fails if an iteration moves the prior's mean, counts the batch again, or linearises elsewhere.

    Controls: for the gradient one iteration, the plain filter's; for the information the batch counted twice.
    """

    def check(instance: Instance) -> list[Finding]:
        pull, push, information, fisher = _end_of_update(instance, prior_variance, iterations)
        plain_pull, plain_push, *_ = _end_of_update(instance, prior_variance, 1)
        prior = np.eye(len(push)) / prior_variance
        limit = roundoff(run, condition=float(np.linalg.cond(information)), terms=3 * num_examples)
        detail = f"{instance.name}, {iterations} iterations"

        def gradient(prior: np.ndarray, data: np.ndarray) -> Finding:
            return identity(-prior, data, **limit, detail=f"gradient, {detail}")

        def learnt(times: int) -> Finding:
            text = f"information, {detail}"
            return identity(information, prior + times * fisher, **limit, detail=text)

        return [
            gradient(pull, push).with_control(gradient(plain_pull, plain_push)),
            learnt(1).with_control(learnt(2)),
        ]

    networks = one_of_each_likelihood(run, num_examples=num_examples, key=94)
    return combine(found for one in networks for found in check(one))


def _end_of_update(instance: Instance, prior_variance: float, iterations: int) -> tuple[np.ndarray, ...]:
    """Where the update ends: the prior's gradient and the data's, its information, and ``N F`` there."""
    optimizer = gr.rkalman(instance.problem, prior_variance=prior_variance, iterations=iterations)
    (step,) = filter_steps(instance, optimizer, [(instance.x, instance.y)])
    fisher, g = step._replace(theta=step.after.mean).moments(instance.problem)
    return step.delta / prior_variance, g, step.information, fisher
