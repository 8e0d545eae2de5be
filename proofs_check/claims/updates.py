"""Structured and Kalman updates against the exact inverse-Fisher update, on real images."""

from __future__ import annotations

from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import as_slack, roundoff

STRUCTURES = ("block_diagonal", "kfac")


def _natural_step(instance: Instance, damping: float, structure: str = "full") -> Any:
    return instance.step(gr.ngd(instance.problem, lr=1.0, damping=damping, structure=structure))


def _compare(instance: Instance, step: Any, reference: Any, damping: float) -> gr.Comparison:
    """Error, cosine, Pearson correlation, and the decrease of the exact damped quadratic model."""
    return gr.compare(
        step, reference, gradient=instance.gradient(), curvature=instance.fisher(), damping=damping
    )


def _in_words(name: str, found: gr.Comparison) -> str:
    return (
        f"{name}: relative error {found.relative_error:.3g}, cosine {found.cosine:.3g}, Pearson "
        f"{found.pearson:.3g}, decrease ratio {found.decrease_ratio:.3g}"
    )


def _condition(instance: Instance, damping: float) -> float:
    dense = instance.fisher().to_dense()
    return float(np.linalg.norm(on_host(dense))) / damping + 1


def _is_the_exact_step(instance: Instance, structure: str, damping: float) -> Finding:
    """A structure's damped step against (F + a I)^{-1} g, with the comparison in words."""
    exact, step = _natural_step(instance, damping), _natural_step(instance, damping, structure)
    words = _in_words(structure, _compare(instance, step, exact, damping))
    return identity(
        step,
        exact,
        **roundoff(instance.run, condition=_condition(instance, damping)),
        detail=f"{instance.name}, N = {instance.num_examples}, damping {damping:g}; {words}",
    )


@claim(
    "kfac-step-on-digits-is-the-exact-step",
    statement="On real images K-FAC's step -(C + a I)^{-1} g, C its blocks G kron A, is the exact "
    "inverse-Fisher step.",
    source="to be refuted; the numbers say how far off the approximation is",
    kind="identity",
    expected="refuted",
    params={"num_examples": 64, "sizes": [64, 16, 10], "damping": 0.01},
)
def kfac_step(run: Run, num_examples: int, sizes: list[int], damping: float) -> Finding:
    """Would hold for one layer and a Gaussian likelihood, where K-FAC is exact and there is one block.

    That is the control: a linear regression of the same images.
    """
    softmax = digits(run, sizes, num_examples=num_examples, key=(71,))
    linear = digits(run, [64, 10], num_examples=num_examples, key=(71,), likelihood="gaussian")
    found = _is_the_exact_step(softmax, "kfac", damping)
    return found.with_control(_is_the_exact_step(linear, "kfac", damping))


@claim(
    "block-diagonal-step-on-digits-is-the-exact-step",
    statement="On real images the step with the exact layer blocks of the Fisher is the exact "
    "inverse-Fisher step.",
    source="to be refuted; the numbers say how far off the approximation is",
    kind="identity",
    expected="refuted",
    params={"num_examples": 64, "sizes": [64, 16, 10], "damping": 0.01},
)
def block_diagonal_step(run: Run, num_examples: int, sizes: list[int], damping: float) -> Finding:
    """Would hold for a network of one layer: the control, a softmax regression of the same images."""
    deep = digits(run, sizes, num_examples=num_examples, key=(72,))
    single = digits(run, [64, 10], num_examples=num_examples, key=(72,))
    found = _is_the_exact_step(deep, "block_diagonal", damping)
    return found.with_control(_is_the_exact_step(single, "block_diagonal", damping))


