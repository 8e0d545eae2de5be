"""Forgetting: residuals in closed form on a batch seen again and again, the wind-up, and its two cures."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import null_space

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality, oracles
from proofs_check.data import Instance, on_host
from proofs_check.filtering import (
    NOISE_VARIANCE,
    FilterStep,
    design,
    filter_steps,
    linear_gaussian,
    mean_and_covariance,
    posteriors_agree,
)
from proofs_check.tolerance import as_slack, roundoff

PRIOR_VARIANCE = 0.5


def _repeated(instance: Instance, steps: int, **options: Any) -> list[FilterStep]:
    """The filter on one batch, seen again and again."""
    options = {"prior_variance": PRIOR_VARIANCE, **options}
    batches = itertools.repeat((instance.x, instance.y), steps)
    return list(filter_steps(instance, gr.rkalman(instance.problem, **options), batches))


def _residuals(instance: Instance, steps: list[FilterStep], basis: np.ndarray) -> np.ndarray:
    """``U^T (f - y)`` after 0, 1, ... steps, a row each."""
    _, _, y = instance.host
    thetas = [on_host(steps[0].theta), *(on_host(step.theta) + step.delta for step in steps)]
    return np.stack([basis.T @ (design(instance) @ theta - y.ravel()) for theta in thetas])


def _passes(forgetting: float, k: np.ndarray) -> np.ndarray:
    """``sk = 1 + phi + ... + phi^{k-1}``."""
    return np.array([np.sum(forgetting ** np.arange(count)) for count in k])


def _condition(steps: list[FilterStep]) -> float:
    """Of Y. The fit of a least-squares problem feels its root only, the condition of what is factored."""
    return max(float(np.linalg.cond(step.covariance)) for step in steps)


# --- residuals -----------------------------------------------------------------------------------------


@claim(
    "residuals-of-a-repeated-batch-have-a-closed-form",
    statement="On a linear model with noise variance s2, after k passes over one batch the residual along "
    "the eigenvector i of J J^T (eigenvalue s_i) is r_0 / (1 + s_i p0 sk / (s2 phi^k)), "
    "sk = (1 - phi^k)/(1 - phi): O(1/k) at phi = 1, where sk = k, and O(phi^k) below.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="identity",
    params={"num_examples": 4, "steps": 15, "forgettings": [1.0, 0.9]},
)
def closed_form_of_residuals(run: Run, num_examples: int, steps: int, forgettings: list[float]) -> Finding:
    """Fails if a batch counts more than once in a pass, or forgetting comes elsewhere than before each batch.

    Controls: one batch more; at phi < 1 also forgetting off by one, the first batch met by the prior P_0.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=71)
    values, basis = np.linalg.eigh(design(instance) @ design(instance).T)

    def check(forgetting: float) -> list[Finding]:
        records = _repeated(instance, steps, forgetting=forgetting)
        residuals = _residuals(instance, records, basis)
        limit = roundoff(run, condition=_condition(records) ** 0.5, terms=steps)
        k = np.arange(1, steps + 1)

        def finding(extra: int = 0, prior: float = 1.0) -> Finding:
            odds = prior * PRIOR_VARIANCE / NOISE_VARIANCE * _passes(forgetting, k + extra) / forgetting**k
            return identity(
                residuals[1:],
                residuals[0] / (1 + values * odds[:, None]),
                **limit,
                scale=float(np.linalg.norm(residuals[0])),
                detail=f"{instance.name}, {steps} passes, forgetting {forgetting:g}",
            )

        found = [finding().with_control(finding(extra=1))]
        return found if forgetting == 1 else [*found, finding().with_control(finding(prior=forgetting))]

    return combine(found for forgetting in forgettings for found in check(forgetting))


