"""Where RING is more stable: a bound of one step from anywhere, and the rho beyond which no step ascends."""

from __future__ import annotations

import dataclasses

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, inequality
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.convergence import Point, path, point, two_layer, with_residual
from proofs_check.data import Instance, on_host
from proofs_check.tolerance import Slack

SOURCE = "our reconstruction (stability of RING)"


@dataclasses.dataclass(frozen=True, eq=False)
class _Start:
    """A network somewhere, with the Lipschitz constant of its Jacobian."""

    instance: Instance
    lipschitz: float
    at: Point

    @property
    def rho_star(self) -> float:
        """``n LJ^2/(4 lmin^2)``."""
        return len(self.at.residual) * self.lipschitz**2 / (4 * self.at.least**2)

    def curvature(self, rho: float) -> float:
        """``LJ |r|/(lmin + nu)``: what the change of the Jacobian can do, next to the step."""
        return self.lipschitz * self.at.size / (self.at.least + self.at.nu(rho))

    def q(self, rho: float) -> float:
        """``r^T k(GG) r/|r|^2``."""
        values, basis = np.linalg.eigh(self.at.gram)
        unit = basis.T @ self.at.residual / self.at.size
        return float(np.sum(values / (values + self.at.nu(rho)) * unit**2))

    def after(self, eta: float, rho: float) -> float:
        """``|r+|/|r|``."""
        step = self.instance.step(gr.ring(self.instance.problem, lr=eta, rho=rho))
        moved = dataclasses.replace(self.instance, theta=self.instance.theta + step)
        return float(np.linalg.norm(moved.outputs() - on_host(moved.y))) / self.at.size


def _starts(run: Run, key: int, count: int, sizes: list[float], width: int = 6) -> list[_Start]:
    """Narrow networks, tanh and softplus, with residuals of each size along the least singular vector."""
    made = []
    for number in range(count):
        name = ("tanh", "softplus")[number % 2]
        given = two_layer(run, num_examples=4, inputs=4, width=width, activation=name, key=(key, number))
        lipschitz = jacobian_lipschitz(given.problem, given.x).upper
        least = np.linalg.svd(point(given).jacobian, full_matrices=False)[0][:, -1]
        for size in sizes:
            instance = with_residual(given, size * least)
            made.append(_Start(instance, lipschitz, point(instance)))
    return made


def _outputs_round(run: Run, starts: list[_Start]) -> Slack:
    """Slack for ``|r+|/|r|``: outputs and labels of size one and more, and the solve with J J^T."""
    condition = max(one.at.top / one.at.least * (1 + 1 / one.at.size) for one in starts)
    limit = min(32 * run.eps * condition, 0.05)
    return {
        "slack": limit,
        "reason": f"32 eps({run.dtype}) x condition number {condition:.3g} of J J^T, at most 0.05",
    }


@claim(
    "a-step-from-anywhere-is-bounded",
    statement="|r+| <= |r| [1 - eta q (1 - eta/2 - (LJ/2) eta |r|/(lmin(GG) + nu))] from any weights, nu = "
    "n rho |g|^2, also where NGD (nu = 0) ascends.",
    source=SOURCE,
    kind="inequality",
    params={"count": 12, "sizes": [0.1, 3.0, 30.0], "etas": [0.3, 0.99], "shares": [0.0, 0.01]},
)
def bounded_from_anywhere(
    run: Run, count: int, sizes: list[float], etas: list[float], shares: list[float]
) -> Finding:
    """Fails if a step can lose more than its curvature, LJ |delta|^2/2.

    Narrow networks, whose NGD step overshoots; rho a share of rho* = n LJ^2/(4 lmin^2). Control: LJ = 0.
    """
    starts = _starts(run, 121, count, sizes)
    cases = [(one, eta, share * one.rho_star) for one in starts for eta in etas for share in shares]
    after = np.array([one.after(eta, rho) for one, eta, rho in cases])

    def finding(part: float) -> Finding:
        bound = [
            1 - eta * one.q(rho) * (1 - eta / 2 - part * eta * one.curvature(rho) / 2)
            for one, eta, rho in cases
        ]
        return inequality(
            after, np.array(bound), scale=1.0, **_outputs_round(run, starts), detail=f"{len(starts)} starts"
        )

    return finding(1.0).with_control(finding(0.0))


@claim(
    "short-steps-descend",
    statement="NGD and RING descend, |r+| <= |r|, if eta < 2/(1 + LJ |r|/(lmin(GG) + nu)).",
    source=SOURCE,
    kind="inequality",
    params={"count": 12, "sizes": [0.1, 3.0, 30.0], "shares": [0.0, 0.01]},
)
def short_steps(run: Run, count: int, sizes: list[float], shares: list[float]) -> Finding:
    """Fails if the bound on eta does not suffice. Control: eta = 0.99 for NGD."""
    starts = _starts(run, 122, count, sizes)

    def finding(cases: list[tuple[_Start, float, float]], text: str) -> Finding:
        after = np.array([one.after(eta, rho) for one, eta, rho in cases])
        return inequality(after, 1.0, **_outputs_round(run, starts), detail=f"{text}, {len(starts)} starts")

    limited = [
        (one, 0.999 * 2 / (1 + one.curvature(rho)), rho)
        for one in starts
        for rho in (share * one.rho_star for share in shares)
    ]
    long = [(one, 0.99, 0.0) for one in starts]
    return finding(limited, "eta at its limit").with_control(finding(long, "eta = 0.99"))


