"""Kantorovich's majorant: a parabola whose damped Newton iteration bounds the runs of NGD and RING."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.convergence import Point, path, point, two_layer, with_residual
from proofs_check.data import Instance
from proofs_check.tolerance import Slack, roundoff

SOURCE = "our reconstruction (after Kantorovich)"


@dataclasses.dataclass(frozen=True)
class Parabola:
    """``p(t) = L t^2/2 - s t + h``: of a Jacobian's Lipschitz constant, least singular value and residual."""

    L: float
    s: float
    h: float

    def value(self, t: float) -> float:
        """Of p at t."""
        return self.L * t**2 / 2 - self.s * t + self.h

    def slope(self, t: float) -> float:
        """Of p' at t: negative before the root."""
        return self.L * t - self.s

    def iterates(self, eta: float, dampings: Sequence[float]) -> np.ndarray:
        """``t_0 = 0`` and ``t - eta th p/p'``, ``th = p'^2/(p'^2 + nu)``, for every nu in turn."""
        found = [0.0]
        for nu in dampings:
            t, slope = found[-1], self.slope(found[-1])
            found.append(t - eta * self.value(t) * slope / (slope**2 + nu))
        return np.array(found)

    def values(self, t: np.ndarray) -> np.ndarray:
        """Of p at each of them."""
        return np.array([self.value(float(one)) for one in t])

    def squared_slopes(self, t: np.ndarray) -> np.ndarray:
        """``p'^2`` at each of them: what the damping must not exceed."""
        return np.array([self.slope(float(one)) ** 2 for one in t])


# --- the parabola itself -------------------------------------------------------------------------------


def _parabola_as_a_network(run: Run, parabola: Parabola) -> Instance:
    """One weight, one example, ``f(w) = (x w)^2``: at w_0 + t its residual is p(t), its Jacobian p'(t)."""
    square = gr.Activation("square", lambda z: z * z, lambda z: 2 * z, lambda z: 0 * z + 2)
    given = two_layer(run, num_examples=1, inputs=1, width=1, activation=square, key=(110,))
    L, s, h = parabola.L, parabola.s, parabola.h
    arrays = run.asarray(
        (np.array([-s / L]), np.array([[math.sqrt(L / 2)]]), np.array([[s**2 / (2 * L) - h]]))
    )
    return dataclasses.replace(given, name="f = (x w)^2", theta=arrays[0], x=arrays[1], y=arrays[2])


@claim(
    "a-quadratic-network-attains-the-majorant",
    statement="Where u is quadratic in one weight, r_k = p(t_k) and w_k = w_0 + t_k exactly, p(t) = LJ "
    "t^2/2 - s0 t + |r_0|, t_(k+1) = t_k - eta th p/p', th = p'^2/(p'^2 + nu_k), nu_k = n(rho |g_k|^2 + "
    "lam); and p(t_(k+1)) = (1 - eta th) p(t_k) + (LJ/2)(t_(k+1) - t_k)^2.",
    source=SOURCE,
    kind="identity",
    params={
        "lipschitz": 0.5,
        "s0": 2.0,
        "ratios": [0.1, 0.4],
        "etas": [1.0, 0.5],
        "rhos": [0.0, 0.2],
        "dampings": [0.0, 0.3],
        "steps": 5,
    },
)
def exact_on_a_parabola(
    run: Run,
    lipschitz: float,
    s0: float,
    ratios: list[float],
    etas: list[float],
    rhos: list[float],
    dampings: list[float],
    steps: int,
) -> Finding:
    """Fails if NGD or RING is not damped Newton's iteration here, so the majorant is no sharp bound.

    ``gr.ring`` on a network with the activation z^2. Control of both identities: eta 1 % larger; of the
    dampings that are not zero: th = 1.
    """

    def check(ratio: float, eta: float, rho: float, damping: float) -> list[Finding]:
        parabola = Parabola(lipschitz, s0, ratio * s0**2 / lipschitz)
        instance = _parabola_as_a_network(run, parabola)
        points = list(path(instance, gr.ring(instance.problem, lr=eta, rho=rho, damping=damping), steps))
        nus = [one.nu(rho, damping) for one in points[:-1]]
        residuals = np.array([one.residual[0] for one in points])
        moved = np.array([one.theta[0] - points[0].theta[0] for one in points])
        # the offset of the parabola, s^2 / (2 L), is what the outputs round against
        limit = roundoff(run, condition=1 / ratio, terms=steps)
        text = f"{instance.name}, LJ |r_0|/s0^2 = {ratio:g}, eta {eta:g}, rho {rho:g}, lam {damping:g}"

        def finding(size: float, given: Sequence[float]) -> Finding:
            t = parabola.iterates(size, given)
            both = np.stack([parabola.values(t) / parabola.h, t * s0 / parabola.h])
            ours = np.stack([residuals / parabola.h, moved * s0 / parabola.h])
            return identity(ours, both, **limit, detail=f"residual and distance, {text}")

        def step(size: float) -> Finding:
            th = size * np.array(
                [s / (s + nu) for s, nu in zip(parabola.squared_slopes(moved), nus, strict=False)]
            )
            expected = (1 - th) * residuals[:-1] + lipschitz / 2 * np.diff(moved) ** 2
            return identity(residuals[1:], expected, scale=parabola.h, **limit, detail=f"one step, {text}")

        found = [
            finding(eta, nus).with_control(finding(1.01 * eta, nus)),
            step(eta).with_control(step(1.01 * eta)),
        ]
        if rho or damping:
            found.append(finding(eta, nus).with_control(finding(eta, [0.0] * steps)))
        return found

    cases = [(x, eta, rho, lam) for x in ratios for eta in etas for rho in rhos for lam in dampings]
    return combine(one for case in cases for one in check(*case))