@claim(
    "residuals-of-the-regularized-filter-have-a-product-form",
    statement="With implicit regularization the residuals of a repeated batch are "
    "r_0 prod_j (phi D_{j-1} + gam_j) / D_j, gam_j = N rho |g_{j-1}|^2, D_j = e_j + sj s_i / s2, "
    "e_j = phi e_{j-1} + gam_j, e_0 = 1/p0.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="identity",
    params={"num_examples": 4, "steps": 15, "forgettings": [1.0, 0.9], "rho": 0.1},
)
def product_form_of_residuals(
    run: Run, num_examples: int, steps: int, forgettings: list[float], rho: float
) -> Finding:
    """Fails if the regularization enters the information otherwise, is forgotten, or is counted as data.

    gam_j from the filter's own gradients. Control: its N left out.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=72)
    values, basis = np.linalg.eigh(design(instance) @ design(instance).T)

    def check(forgetting: float) -> Finding:
        records = _repeated(instance, steps, forgetting=forgetting, rho=rho)
        residuals = _residuals(instance, records, basis)
        norms = (
            np.array([np.linalg.norm(step.moments(instance.problem)[1]) for step in records]) / num_examples
        )
        limit = roundoff(run, condition=_condition(records) ** 0.5, terms=steps)

        def finding(count: int) -> Finding:
            e, D = 1 / PRIOR_VARIANCE, np.full(len(values), 1 / PRIOR_VARIANCE)
            expected = [residuals[0]]
            for added, passes in zip(
                count * rho * norms**2, _passes(forgetting, np.arange(1, steps + 1)), strict=True
            ):
                before, e = D, forgetting * e + added
                D = e + passes * values / NOISE_VARIANCE
                expected.append(expected[-1] * (forgetting * before + added) / D)
            return identity(
                residuals[1:],
                np.stack(expected[1:]),
                **limit,
                scale=float(np.linalg.norm(residuals[0])),
                detail=f"{instance.name}, {steps} passes, forgetting {forgetting:g}, rho {rho:g}",
            )

        return finding(num_examples).with_control(finding(1))

    return combine(check(forgetting) for forgetting in forgettings)


@claim(
    "filter-on-a-repeated-batch-is-damped-natural-gradient",
    statement="On a linear model the step k over one batch is the damped natural gradient's with "
    "eta_k = 1/sk, which tends to 1 - phi, and the damping nu_k = s2 phi^k / (p0 sk) of J^T J.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="identity",
    params={"num_examples": 4, "steps": 15, "forgettings": [1.0, 0.9]},
)
def damped_natural_gradient(run: Run, num_examples: int, steps: int, forgettings: list[float]) -> Finding:
    """Fails if the filter's prior is no damping that forgetting takes away.

    Teacher-forced. Mean-normalised, the damping is nu_k / (N s2). Control: eta and damping of the next step.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=73)

    def check(forgetting: float) -> Finding:
        records = _repeated(instance, steps, forgetting=forgetting)
        units = np.array([[np.linalg.norm(step.delta)] for step in records])
        limit = roundoff(run, condition=_condition(records), terms=num_examples)

        def finding(shift: int) -> Finding:
            k = np.arange(1, steps + 1) + shift
            passes = _passes(forgetting, k)
            dampings = forgetting**k / (PRIOR_VARIANCE * passes * num_examples)
            expected = []
            for step, eta, damping in zip(records, 1 / passes, dampings, strict=True):
                optimizer = gr.ngd(instance.problem, lr=float(eta), damping=float(damping))
                start = optimizer.init(step.theta)
                expected.append(on_host(optimizer.update(step.theta, start, step.x, step.y)[0]))
            return identity(
                np.stack([step.delta for step in records]) / units,
                np.stack(expected) / units,
                **limit,
                detail=f"{instance.name}, {steps} passes, forgetting {forgetting:g}",
            )

        return finding(0).with_control(finding(1))

    return combine(check(forgetting) for forgetting in forgettings)


# --- what is forgotten ---------------------------------------------------------------------------------