@claim(
    "ring-at-rho-star-descends-from-anywhere",
    statement="With rho >= rho* = n LJ^2/(4 ell^2) RING descends at every eta < 1, whatever the size of "
    "the residual; NGD does not.",
    source=SOURCE,
    kind="inequality",
    params={"count": 12, "sizes": [0.1, 3.0, 30.0, 1000.0], "eta": 0.99, "steps": 10},
)
def rho_star(run: Run, count: int, sizes: list[float], eta: float, steps: int) -> Finding:
    """Fails if rho* is too small at some size of the residual.

    One step from every start, ell = lmin there; and runs with ell a quarter of lmin at the start, which is
    checked to bound lmin along the path. Controls: NGD from the same starts; of ell, lmin itself times 1.1.
    """
    starts = _starts(run, 123, count, sizes)
    slack = _outputs_round(run, starts)

    def one_step(share: float) -> Finding:
        after = np.array([one.after(eta, share * one.rho_star) for one in starts])
        text = f"{len(starts)} starts, rho = {share:g} rho*, eta {eta:g}"
        return inequality(after, 1.0, **slack, detail=text)

    def whole(start: _Start) -> list[Finding]:
        ring = gr.ring(start.instance.problem, lr=eta, rho=16 * start.rho_star)
        points = list(path(start.instance, ring, steps))
        lengths = np.array([one.size for one in points]) / start.at.size
        ell = start.at.least / 4
        spectrum = np.array([one.least for one in points])
        text = f"{start.instance.name}, |r_0| = {start.at.size:.3g}, {steps} steps"
        bounded = [
            inequality(
                factor * ell, spectrum, slack=0.0, reason="an assumption", detail=f"ell <= lmin, {text}"
            )
            for factor in (1.0, 4.4)
        ]
        descent = inequality(lengths[1:], lengths[:-1], scale=1.0, **slack, detail=text)
        return [descent.with_control(ngd), bounded[0].with_control(bounded[1])]

    ngd = one_step(0.0)
    runs = [starts[i] for i in (1, 1 + len(sizes))]  # one tanh, one softplus network
    return combine([one_step(1.0).with_control(ngd), *(one for start in runs for one in whole(start))])


@claim(
    "ngd-diverges-on-one-tanh-where-ring-converges",
    statement="f(w) = tanh(w), one example, label 0, w_0 = 1.2, eta = 0.99: NGD's residual grows in every "
    "step; RING's at rho* = LJ^2/(4 ell^2), ell = lmin at w_0, falls in every step, to a tenth and below.",
    source=SOURCE,
    kind="inequality",
    params={"w0": 1.2, "nearby": 0.9, "eta": 0.99, "ngd_steps": 3, "ring_steps": 40},
)
def one_tanh(run: Run, w0: float, nearby: float, eta: float, ngd_steps: int, ring_steps: int) -> Finding:
    """Fails if RING needs more damping than rho* here, or NGD less step.

    ell bounds the path from below, because tanh' grows towards the solution. Control of NGD's growth: the
    start at 0.9, from where it converges; of RING's fall and its end: NGD.
    """
    given = two_layer(run, num_examples=1, inputs=1, width=1, activation="tanh", key=(124,))
    arrays = run.asarray((np.ones((1, 1)), np.zeros((1, 1))))
    network = dataclasses.replace(given, name="f = tanh(w)", x=arrays[0], y=arrays[1])
    # |delta|^2 LJ/2 and the outputs themselves round at eps
    common: Slack = {"slack": 32 * run.eps, "reason": f"32 eps({run.dtype}): one weight, no cancellation"}

    def lengths(start: float, rho_part: float, steps: int) -> np.ndarray:
        instance = dataclasses.replace(network, theta=run.asarray(np.array([start])))
        ell = point(instance).least
        rho = rho_part * jacobian_lipschitz(instance.problem, instance.x).upper ** 2 / (4 * ell**2)
        return np.array(
            [one.size for one in path(instance, gr.ring(instance.problem, lr=eta, rho=rho), steps)]
        )

    ngd, near = lengths(w0, 0.0, ngd_steps), lengths(nearby, 0.0, ngd_steps)
    ring = lengths(w0, 1.0, ring_steps)

    def grows(values: np.ndarray) -> Finding:
        return inequality(values[:-1], values[1:], **common, detail=f"{network.name}, NGD, {ngd_steps} steps")

    def falls(values: np.ndarray) -> Finding:
        return inequality(
            values[1:], values[:-1], **common, detail=f"{network.name}, {len(values) - 1} steps"
        )

    def ends(values: np.ndarray) -> Finding:
        return inequality(values[-1], 0.1, **common, detail=f"{network.name}, after {len(values) - 1} steps")

    return combine(
        [
            grows(ngd).with_control(grows(near)),
            falls(ring).with_control(falls(ngd)),
            ends(ring).with_control(ends(ngd)),
        ]
    )