@claim(
    "first-rkalman-step-on-digits-is-the-exact-step",
    statement="R-Kalman's first step, made without any inverse of the Fisher, is the exact step -(F + "
    "I/(N p0))^{-1} g: the prior variance p0 is the damping 1/(N p0).",
    source="our reconstruction of R-Kalman; classical for rho = 0 (Ollivier 2018)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 8, 10], "prior_variances": [0.1, 1.0]},
)
def rkalman_step(run: Run, num_examples: int, sizes: list[int], prior_variances: list[float]) -> Finding:
    """Fails if information or gradient are not sums over the examples. Control: damping 1/p0, the N missing.

    Reference: LU of the dense damped Fisher in float64.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(73,))
    dense, g = instance.dense_fisher(), on_host(instance.gradient())

    def check(prior_variance: float) -> Finding:
        step = instance.step(gr.rkalman(instance.problem, prior_variance=prior_variance))
        damping = 1 / (num_examples * prior_variance)
        limit = roundoff(run, condition=_condition(instance, damping))

        def finding(added: float) -> Finding:
            exact = -np.linalg.solve(dense + added * np.eye(len(g)), g)
            words = _in_words("R-Kalman", _compare(instance, step, run.asarray(exact), damping))
            detail = f"{instance.name}, N = {num_examples}, prior variance {prior_variance:g}; {words}"
            return identity(step, exact, **limit, detail=detail)

        return finding(damping).with_control(finding(1 / prior_variance))

    return combine(check(variance) for variance in prior_variances)


@claim(
    "no-step-decreases-the-model-more-than-the-exact-one",
    statement="No structured, RING or R-Kalman step decreases the damped quadratic model m(d) = g.d + "
    "d.(F + a I) d / 2 more than the exact step -(F + a I)^{-1} g: gr.compare's decrease ratio is at most "
    "1.",
    source="classical result (the minimum of a convex quadratic)",
    kind="inequality",
    params={"num_examples": 64, "sizes": [64, 8, 10], "dampings": [0.01, 0.1], "rho": 0.1},
)
def decrease_ratio(
    run: Run, num_examples: int, sizes: list[int], dampings: list[float], rho: float
) -> Finding:
    """Fails if the exact reference is not the minimizer. Control: K-FAC's step taken for the reference."""
    instance = digits(run, sizes, num_examples=num_examples, key=(74,))
    problem = instance.problem

    def steps(damping: float) -> dict[str, Any]:
        variance = 1 / (num_examples * damping)
        structured = {name: _natural_step(instance, damping, name) for name in STRUCTURES}
        return {
            "exact": _natural_step(instance, damping),
            **structured,
            "RING": instance.step(gr.ring(problem, lr=1.0, damping=damping, rho=rho)),
            "RENG": instance.step(gr.reng(problem, lr=1.0, damping=damping, rho=rho)),
            "R-Kalman": instance.step(gr.rkalman(problem, prior_variance=variance, rho=rho)),
        }

    def check(damping: float) -> Finding:
        made = steps(damping)

        def finding(reference: str) -> Finding:
            found = {
                name: _compare(instance, step, made[reference], damping).decrease_ratio
                for name, step in made.items()
            }
            words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            return inequality(
                np.array(list(found.values())),
                1.0,
                **as_slack(roundoff(run, terms=problem.num_parameters), "1 for the exact step, rounded"),
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}: {words}",
            )

        return finding("exact").with_control(finding("kfac"))

    return combine(check(damping) for damping in dampings)


@claim(
    "every-step-is-a-descent-direction",
    statement="With a damping a > 0 the steps of NGD, RING and R-Kalman go downhill, g.delta < 0 (up to the "
    "roundoff of their cosine), and are no longer than |g|/a, for every structure.",
    source="classical result (the damped curvature is positive definite)",
    kind="inequality",
    params={"num_examples": 64, "sizes": [64, 8, 10], "dampings": [0.01, 10.0], "rho": 0.1, "small": 6},
)
def descent(
    run: Run, num_examples: int, sizes: list[int], dampings: list[float], rho: float, small: int
) -> Finding:
    """Fails if a step goes uphill or is longer than its damping allows.

    Control of the direction: the sign of the step. Control of the length: the steps of a damping half as
    large, which at a damping beyond the curvature are nearly twice as long.
    """
    cases = [
        digits(run, sizes, num_examples=num_examples, key=(75,)),
        *(
            synthetic(run, likelihood, (3, 4, 3), num_examples=small, key=(75, i))
            for i, likelihood in enumerate(("gaussian", "categorical", "bernoulli", "poisson"))
        ),
    ]

    def steps(instance: Instance, damping: float) -> dict[str, np.ndarray]:
        problem, variance = instance.problem, 1 / (instance.num_examples * damping)
        structures = ("full", *STRUCTURES)
        ring = {
            f"RING, {name}": gr.ring(problem, lr=1.0, damping=damping, rho=rho, structure=name)
            for name in structures
        }
        made = {
            **{f"NGD, {name}": _natural_step(instance, damping, name) for name in structures},
            **{name: instance.step(optimizer) for name, optimizer in ring.items()},
            "R-Kalman": instance.step(gr.rkalman(problem, prior_variance=variance, rho=rho)),
        }
        return {name: on_host(step) for name, step in made.items()}

    settings = [(one, on_host(one.gradient()), damping) for one in cases for damping in dampings]
    found = [steps(one, damping) for one, _, damping in settings]
    longer = [steps(one, damping / 2) for one, _, damping in settings]
    limit = as_slack(roundoff(run), "one product of vectors, relative to their lengths")

    def direction(name: str, sign: float) -> Finding:
        pairs = [(made[name], g) for made, (_, g, _) in zip(found, settings, strict=True)]
        cosines = [sign * float(d @ g / np.linalg.norm(d) / np.linalg.norm(g)) for d, g in pairs]
        words = f"{name}, {len(pairs)} steps; largest cosine with g {max(cosines):.3g}"
        return inequality(np.array(cosines), 0.0, scale=1.0, **limit, detail=words)

    def length(name: str, steps_made: list[dict[str, np.ndarray]]) -> Finding:
        pairs = zip(steps_made, settings, strict=True)
        ratios = [
            damping * float(np.linalg.norm(made[name]) / np.linalg.norm(g)) for made, (_, g, damping) in pairs
        ]
        words = f"{name}, {len(ratios)} steps; largest a |delta| / |g| {max(ratios):.3g}"
        return inequality(np.array(ratios), 1.0, **limit, detail=words)

    return combine(
        finding
        for name in found[0]
        for finding in (
            direction(name, 1.0).with_control(direction(name, -1.0)),
            length(name, found).with_control(length(name, longer)),
        )
    )