@claim(
    "forgetting-discounts-data-and-may-keep-the-prior",
    statement="On a linear-Gaussian model the filter is the posterior with the batches discounted by "
    "phi^{k-j}: with plain forgetting the prior by phi^k, with forgetting_kind='prior' not at all.",
    source="classical result (exponentially weighted least squares); the kept prior is our reconstruction",
    kind="identity",
    params={"num_examples": 24, "batch_size": 4, "forgetting": 0.8},
)
def discounted_data(run: Run, num_examples: int, batch_size: int, forgetting: float) -> Finding:
    """Fails if the prior's mean is not given back with its information, or data are discounted otherwise.

    Reference: the normal equations in float64. Control of mean and covariance: the other kind's prior.
    """
    instance = linear_gaussian(run, (3, 2), num_examples=num_examples, key=74)
    theta, _, y = instance.host
    count = num_examples // batch_size
    ages = np.repeat(np.arange(count)[::-1], batch_size * y.shape[1])
    roots = np.sqrt(forgetting**ages)
    kept = {"plain": forgetting**count, "prior": 1.0}

    def reference(kind: str) -> np.ndarray:
        prior = PRIOR_VARIANCE / kept[kind] * np.eye(len(theta))
        rows, labels = roots[:, None] * design(instance), roots * y.ravel()
        mean, covariance = oracles.linear_gaussian_posterior(rows, labels, theta, prior, NOISE_VARIANCE)
        return np.vstack([mean[None, :], covariance])

    def check(kind: str, other: str) -> list[Finding]:
        options: dict[str, Any] = {"forgetting": forgetting, "forgetting_kind": kind}
        optimizer = gr.rkalman(instance.problem, prior_variance=PRIOR_VARIANCE, **options)
        steps = list(filter_steps(instance, optimizer, instance.batches(batch_size)))
        computed = mean_and_covariance(steps[-1])
        limit = roundoff(run, condition=_condition(steps), terms=num_examples)
        detail = f"{instance.name}, {len(steps)} batches of {batch_size}, kind {kind}"
        return posteriors_agree(computed, reference(kind), (computed, reference(other)), limit, detail)

    return combine([*check("plain", "prior"), *check("prior", "plain")])


# --- wind-up -------------------------------------------------------------------------------------------


@claim(
    "forgetting-winds-up-what-no-data-reach",
    statement="On the null space of J the covariance after k batches is I / e_k, e_k = phi e_{k-1} + gam_k: "
    "p0 phi^{-k} I without regularization.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="identity",
    params={"num_examples": 3, "steps": 20, "forgetting": 0.7, "rhos": [0.0, 0.02]},
)
def wind_up(run: Run, num_examples: int, steps: int, forgetting: float, rhos: list[float]) -> Finding:
    """Fails if directions that no data reach are forgotten at another rate, or roundoff leaks into them.

    Every step in units of 1 / e_k. Control: forgetting off by one, the first batch met by the prior P_0.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=75)
    unseen = null_space(design(instance))

    def check(rho: float) -> Finding:
        records = _repeated(instance, steps, forgetting=forgetting, rho=rho)
        added = [
            rho * float(np.sum(step.moments(instance.problem)[1] ** 2)) / num_examples for step in records
        ]
        # QR of the root: a direction is disturbed by eps |Y|^(1/2), next to its own e_k^(1/2)
        limit = roundoff(run, condition=_condition(records) ** 0.5, terms=steps)

        def finding(start: float) -> Finding:
            e, scaled = start, []
            for step, gam in zip(records, added, strict=True):
                e = forgetting * e + gam
                scaled.append(e * unseen.T @ step.covariance @ unseen)
            return identity(
                np.stack(scaled),
                np.stack([np.eye(unseen.shape[1])] * steps),
                **limit,
                detail=f"{instance.name}, {steps} batches, forgetting {forgetting:g}, rho {rho:g}",
            )

        return finding(1 / PRIOR_VARIANCE).with_control(finding(1 / (forgetting * PRIOR_VARIANCE)))

    return combine(check(rho) for rho in rhos)


@claim(
    "gradient-regularization-stops-the-wind-up",
    statement="With forgetting, the precision N rho |g|^2 keeps every variance below that of the prior.",
    source="to be refuted (it vanishes with the gradient, faster than forgetting needs it)",
    kind="inequality",
    expected="refuted",
    params={"num_examples": 3, "steps": 30, "forgetting": 0.7, "rho": 0.02},
)
def regularization_is_no_cure(
    run: Run, num_examples: int, steps: int, forgetting: float, rho: float
) -> Finding:
    """Would hold if the gradient, and with it the precision, did not tend to zero.

    Control: an information increment (1 - phi) / p0 besides; with it the bound holds.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=76)

    def finding(increment: float) -> Finding:
        options = {"forgetting": forgetting, "rho": rho, "information_increment": increment}
        return _variances_below(instance, PRIOR_VARIANCE, steps, **options)

    return finding(0.0).with_control(finding((1 - forgetting) / PRIOR_VARIANCE))


