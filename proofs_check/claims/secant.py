"""The change of the Jacobian where a run goes, in the place of its bound on a ball."""

from __future__ import annotations

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, inequality
from proofs_check.convergence import Point, path, secant_constants, two_layer
from proofs_check.data import Instance
from proofs_check.filters import ring
from proofs_check.tolerance import Slack

SOURCE = "our reconstruction (unified convergence theorem)"


def _steps(points: list[Point], rho: float, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the steps from residuals above a floor: C_k, q_k and ``|r_(k+1)|/|r_k|``."""
    rows = []
    for C, before, after in zip(secant_constants(points), points, points[1:], strict=False):
        if before.size > floor:
            values, basis = np.linalg.eigh(before.gram)
            unit = basis.T @ before.residual / before.size
            q = float(np.sum(ring(values, before.nu(rho)) * unit**2))
            rows.append((float(C), q, after.size / before.size))
    found = np.array(rows)
    return found[:, 0], found[:, 1], found[:, 2]


@claim(
    "steps-with-a-small-secant-constant-keep-the-unified-rate",
    statement="Along these runs C_k = |r_(k+1) - r_k - J_k delta_k|/(s_k |delta_k|), s_k^2 = lmin(J_k "
    "J_k^T), is below 1/2, eta <= (1 - 2 C_k)/(1 - C_k)^2, and |r_(k+1)|^2 <= (1 - eta q_k)|r_k|^2; for "
    "relu too.",
    source=SOURCE,
    kind="inequality",
    params={
        "activations": ["relu", "tanh", "softplus"],
        "num_examples": 8,
        "width": 512,
        "eta": 0.4,
        "rhos": [0.0, 1.0],
        "steps": 15,
    },
)
def small_secant_constant(
    run: Run,
    activations: list[str],
    num_examples: int,
    width: int,
    eta: float,
    rhos: list[float],
    steps: int,
) -> Finding:
    """Fails if a run meets a Jacobian that changes more, or if a step loses what C_k does not account for.

    Steps from residuals above eps^(1/2), where the rounding of C_k is below 1e-3. Controls: residuals three
    times as long as their Jacobian says; of the rate its sixth power.
    """

    def start(name: str, m: int) -> Instance:
        return two_layer(
            run,
            num_examples=num_examples,
            width=m,
            activation=name,
            key=(163, m),
        )

    def check(name: str, rho: float) -> list[Finding]:
        instance = start(name, width)
        ran = list(path(instance, gr.ring(instance.problem, lr=eta, rho=rho), steps))
        C, q, ratio = _steps(ran, rho, run.eps**0.5)
        wrong = [one._replace(residual=3 * one.residual) for one in ran[:2]]
        slack: Slack = {"slack": 1e-3, "reason": "outputs round at eps, residuals are above eps^(1/2)"}
        text = f"{instance.name}, rho {rho:g}, {len(C)} steps at eta {eta:g}"

        def small(constants: np.ndarray) -> Finding:
            needed = eta * (1 - constants) ** 2 + 2 * constants  # at most one: eta is within its limit
            return inequality(needed, 1.0, **slack, detail=f"C_k up to {constants.max():.3g}; {text}")

        def rate(power: int) -> Finding:
            return inequality(ratio, (1 - eta * q) ** (power / 2), scale=1.0, **slack, detail=text)

        return [small(C).with_control(small(secant_constants(wrong))), rate(1).with_control(rate(6))]

    return combine(one for name in activations for rho in rhos for one in check(name, rho))
