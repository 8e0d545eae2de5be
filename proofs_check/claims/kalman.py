"""R-Kalman: its first step, exact Bayes on linear models, and the natural gradient in every step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import as_slack, roundoff

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

PRIOR_VARIANCE = 2.0
NOISE_VARIANCE = 0.5  # both powers of two: exact in every dtype


def _filtered(instance: Instance, batches: list[np.ndarray], **options: Any) -> np.ndarray:
    """Mean (first row) and covariance after the batches of examples, one after the other."""
    optimizer = gr.rkalman(instance.problem, prior_variance=PRIOR_VARIANCE, **options)
    theta, state = instance.theta, optimizer.init(instance.theta)
    _, x, y = gr.to_numpy((theta, instance.x, instance.y))
    for batch in batches:
        theta, state, _ = optimizer.step(theta, state, *instance.run.asarray((x[batch], y[batch])))
    return np.vstack([on_host(theta)[None, :], on_host(state.covariance())])


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


def _linear_gaussian(run: Run, num_examples: int, key: int) -> Instance:
    return synthetic(run, "gaussian", (3, 2), num_examples=num_examples, key=(key,), variance=NOISE_VARIANCE)


def _posterior_agrees(
    instance: Instance,
    pair: tuple[np.ndarray, np.ndarray],
    planted: tuple[np.ndarray, np.ndarray],
    detail: str,
) -> list[Finding]:
    """Computed and exact: mean and covariance, each in units of its own size and with its own control."""
    condition = float(np.linalg.cond(pair[1][1:]))
    limit = roundoff(instance.run, condition=condition, terms=instance.num_examples)

    def finding(name: str, rows: slice, computed: np.ndarray, exact: np.ndarray) -> Finding:
        text = f"{name}, {instance.name}, {detail}"
        return identity(computed[rows], exact[rows], **limit, detail=text)

    return [
        finding(name, rows, *pair).with_control(finding(name, rows, *planted))
        for name, rows in (("mean", slice(0, 1)), ("covariance", slice(1, None)))
    ]


@claim(
    "filter-is-the-exact-posterior-on-linear-gaussian-models",
    statement="On a linear model with Gaussian noise the filter's mean and covariance are the exact "
    "posterior's: Y = Y_0 + X^T X / s2, mean = Y^{-1} (Y_0 theta_0 + X^T y / s2).",
    source="classical result (Kalman 1960)",
    kind="identity",
    params={"num_examples": 24},
)
def exact_posterior(run: Run, num_examples: int) -> Finding:
    """Fails if information or gain are scaled otherwise, or the prior mean or covariance is not respected.

    Reference: exact rational arithmetic. Control of mean and covariance: the prior's information left out.
    """
    instance = _linear_gaussian(run, num_examples, 63)
    computed = _filtered(instance, [np.arange(num_examples)])

    pair, planted = ((computed, _exact_posterior(instance, prior)) for prior in (PRIOR_VARIANCE, None))
    return combine(_posterior_agrees(instance, pair, planted, f"one batch of {num_examples}"))


@claim(
    "filter-does-not-depend-on-the-order-of-linear-data",
    statement="On a linear model with Gaussian noise, one batch, several batches, one example at a time "
    "and a permuted order give the same posterior.",
    source="classical result (Bayes' rule)",
    kind="identity",
    params={"num_examples": 24, "batch_size": 7, "planted_forgetting": 0.98},
)
def order_of_data(run: Run, num_examples: int, batch_size: int, planted_forgetting: float) -> Finding:
    """Fails if an update counts an observation twice, or not at the present mean.

    Control of mean and covariance, in each order: forgetting 0.98.
    """
    instance = _linear_gaussian(run, num_examples, 64)
    exact = _exact_posterior(instance)
    order, permuted = np.arange(num_examples), run.rng(64, 1).permutation(num_examples)
    orders = {
        "in batches": np.split(order, range(batch_size, num_examples, batch_size)),
        "one at a time": np.split(order, num_examples),
        "permuted, one at a time": np.split(permuted, num_examples),
    }

    def check(name: str) -> list[Finding]:
        pair, planted = (
            (_filtered(instance, orders[name], forgetting=forgetting), exact)
            for forgetting in (1.0, planted_forgetting)
        )
        return _posterior_agrees(instance, pair, planted, f"{num_examples} examples {name}")

    return combine(finding for name in orders for finding in check(name))


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
    theta, state = instance.theta, optimizer.init(instance.theta)
    before = on_host(state.information())
    for x, y in instance.batches(batch_size):
        theta, state, _ = optimizer.step(theta, state, x, y)
        after = on_host(state.information())
        yield -float(np.linalg.eigvalsh(after - before)[0]) / float(np.linalg.norm(after))
        before = after
