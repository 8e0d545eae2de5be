"""RENG in function space: its operator, how long a step may be, and its rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.convergence import point, regularized_gradient, two_layer
from proofs_check.data import Instance, on_host, synthetic
from proofs_check.filters import SIZES, random_trials
from proofs_check.tolerance import Slack, Tolerance, roundoff

SOURCE = "our reconstruction (theory of RENG)"


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


SECOND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda z: -2 * np.tanh(z) / np.cosh(z) ** 2,
    "softplus": lambda z: _sigmoid(z) * _sigmoid(-z),
    "relu": np.zeros_like,
}
"""Second derivatives, for a reference that does not use the package's."""


def _residual_curvature(instance: Instance, activation: str, width: int) -> np.ndarray:
    """``Rc`` (P, P): for every unit r a block ``sum_i r_i a_r act''(w_r . x_i) x_i x_i^T/(n sqrt m)``."""
    theta, x, _ = instance.host
    weights = theta.reshape(width, -1)
    residual = point(instance).residual
    n, inputs = x.shape
    full = np.zeros((theta.size, theta.size))
    for unit, (w, sign) in enumerate(zip(weights, np.resize([1.0, -1.0], width), strict=True)):
        part = slice(unit * inputs, (unit + 1) * inputs)
        bend = residual * sign * SECOND[activation](x @ w)
        full[part, part] = (x.T * bend) @ x / (n * math.sqrt(width))
    return full


@claim(
    "reng-in-function-space",
    statement="F^+ (I + rho H) g = J^T [GG^-1 + rho/n + rho GG^-2 J Rc J^T] r, Rc = (1/n) sum r_i Hess "
    "u_i, for the squared loss; with damping J delta = -eta (GG + n lam)^-1 [GG + rho GG^2/n + rho J Rc "
    "J^T] r.",
    source=SOURCE,
    kind="identity",
    params={
        "activations": ["tanh", "softplus", "relu"],
        "num_examples": 4,
        "width": 16,
        "rhos": [0.5, 5.0],
        "damping": 0.05,
    },
)
def function_space(
    run: Run, activations: list[str], num_examples: int, width: int, rhos: list[float], damping: float
) -> Finding:
    """Fails if RENG's Hessian is not F + Rc, or enters otherwise.

    Rc from the second derivatives of the activation, written out. Controls: Rc with the other sign (relu,
    where it is zero: rho for rho/n); of the damped step, the damping not times n.
    """

    def check(activation: str, rho: float) -> list[Finding]:
        instance = two_layer(
            run, num_examples=num_examples, inputs=5, width=width, activation=activation, key=(131,)
        )
        at, n = point(instance), num_examples
        J, GG, r = at.jacobian, at.gram, at.residual
        rc = _residual_curvature(instance, activation, width)
        values, basis = np.linalg.eigh(instance.dense_fisher())
        kept = basis[:, -n:]  # the rank of F
        ours = kept @ (kept.T @ regularized_gradient(instance, rho) / values[-n:])
        condition = at.top / at.least
        limit = roundoff(run, condition=condition, terms=width)
        text = f"{instance.name}, rho {rho:g}"

        def undamped(sign: float, count: int) -> Finding:
            inside = np.linalg.solve(GG, np.linalg.solve(GG, J @ rc @ J.T @ r))
            expected = J.T @ (np.linalg.solve(GG, r) + rho / count * r + sign * rho * inside)
            return identity(ours, expected, **limit, detail=text)

        step = J @ on_host(instance.step(gr.reng(instance.problem, lr=0.5, rho=rho, damping=damping)))

        def damped(count: int) -> Finding:
            inside = GG @ r + rho * (GG @ GG @ r / n + J @ rc @ J.T @ r)
            expected = -0.5 * np.linalg.solve(GG + count * damping * np.eye(n), inside)
            return identity(step, expected, **limit, detail=f"{text}, lam {damping:g}")

        planted = undamped(1.0, 1) if activation == "relu" else undamped(-1.0, n)
        return [undamped(1.0, n).with_control(planted), damped(n).with_control(damped(1))]

    return combine(one for name in activations for rho in rhos for one in check(name, rho))


