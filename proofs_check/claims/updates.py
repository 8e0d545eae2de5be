"""Structured and Kalman updates against the exact inverse-Fisher update, on real images."""

from __future__ import annotations

from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import roundoff

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

    made = {damping: steps(damping) for damping in dampings}

    def finding(reference: str) -> Finding:
        found = {
            (name, damping): _compare(instance, step, made[damping][reference], damping).decrease_ratio
            for damping in dampings
            for name, step in made[damping].items()
        }
        words = ", ".join(f"{name} {value:.4g}" for (name, a), value in found.items() if a == dampings[0])
        return inequality(
            np.array(list(found.values())),
            1.0,
            slack=roundoff(run, terms=problem.num_parameters)["tolerance"],
            reason="the ratio is 1 for the exact step itself: two sums over the parameters are rounded",
            detail=f"{instance.name}, N = {num_examples}; at damping {dampings[0]:g}: {words}",
        )

    return finding("exact").with_control(finding("kfac"))


@claim(
    "every-step-is-a-descent-direction",
    statement="With a damping a > 0 the steps of NGD, RING and R-Kalman go downhill, g.delta < 0, and are "
    "no longer than |g|/a, for every structure.",
    source="classical result (the damped curvature is positive definite)",
    kind="inequality",
    params={"num_examples": 64, "sizes": [64, 8, 10], "damping": 0.01, "rho": 0.1, "small": 6},
)
def descent(run: Run, num_examples: int, sizes: list[int], damping: float, rho: float, small: int) -> Finding:
    """Fails if a step goes uphill or is longer than its damping allows. Control: the sign of the step."""
    cases = [
        digits(run, sizes, num_examples=num_examples, key=(75,)),
        *(
            synthetic(run, likelihood, (3, 4, 3), num_examples=small, key=(75, i))
            for i, likelihood in enumerate(("gaussian", "categorical", "bernoulli", "poisson"))
        ),
    ]

    def steps(instance: Instance) -> list[Any]:
        problem, variance = instance.problem, 1 / (instance.num_examples * damping)
        structures = ("full", *STRUCTURES)
        return [
            *(_natural_step(instance, damping, name) for name in structures),
            *(
                instance.step(gr.ring(problem, lr=1.0, damping=damping, rho=rho, structure=name))
                for name in structures
            ),
            instance.step(gr.rkalman(problem, prior_variance=variance, rho=rho)),
        ]

    pairs = [
        (on_host(step), on_host(one.problem.gradient(one.theta, one.x, one.y)))
        for one in cases
        for step in steps(one)
    ]

    def finding(sign: float) -> Finding:
        cosines = [sign * float(d @ g) / float(np.linalg.norm(d) * np.linalg.norm(g)) for d, g in pairs]
        lengths = [damping * float(np.linalg.norm(d)) / float(np.linalg.norm(g)) - 1 for d, g in pairs]
        return inequality(
            np.array([*cosines, *lengths]),
            0.0,
            scale=1.0,
            slack=roundoff(run, terms=1)["tolerance"],
            reason="roundoff of a cosine",
            detail=f"{len(cases)} problems, {len(pairs)} steps; largest cosine with g {max(cosines):.3g}",
        )

    return finding(1.0).with_control(finding(-1.0))
