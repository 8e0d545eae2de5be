"""Classical statements: the infinitely wide relu network, Zhang's conditions, finite differences."""

from __future__ import annotations

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, inequality, rate, statistical
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.convergence import path, point, two_layer, with_residual
from proofs_check.data import on_host, synthetic
from proofs_check.filters import step_limit
from proofs_check.tolerance import roundoff


def _limit_kernel(x: np.ndarray) -> np.ndarray:
    """``x_i . x_j (pi - arccos(x_i . x_j))/(2 pi)`` for unit inputs."""
    cosines = np.clip(x @ x.T, -1.0, 1.0)
    return cosines * (np.pi - np.arccos(cosines)) / (2 * np.pi)


@claim(
    "relu-gram-matrix-has-its-infinite-width-mean",
    statement="For unit inputs the Gram matrix J J^T of a two-layer relu network has the mean x_i.x_j (pi "
    "- arccos(x_i.x_j))/(2 pi) over its initialisation.",
    source="classical result (arc-cosine kernel: Cho and Saul 2009; Du and others 2019)",
    kind="statistical",
    params={"num_examples": 5, "inputs": 4, "width": 16384},
)
def kernel_mean(run: Run, num_examples: int, inputs: int, width: int) -> Finding:
    """Fails if the hidden weights are not isotropic, the output not scaled by m^(-1/2), or relu' no step.

    The entries are means over independent units, of one network. Control: (pi - arccos)/pi, the kernel of
    output weights of variance two.
    """
    network = two_layer(
        run, num_examples=num_examples, inputs=inputs, width=width, activation="relu", key=(151,)
    )
    rows = point(network).jacobian.reshape(num_examples, width, inputs)
    pairs = np.triu_indices(num_examples)
    units = width * np.sum(rows[pairs[0]] * rows[pairs[1]], axis=-1)  # (pairs, m): one term a unit
    mean, deviation = units.mean(axis=1), units.std(axis=1)
    skewness = np.mean((units - mean[:, None]) ** 3, axis=1) / deviation**3

    def finding(factor: float) -> Finding:
        return statistical(
            mean,
            factor * _limit_kernel(network.host[1])[pairs],
            deviation / np.sqrt(width),
            num_samples=width,
            skewness=skewness,
            detail=f"{network.name}, {len(mean)} pairs of inputs, a term for every unit",
        )

    return finding(1.0).with_control(finding(2.0))


@claim(
    "relu-gram-matrix-fluctuates-like-the-root-of-the-width",
    statement="|GG_m - GG_inf| = O(m^(-1/2)) at initialisation, for unit inputs and a two-layer relu "
    "network.",
    source="classical result (Jacot, Gabriel and Hongler 2018; Du and others 2019)",
    kind="rate",
    params={"num_examples": 5, "inputs": 4, "widths": [16, 64, 256, 1024], "networks": 60, "tolerance": 0.1},
)
def kernel_fluctuation(
    run: Run, num_examples: int, inputs: int, widths: list[int], networks: int, tolerance: float
) -> Finding:
    """Fails if units are not independent, or scaled otherwise. Control: the exponent -1.

    The root of the mean squared distance over independent networks, each with inputs of its own.
    """

    def distance(width: int) -> float:
        squares = []
        for number in range(networks):
            network = two_layer(
                run,
                num_examples=num_examples,
                inputs=inputs,
                width=width,
                activation="relu",
                key=(152, width, number),
            )
            squares.append(np.sum((point(network).gram - _limit_kernel(network.host[1])) ** 2))
        return float(np.mean(squares)) ** 0.5

    used = [*widths, 4096, 16384] if run.full else widths
    found = np.array([distance(width) for width in used])

    def finding(order: float) -> Finding:
        return rate(
            np.array(used),
            found,
            order,
            tolerance=tolerance,
            reason=f"sampling: each distance is right to about 5 % with {networks} networks, the exponent "
            "to 0.02; five times that",
            detail=f"two-layer relu, n = {num_examples}, {networks} networks of each width {used}",
        )

    return finding(-0.5).with_control(finding(-1.0))


# --- Zhang, Martens and Grosse 2019 --------------------------------------------------------------------