# --- the length of a step ------------------------------------------------------------------------------


def _linear(run: Run, num_examples: int, inputs: int) -> Instance:
    """A linear model with more weights than examples: Rc = 0, and J never changes."""
    return synthetic(
        run, "gaussian", (inputs, 1), num_examples=num_examples, key=(135,), variance=1.0, bias=False
    )


@claim(
    "reng-contracts-eigenwise",
    statement="With Rc = 0 and lam = 0 RENG multiplies the residual along the eigenvector i of GG by 1 - "
    "eta(1 + rho s_i/n): the largest stable step is eta = 2/(1 + rho top/n), smaller than NGD's 2.",
    source=SOURCE,
    kind="identity",
    params={"num_examples": 4, "inputs": 7, "rhos": [0.3, 3.0], "eta": 0.4, "aside": 0.02},
)
def eigenwise(
    run: Run, num_examples: int, inputs: int, rhos: list[float], eta: float, aside: float
) -> Finding:
    """Fails if the regularizer weighs with anything but s_i/n.

    A linear model, and a relu network as long as no unit switches: r + J delta. Controls: rho s_i without
    1/n; of the threshold, from each side, the step on its other side.
    """
    linear = _linear(run, num_examples, inputs)
    relu = two_layer(run, num_examples=num_examples, inputs=inputs, width=16, activation="relu", key=(136,))

    def factors(instance: Instance, size: float, rho: float) -> tuple[np.ndarray, np.ndarray]:
        """Residual and step of it, in the eigenbasis; the step is linear in delta."""
        here = point(instance)
        _, basis = np.linalg.eigh(here.gram)
        step = on_host(instance.step(gr.reng(instance.problem, lr=size, rho=rho)))
        return basis.T @ here.residual, basis.T @ (here.residual + here.jacobian @ step)

    def check(instance: Instance, rho: float) -> list[Finding]:
        here = point(instance)
        values = np.linalg.eigvalsh(here.gram)
        limit = roundoff(run, condition=here.top / here.least, terms=inputs)
        before, after = factors(instance, eta, rho)
        text = f"{instance.name}, rho {rho:g}"

        def finding(count: int) -> Finding:
            expected = (1 - eta * (1 + rho * values / count)) * before
            return identity(after, expected, scale=here.size, **limit, detail=f"{text}, eta {eta:g}")

        def growth(part: float) -> float:
            threshold = 2 / (1 + rho * here.top / num_examples)
            old, new = factors(instance, part * threshold, rho)
            return float(abs(new[-1] / old[-1]))

        grown = [growth(1 - aside), growth(1 + aside)]

        def below(value: float) -> Finding:
            return inequality(value, 1.0, **_loose(limit), detail=f"{text}, below the threshold")

        def above(value: float) -> Finding:
            return inequality(1.0, value, **_loose(limit), detail=f"{text}, above the threshold")

        return [
            finding(num_examples).with_control(finding(1)),
            below(grown[0]).with_control(below(grown[1])),
            above(grown[1]).with_control(above(grown[0])),
        ]

    return combine(one for given in (linear, relu) for rho in rhos for one in check(given, rho))


def _loose(limit: Tolerance) -> Slack:
    return {
        "slack": min(100 * limit["tolerance"], 0.005),
        "reason": f"100 x, one entry of many: {limit['reason']}",
    }


@dataclasses.dataclass(frozen=True)
class _RengTrials:
    """Steps of RENG on random spectra, with a curvature Rc and the worst change of J; a row each."""

    s: np.ndarray
    c: np.ndarray
    rho: np.ndarray
    rc: np.ndarray  # (trials, n, n), in the basis of right singular vectors
    eta: np.ndarray
    C: np.ndarray

    @property
    def norm(self) -> np.ndarray:
        """``|Rc|``."""
        return np.linalg.norm(self.rc, 2, axis=(1, 2))

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """``|r+|`` and ``|delta|``."""
        n = self.s.shape[1]
        root, rho = np.sqrt(self.s), self.rho[:, None]
        bent = (self.rc @ (root * self.c)[:, :, None])[:, :, 0]
        delta = -self.eta[:, None] * (self.c / root + rho / n * root * self.c + rho * bent / self.s)
        length = np.linalg.norm(delta, axis=1)
        return np.linalg.norm(self.c + root * delta, axis=1) + self.C * root[:, 0] * length, length


