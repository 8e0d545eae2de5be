"""Certificates after some steps: a run in floats, and what it left, certified as it is stored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from grng_ref import Optimizer, Problem, to_numpy
from grng_ref.arrays import Array, check_integer
from grng_ref.optimizers import NaturalGradient
from proofs_check.bounds import jacobian_lipschitz

from .certificate import Certificate, Settings
from .point import Point
from .theorems import kantorovich, linear

_ROOM = 1.0 - 1e-9  # of a limit: nearer than this, floats do not say whether an attempt is worth it


def read_optimizer(optimizer: Any) -> Settings | str:
    """Step size, rho and lam of an optimizer that the theorems are about, or why they are not.

    NGD and RING of the exact, expected Fisher matrix, at a constant step size without momentum.
    """
    if type(optimizer) is not NaturalGradient:
        return f"no theorem here is about {type(optimizer).__name__}: they are about gr.ngd and gr.ring"
    curvature, regularization = optimizer.curvature, optimizer.regularization
    reasons = [
        (regularization.kind == "explicit", "gradient regularization must be implicit (gr.ring) or none"),
        (curvature.structure != "full", f"structure must be 'full', got {curvature.structure!r}"),
        (curvature.kind != "expected", f"kind must be 'expected', got {curvature.kind!r}"),
        (curvature.keeps_curvature, "the curvature must be that of each step: no ema, refresh=1"),
        (bool(optimizer.momentum or optimizer.weight_decay), "no momentum, no weight decay"),
    ]
    constants = (optimizer.lr, regularization.rho, optimizer.damping)
    reasons.append((any(map(callable, constants)), "lr, rho and damping must be constant"))
    found = [text for wrong, text in reasons if wrong]
    if found:
        return "no theorem here is about this optimizer: " + "; ".join(found)
    eta, rho, lam = (float(value) for value in constants)  # type: ignore[arg-type]
    return Settings(eta, rho if regularization.kind == "implicit" else 0.0, lam)


def a_posteriori(
    problem: Problem, optimizer: Optimizer, theta: Array, x: Array, y: Array, *, steps: int
) -> Certificate:
    """Run, and certify from the first point, of at most ``steps`` steps, from which a theorem applies.

    The steps before it are whatever the floats made of them: the certificate is about the exact numbers that
    are stored there, and what NGD or RING does from then on.

    Parameters
    ----------
    problem : gr.Problem
        As in `kantorovich`; relu too.
    optimizer : gr.Optimizer
        `gr.ngd` or `gr.ring` with the full, expected Fisher matrix, constant settings and no momentum. Others
        come out undecided.
    theta, x, y : arrays
        As in `kantorovich`.
    steps : int
        How many steps to run at most, >= 0.

    Returns
    -------
    Certificate
        By `kantorovich`, or by `linear` (relu; dampings too large for the other), with ``step`` and ``theta``
        where it fired. Undecided if none did.

    Raises
    ------
    TypeError, ValueError, NumericalError, BackendError
        As `kantorovich` and ``optimizer.step``.

    Notes
    -----
    Floats choose at which points an attempt is made. They decide nothing else.

    Source: ours.
    """
    count = check_integer("steps", steps, minimum=0)
    settings, start = read_optimizer(optimizer), Point(problem, theta, x, y)
    reason = settings if isinstance(settings, str) else start.unfit
    if isinstance(settings, str) or reason:
        return Certificate("linear", (), reason)
    lipschitz = jacobian_lipschitz(problem, x)
    if lipschitz.lower < lipschitz.upper == math.inf:
        return Certificate("linear", (), lipschitz.method, settings)
    state, last = optimizer.init(theta), None
    for step in range(count + 1):
        for theorem in _promising(problem, theta, x, y, settings, lipschitz.upper):
            last = theorem(problem, theta, x, y, *settings)
            last = dataclasses.replace(last, step=step, theta=np.asarray(to_numpy(theta), dtype=np.float64))
            if last.verdict == "certified":
                return last
        if step < count:
            theta, state, _ = optimizer.step(theta, state, x, y)
    detail = f"no theorem applied at any of {count + 1} points of the run"
    return Certificate(
        "linear", (), detail if last is None else f"{detail}; the last: {last.detail}", settings
    )


def _promising(
    problem: Problem, theta: Array, x: Array, y: Array, settings: Settings, lipschitz: float
) -> list[Callable[..., Certificate]]:
    """The theorems whose assumptions seem to be met, in floats."""
    J = np.asarray(to_numpy(problem.jacobian(theta, x)), dtype=np.float64)
    J = J.reshape(len(J), -1)
    r = np.asarray(to_numpy(problem.outputs(theta, x)), dtype=np.float64) - np.asarray(to_numpy(y))
    values, h, n = np.linalg.eigvalsh(J @ J.T), float(np.linalg.norm(r)), len(J)
    least, top = float(values[0]), float(values[-1])
    _, rho, lam = settings
    if least <= 0.0:
        return []
    if lipschitz == math.inf:
        return [linear] if _flips_little(problem, theta, x, h / least**0.5, least**0.5) else []
    damping = rho / n * top * h**2 + n * lam
    if 2 * lipschitz * h <= _ROOM * (least - n * lam) and damping <= _ROOM * least:
        return [kantorovich]
    return [linear] if 12 * lipschitz * h <= _ROOM * least else []


def _flips_little(problem: Problem, theta: Array, x: Array, radius: float, s0: float) -> bool:
    """Whether the cheapest flips at one example, in the ball, change the Jacobian by less than s0/3."""
    weights, inputs = (np.asarray(to_numpy(part), dtype=np.float64) for part in (problem.unpack(theta)[0], x))
    lengths = np.linalg.norm(inputs, axis=1)
    costs = np.sort((weights @ (inputs / np.where(lengths, lengths, 1.0)[:, None]).T) ** 2, axis=0)
    flips = np.sum(np.cumsum(costs, axis=0) <= radius**2, axis=0)
    change = problem.model.layer_scales[1] * np.sqrt(np.max(flips * lengths**2))
    return bool(change < s0 / 3)
