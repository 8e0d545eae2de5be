"""Networks by plain loops in mpmath, their derivatives by differences: a reference for the balls.

Nothing but values is written down here, one formula an activation and one a likelihood, as a textbook has
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

DIGITS = 300
STEP = mpmath.mpf(10) ** -60
# Central differences of step 1e-60 are wrong by 1e-120 of a third derivative, and by rounding to 300 digits
# over the step, 1e-240: with what the values here add (1e10), below NOISE.
NOISE = mpmath.mpf(10) ** -100

VALUES: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "tanh": lambda x: mpmath.sinh(x) / mpmath.cosh(x),
    "sigmoid": lambda x: mpmath.exp(x) / (mpmath.exp(x) + 1),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x * mpmath.exp(x) / (mpmath.exp(x) + 1),
}


def mp(value: Any) -> mpmath.mpf:
    return mpmath.mpf(float(value))


def rational(value: mpmath.mpf) -> Fraction:
    return Fraction(*map(int, mpmath.libmp.to_rational(value._mpf_)))


@dataclass(frozen=True)
class Reference:
    """A network as numbers: one matrix ``[W | b]`` a layer, and what is read off a problem by hand."""

    sizes: Sequence[int]
    activation: str
    likelihood: str
    variance: float
    bias: bool
    scales: Sequence[float] | None  # None: the roots of the NTK parameterization
    frozen: dict[int, np.ndarray]

    def layers(self, theta: list) -> list[list[list]]:
        """The matrices of all layers, those of theta and the frozen ones."""
        found, rest = [], list(theta)
        for index, (into, out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            columns = into + int(self.bias)
            if index in self.frozen:
                found.append([[mp(value) for value in row] for row in self.frozen[index]])
            else:
                found.append([rest[row * columns : (row + 1) * columns] for row in range(out)])
                rest = rest[out * columns :]
        assert rest == []
        return found

    def outputs(self, theta: list, x: np.ndarray) -> list:
        """f of one example."""
        a = [mp(value) for value in x]
        layers = self.layers(theta)
        for index, matrix in enumerate(layers):
            scale = mp(self.scales[index]) if self.scales else 1 / mpmath.sqrt(self.sizes[index])
            s = [scale * sum(w * value for w, value in zip(row, a, strict=False)) for row in matrix]
            if self.bias:
                s = [value + row[-1] for value, row in zip(s, matrix, strict=True)]
            a = s if index + 1 == len(layers) else [VALUES[self.activation](value) for value in s]
        return a

    def loss(self, f: list, y: Any) -> mpmath.mpf:
        """The loss of one example."""
        if self.likelihood == "categorical":
            return mpmath.log(sum(mpmath.exp(value) for value in f)) - f[int(y)]
        pairs = [(value, mp(label)) for value, label in zip(f, y, strict=True)]
        if self.likelihood == "gaussian":
            return sum((a - b) ** 2 for a, b in pairs) / (2 * mp(self.variance))
        if self.likelihood == "bernoulli":
            return sum(mpmath.log(1 + mpmath.exp(a)) - b * a for a, b in pairs)
        return sum(mpmath.exp(a) - b * a for a, b in pairs)

    def results(self, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, list]:
        """Outputs, Jacobian, residuals, loss, gradient and Gram matrix, each in row-major order."""
        at = [mp(value) for value in theta]
        outputs = [self.outputs(at, row) for row in x]
        columns = []  # of the Jacobian, one a parameter, over examples and outputs
        for p in range(len(at)):
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[p] += sign * STEP
                ends.append([value for row in x for value in self.outputs(moved, row)])
            columns.append([(up - down) / (2 * STEP) for up, down in zip(*ends, strict=True)])
        rows = list(zip(*columns, strict=True))
        residuals = []
        for f, label in zip(outputs, y, strict=True):
            for k in range(len(f)):
                up, down = list(f), list(f)
                up[k] += STEP
                down[k] -= STEP
                residuals.append((self.loss(up, label) - self.loss(down, label)) / (2 * STEP))
        losses = [self.loss(f, label) for f, label in zip(outputs, y, strict=True)]
        gradient = [sum(r * d for r, d in zip(residuals, c, strict=True)) / len(x) for c in columns]
        return {
            "outputs": [value for f in outputs for value in f],
            "jacobian": [value for row in rows for value in row],
            "residuals": residuals,
            "loss": [sum(losses) / len(x)],
            "gradient": gradient,
            "gram": [sum(a * b for a, b in zip(r, s, strict=True)) for r in rows for s in rows],
        }


def holds(enclosure: Any, truth: list, noise: mpmath.mpf = NOISE) -> bool:
    """Containment of the truth, which is known to ``noise``, entry by entry."""
    middle, radius = enclosure.midpoint.ravel(), enclosure.radius.ravel()
    slack = rational(noise)
    triples = zip(truth, middle, radius, strict=True)
    return all(abs(rational(t) - Fraction(float(m))) <= Fraction(float(r)) + slack for t, m, r in triples)