@claim(
    "two-cures-of-the-wind-up-bound-the-variance",
    statement="With forgetting phi, an information increment lam_c a batch bounds the largest variance by "
    "max(p0, (1 - phi) / lam_c); forgetting_kind='prior' bounds it by p0.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="inequality",
    params={"num_examples": 3, "steps": 25, "forgetting": 0.7, "increments": [0.1, 5.0]},
)
def cures_of_the_wind_up(
    run: Run, num_examples: int, steps: int, forgetting: float, increments: list[float]
) -> Finding:
    """Fails if a cure is forgotten with the rest, or applied at another rate.

    The bounds are attained in the limit. Control of each: without the cure.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=77)

    def check(bound: float, **cure: Any) -> Finding:
        cured, plain = (
            _variances_below(instance, bound, steps, forgetting=forgetting, **options)
            for options in (cure, {})
        )
        return cured.with_control(plain)

    found = [check(PRIOR_VARIANCE, forgetting_kind="prior")]
    for increment in increments:
        bound = max(PRIOR_VARIANCE, (1 - forgetting) / increment)
        found.append(check(bound, information_increment=increment))
    return combine(found)


def _variances_below(instance: Instance, bound: float, steps: int, **options: Any) -> Finding:
    """The largest eigenvalue of the covariance after every batch."""
    records = _repeated(instance, steps, **options)
    largest = max(float(np.linalg.norm(step.information, 2)) for step in records)
    limit = roundoff(instance.run, condition=1 + bound * largest, terms=steps)
    text = ", ".join(f"{name} {value}" for name, value in options.items())
    return inequality(
        np.array([np.linalg.eigvalsh(step.covariance)[-1] for step in records]),
        bound,
        **as_slack(limit),
        detail=f"{instance.name}, {steps} batches, {text}",
    )


@claim(
    "covariance-form-survives-the-wind-up",
    statement="In the covariance form the variances of what is observed, u^T J P J^T u, stay nonnegative for "
    "120 batches with phi = 0.7 in float64 (53 in float32).",
    source="to be refuted (P grows to 1/eps where no data reach, and its roundoff with it)",
    kind="inequality",
    expected="refuted",
    params={"num_examples": 3, "steps_in_float64": 120, "forgetting": 0.7, "directions": 50},
)
def covariance_form_is_lost(
    run: Run, num_examples: int, steps_in_float64: int, forgetting: float, directions: int
) -> Finding:
    """Would hold if the roundoff of P, eps lmax(P), stayed below the variances of what is observed.

    After each batch, for random unit vectors u, in units of the noise; an update that fails, because
    I + J P J^T / s2 has no Cholesky factor any more, ends the run. Control: the square-root information form.
    """
    instance = linear_gaussian(run, (4, 1), num_examples=num_examples, key=78)
    u = run.rng(78, 1).normal(size=(directions, num_examples))
    rows = u @ design(instance) / np.linalg.norm(u, axis=1, keepdims=True)
    steps = round(steps_in_float64 * np.log(run.eps) / np.log(2.0**-52))

    def finding(form: str) -> Finding:
        variances = list(_observed_variances(instance, rows, steps, form=form, forgetting=forgetting))
        return inequality(
            -np.stack(variances),
            0.0,
            scale=NOISE_VARIANCE,
            **as_slack(roundoff(run, terms=steps)),
            detail=f"{instance.name}, {len(variances)} of {steps} batches, {form}",
        )

    return finding("covariance").with_control(finding("square_root_information"))


def _observed_variances(
    instance: Instance, rows: np.ndarray, steps: int, **options: Any
) -> Iterator[np.ndarray]:
    """The diagonal of ``rows P rows^T`` after every batch, until an update fails."""
    optimizer = gr.rkalman(instance.problem, prior_variance=PRIOR_VARIANCE, **options)
    observed = instance.run.asarray(rows)
    with contextlib.suppress(gr.NumericalError):
        for step in filter_steps(instance, optimizer, itertools.repeat((instance.x, instance.y), steps)):
            yield np.diag(on_host(step.after.belief.observed_covariance(observed)))
