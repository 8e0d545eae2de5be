"""Optimizers as filters, the worst change of the Jacobian, and the unified rate on networks."""

from __future__ import annotations

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.convergence import path, point, two_layer, with_residual
from proofs_check.data import Instance, on_host
from proofs_check.filters import SIZES, Trials, newton_schulz, random_trials, ring, step_limit
from proofs_check.tolerance import as_slack, roundoff

SOURCE = "our reconstruction (unified convergence theorem)"

# --- optimizers as filters -----------------------------------------------------------------------------


def _truncated_inverse_step(instance: Instance, damping: float, steps: int) -> np.ndarray:
    """``-X g`` with X left to so many steps of Newton-Schulz on F + lam I."""
    matrix = instance.dense_fisher() + damping * np.eye(instance.problem.num_parameters)
    found = gr.solvers.newton_schulz_inverse(instance.run.asarray(matrix), max_iterations=steps)
    return -on_host(found.inverse @ instance.gradient())


@claim(
    "optimizers-filter-the-residual",
    statement="For the squared loss one step changes the linearised residual by J delta = -eta k(GG) r, GG "
    "= J J^T: k = 1 for NGD, s/(s + n(rho |g|^2 + lam)) for RING, s/n for gradient descent, and (s/(s + n "
    "lam))(1 - (1 - a/t)^(2^K)), a = s/n + lam, for K steps of Newton-Schulz from I/t.",
    source=SOURCE,
    kind="identity",
    params={"num_examples": 4, "width": 8, "eta": 0.5, "rho": 3.0, "damping": 0.1, "steps": 3},
)
def optimizers_are_filters(
    run: Run, num_examples: int, width: int, eta: float, rho: float, damping: float, steps: int
) -> Finding:
    """Fails if an optimizer damps otherwise, normalises otherwise, or starts its inverse elsewhere.

    Reference: the filter in the eigenbasis of J J^T, in float64. Control: the damping not times n, for NGD a
    damping, for gradient descent a sum for the mean; for Newton-Schulz one step more.
    """
    instance = two_layer(run, num_examples=num_examples, inputs=6, width=width, activation="tanh", key=(101,))
    at, problem, n = point(instance), instance.problem, num_examples
    values, basis = np.linalg.eigh(at.gram)
    nu = at.nu(rho, damping)
    matrix = instance.dense_fisher() + damping * np.eye(problem.num_parameters)
    t = n * float(np.abs(matrix).sum(axis=1).max())
    cases: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = [
        ("NGD", on_host(instance.step(gr.ngd(problem, lr=eta))), np.ones(n), ring(values, 0.01)),
        (
            "RING",
            on_host(instance.step(gr.ring(problem, lr=eta, rho=rho, damping=damping))),
            ring(values, nu),
            ring(values, nu / n),
        ),
        ("gradient descent", on_host(instance.step(gr.sgd(problem, lr=eta))), values / n, values),
        (
            "Newton-Schulz",
            eta * _truncated_inverse_step(instance, damping, steps),
            newton_schulz(values, n * damping, t, steps),
            newton_schulz(values, n * damping, t, steps + 1),
        ),
    ]
    limit = roundoff(run, condition=float(values[-1] / values[0]), terms=problem.num_parameters)

    def finding(name: str, step: np.ndarray, k: np.ndarray) -> Finding:
        return identity(
            at.jacobian @ step,
            -eta * basis @ (k * (basis.T @ at.residual)),
            scale=eta * at.size,
            **limit,
            detail=f"{name}, {instance.name}",
        )

    return combine(
        finding(name, step, k).with_control(finding(name, step, off)) for name, step, k, off in cases
    )


# --- the worst change of the Jacobian --------------------------------------------------------------------


