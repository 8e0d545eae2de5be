"""One rate for all filtered steps, |r+|^2 <= (1 - eta q)|r|^2, attacked by random trials and a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, inequality
from proofs_check.filters import (
    SIZES,
    Trials,
    adversarial_search,
    random_trials,
    ring,
    step_limit,
)
from proofs_check.tolerance import Slack

SOURCE = "our reconstruction (unified convergence theorem)"
ROUNDING: Slack = {
    "slack": 1e-13,
    "reason": "512 eps(float64): the trials are computed in float64 on the host",
}


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
    statement="delta = -eta J^T psi(GG) r with k(s) = s psi(s) in (0, 1], k nondecreasing, psi "
    "nonincreasing, and |E| <= C sqrt(lmin GG), C < 1/2, eta <= (1 - 2C)/(1 - C)^2: |r+|^2 <= (1 - eta "
    "q)|r|^2, q = r^T k(GG) r/|r|^2, under the worst E.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000, "searched": 200, "rounds": 150},
    full={"count": 200_000},
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
    statement="Under the same conditions sqrt(lmin GG) |delta| <= 2 (|r| - |r+|), so that a path is at "
    "most 2 |r_0|/sqrt(ell) long; and sqrt(lmin GG) |delta| <= |r|, so that no single step leaves that "
    "ball.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
    full={"count": 200_000},
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


# --- what regularization changes -----------------------------------------------------------------------


@claim(
    "larger-changes-of-the-jacobian-keep-a-slower-rate",
    statement="For every admissible filter, any C < 1 and any eta <= 1: |r+| <= (1 - eta (1 - C)(q + "
    "k_1)/2)|r|, k_1 = k(lmin GG) <= q, and (1 - C) sqrt(lmin GG)|delta| <= |r| - |r+|; RING has k_1 = "
    "ell/(ell + nu), however large nu.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
    full={"count": 200_000},
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
    statement="RING with lam = 0: with x = |r|^2 and t = rho top/(n ell), ln x + t x falls by at least eta "
    "a step, so that its damping costs at most t |r_0|^2/eta steps.",
    source=SOURCE,
    kind="inequality",
    params={"count": 10000},
    full={"count": 200_000},
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
