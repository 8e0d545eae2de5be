"""Assumptions of the convergence theorems, certified or refuted: at initialisation, and along runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, inequality
from proofs_check.certificates import (
    Certificate,
    a_posteriori,
    kantorovich,
    linear,
    unified,
    zhang_condition_2,
)
from proofs_check.convergence import path, point, two_layer, with_residual
from proofs_check.data import Instance
from proofs_check.tolerance import as_slack, roundoff

SOURCE = "our reconstruction (certificates)"


def _start(run: Run, activation: str, num_examples: int, width: int, data: int | None = None) -> Instance:
    """Initialisation, with the data of this width or of another."""
    key = (141, width if data is None else data)
    return two_layer(run, num_examples=num_examples, width=width, activation=activation, key=key)


def _at(instance: Instance) -> tuple[Any, Any, Any, Any]:
    return instance.problem, instance.theta, instance.x, instance.y


# --- from initialisation -------------------------------------------------------------------------------


@claim(
    "kantorovich-certified-from-initialisation",
    statement="At these initialisations LJ |r_0|/s0^2 <= 1/2 and ((rho/n) lmax |r_0|^2 + n lam)/s0^2 <= 1: "
    "NGD and RING converge in exact arithmetic, below Kantorovich's majorant.",
    source=SOURCE,
    kind="inequality",
    expected="certified",
    params={"cases": [["tanh", 8, 4096, 0.0], ["softplus", 8, 1024, 0.1]], "eta": 1.0, "narrow": 4},
    full={
        "cases": [
            *(["tanh", 8, 4096, 0.0], ["tanh", 16, 8192, 0.0]),
            *(["softplus", 8, 1024, 0.1], ["softplus", 16, 4096, 0.1]),
        ]
    },
)
def from_initialisation(run: Run, cases: list[list[Any]], eta: float, narrow: int) -> Finding:
    """Fails if a bound is too wide, or a width too small; a case has activation, n, width and rho.

    Control: a narrow network on the same data.
    """

    def certified(width: int, activation: str, num_examples: int, data: int, rho: float) -> Finding:
        start = _start(run, activation, num_examples, width, data)
        return kantorovich(*_at(start), eta, rho).finding()

    return combine(certified(one[2], *one).with_control(certified(narrow, *one)) for one in cases)


@claim(
    "unified-rate-certified-for-ring",
    statement="At this initialisation, with labels near the outputs, |J - J_0| <= kap s0 on the ball of "
    "radius 2|r_0|/((1 - kap) s0), kap < 1/5, and eta <= (1 - 2C)/(1 - C)^2, C = 2 kap/(1 - kap): RING "
    "keeps the unified rate.",
    source=SOURCE,
    kind="inequality",
    expected="certified",
    params={"activation": "softplus", "num_examples": 4, "width": 1024, "eta": 0.5, "rho": 1.0, "near": 0.02},
)
def unified_for_ring(
    run: Run, activation: str, num_examples: int, width: int, eta: float, rho: float, near: float
) -> Finding:
    """Fails if the Jacobian's change cannot be bounded so far. Controls: labels a hundred away; eta = 1.5."""
    instance = _start(run, activation, num_examples, width)

    def certificate(residual: np.ndarray, eta: float) -> Finding:
        return unified(*_at(with_residual(instance, residual)), eta, rho).finding()

    small, large = near * point(instance).residual, np.full(num_examples, 100.0)
    held = certificate(small, eta)
    return combine(held.with_control(one) for one in (certificate(large, eta), certificate(small, 1.5)))


@claim(
    "zhang-condition-2-is-met-by-relu",
    statement="|J - J_0| <= (C/3) s0 within 3 |r_0|/s0 of the initialisation of a relu network, C < 1/2.",
    source="to be refuted (greedy flips in the ball change J more); Zhang, Martens and Grosse 2019",
    kind="inequality",
    expected="refuted",
    params={"num_examples": 8, "widths": [64, 256], "near": 1e-6},
    full={"widths": [2**k for k in range(6, 17)]},
)
def zhang_for_relu(run: Run, num_examples: int, widths: list[int], near: float) -> Finding:
    """Would hold if few neurons could flip. Control: labels that the network fits to 1e-6, where none can."""

    def finding(width: int) -> Finding:
        instance = _start(run, "relu", num_examples, width)
        fitted = with_residual(instance, near * point(instance).residual)
        condition = zhang_condition_2(*_at(instance)).finding()
        return condition.with_control(zhang_condition_2(*_at(fitted)).finding())

    return combine(finding(width) for width in widths)