# --- a network below it --------------------------------------------------------------------------------


def _start(
    run: Run, activation: str, num_examples: int, width: int, ratio: float, *, along: int, key: int
) -> tuple[Instance, Parabola]:
    """A network whose first residual is a left singular vector of J_0, so long that LJ |r_0|/s0^2 = ratio."""
    wide = two_layer(
        run,
        num_examples=num_examples,
        width=width,
        activation=activation,
        key=(key, width),
    )
    left, values, _ = np.linalg.svd(point(wide).jacobian, full_matrices=False)
    lipschitz = jacobian_lipschitz(wide.problem, wide.x).upper
    instance = with_residual(wide, ratio * float(values[-1]) ** 2 / lipschitz * left[:, along])
    return instance, Parabola(lipschitz, float(values[-1]), point(instance).size)


def _rounding(run: Run, points: Sequence[Point], width: int) -> Slack:
    """Slack for residuals and distances in units of those at the start."""
    condition = (points[0].top / points[0].least) ** 0.5 * (1 + 1 / points[0].size)
    limit = roundoff(run, condition=condition, terms=width)
    return {"slack": limit["tolerance"], "reason": f"rounding of the outputs: {limit['reason']}"}


@claim(
    "smooth-runs-stay-below-the-majorant",
    statement="If LJ |r_0| <= s0^2/2, 0 < eta <= 1 and nu_k <= p'(t_k)^2, then |r_k| <= p(t_k) and |w_k - "
    "w_0| <= t_k, for NGD and RING on a two-layer network; LJ = B2 (lmax(Kx o Kx)/m)^(1/2).",
    source=SOURCE,
    kind="inequality",
    params={
        "activations": ["tanh", "softplus"],
        "num_examples": 4,
        "width": 64,
        "ratio": 0.45,
        "etas": [1.0, 0.4],
        "shares": [0.0, 0.09],
        "steps": 6,
    },
)
def below_the_majorant(
    run: Run,
    activations: list[str],
    num_examples: int,
    width: int,
    ratio: float,
    etas: list[float],
    shares: list[float],
    steps: int,
) -> Finding:
    """Fails if LJ is too small, or a step longer or shorter than the majorant's.

    The residual lies along the least singular vector of J_0, where the first step attains the bound of the
    distance. Dampings: none; RING's, and a constant, each 0.09 s0^2 at the start, below p'^2 = 0.1 s0^2 at
    the root; that they stay below p'(t_k)^2 is checked. Controls: of |r_k|, eta twice as large in the
    majorant; of the distance, 0.95 t_k; of the condition, a twentieth of p'^2.
    """

    def check(activation: str, eta: float, share: float, kind: str) -> list[Finding]:
        instance, parabola = _start(run, activation, num_examples, width, ratio, along=-1, key=111)
        start = point(instance)
        rho = share * start.least / start.nu(1.0) if kind == "rho" else 0.0
        damping = share * start.least / num_examples if kind == "lam" else 0.0
        points = list(path(instance, gr.ring(instance.problem, lr=eta, rho=rho, damping=damping), steps))
        nus = [one.nu(rho, damping) for one in points[:-1]]
        t = parabola.iterates(eta, nus)
        common = _rounding(run, points, width)
        text = f"{instance.name}, LJ |r_0|/s0^2 = {ratio:g}, eta {eta:g}, {kind} {max(rho, damping):.3g}"
        sizes = np.array([one.size for one in points])
        away = np.array([np.linalg.norm(one.theta - start.theta) for one in points])

        def residual(size: float) -> Finding:
            bound = parabola.values(parabola.iterates(size, nus))
            return inequality(sizes, bound, scale=parabola.h, **common, detail=f"residual, {text}")

        def distance(factor: float) -> Finding:
            unit = parabola.h / parabola.s
            return inequality(away, factor * t, scale=unit, **common, detail=f"distance, {text}")

        def condition(factor: float) -> Finding:
            bound = factor * parabola.squared_slopes(t[:-1])
            return inequality(
                np.array(nus), bound, slack=0.0, reason="an assumption", detail=f"damping, {text}"
            )

        found = [
            residual(eta).with_control(residual(2 * eta)),
            distance(1.0).with_control(distance(0.95)),
        ]
        return [*found, condition(1.0).with_control(condition(0.05))] if share else found

    kinds = [(share, kind) for share in shares for kind in (("rho", "lam") if share else ("rho",))]
    return combine(
        one for name in activations for eta in etas for case in kinds for one in check(name, eta, *case)
    )


