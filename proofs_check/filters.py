"""Steps seen in the eigenbasis of the Gram matrix: filters, and the worst perturbation of the Jacobian.

A step ``delta = -eta J^T psi(GG) r``, GG = J J^T, changes the residual to ``(I - eta k(GG)) r + E delta``
with the filter ``k(s) = s psi(s)`` and the change E of the Jacobian along the step. In the eigenbasis only
the spectrum s, the values k and the coordinates c of r matter, and of E only its norm: the worst E of norm
``C sqrt(s_1)`` has rank one and points from delta to ``(I - eta k) r``, so that

    |r+| = |(1 - eta k) c| + C sqrt(s_1) |delta|,    |delta|^2 = eta^2 sum c^2 k^2 / s.

A filter is *admissible* on a spectrum if k is nondecreasing, psi nonincreasing and 0 < k <= 1. Everything
here is about real numbers: NumPy in float64, whatever the run's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SIZES = (1, 2, 3, 8)
"""Numbers of residuals, in turn."""


@dataclass(frozen=True)
class Trials:
    """Many steps at once, a row each; residuals of length one.

    Attributes
    ----------
    s : array (trials, n)
        Spectra of the Gram matrix, ascending.
    k : array (trials, n)
        Values of the filter there.
    c : array (trials, n)
        Coordinates of the residual in the eigenbasis.
    eta, C : array (trials,)
        Step size, and ``|E| / sqrt(s_1)``.
    """

    s: np.ndarray
    k: np.ndarray
    c: np.ndarray
    eta: np.ndarray
    C: np.ndarray

    @property
    def q(self) -> np.ndarray:
        """``r^T k(GG) r / |r|^2`` (trials,)."""
        return np.sum(self.c**2 * self.k, axis=-1)

    @property
    def step(self) -> np.ndarray:
        """``|delta|`` (trials,)."""
        return self.eta * np.sqrt(np.sum(self.c**2 * self.k**2 / self.s, axis=-1))

    @property
    def worst(self) -> np.ndarray:
        """``|r+|`` (trials,) under the worst perturbation."""
        contracted = np.linalg.norm((1 - self.eta[:, None] * self.k) * self.c, axis=-1)
        return contracted + self.C * np.sqrt(self.s[:, 0]) * self.step

    @property
    def excess(self) -> np.ndarray:
        """``|r+|^2 - (1 - eta q)`` (trials,): positive where the unified rate is exceeded."""
        return self.worst**2 - (1 - self.eta * self.q)

    def of(self, chosen: np.ndarray) -> Trials:
        """The chosen rows."""
        return Trials(*(getattr(self, name)[chosen] for name in ("s", "k", "c", "eta", "C")))


def step_limit(C: np.ndarray) -> np.ndarray:
    """The largest step size of the unified theorem, ``(1 - 2C)/(1 - C)^2``."""
    return (1 - 2 * C) / (1 - C) ** 2


def ring(s: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """``s/(s + nu)``: RING with the damping nu in function space, and damped NGD."""
    return s / (s + nu)


def newton_schulz(
    s: np.ndarray, nu: np.ndarray | float, t: np.ndarray | float, steps: np.ndarray | int
) -> np.ndarray:
    """``s/(s + nu) (1 - (1 - (s + nu)/t)^(2^steps))``: the inverse left to so many steps from I/t."""
    # (1 - x)^p as exp(p log(1 - x)): tiny x keep their digits
    with np.errstate(divide="ignore"):
        return -ring(s, nu) * np.expm1(2.0**steps * np.log1p(-np.minimum((s + nu) / t, 1.0)))


def reng(s: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """``(1 + rho s)/(1 + rho top)``: RENG whose Hessian is the Fisher, its step rescaled."""
    return (1 + rho * s) / (1 + rho * s[:, -1:])


def admissible(s: np.ndarray, first: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """``k_1 = first``, ``k_(i+1) = min(1, k_i (s_(i+1)/s_i)^growth_i)``: growth in [0, 1] gives them all."""
    logs = np.log(first)[:, None] + np.cumsum(growth * np.diff(np.log(s), axis=-1), axis=-1)
    return np.exp(np.minimum(np.concatenate([np.log(first)[:, None], logs], axis=-1), 0.0))


def _spectra(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Ascending, from one on, over up to eight decades."""
    decades = np.sort(rng.random((count, size)), axis=-1) * 8 * rng.random((count, 1))
    return 10.0 ** (decades - decades[:, :1])


