"""Order of convergence: two for NGD and RING, one with constant damping; what one step leaves at most."""

from __future__ import annotations

import dataclasses

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, inequality, rate
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.convergence import path, point, two_layer, with_residual
from proofs_check.data import Instance
from proofs_check.tolerance import roundoff


def _near_a_solution(run: Run, num_examples: int, width: int, key: int) -> tuple[list[Instance], float]:
    """One network with labels that it fits, from starts nearer and nearer to that; and its LJ.

    Between eps^(1/4) and eight times that: what a step of order two leaves, about eps^(1/2), is far above
    the rounding of the outputs.
    """
    given = two_layer(run, num_examples=num_examples, width=width, activation="tanh", key=(key,))
    fitted = dataclasses.replace(given, y=run.asarray(given.outputs()))
    at = point(fitted)
    right = np.linalg.svd(at.jacobian, full_matrices=False)[2]
    # along the direction to which the residual reacts least, and a random one
    across = run.rng(key, 1).normal(size=len(at.theta))
    direction = right[-1] + across / np.linalg.norm(across)
    starts = run.eps**0.25 * np.geomspace(1, 8, 6)
    return [
        dataclasses.replace(fitted, theta=run.asarray(at.theta + h * direction)) for h in starts
    ], jacobian_lipschitz(given.problem, given.x).upper


def _sizes_after(instances: list[Instance], rho: float, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """``|r|`` before and after one step at eta = 1, from every start."""
    pairs = [
        [one.size for one in path(each, gr.ring(each.problem, lr=1.0, rho=rho, damping=damping), 1)]
        for each in instances
    ]
    before, after = np.array(pairs).T
    return before, after


@claim(
    "ring-has-order-two-and-constant-damping-order-one",
    statement="At eta = 1 and lam = 0 NGD and RING have |r+| = O(|r|^2); with constant lam |r+| = O(|r|).",
    source="our reconstruction; classical result (damping |J^T r|^2: Yamashita and Fukushima 2001; Fan and "
    "Yuan 2005)",
    kind="rate",
    params={"num_examples": 3, "width": 32, "shares": [0.0, 0.1, 0.3], "damping": 0.1, "tolerance": 0.2},
)
def order_of_convergence(
    run: Run, num_examples: int, width: int, shares: list[float], damping: float, tolerance: float
) -> Finding:
    """Fails if RING's damping does not vanish with the residual, or a constant one does.

    One step each from six starts near a solution. rho is so large that its cubic term, (rho top/(n ell))
    |r|^3, is at most that share of what NGD leaves at the farthest start. Control of each: the other's order.
    """
    instances, _ = _near_a_solution(run, num_examples, width, 114)
    before, after = _sizes_after(instances, 0.0, 0.0)
    last = point(instances[-1])
    unit = after[-1] / before[-1] ** 3 * num_examples * last.least / last.top

    def check(rho: float, lam: float, order: float, other: float) -> Finding:
        before, after = _sizes_after(instances, rho, lam)

        def finding(claimed: float) -> Finding:
            return rate(
                before,
                after,
                claimed,
                tolerance=tolerance,
                reason="terms of order three; the rounding of the outputs at the nearest start, eps^(1/4)",
                detail=f"{instances[0].name}, rho {rho:.3g}, lam {lam:g}",
            )

        return finding(order).with_control(finding(other))

    return combine([*(check(share * unit, 0.0, 2.0, 1.0) for share in shares), check(0.0, damping, 1.0, 2.0)])


@claim(
    "one-step-at-eta-one-is-bounded",
    statement="From any w at eta = 1: |r+| <= nu/(ell + nu) |r| + (LJ/(2 ell)) |r|^2, nu = n(rho |g|^2 + "
    "lam); with lam = 0 at most (LJ/(2 ell)) |r|^2 + (rho top/(n ell)) |r|^3, with constant lam in the "
    "limit linear with the factor n lam/(ell + n lam).",
    source="our reconstruction (after Kantorovich)",
    kind="inequality",
    params={"num_examples": 3, "width": 32, "rhos": [0.0, 3.0, 300.0], "damping": 0.1},
)
def one_step(run: Run, num_examples: int, width: int, rhos: list[float], damping: float) -> Finding:
    """Fails if RING's step falls short of NGD's by more than nu/(ell + nu).

    Starts near a solution, and the initialisation with residuals along each singular vector, up to 3 long.
    Control: both terms a hundredth.
    """
    near, lipschitz = _near_a_solution(run, num_examples, width, 115)
    left = np.linalg.svd(point(near[0]).jacobian, full_matrices=False)[0]
    far = [with_residual(near[0], size * column) for size in (0.1, 3.0) for column in left.T]
    starts = [*near, *far]

    def check(rho: float, lam: float) -> list[Finding]:
        before, after = _sizes_after(starts, rho, lam)
        points = [point(one) for one in starts]
        ell = np.array([one.least for one in points])
        nu = np.array([one.nu(rho, lam) for one in points])
        cube = rho * np.array([one.top for one in points]) / (num_examples * ell) * before**3
        limit = roundoff(run, condition=max(one.top / one.least for one in points), terms=width)
        text = f"{near[0].name}, {len(starts)} starts, rho {rho:g}, lam {lam:g}"

        def finding(part: float, cubic: bool = False) -> Finding:
            second = cube if cubic else nu / (ell + nu) * before
            return inequality(
                after,
                part * (lipschitz / (2 * ell) * before**2 + second),
                scale=1.0,
                slack=limit["tolerance"],
                reason=f"rounding of the outputs, of size one: {limit['reason']}",
                detail=text,
            )

        found = [finding(1.0).with_control(finding(0.01))]
        return found if lam else [*found, finding(1.0, cubic=True).with_control(finding(0.01, cubic=True))]

    cases = [*((rho, 0.0) for rho in rhos), (0.0, damping)]
    return combine(one for case in cases for one in check(*case))