def _reng_trials(rng: np.random.Generator, count: int, size: int, admitted: float) -> _RengTrials:
    """``C' = C + rho (1 + C) sqrt(top/ell) |Rc| < 1/2``, Rc ``admitted`` times as large as that allows."""
    drawn = random_trials(rng, count, size)
    ratio = np.sqrt(drawn.s[:, -1] / drawn.s[:, 0])
    C = 0.5 * rng.random(count) ** 2
    larger = C + (0.5 - C) * rng.random(count)
    rho = 10.0 ** rng.uniform(-6, 3, size=count)
    raw = rng.normal(size=(count, size, size))
    raw[::2] *= 0
    raw[::2, 0, -1] = 1.0  # it turns the steepest direction into the flattest
    raw[::4] *= -1
    rc = raw + raw.transpose(0, 2, 1)
    length = (larger - C) / (rho * (1 + C) * ratio) * admitted
    rc *= (length / np.linalg.norm(rc, 2, axis=(1, 2)))[:, None, None]
    eta = (1 - 2 * larger) / (1 + larger**2) / (1 + rho * drawn.s[:, -1] / size)
    signs = rng.choice([-1.0, 1.0], size=drawn.c.shape)
    return _RengTrials(drawn.s, signs * drawn.c, rho, rc, eta, C)


@claim(
    "reng-keeps-the-unified-rate-in-a-smaller-range",
    statement="With C' = C + rho (1 + C) sqrt(top/ell)|Rc| < 1/2 and eta (1 + rho top/n) <= (1 - 2C')/(1 + "
    "C'^2): |r+|^2 <= (1 - eta (1 + rho ell/n))|r|^2, and sqrt(ell)|delta| <= 2 (1 + rho "
    "sqrt(top/ell)|Rc|)(|r| - |r+|).",
    source=SOURCE,
    kind="inequality",
    params={"count": 4000},
)
def reng_rate(run: Run, count: int) -> Finding:
    """Fails if Rc or the change of J can undo more than C' of a step.

    Random spectra, residuals and Rc, the worst E. Controls: Rc twenty times as large as admitted; eta
    tripled; of the length, half the bound.
    """
    total = count * (10 if run.full else 1)
    sizes = SIZES[1:]
    common: Slack = {"slack": 1e-12, "reason": "4096 eps(float64): cond(J) |Rc| rho is below one"}

    def drawn(admitted: float, factor: float = 1.0) -> list[_RengTrials]:
        made = [_reng_trials(run.rng(137, size), total, size, admitted) for size in sizes]
        return [dataclasses.replace(one, eta=factor * one.eta) for one in made]

    def joined(trials: list[_RengTrials], sides: Callable[[_RengTrials], Any], text: str) -> Finding:
        left, right = (np.concatenate(side) for side in zip(*map(sides, trials), strict=True))
        return inequality(left, right, scale=1.0, **common, detail=f"{total * len(sizes)} steps, {text}")

    def rate(one: _RengTrials) -> tuple[np.ndarray, np.ndarray]:
        n = one.s.shape[1]
        return one.parts[0] ** 2, 1 - one.eta * (1 + one.rho * one.s[:, 0] / n)

    def length(factor: float) -> Callable[[_RengTrials], tuple[np.ndarray, np.ndarray]]:
        def sides(one: _RengTrials) -> tuple[np.ndarray, np.ndarray]:
            after, delta = one.parts
            more = one.rho * np.sqrt(one.s[:, -1] / one.s[:, 0]) * one.norm
            return np.sqrt(one.s[:, 0]) * delta, factor * (1 + more) * (1 - after)

        return sides

    right = drawn(1.0)
    held = joined(right, rate, "rate")
    return combine(
        [
            held.with_control(joined(drawn(20.0), rate, "Rc 20 times as large")),
            held.with_control(joined(drawn(1.0, 3.0), rate, "eta tripled")),
            joined(right, length(2.0), "length").with_control(joined(right, length(1.0), "half the length")),
        ]
    )