@claim(
    "the-majorant-holds-at-any-damping",
    statement="|w_k - w_0| <= t_k also where nu_k > p'(t_k)^2.",
    source="to be refuted (sqrt(s)/(s + nu) is largest at s = nu, no longer at the least singular value)",
    kind="inequality",
    expected="refuted",
    params={"num_examples": 4, "width": 64, "ratio": 0.2},
)
def condition_on_the_damping(run: Run, num_examples: int, width: int, ratio: float) -> Finding:
    """Would hold if the least singular vector took the longest step whatever the damping.

    The residual lies along the largest singular vector, nu is its eigenvalue; one step at eta = 1. Control:
    nu at a tenth of s0^2.
    """
    instance, parabola = _start(run, "tanh", num_examples, width, ratio, along=0, key=112)
    start = point(instance)

    def finding(nu: float) -> Finding:
        ring = gr.ring(instance.problem, lr=1.0, rho=0.0, damping=nu / num_examples)
        points = list(path(instance, ring, 1))
        away = float(np.linalg.norm(points[1].theta - start.theta))
        common = _rounding(run, points, width)
        t = parabola.iterates(1.0, [nu])
        text = f"{instance.name}, nu = {nu / parabola.s**2:.3g} p'^2"
        return inequality(away, t[1], scale=parabola.h / parabola.s, **common, detail=text)

    return finding(start.top).with_control(finding(0.1 * start.least))


@claim(
    "the-affine-majorant-bounds-ngd",
    statement="With K = LJ |J_0^+| and K |J_0^+ r_0| <= 1/2, NGD has |J_0^+ r_k| <= p(t_k) and |w_k - w_0| "
    "<= t_k for p(t) = K t^2/2 - t + |J_0^+ r_0|: the condition does not change with a linear map of the "
    "outputs.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 4, "width": 64, "ratio": 0.45, "etas": [1.0, 0.4], "steps": 6},
)
def affine_majorant(
    run: Run, num_examples: int, width: int, ratio: float, etas: list[float], steps: int
) -> Finding:
    """Fails if NGD's step grows faster than J_0^+ and LJ allow.

    A random residual; the first step attains the distance. Controls: eta twice as large in the majorant;
    0.95 t_k.
    """
    wide = two_layer(run, num_examples=num_examples, width=width, activation="tanh", key=(113,))
    start = point(wide)
    inverse = np.linalg.pinv(start.jacobian)
    K = jacobian_lipschitz(wide.problem, wide.x).upper / start.least**0.5
    residual = start.residual * ratio / K / float(np.linalg.norm(inverse @ start.residual))
    instance = with_residual(wide, residual)
    h = float(np.linalg.norm(inverse @ point(instance).residual))
    parabola = Parabola(K, 1.0, h)

    def check(eta: float) -> list[Finding]:
        points = list(path(instance, gr.ngd(instance.problem, lr=eta), steps))
        sizes = np.array([np.linalg.norm(inverse @ one.residual) for one in points])
        away = np.array([np.linalg.norm(one.theta - points[0].theta) for one in points])
        common = _rounding(run, points, width)
        text = f"{instance.name}, K |J_0^+ r_0| = {ratio:g}, eta {eta:g}, {steps} steps"

        def below(name: str, values: np.ndarray, bound: np.ndarray) -> Finding:
            return inequality(values, bound, scale=h, **common, detail=f"{name}, {text}")

        t, longer = (parabola.iterates(size, [0.0] * steps) for size in (eta, 2 * eta))
        return [
            below("residual", sizes, parabola.values(t)).with_control(
                below("residual", sizes, parabola.values(longer))
            ),
            below("distance", away, t).with_control(below("distance", away, 0.95 * t)),
        ]

    return combine(one for eta in etas for one in check(eta))