@claim(
    "the-worst-change-of-the-jacobian-has-rank-one",
    statement="Of all E with |E| <= C sqrt(lmin GG) one of rank one makes |r + (J + E) delta| largest, "
    "with the value |(I - eta k(GG)) r| + C sqrt(lmin GG)|delta|.",
    source=SOURCE,
    kind="identity",
    params={"count": 40, "unseen": 2, "others": 20},
)
def worst_change(run: Run, count: int, unseen: int, others: int) -> Finding:
    """Fails if the trials of the unified rate are not the worst ones.

    The closed form against the matrices themselves, J with random singular vectors; no random E of the
    same norm does more. Controls: E half as large; of the random ones, no second term.
    """
    rng = run.rng(109)

    def check(size: int) -> list[Finding]:
        trials = random_trials(rng, count, size)
        found = np.array([_by_matrices(rng, trials, i, size + unseen, others) for i in range(count)])
        first = trials.worst - trials.C * trials.step * trials.s[:, 0] ** 0.5

        def attained(part: float) -> Finding:
            computed = first + part * (found[:, 0] - first)
            return identity(
                computed,
                trials.worst,
                tolerance=1e-12,
                reason="4096 eps(float64), residuals of length one, singular values over four decades",
                detail=f"{count} steps, n = {size}",
            )

        def exceeded(part: float) -> Finding:
            return inequality(
                found[:, 1],
                first + part * (trials.worst - first),
                slack=1e-12,
                scale=1.0,
                reason="4096 eps(float64)",
                detail=f"{count} steps, {others} random E of rank one each, n = {size}",
            )

        return [
            attained(1.0).with_control(attained(0.5)),
            exceeded(1.0).with_control(exceeded(0.0)),
        ]

    return combine(one for size in SIZES for one in check(size))


def _by_matrices(
    rng: np.random.Generator, trials: Trials, row: int, parameters: int, others: int
) -> tuple[float, float]:
    """``|r + (J + E) delta|`` for the worst E, and the largest for random ones, with matrices."""
    s, k, c = trials.s[row], trials.k[row], trials.c[row]
    left, _ = np.linalg.qr(rng.normal(size=(len(s), len(s))))
    right, _ = np.linalg.qr(rng.normal(size=(parameters, len(s))))
    J, r = left * np.sqrt(s) @ right.T, left @ c
    delta = -trials.eta[row] * right @ (k / np.sqrt(s) * c)
    bound = trials.C[row] * np.sqrt(s[0])

    def after(E: np.ndarray) -> float:
        return float(np.linalg.norm(r + (J + bound * E / np.linalg.norm(E, 2)) @ delta))

    worst = after(np.outer(r + J @ delta, delta))
    random = [after(np.outer(rng.normal(size=len(s)), delta)) for _ in range(others)]
    return worst, max(random)


@claim(
    "ngd-attains-the-unified-rate",
    statement="At k = 1, eta = (1 - 2C)/(1 - C)^2, a residual along the least eigenvector and the worst E, "
    "|r+|^2 = (1 - eta)|r|^2: the rate is sharp, and so is the limit of eta.",
    source=SOURCE,
    kind="identity",
    params={"num_examples": 4, "num_parameters": 9, "bounds": [0.05, 0.2, 0.35, 0.45], "tolerance": 1e-6},
)
def rate_attained(
    run: Run, num_examples: int, num_parameters: int, bounds: list[float], tolerance: float
) -> Finding:
    """Fails if a better rate, or a larger step, could have been proved.

    The step is ``gr.natural_direction``'s on a random Jacobian, E a matrix of rank one. Control: eta at nine
    tenths of its limit, where the rate is not attained.
    """
    rng = run.rng(104)
    left, _ = np.linalg.qr(rng.normal(size=(num_examples, num_examples)))
    right, _ = np.linalg.qr(rng.normal(size=(num_parameters, num_examples)))
    given = run.asarray(left * np.geomspace(1, 3, num_examples) @ right.T)
    J, r = on_host(given), on_host(run.asarray(left[:, 0]))
    rows, g = run.asarray((J / num_examples**0.5, J.T @ r / num_examples))
    direction = on_host(gr.natural_direction(rows, g, damping=0.0))
    least = float(np.linalg.svd(J, compute_uv=False)[-1])

    def ratio(C: float, fraction: float) -> float:
        eta = fraction * float(step_limit(np.asarray(C)))
        delta = -eta * direction
        along = r + J @ delta
        E = C * least * np.outer(along / np.linalg.norm(along), delta / np.linalg.norm(delta))
        return float(np.sum((r + (J + E) @ delta) ** 2) / ((1 - eta) * np.sum(r**2)))

    def finding(fraction: float) -> Finding:
        return identity(
            np.array([ratio(C, fraction) for C in bounds]),
            np.ones(len(bounds)),
            tolerance=max(tolerance, roundoff(run, condition=9.0)["tolerance"] / (1 - 0.99)),
            reason="asked for; in float32 the roundoff of the solve over 1 - eta",
            detail=f"C = {', '.join(map(str, bounds))}, n = {num_examples}, P = {num_parameters}",
        )

    return finding(1.0).with_control(finding(0.9))


