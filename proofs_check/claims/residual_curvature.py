"""What the Fisher leaves out of the Hessian: where it is zero, how large it is, and where it stops RENG."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.bounds import slope_lipschitz
from proofs_check.convergence import point, regularized_gradient, two_layer, with_residual
from proofs_check.data import Instance, on_host
from proofs_check.tolerance import as_slack, roundoff

SOURCE = "our reconstruction (theory of RENG)"

STEEPEST = {
    "tanh": math.atanh(1 / math.sqrt(3)),
    "softplus": 0.0,
    "sigmoid": math.log(2 + math.sqrt(3)),
    "gelu": 0.0,
    "silu": 0.0,
}
"""Where ``|act''|`` is largest."""


@claim(
    "hessian-is-the-fisher-for-relu-with-frozen-output-weights",
    statement="For the squared loss Rc = H - F = 0 almost everywhere for a two-layer relu network with "
    "frozen output weights; not if they are trained.",
    source=SOURCE,
    kind="identity",
    params={"num_examples": 5, "width": 8, "count": 5},
)
def no_residual_curvature(run: Run, num_examples: int, width: int, count: int) -> Finding:
    """Fails if the output is not piecewise linear in theta. Control: the output weights trained."""

    def finding(instance: Instance) -> Finding:
        hessian = on_host(instance.problem.hessian(instance.theta, instance.x, instance.y))
        return identity(
            hessian, instance.dense_fisher(), **roundoff(run, terms=num_examples), detail=instance.name
        )

    def check(number: int) -> Finding:
        frozen = two_layer(
            run, num_examples=num_examples, inputs=4, width=width, activation="relu", key=(132, number)
        )
        model = gr.MLP((4, width, 1), activation="relu", bias=False, parameterization="ntk")
        problem = gr.Problem(model, gr.Gaussian())
        theta = run.asarray(problem.init(run.rng(132, number, 1)))
        trained = dataclasses.replace(
            frozen, name=f"{frozen.name}, all trained", problem=problem, theta=theta
        )
        return finding(frozen).with_control(finding(trained))

    return combine(check(number) for number in range(count))


@claim(
    "residual-curvature-is-bounded",
    statement="|Rc| <= B2 |X^T diag|r| X|/(n sqrt m) for a two-layer network, B2 = sup|act''|: tanh 4/(3 "
    "sqrt 3), softplus 1/4, sigmoid 1/(6 sqrt 3), gelu 2/sqrt(2 pi), silu 1/2; attained by one unit and "
    "one example.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 5, "width": 8, "count": 3},
)
def bounded_residual_curvature(run: Run, num_examples: int, width: int, count: int) -> Finding:
    """Fails if a B2 is too small, or a normalisation is missing. Controls: B2 1 % smaller; no 1/n."""
    limit = roundoff(run, terms=num_examples)

    def sides(instance: Instance, activation: str, m: int) -> tuple[float, float, float]:
        x, residual = instance.host[1], point(instance).residual
        H = on_host(instance.problem.hessian(instance.theta, instance.x, instance.y))
        fisher = instance.dense_fisher()
        weighted = np.linalg.norm((x.T * np.abs(residual)) @ x, 2)
        bound = slope_lipschitz(activation).upper * float(weighted) / (len(residual) * math.sqrt(m))
        # H and F round relative to themselves
        return float(np.linalg.norm(H - fisher, 2)), bound, float(np.linalg.norm(fisher) / bound)

    def finding(rows: list[tuple[float, float, float]], factor: float, text: str) -> Finding:
        measured, bounds, cancelled = np.array(rows).T
        slack = as_slack(limit, "H - F, rounded next to F")
        slack = {**slack, "slack": min(slack["slack"] * (1 + float(cancelled.max())), 0.005)}
        return inequality(measured, factor * bounds, **slack, detail=text)

    random = [
        sides(
            two_layer(run, num_examples=num_examples, inputs=4, width=width, activation=name, key=(133, i)),
            name,
            width,
        )
        for name in STEEPEST
        for i in range(count)
    ]

    def sharp(activation: str) -> tuple[float, float, float]:
        given = two_layer(run, num_examples=1, inputs=1, width=1, activation=activation, key=(134,))
        theta, x = run.asarray((np.array([STEEPEST[activation]]), np.ones((1, 1))))
        return sides(
            with_residual(dataclasses.replace(given, theta=theta, x=x), 3 * np.ones(1)), activation, 1
        )

    attained = [sharp(name) for name in STEEPEST]
    text = f"{len(random)} networks, n = {num_examples}, width {width}"
    every = [
        finding([row], 1.0, f"{name}, one unit").with_control(finding([row], 0.99, f"{name}, one unit"))
        for name, row in zip(STEEPEST, attained, strict=True)
    ]
    # without 1/n the bound would be n times as large; so the reverse, n |Rc| <= bound, must fail
    return combine([finding(random, 1.0, text).with_control(finding(random, 1 / num_examples, text)), *every])


# --- fixed points --------------------------------------------------------------------------------------


@claim(
    "reng-rests-only-where-the-gradient-vanishes-for-small-rho",
    statement="|g + rho H g| >= (1 - rho |Rc|) |g|: if rho |Rc| < 1, RENG has no fixed point but those of L.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 4, "width": 6, "count": 10, "part": 0.9},
)
def no_spurious_fixed_points(run: Run, num_examples: int, width: int, count: int, part: float) -> Finding:
    """Fails if H has more negative curvature than Rc. Control: Rc left out, |g + rho H g| >= |g|.

    Residuals along each singular vector, so that g meets the negative curvature; and one tanh unit, whose
    g is the eigenvector.
    """
    made = [
        two_layer(run, num_examples=num_examples, inputs=3, width=width, activation="tanh", key=(138, i))
        for i in range(count)
    ]
    cases = [_spurious(run)[0]]
    for one in made:
        left = np.linalg.svd(point(one).jacobian, full_matrices=False)[0]
        cases += [with_residual(one, 4 * column) for column in left.T]
    rows = []
    for one in cases:
        H = on_host(one.problem.hessian(one.theta, one.x, one.y))
        curvature = float(np.linalg.norm(H - one.dense_fisher(), 2))
        g = on_host(one.gradient())
        regularized = regularized_gradient(one, part / curvature)
        rows.append(float(np.linalg.norm(regularized) / np.linalg.norm(g)))
    limit = as_slack(roundoff(run, condition=100.0, terms=width), "H g beside g")

    def finding(least: float) -> Finding:
        text = f"{len(rows)} points, rho |Rc| = {part:g}"
        return inequality(least, np.array(rows), scale=1.0, **limit, detail=text)

    return finding(1 - part).with_control(finding(1.0))


def _spurious(run: Run) -> tuple[Instance, float]:
    """``f = tanh(w)`` at w = 1, label -1, where ``H < 0``; and the rho with ``H g = -g/rho``."""
    given = two_layer(run, num_examples=1, inputs=1, width=1, activation="tanh", key=(139,))
    theta, x, y = run.asarray((np.ones(1), np.ones((1, 1)), -np.ones((1, 1))))
    instance = dataclasses.replace(given, name="f = tanh(w) at w = 1", theta=theta, x=x, y=y)
    u = math.tanh(1.0)
    slope = 1 - u**2
    return instance, -1 / (slope**2 - 2 * (u + 1) * u * slope)


@claim(
    "reng-rests-only-where-the-gradient-vanishes",
    statement="RENG's step is at least a hundredth of NGD's, for every rho.",
    source="to be refuted (where H g = -g/rho, which rho |Rc| >= 1 allows)",
    kind="inequality",
    expected="refuted",
)
def spurious_fixed_point(run: Run) -> Finding:
    """Would hold if H had no negative eigenvalue. One tanh unit, rho = -1/H. Control: a tenth of that rho."""
    instance, rho = _spurious(run)
    ngd = float(np.linalg.norm(on_host(instance.step(gr.ngd(instance.problem, lr=1.0)))))

    def finding(weight: float) -> Finding:
        step = float(np.linalg.norm(on_host(instance.step(gr.reng(instance.problem, lr=1.0, rho=weight)))))
        return inequality(
            0.01 * ngd,
            step,
            slack=0.0,
            reason="the factor of a hundred leaves room for roundoff",
            detail=f"{instance.name}, rho {weight:.3g}",
        )

    return finding(rho).with_control(finding(rho / 10))