# --- after some steps ----------------------------------------------------------------------------------


def _optimizers(instance: Instance, lr: float, rho: float) -> list[gr.Optimizer]:
    return [gr.ngd(instance.problem, lr=lr), gr.ring(instance.problem, lr=lr, rho=rho)]


def _stopped(instance: Instance, found: Certificate) -> Instance:
    """The network where the certificate is."""
    return dataclasses.replace(instance, theta=instance.run.asarray(found.theta))


@claim(
    "runs-are-certified-after-a-few-steps",
    statement="NGD and RING from initialisation reach, within these steps, weights from which they certainly "
    "converge: smooth by Kantorovich's majorant, relu by a ball in which few neurons or none can flip.",
    source=SOURCE,
    kind="inequality",
    expected="certified",
    params={
        "activations": ["tanh", "relu"],
        "num_examples": 8,
        "widths": [64, 256],
        "eta": 1.0,
        "rho": 1.0,
        "steps": 30,
    },
    full={"activations": ["tanh", "softplus", "relu"], "widths": [2**k for k in range(6, 14)]},
)
def after_a_few_steps(
    run: Run, activations: list[str], num_examples: int, widths: list[int], eta: float, rho: float, steps: int
) -> Finding:
    """Fails if a run ends before a theorem applies. Control: the same weights with labels a hundred away."""

    def check(instance: Instance, optimizer: gr.Optimizer) -> Finding:
        found = a_posteriori(instance.problem, optimizer, *_at(instance)[1:], steps=steps)
        held = dataclasses.replace(found, detail=f"after {found.step} steps, {found.detail}").finding()
        if found.verdict != "certified":
            return held.with_control(held)
        at = with_residual(_stopped(instance, found), np.full(num_examples, 100.0))
        theorem = {"kantorovich": kantorovich, "linear": linear}[found.theorem]
        return held.with_control(theorem(*_at(at), *found.settings).finding())

    starts = [_start(run, name, num_examples, width) for name in activations for width in widths]
    return combine(check(start, one) for start in starts for one in _optimizers(start, eta, rho))


@claim(
    "certified-rates-are-kept",
    statement="After a certificate the run's residuals stay below those that it guarantees.",
    source=SOURCE,
    kind="inequality",
    params={
        "activations": ["tanh", "softplus", "relu"],
        "num_examples": 8,
        "width": 128,
        "eta": 0.8,
        "rho": 1.0,
        "steps": 40,
        "further": 5,
    },
)
def rates_are_kept(
    run: Run,
    activations: list[str],
    num_examples: int,
    width: int,
    eta: float,
    rho: float,
    steps: int,
    further: int,
) -> Finding:
    """Fails if a certificate promises more than the optimizer does. Control: a thousandth of eta."""

    def check(instance: Instance, rho: float) -> Finding:
        optimizer = gr.ring(instance.problem, lr=eta, rho=rho)
        found = a_posteriori(instance.problem, optimizer, *_at(instance)[1:], steps=steps)
        if found.verdict != "certified":
            return found.finding().with_control(found.finding())
        at = _stopped(instance, found)
        promised = np.array(found.guarantee(further))
        start = point(at)
        limit = roundoff(run, condition=(start.top / start.least) ** 0.5, terms=width)
        text = f"{at.name}, rho {rho:g}, {found.theorem} after {found.step} steps, {further} further"

        def finding(lr: float) -> Finding:
            sizes = [one.size for one in path(at, gr.ring(at.problem, lr=lr, rho=rho), further)]
            slack = as_slack(limit, "rounding of outputs and labels of size one")
            return inequality(np.array(sizes), promised, scale=1.0, **slack, detail=text)

        return finding(eta).with_control(finding(eta / 1000))

    starts = [_start(run, name, num_examples, width) for name in activations]
    return combine(check(start, size) for start in starts for size in (0.0, rho))
