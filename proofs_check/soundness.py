"""Random networks on which certificates are attacked: by their own runs, a search, and planted errors.

An attack is a float computation that shares nothing with the bounds: it runs the optimizer and compares its
residuals with the guarantee, evaluates the Jacobian at points of the ball, and looks for a singular value
below the majorant's.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

import grng_ref as gr

from .certificates import Certificate, check_certificate, kantorovich, linear, unified, zhang_condition_2

ACTIVATIONS = ("tanh", "softplus", "sigmoid", "gelu", "silu", "relu")
_RATES = (kantorovich, unified, linear)
_STEPS = 5
_POINTS = 6
_ROUNDING = 1e-12  # relative to outputs, labels and Jacobians of size one and less, at most 12 neurons


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A network of `gr.two_layer` with its data, and a certificate at its theta."""

    problem: gr.Problem
    theta: np.ndarray
    x: np.ndarray
    y: np.ndarray
    certificate: Certificate

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the theorems take."""
        return self.problem, self.theta, self.x, self.y

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """J (n, P)."""
        return np.asarray(self.problem.jacobian(theta, self.x)).reshape(len(self.x), -1)


def random_trial(rng: np.random.Generator) -> Trial:
    """One to three examples, four to twelve neurons, any activation; a residual that may certify or not."""
    n, width = int(rng.integers(1, 4)), int(rng.integers(4, 13))
    activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    problem = gr.Problem(gr.two_layer(n + 1, width, activation), gr.Gaussian())
    theta = problem.init(rng) * 10.0 ** rng.uniform(-0.5, 0.5)
    x = rng.normal(size=(n, n + 1))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    J = np.asarray(problem.jacobian(theta, x)).reshape(n, -1)
    left, values, _ = np.linalg.svd(J)
    # often along the least singular vector, where the theorems are tightest
    r = left[:, -1] if rng.random() < 0.5 else rng.normal(size=n)
    size = values[-1] ** 2 * width**0.5 * 10.0 ** rng.uniform(-3, 0.5)
    y = problem.outputs(theta, x) - size * (r / np.linalg.norm(r))[:, None]
    kind = int(rng.integers(len(_RATES) + 1))
    if kind == len(_RATES):
        return Trial(problem, theta, x, y, zhang_condition_2(problem, theta, x, y))
    reach = max(float(values[0]) * size, 1e-9)  # every neuron of relu may be dead
    eta = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.05, 1.0))
    square = float(values[-1]) ** 2
    rho = rng.choice([0.0, n * square / reach**2 * 10.0 ** rng.uniform(-2, 0.2)])
    lam = rng.choice([0.0, square / n * 10.0 ** rng.uniform(-3, 0)])
    return Trial(problem, theta, x, y, _RATES[kind](problem, theta, x, y, eta, float(rho), float(lam)))


# --- attacks ----------------------------------------------------------------------------------------------


def violations(trial: Trial, certificate: Certificate, rng: np.random.Generator) -> Iterator[str]:
    """What of a certified or refuted statement floats contradict, beyond their rounding."""
    bounds = {one.quantity: one.bound for one in certificate.evidence if one.radius is None}
    J = trial.jacobian(trial.theta)
    values = np.linalg.svd(J, compute_uv=False)
    size = float(np.linalg.norm(trial.problem.outputs(trial.theta, trial.x) - trial.y))
    if not _within(size, bounds["residual_norm"], 1.0):
        yield "residual norm"
    if not _within(float(values[-1]) ** 2, bounds["gram_min"], float(values[0]) ** 2):
        yield "least eigenvalue"
    for one in certificate.evidence:
        if one.radius is not None:
            changes = [
                float(np.linalg.norm(trial.jacobian(w) - J, 2)) for w in _points(trial, one.radius, rng)
            ]
            if max(changes, default=0.0) > one.bound.upper + _ROUNDING:
                yield "change of the Jacobian"
            if (
                one.bound.lower > 0.0
                and _shown(trial, one.bound.witness, one.radius) < one.bound.lower - _ROUNDING
            ):
                yield "witness"
    certified = certificate.verdict == "certified"
    if certified and certificate.theorem == "kantorovich" and _steeper(trial, certificate, rng):
        yield "least singular value"
    if certified and "h" in certificate.numbers and _exceeds(trial, certificate):
        yield "run"


def _within(value: float, bound: Any, scale: float) -> bool:
    slack = _ROUNDING * max(scale, 1.0)
    return bool(bound.lower - slack <= value <= bound.upper + slack)


def _exceeds(trial: Trial, certificate: Certificate) -> bool:
    """Whether the optimizer's run leaves what is guaranteed."""
    eta, rho, lam = certificate.settings
    optimizer = gr.ring(trial.problem, lr=eta, rho=rho, damping=lam)
    theta, state = trial.theta, optimizer.init(trial.theta)
    for promised in certificate.guarantee(_STEPS):
        size = float(np.linalg.norm(trial.problem.outputs(theta, trial.x) - trial.y))
        if size > promised + _ROUNDING * (1.0 + float(np.max(np.abs(trial.y)))):
            return True
        theta, state, _ = optimizer.step(theta, state, trial.x, trial.y)
    return False


