"""How fast the filter fits a batch that it sees again and again: like 1/k, or like the powers of phi."""

from __future__ import annotations

import itertools

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, rate
from proofs_check.data import on_host
from proofs_check.filtering import design, filter_steps, linear_gaussian


@claim(
    "a-repeated-batch-is-fitted-at-a-known-rate",
    statement="On a linear model the residual of a batch seen k times is O(1/k) at phi = 1, and O(phi^k) "
    "below: the ratio of two residuals tends to phi.",
    source="our reconstruction (linearised theory of R-Kalman)",
    kind="rate",
    params={
        "num_examples": 3,
        "inputs": 8,
        "steps": 30,
        "first": 12,
        "forgettings": [1.0, 0.8, 0.6],
        "tolerance": 0.1,
    },
)
def speed_of_fitting(
    run: Run,
    num_examples: int,
    inputs: int,
    steps: int,
    first: int,
    forgettings: list[float],
    tolerance: float,
) -> Finding:
    """Fails if forgetting acts at another rate, or not in every pass. Control of each: twice the exponent.

    The prior's part of the residual, s2 phi^k/(p0 sk s_i), is a small one from the twelfth pass on, where
    p0 = 16 s2; below phi = 1 until residuals meet the rounding of the labels, at eps^(2/3).
    """
    instance = linear_gaussian(run, (inputs, 1), num_examples=num_examples, key=155)

    def check(forgetting: float) -> Finding:
        filtered = gr.rkalman(instance.problem, prior_variance=8.0, forgetting=forgetting)
        batches = itertools.repeat((instance.x, instance.y), steps)
        thetas = [on_host(one.theta) + one.delta for one in filter_steps(instance, filtered, batches)]
        rows, labels = design(instance), instance.host[2].ravel()
        sizes = np.array([np.linalg.norm(rows @ theta - labels) for theta in thetas])
        k = np.arange(1, steps + 1)
        kept = k >= first
        if forgetting < 1:
            kept &= forgetting**k > run.eps ** (2 / 3)
        units = 1.0 / k if forgetting == 1 else forgetting**k

        def finding(order: float) -> Finding:
            return rate(
                units[kept],
                sizes[kept],
                order,
                tolerance=tolerance,
                reason="s2/(p0 s_i sk), what the prior still weighs after twelve passes",
                detail=f"{instance.name}, passes {k[kept][0]} to {k[kept][-1]}, forgetting {forgetting:g}; "
                f"against {'1/k' if forgetting == 1 else 'phi^k'}",
            )

        return finding(1.0).with_control(finding(2.0))

    return combine(check(forgetting) for forgetting in forgettings)