@claim(
    "stable-jacobian-conditions-imply-the-unified-ones",
    statement="|J - J_0| <= (C/3) s0 within 3 |r_0|/s0, C < 1/2, gives the unified theorem its kap = C/3 < "
    "1/5 and its ball; its change of the Jacobian is then 2C/(3 - C) <= C, and its step size at least (1 - "
    "2C)/(1 + C)^2.",
    source="our reconstruction; classical result (Zhang, Martens and Grosse 2019, conditions 1 and 2)",
    kind="inequality",
    params={"points": 2000},
)
def stable_jacobian(run: Run, points: int) -> Finding:
    """Fails if our theorem asks for more than theirs somewhere. Control of each: kap = C."""
    C = np.linspace(0, 0.5, points + 2)[1:-1]

    def findings(kappa: np.ndarray) -> list[Finding]:
        ours = 2 * kappa / (1 - kappa)
        pairs = {
            "kap below 1/5": (kappa, np.full_like(C, 0.2)),
            "radius": (2 / (1 - kappa), np.full_like(C, 3.0)),
            "change of the Jacobian": (ours, C),
            "step size": ((1 - 2 * C) / (1 + C) ** 2, step_limit(ours)),
        }
        return [
            inequality(
                *pair, scale=1.0, slack=1e-14, reason="64 eps(float64)", detail=f"{name}, C in (0, 1/2)"
            )
            for name, pair in pairs.items()
        ]

    return combine(
        one.with_control(planted) for one, planted in zip(findings(C / 3), findings(0.999 * C), strict=True)
    )


@claim(
    "ngd-keeps-the-classical-rate-where-the-jacobian-is-stable",
    statement="Under both conditions NGD at eta = (1 - 2C)/(1 + C)^2 has |r_k|^2 <= (1 - eta)^k |r_0|^2.",
    source="classical result (Zhang, Martens and Grosse 2019)",
    kind="inequality",
    params={"num_examples": 4, "width": 64, "bounds": [0.1, 0.3, 0.45], "steps": 8},
)
def classical_rate(run: Run, num_examples: int, width: int, bounds: list[float], steps: int) -> Finding:
    """Fails if the conditions, by LJ |r_0|/s0^2 <= C/9, do not carry the rate. Control: (1 - eta)^(3k)."""
    wide = two_layer(run, num_examples=num_examples, width=width, activation="tanh", key=(153,))
    start = point(wide)
    lipschitz = jacobian_lipschitz(wide.problem, wide.x).upper

    def check(C: float) -> Finding:
        instance = with_residual(wide, C / 9 * start.least / lipschitz / start.size * start.residual)
        eta = (1 - 2 * C) / (1 + C) ** 2
        points = list(path(instance, gr.ngd(instance.problem, lr=eta), steps))
        sizes = np.array([one.size for one in points])
        limit = roundoff(run, condition=(1 + 1 / sizes[0]) * (start.top / start.least) ** 0.5, terms=width)

        def finding(power: int) -> Finding:
            bound = (1 - eta) ** (power * np.arange(steps + 1) / 2) * sizes[0]
            return inequality(
                sizes,
                bound,
                scale=float(sizes[0]),
                slack=limit["tolerance"],
                reason=f"rounding of the outputs: {limit['reason']}",
                detail=f"{instance.name}, C = {C:g}, eta {eta:.3g}, {steps} steps",
            )

        return finding(1).with_control(finding(3))

    return combine(check(C) for C in bounds)


# --- finite differences --------------------------------------------------------------------------------


@claim(
    "finite-difference-regularization-is-of-first-order",
    statement="(g(theta + e g) - g(theta))/e = H g + O(e).",
    source="classical result (forward difference)",
    kind="rate",
    params={"num_examples": 8, "sizes": [4, 6, 3], "tolerance": 0.2},
)
def finite_difference(run: Run, num_examples: int, sizes: list[int], tolerance: float) -> Finding:
    """Fails if H g is not the derivative along g. Control: a central difference, whose error is O(e^2).

    Lengths |e g| from eps^(1/4) on, where the error of second order and rounding are both small; the four
    likelihoods.
    """
    steps = run.eps**0.25 * np.geomspace(0.5, 4, 5)

    def check(likelihood: str, position: int) -> Finding:
        instance = synthetic(run, likelihood, sizes, num_examples=num_examples, key=(154, position))
        problem, theta, x, y = instance.problem, instance.theta, instance.x, instance.y
        g = instance.gradient()
        exact = on_host(problem.hvp(theta, x, y, g))
        lengths = steps / float(np.linalg.norm(on_host(g)))

        def slope(e: float) -> np.ndarray:
            return on_host(problem.gradient(theta + e * g, x, y))

        forward = [np.linalg.norm((slope(e) - on_host(g)) / e - exact) for e in map(float, lengths)]
        central = [np.linalg.norm((slope(e) - slope(-e)) / (2 * e) - exact) for e in map(float, lengths)]

        def finding(errors: list[np.floating]) -> Finding:
            return rate(
                lengths,
                np.array(errors),
                1.0,
                tolerance=tolerance,
                reason="the error of second order, next to that of first: about the length |e g|",
                detail=f"{instance.name}, lengths from {steps[0]:.2g} to {steps[-1]:.2g}",
            )

        return finding(forward).with_control(finding(central))

    names = ("gaussian", "categorical", "bernoulli", "poisson")
    return combine(check(name, position) for position, name in enumerate(names))