# --- a network -----------------------------------------------------------------------------------------


@claim(
    "network-runs-keep-the-unified-rate",
    statement="A two-layer tanh network with LJ |r_0|/s0^2 <= kap (1 - kap)/2, kap < 1/5, keeps "
    "|r_(k+1)|^2 <= (1 - eta q_k)|r_k|^2 at eta = (1 - 2C)/(1 - C)^2, C = 2 kap/(1 - kap), and stays "
    "within 2 |r_0|/((1 - kap) s0) of its initialisation; NGD and RING with any rho and lam.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 5, "width": 64, "kappas": [0.05, 0.15], "steps": 6, "rhos": [0.0, 1.0, 100.0]},
)
def network_runs(
    run: Run, num_examples: int, width: int, kappas: list[float], steps: int, rhos: list[float]
) -> Finding:
    """Fails if the theorem's assumptions do not carry its conclusion on an actual network.

    The residual at the start is scaled to the largest that LJ admits. Control of the rate: 1 - eta q_k
    cubed; of the ball: 2 |r_0| in the place of 2 |r_0|/sqrt(ell), times 1/10.
    """
    wide = two_layer(run, num_examples=num_examples, width=width, activation="tanh", key=(108,))
    start = point(wide)
    lipschitz, s0 = jacobian_lipschitz(wide.problem, wide.x).upper, start.least**0.5

    def check(kappa: float, rho: float, damping: float) -> list[Finding]:
        length = 0.999 * kappa * (1 - kappa) / 2 * s0**2 / lipschitz
        instance = with_residual(wide, length / start.size * start.residual)
        C = 2 * kappa / (1 - kappa)
        eta = float(step_limit(np.asarray(C)))
        points = list(path(instance, gr.ring(instance.problem, lr=eta, rho=rho, damping=damping), steps))
        # what rounding makes of outputs near one, next to the residual at the start
        floor = roundoff(run, condition=points[0].top / points[0].least, terms=width)
        size = points[0].size
        rates = []
        for at in points[:-1]:
            values, basis = np.linalg.eigh(at.gram)
            k = ring(values, at.nu(rho, damping))
            rates.append(float(np.sum(k * (basis.T @ at.residual) ** 2)) / max(at.size, 1e-300) ** 2)
        text = f"{instance.name}, kap {kappa:g}, rho {rho:g}, lam {damping:g}, {steps} steps at eta {eta:.3g}"
        common = as_slack(floor, "roundoff of the outputs")
        lengths = np.array([one.size for one in points])

        def rate(power: int) -> Finding:
            bound = np.sqrt((1 - eta * np.array(rates)) ** power) * lengths[:-1]
            return inequality(lengths[1:], bound, scale=size, **common, detail=text)

        radius = 2 * size / ((1 - kappa) * s0)
        away = np.array([np.linalg.norm(one.theta - points[0].theta) for one in points])

        def ball(factor: float) -> Finding:
            return inequality(away, factor * radius, scale=radius, **common, detail=f"distance, {text}")

        return [rate(1).with_control(rate(3)), ball(1.0).with_control(ball(0.1))]

    cases = [(rho, 0.0) for rho in rhos] + [(rhos[-1], 0.01)]
    return combine(one for kappa in kappas for case in cases for one in check(kappa, *case))