def _filters(rng: np.random.Generator, s: np.ndarray) -> np.ndarray:
    """Of every family in turn: NGD, RING, Newton-Schulz, gradient descent, RENG, any, and a mixture."""
    count, size = s.shape
    draw = 10.0 ** rng.uniform(-4, 10, size=(5, count, 1))
    bound = (s[:, -1:] + draw[1]) * rng.uniform(1, 3, size=(count, 1))
    first = 10.0 ** -rng.uniform(0, 8 * rng.random(count))
    families = [
        np.ones_like(s),
        ring(s, draw[0]),
        newton_schulz(s, draw[1], bound, rng.integers(0, 40, size=(count, 1))),
        s / (s[:, -1:] * rng.uniform(1, 3, size=(count, 1))),
        reng(s, draw[2] * 1e-4),
        admissible(s, first, rng.random((count, size - 1)).round(rng.integers(0, 4))),
    ]
    families.append(families[1] + rng.random((count, 1)) * (families[2] - families[1]))
    return np.stack(families)[np.arange(count) % len(families), np.arange(count)]


def _residuals(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Of length one, from even to concentrated on one eigenvector."""
    c = np.abs(rng.normal(size=(count, size))) ** rng.integers(0, 12, size=(count, 1))
    return c / np.linalg.norm(c, axis=-1, keepdims=True)


def random_trials(rng: np.random.Generator, count: int, size: int) -> Trials:
    """Random spectra, admissible filters and residuals, C in (0, 1/2); half of them at the step's limit."""
    s = _spectra(rng, count, size)
    C = 0.5 * rng.random(count) ** rng.integers(1, 4, size=count)
    eta = step_limit(C) * np.where(rng.random(count) < 0.5, 1.0, rng.random(count))
    return Trials(s, _filters(rng, s), _residuals(rng, count, size), eta, C)


def adversarial_search(rng: np.random.Generator, trials: Trials, rounds: int) -> Trials:
    """Change every trial at random, and keep the change where it brings the bound nearer.

    The filter stays admissible, and C and eta stay as they are; what changes is the spectrum, the filter
    and the residual. How near: the excess over ``eta q``.
    """
    count, size = trials.s.shape
    gaps = np.diff(np.log(trials.s), axis=-1)
    growth = np.diff(np.log(trials.k), axis=-1) / np.maximum(gaps, 1e-12)
    state = [gaps, np.log(trials.k[:, 0]), np.clip(growth, 0, 1), np.log(np.abs(trials.c) + 1e-12)]

    def made(gaps: np.ndarray, first: np.ndarray, growth: np.ndarray, c: np.ndarray) -> Trials:
        s = np.exp(np.concatenate([np.zeros((count, 1)), np.cumsum(gaps, axis=-1)], axis=-1))
        lengths = np.exp(c - c.max(axis=-1, keepdims=True))
        unit = lengths / np.linalg.norm(lengths, axis=-1, keepdims=True)
        return replace(trials, s=s, k=admissible(s, np.exp(first), growth), c=unit)

    def nearness(found: Trials) -> np.ndarray:
        return found.excess / (found.eta * found.q)

    best = made(*state)
    score = nearness(best)
    for _ in range(rounds):
        width = 10.0 ** -rng.uniform(0, 3, size=count)
        moved = [part + (width * rng.normal(size=part.T.shape)).T for part in state]
        moved[0], moved[1] = np.clip(moved[0], 0.0, 18.0 / size), np.clip(moved[1], -18.0, 0.0)
        moved[2] = np.clip(moved[2], 0.0, 1.0)
        found = made(*moved)
        better = nearness(found) > score
        for i, part in enumerate(state):
            state[i] = np.where(better.reshape((-1,) + (1,) * (part.ndim - 1)), moved[i], part)
        score = np.maximum(score, nearness(found))
    return made(*state)
