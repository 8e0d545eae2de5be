"""R-Kalman: its first step, exact Bayes on linear models, and the natural gradient in every step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.data import Instance, digits, on_host
from proofs_check.filtering import (
    FORMS,
    NOISE_VARIANCE,
    filter_steps,
    linear_gaussian,
    mean_and_covariance,
    posteriors_agree,
)
from proofs_check.tolerance import Tolerance, as_slack, roundoff

# --- one step ------------------------------------------------------------------------------------------


@claim(
    "first-rkalman-step-is-ring",
    statement="From the isotropic prior variance 1/(N lam), one implicitly regularized R-Kalman step is "
    "RING's with eta = 1 and damping lam; at rho = 0 it is the damped natural gradient's.",
    source="our reconstruction of R-Kalman",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "damping": 0.02, "rhos": [0.0, 0.1, 1.0]},
)
def first_step_is_ring(
    run: Run, num_examples: int, sizes: list[int], damping: float, rhos: list[float]
) -> Finding:
    """Fails if the information is no sum over the examples, or the regularization enters it otherwise.

    Control: the prior variance 1/lam, the factor N missing.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(61,))
    problem = instance.problem
    largest = float(np.linalg.norm(on_host(gr.fisher(problem, instance.theta, instance.x).to_dense())))
    limit = roundoff(run, condition=largest / damping + 1)

    def check(rho: float) -> Finding:
        ring = instance.step(gr.ring(problem, lr=1.0, damping=damping, rho=rho))

        def finding(prior_variance: float) -> Finding:
            return identity(
                instance.step(gr.rkalman(problem, prior_variance=prior_variance, rho=rho)),
                ring,
                **limit,
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}, rho {rho:g}",
            )

        return finding(1 / (num_examples * damping)).with_control(finding(1 / damping))

    return combine(check(rho) for rho in rhos)


@claim(
    "first-explicit-rkalman-step-is-reng-with-rho-h-squared",
    statement="From the prior variance 1/(N lam), one explicitly regularized R-Kalman step is RENG's with "
    "the curvature F + rho H^2: -(F + rho H^2 + lam I)^{-1} (g + rho H g).",
    source="our reconstruction of R-Kalman (exact Bayes for the observation 0 = sqrt(N rho) grad L + noise)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "damping": 0.05, "rhos": [0.1, 1.0]},
)
def first_explicit_step(
    run: Run, num_examples: int, sizes: list[int], damping: float, rhos: list[float]
) -> Finding:
    """Fails if the observation of the gradient lacks its Jacobian in the information, or in the innovation.

    Reference: LU in float64 with dense F and H. Control: RENG's step with the curvature F alone.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(62,))
    problem, theta, x, y = instance.problem, instance.theta, instance.x, instance.y
    fisher, hessian = instance.dense_fisher(), on_host(problem.hessian(theta, x, y))
    g = on_host(instance.gradient())

    def check(rho: float) -> Finding:
        options: dict[str, Any] = {"rho": rho, "regularization": "explicit"}
        filtered = gr.rkalman(problem, prior_variance=1 / (num_examples * damping), **options)
        step = instance.step(filtered)

        def finding(curvature: np.ndarray) -> Finding:
            damped = curvature + damping * np.eye(len(g))
            return identity(
                step,
                -np.linalg.solve(damped, g + rho * hessian @ g),
                **roundoff(run, condition=float(np.linalg.norm(damped)) / damping),
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}, rho {rho:g}",
            )

        return finding(fisher + rho * hessian @ hessian).with_control(finding(fisher))

    return combine(check(rho) for rho in rhos)


# --- linear models: exact Bayes ------------------------------------------------------------------------

PRIOR_VARIANCE = 2.0  # a power of two: exact in every dtype


def _filtered(instance: Instance, batches: list[np.ndarray], form: str) -> np.ndarray:
    """Mean (first row) and covariance after the batches of examples, one after the other."""
    _, x, y = gr.to_numpy((instance.theta, instance.x, instance.y))
    arrays = (instance.run.asarray((x[batch], y[batch])) for batch in batches)
    optimizer = gr.rkalman(instance.problem, prior_variance=PRIOR_VARIANCE, form=form)
    *_, last = filter_steps(instance, optimizer, arrays)
    return mean_and_covariance(last)


def _exact_posterior(instance: Instance, prior_variance: float | None = PRIOR_VARIANCE) -> np.ndarray:
    """Mean (first row) and covariance by the normal equations in exact rational arithmetic.

    ``Y = I/p0 + X^T X / s2``; every output has its own row of weights and the same Y. Without a prior
    variance (planted error): the prior's information is left out.
    """
    theta, x, y = instance.host
    rows = [[*map(Fraction, row), Fraction(1)] for row in x]
    size, outputs = len(rows[0]), y.shape[1]
    noise, prior = Fraction(NOISE_VARIANCE), Fraction(1 / prior_variance if prior_variance else 0)
    information = [
        [sum(r[i] * r[j] for r in rows) / noise + (prior if i == j else 0) for j in range(size)]
        for i in range(size)
    ]
    start = theta.reshape(outputs, size)
    rights = [
        [sum(r[i] * Fraction(y[n, k]) for n, r in enumerate(rows)) / noise + prior * Fraction(start[k, i])
         for k in range(outputs)] + [Fraction(int(i == j)) for j in range(size)]
        for i in range(size)
    ]  # fmt: skip
    solution = np.array(_solve_exactly(information, rights), dtype=float)
    mean, covariance = solution[:, :outputs].T, solution[:, outputs:]
    return np.vstack([mean.reshape(1, -1), np.kron(np.eye(outputs), covariance)])


def _solve_exactly(matrix: list[list[Fraction]], rights: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss-Jordan elimination of a positive definite matrix: no pivoting needed, no rounding."""
    rows = [[*left, *right] for left, right in zip(matrix, rights, strict=True)]
    for i, pivot in enumerate(rows):
        rows[i] = scaled = [entry / pivot[i] for entry in pivot]
        for j, row in enumerate(rows):
            if j != i:
                rows[j] = [a - row[i] * b for a, b in zip(row, scaled, strict=True)]
    return [row[len(matrix) :] for row in rows]