def _points(trial: Trial, radius: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Points of the ball: at random, one neuron moved alone, along the Jacobian, and the cheapest flip."""
    shape = trial.problem.unpack(trial.theta)[0].shape
    inside = radius * (1.0 - 1e-12)
    for kind in range(_POINTS):
        move = np.zeros(shape)
        if kind % 3 == 0:
            move = rng.normal(size=shape)
        elif kind % 3 == 1:
            row = rng.integers(shape[0])
            move[row] = rng.choice([-1.0, 1.0]) * trial.x[rng.integers(len(trial.x))]
        else:
            move = (trial.jacobian(trial.theta).T @ rng.normal(size=len(trial.x))).reshape(shape)
        length = float(np.linalg.norm(move))
        if length > 0.0:
            yield trial.theta + inside / length * move.ravel()
    weights = np.asarray(trial.theta).reshape(shape)
    shift = weights @ trial.x.T
    r, i = np.unravel_index(np.argmin(np.abs(shift)), shift.shape)
    move = np.zeros(shape)
    move[r] = -(1 + 1e-9) * shift[r, i] * trial.x[i]
    if np.linalg.norm(move) <= inside:
        yield trial.theta + move.ravel()


def _shown(trial: Trial, witness: Any, radius: float) -> float:
    """How much the Jacobian changes at a witness; nothing if it is outside."""
    if not witness or "neurons" not in witness:
        return 0.0
    shape = trial.problem.unpack(trial.theta)[0].shape
    moved = np.array(trial.theta).reshape(shape)
    moved[witness["neurons"]] = witness["weights"]
    moved = moved.ravel()
    if np.linalg.norm(moved - trial.theta) > radius * (1 + 1e-9):
        return 0.0
    return float(np.linalg.norm(trial.jacobian(moved) - trial.jacobian(trial.theta), 2))


def _steeper(trial: Trial, certificate: Certificate, rng: np.random.Generator) -> bool:
    """Whether a singular value falls below ``s0 - LJ t`` at a distance t."""
    s, L = certificate.numbers["s"], certificate.numbers["L"]
    distance = s / L * rng.random() if L else 1.0
    least = [np.linalg.svd(trial.jacobian(w), compute_uv=False)[-1] for w in _points(trial, distance, rng)]
    return bool(min(least) < s - L * distance - _ROUNDING)


# --- planted errors ---------------------------------------------------------------------------------------


def planted(trial: Trial) -> Iterator[tuple[str, Certificate]]:
    """False variants of a certificate, which an attack or the checker must find."""
    found = trial.certificate
    for k, one in enumerate(found.evidence):
        low, high = one.bound.lower, one.bound.upper
        wrong = None
        if one.quantity == "gram_min":
            wrong = dataclasses.replace(
                one.bound, lower=math.nextafter(high, math.inf), upper=2 * high + 1e-300
            )
        elif one.quantity == "residual_norm":
            wrong = dataclasses.replace(one.bound, lower=low / 2, upper=math.nextafter(low, 0.0))
        elif low > 0.0 and math.isfinite(high):
            wrong = dataclasses.replace(one.bound, lower=0.0, upper=math.nextafter(low, 0.0))
        if wrong is not None and (low > 0.0 or one.quantity == "gram_min"):
            evidence = (*found.evidence[:k], one._replace(bound=wrong), *found.evidence[k + 1 :])
            yield f"{one.quantity} on the wrong side", dataclasses.replace(found, evidence=evidence)
    if found.verdict == "certified" and found.numbers.get("h", 0.0) > 1e-9:
        numbers = {**found.numbers, "h": found.numbers["h"] / 2}
        yield "half the residual", dataclasses.replace(found, numbers=numbers)
    yield "another point", dataclasses.replace(found, fingerprint="")


def run_trials(seed: int, count: int, plant_every: int = 50) -> dict[str, Counter[str]]:
    """Trials until ``count`` have come out certified or refuted.

    Returns
    -------
    dict of str to Counter
        ``verdicts`` by theorem; ``violations`` that an attack found, none if the certificates are sound;
        ``planted``: errors put into every so many-th decided one, ``caught``: those of them that the checker
        found, ``seen``: those that an attack saw in floats; ``rechecked``: whether the checker proved those
        certificates, without an error, again.
    """
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("verdicts", "violations", "planted", "caught", "seen", "rechecked")
    }
    decided, number = 0, 0
    while decided < count:
        rng = np.random.default_rng([seed, number])
        number += 1
        trial = random_trial(rng)
        found = trial.certificate
        counts["verdicts"][f"{found.theorem} {found.verdict}"] += 1
        if found.verdict == "undecided":
            continue
        decided += 1
        counts["violations"].update(f"{name}, trial {number - 1}" for name in violations(trial, found, rng))
        if decided % plant_every:
            continue
        counts["rechecked"][str(check_certificate(found, *trial.arguments).holds)] += 1
        for name, wrong in planted(trial):
            counts["planted"][name] += 1
            caught = not check_certificate(wrong, *trial.arguments).holds
            counts["caught"][name] += caught
            counts["seen"][name] += any(True for _ in violations(trial, wrong, rng))
    return counts
