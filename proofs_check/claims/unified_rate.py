"""One rate for all filtered steps: |r+|^2 <= (1 - eta q) |r|^2 under a Jacobian that changes by C sqrt(lmin)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.convergence import jacobian_lipschitz, path, point, two_layer, with_residual
from proofs_check.data import Instance, on_host
from proofs_check.filters import (
    SIZES,
    Trials,
    adversarial_search,
    newton_schulz,
    random_trials,
    ring,
    step_limit,
)
from proofs_check.tolerance import Slack, roundoff

SOURCE = "our reconstruction (unified convergence theorem)"
ROUNDING: Slack = {
    "slack": 1e-13,
    "reason": "512 eps(float64): the trials are computed in float64 on the host",
}


# --- optimizers as filters -----------------------------------------------------------------------------


def _truncated_inverse_step(instance: Instance, damping: float, steps: int) -> np.ndarray:
    """``-X g`` with X left to so many steps of Newton-Schulz on F + lam I."""
    matrix = instance.dense_fisher() + damping * np.eye(instance.problem.num_parameters)
    found = gr.solvers.newton_schulz_inverse(instance.run.asarray(matrix), max_iterations=steps)
    return -on_host(found.inverse @ instance.gradient())


@claim(
    "optimizers-filter-the-residual",
    statement="For the squared loss one step changes the linearised residual by J delta = -eta k(GG) r, GG = "
    "J J^T: k = 1 for NGD, s/(s + n(rho |g|^2 + lam)) for RING, s/n for gradient descent, and (s/(s + n lam))"
    "(1 - (1 - a/t)^(2^K)), a = s/n + lam, for K steps of Newton-Schulz from I/t.",
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
    truncated = [newton_schulz(values, n * damping, t, steps + more) for more in (0, 1)]  # type: ignore[arg-type]
    cases: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = [
        ("NGD", on_host(instance.step(gr.ngd(problem, lr=eta))), np.ones(n), values / (values + 0.01)),
        (
            "RING",
            on_host(instance.step(gr.ring(problem, lr=eta, rho=rho, damping=damping))),
            values / (values + nu),
            values / (values + nu / n),
        ),
        ("gradient descent", on_host(instance.step(gr.sgd(problem, lr=eta))), values / n, values),
        ("Newton-Schulz", eta * _truncated_inverse_step(instance, damping, steps), *truncated),
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


# --- trials --------------------------------------------------------------------------------------------


def _trials(run: Run, key: int, count: int) -> list[Trials]:
    """So many random steps for each number of residuals, ten times as many in a full run."""
    total = count * (10 if run.full else 1)
    return [random_trials(run.rng(key, size), total, size) for size in SIZES]


def _compared(
    trials: list[Trials], sides: Callable[[Trials], tuple[np.ndarray, np.ndarray]], text: str
) -> Finding:
    lhs, rhs = (np.concatenate(side) for side in zip(*map(sides, trials), strict=True))
    sizes = ", ".join(str(one.s.shape[1]) for one in trials)
    return inequality(lhs, rhs, scale=1.0, **ROUNDING, detail=f"{text}, n = {sizes}; residuals of length one")


def _keeps_the_rate(trials: list[Trials], text: str) -> Finding:
    return _compared(trials, lambda one: (one.worst**2, 1 - one.eta * one.q), text)


@claim(
    "filtered-steps-keep-the-unified-rate",
    statement="delta = -eta J^T psi(GG) r with k(s) = s psi(s) in (0, 1], k nondecreasing, psi nonincreasing, "
    "and |E| <= C sqrt(lmin GG), C < 1/2, eta <= (1 - 2C)/(1 - C)^2: |r+|^2 <= (1 - eta q)|r|^2, q = r^T "
    "k(GG) r/|r|^2, under the worst E.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000, "searched": 200, "rounds": 150},
)
def unified_rate(run: Run, count: int, searched: int, rounds: int) -> Finding:
    """Fails if a spectrum, an admissible filter, a residual and the worst E exceed the rate anywhere.

    Filters of NGD, RING, Newton-Schulz, gradient descent, RENG and at random; the trials that come nearest
    are changed further by a search. Controls: a step size 5 % beyond the limit; C up to 0.9 at small steps;
    k decreasing; psi increasing; k beyond one; the rate 1 - 1.02 eta q.
    """
    trials = _trials(run, 102, count)
    nearest = [one.of(np.argsort(-one.excess / (one.eta * one.q))[:searched]) for one in trials]
    rng = run.rng(102)
    found = [adversarial_search(rng, one, rounds) for one in nearest]
    total = sum(len(one.eta) for one in trials)
    held = combine(
        [
            _keeps_the_rate(trials, f"{total} random steps"),
            _keeps_the_rate(found, f"{searched * len(SIZES)} steps after {rounds} rounds of a search"),
        ]
    )

    def faster(one: Trials) -> tuple[np.ndarray, np.ndarray]:
        return one.worst**2, 1 - 1.02 * one.eta * one.q

    def changed(text: str, change: Callable[[Trials], dict[str, Any]]) -> Finding:
        return _keeps_the_rate([replace(one, **change(one)) for one in trials], text)

    controls = [
        changed("eta beyond its limit", lambda one: {"eta": 1.05 * one.eta}),
        changed("C from 0.6 to 0.9", lambda one: {"C": 0.6 + 0.6 * one.C, "eta": 0.1 * one.eta}),
        changed("k decreasing", lambda one: {"k": one.k[:, ::-1]}),
        changed("psi increasing", lambda one: {"k": (one.s / one.s[:, -1:]) ** 2}),
        changed("k up to 1.5", lambda one: {"k": 1.5 * one.k}),
        _compared(trials, faster, "a rate 2 % too fast"),
    ]
    return combine(held.with_control(control) for control in controls)


@claim(
    "filtered-steps-stay-in-the-ball",
    statement="Under the same conditions sqrt(lmin GG) |delta| <= 2 (|r| - |r+|), so that a path is at most "
    "2 |r_0|/sqrt(ell) long; and sqrt(lmin GG) |delta| <= |r|, so that no single step leaves that ball.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
)
def unified_path(run: Run, count: int) -> Finding:
    """Fails if a step is long beside what it gains. Controls: C up to 0.9; k decreasing; half the bound."""
    trials = _trials(run, 103, count)

    def bound(factor: float) -> Callable[[Trials], tuple[np.ndarray, np.ndarray]]:
        return lambda one: (np.sqrt(one.s[:, 0]) * one.step, factor * (1 - one.worst))

    def finding(given: list[Trials], text: str, factor: float = 2.0) -> Finding:
        return _compared(given, bound(factor), text)

    total = sum(len(one.eta) for one in trials)
    held = finding(trials, f"{total} random steps")
    single = _compared(
        trials, lambda one: (np.sqrt(one.s[:, 0]) * one.step, np.ones_like(one.eta)), "one step"
    )
    reverse = [replace(one, k=one.k[:, ::-1]) for one in trials]
    long = [replace(one, eta=1.5 * one.eta) for one in trials]
    controls = [
        finding([replace(one, C=0.6 + 0.6 * one.C) for one in trials], "C from 0.6 to 0.9"),
        finding(reverse, "k decreasing"),
        finding(trials, "a path of |r_0|/sqrt(ell)", factor=1.0),
    ]
    too_long = _compared(
        long, lambda one: (np.sqrt(one.s[:, 0]) * one.step, np.ones_like(one.eta)), "eta 1.5"
    )
    return combine([*(held.with_control(one) for one in controls), single.with_control(too_long)])


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


# --- what regularization changes -----------------------------------------------------------------------


@claim(
    "larger-changes-of-the-jacobian-keep-a-slower-rate",
    statement="For every admissible filter, any C < 1 and any eta <= 1: |r+| <= (1 - eta (1 - C)(q + k_1)/2)|r|, "
    "k_1 = k(lmin GG) <= q, and (1 - C) sqrt(lmin GG)|delta| <= |r| - |r+|; RING has k_1 = ell/(ell + nu), "
    "however large nu.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
)
def slower_rate(run: Run, count: int) -> Finding:
    """Fails if E can undo more of a step than the part C of it.

    Controls: C up to 1.5 beside the rate for two thirds of it; k decreasing; eta up to 1.5.
    """
    drawn = []
    for size in SIZES:
        rng = run.rng(105, size)
        drawn.append(replace(random_trials(rng, count, size), C=rng.random(count), eta=rng.random(count)))

    def finding(text: str, change: Callable[[Trials], Trials], part: float = 1.0) -> list[Finding]:
        trials = [change(one) for one in drawn]

        def rate(one: Trials) -> tuple[np.ndarray, np.ndarray]:
            return one.worst, 1 - one.eta * (1 - part * one.C) * (one.q + one.k[:, 0]) / 2

        def length(one: Trials) -> tuple[np.ndarray, np.ndarray]:
            return (1 - part * one.C) * np.sqrt(one.s[:, 0]) * one.step, 1 - one.worst

        return [_compared(trials, sides, f"{count * len(SIZES)} steps, {text}") for sides in (rate, length)]

    held = finding("C < 1", lambda one: one)
    planted = [
        finding("C up to 1.5", lambda one: replace(one, C=1.5 * one.C), part=2 / 3),
        finding("k decreasing", lambda one: replace(one, k=one.k[:, ::-1])),
        finding("eta up to 1.5", lambda one: replace(one, eta=1.5 * one.eta)),
    ]
    return combine(
        one.with_control(control) for controls in planted for one, control in zip(held, controls, strict=True)
    )


@claim(
    "gradient-regularization-costs-a-bounded-number-of-steps",
    statement="RING with lam = 0: with x = |r|^2 and t = rho top/(n ell), ln x + t x falls by at least eta a "
    "step, so that its damping costs at most t |r_0|^2/eta steps.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
)
def cost_of_regularization(run: Run, count: int) -> Finding:
    """Fails if RING's damping falls slower than the squared residual, or costs more than it allows.

    Random spectra, worst E, ell and top of the spectrum itself. Controls: the fall asked for 2 % more; t
    without top/ell.
    """

    def made(size: int) -> tuple[Trials, np.ndarray]:
        rng = run.rng(106, size)
        drawn = random_trials(rng, count, size)
        # nu = n rho |g|^2 with |g|^2 = x sum s c^2 / n^2, for a residual of squared length x
        weight = 10.0 ** rng.uniform(-8, 4, size=count)  # rho x / n
        nu = weight * np.sum(drawn.s * drawn.c**2, axis=-1)
        return replace(drawn, k=ring(drawn.s, nu[:, None])), weight

    drawn = [made(size) for size in SIZES]
    weights = {id(one): weight for one, weight in drawn}

    def finding(fall: float, text: str, whole: bool = True) -> Finding:
        def sides(one: Trials) -> tuple[np.ndarray, np.ndarray]:
            tx = weights[id(one)] * (one.s[:, -1] if whole else 1.0)
            gain = -np.log(one.worst**2) + tx * (1 - one.worst**2)
            return fall * one.eta, gain

        return _compared([one for one, _ in drawn], sides, text)

    text = f"{count * len(SIZES)} steps"
    held = finding(1.0, text)
    controls = [finding(1.02, f"{text}, 2 % more"), finding(1.0, f"{text}, t without top/ell", whole=False)]
    return combine(held.with_control(one) for one in controls)


@claim(
    "gradient-regularization-enlarges-the-admissible-step",
    statement="RING with rho > 0 keeps the unified rate at step sizes 5 % beyond NGD's limit.",
    source="to be refuted (its damping vanishes with the gradient, and NGD attains the rate at the limit)",
    kind="inequality",
    expected="refuted",
    params={"count": 1000, "beyond": 1.05, "rhos": [0.1, 1.0, 10.0]},
)
def no_larger_step(run: Run, count: int, beyond: float, rhos: list[float]) -> Finding:
    """Would hold if some damping were left where the residual is small. Control: eta at the limit."""
    trials = random_trials(run.rng(107), count, 1)
    sizes = 10.0 ** -np.arange(8.0)[:, None]  # |r|; n = 1: |g|^2 = s |r|^2
    damped = [ring(trials.s, rho * trials.s * sizes[i % 8] ** 2) for rho in rhos for i in range(8)]

    def finding(factor: float) -> Finding:
        eta = factor * step_limit(trials.C)
        given = [replace(trials, k=k, eta=eta) for k in damped]
        return _keeps_the_rate(
            given, f"{count} steps, each with {len(damped)} dampings, eta {factor:g} limit"
        )

    return finding(beyond).with_control(finding(1.0))


# --- a network -----------------------------------------------------------------------------------------


@claim(
    "network-runs-keep-the-unified-rate",
    statement="A two-layer tanh network with LJ |r_0|/s0^2 <= kap (1 - kap)/2, kap < 1/5, keeps |r_(k+1)|^2 "
    "<= (1 - eta q_k)|r_k|^2 at eta = (1 - 2C)/(1 - C)^2, C = 2 kap/(1 - kap), and stays within 2 |r_0|/"
    "((1 - kap) s0) of its initialisation; NGD and RING with any rho and lam.",
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
    wide = two_layer(
        run, num_examples=num_examples, inputs=2 * num_examples, width=width, activation="tanh", key=(108,)
    )
    start = point(wide)
    lipschitz, s0 = jacobian_lipschitz(wide, "tanh", width), start.least**0.5

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
            k = values / (values + at.nu(rho, damping))
            rates.append(float(np.sum(k * (basis.T @ at.residual) ** 2)) / max(at.size, 1e-300) ** 2)
        text = f"{instance.name}, kap {kappa:g}, rho {rho:g}, lam {damping:g}, {steps} steps at eta {eta:.3g}"
        common = {"slack": floor["tolerance"], "reason": f"roundoff of the outputs: {floor['reason']}"}
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