def _limit(run: Run, exact: np.ndarray, num_examples: int) -> Tolerance:
    """Roundoff of every form: the covariance forms take the posterior off the prior, so |P_0| |Y| counts."""
    condition = PRIOR_VARIANCE * float(np.linalg.norm(np.linalg.inv(exact[1:]), 2))
    return roundoff(run, condition=condition, terms=num_examples)


@claim(
    "filter-is-the-exact-posterior-on-linear-gaussian-models",
    statement="On a linear model with Gaussian noise the filter's mean and covariance are the exact "
    "posterior's, in every form: Y = Y_0 + X^T X / s2, mean = Y^{-1} (Y_0 theta_0 + X^T y / s2).",
    source="classical result (Kalman 1960)",
    kind="identity",
    params={"num_examples": 24},
)
def exact_posterior(run: Run, num_examples: int) -> Finding:
    """Fails if information or gain are scaled otherwise, or the prior mean or covariance is not respected.

    Reference: exact rational arithmetic. Control of mean and covariance: the prior's information left out.
    """
    instance = linear_gaussian(run, (3, 2), num_examples=num_examples, key=63)
    exact, planted = _exact_posterior(instance), _exact_posterior(instance, None)
    limit = _limit(run, exact, num_examples)

    def check(form: str) -> list[Finding]:
        computed = _filtered(instance, [np.arange(num_examples)], form)
        detail = f"{instance.name}, one batch of {num_examples}, {form}"
        return posteriors_agree(computed, exact, (computed, planted), limit, detail)

    return combine(finding for form in FORMS for finding in check(form))


@claim(
    "filter-does-not-depend-on-the-order-of-linear-data",
    statement="On a linear model with Gaussian noise, several batches, one example at a time and a permuted "
    "order give the exact posterior, in every form.",
    source="classical result (Bayes' rule)",
    kind="identity",
    params={"num_examples": 12, "batch_size": 5},
)
def order_of_data(run: Run, num_examples: int, batch_size: int) -> Finding:
    """Fails if an update counts an observation twice, or not at the present mean.

    Reference: exact rational arithmetic. Control of mean and covariance, in each order and form: the last
    batch is observed twice.
    """
    instance = linear_gaussian(run, (3, 2), num_examples=num_examples, key=64)
    exact = _exact_posterior(instance)
    limit = _limit(run, exact, num_examples)
    order, permuted = np.arange(num_examples), run.rng(64, 1).permutation(num_examples)
    orders = {
        "in batches": np.split(order, range(batch_size, num_examples, batch_size)),
        "one at a time": np.split(order, num_examples),
        "permuted, one at a time": np.split(permuted, num_examples),
    }

    def check(name: str, form: str) -> list[Finding]:
        batches = orders[name]
        computed, planted = (_filtered(instance, seen, form) for seen in (batches, [*batches, batches[-1]]))
        detail = f"{instance.name}, {num_examples} examples {name}, {form}"
        return posteriors_agree(computed, exact, (planted, exact), limit, detail)

    return combine(finding for name in orders for form in FORMS for finding in check(name, form))


@claim(
    "information-grows",
    statement="Without forgetting and process noise, no update takes information away: Y_t - Y_{t-1} is "
    "positive semidefinite, with and without gradient regularization.",
    source="classical result; with regularization, our reconstruction",
    kind="inequality",
    params={"batches": 3, "batch_size": 16, "sizes": [64, 4, 10], "rho": 0.01, "planted_forgetting": 0.5},
)
def information_grows(
    run: Run, batches: int, batch_size: int, sizes: list[int], rho: float, planted_forgetting: float
) -> Finding:
    """Fails if an update subtracts, or loses positive definiteness to roundoff.

    The least eigenvalue of each increment, relative to the norm of the information. Control of
    every variant: forgetting 0.5, which takes more away than so small a rho adds.
    """
    instance = digits(run, sizes, num_examples=batches * batch_size, key=(65,))
    variants: list[dict[str, Any]] = [{"rho": 0.0}, {"rho": rho}, {"rho": rho, "regularization": "explicit"}]

    def finding(options: dict[str, Any], forgetting: float) -> Finding:
        return inequality(
            np.array(list(_information_losses(instance, batch_size, forgetting=forgetting, **options))),
            0.0,
            scale=1.0,
            **as_slack(roundoff(run, terms=batch_size * sizes[-1])),
            detail=f"{instance.name}, {batches} batches of {batch_size}, {options}",
        )

    return combine(
        finding(options, 1.0).with_control(finding(options, planted_forgetting)) for options in variants
    )


def _information_losses(instance: Instance, batch_size: int, **options: Any) -> Iterator[float]:
    """Minus the least eigenvalue of ``Y_t - Y_{t-1}`` over ``|Y_t|``, batch after batch."""
    optimizer = gr.rkalman(instance.problem, prior_variance=1.0, **options)
    for step in filter_steps(instance, optimizer, instance.batches(batch_size)):
        growth = step.information - on_host(step.before.information())
        yield -float(np.linalg.eigvalsh(growth)[0]) / float(np.linalg.norm(step.information))
