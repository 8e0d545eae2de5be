"""What the claims on convergence share: the two-layer network, and runs seen in residuals and Jacobians."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import grng_ref as gr

from .context import Run
from .data import Instance, on_host


class Point(NamedTuple):
    """Where a run is: on the host, the residual and the Jacobian as they are there."""

    theta: np.ndarray  # (P,)
    residual: np.ndarray  # u - y, (n,)
    jacobian: np.ndarray  # (n, P)

    @property
    def gram(self) -> np.ndarray:
        """``J J^T`` (n, n)."""
        return self.jacobian @ self.jacobian.T

    @property
    def size(self) -> float:
        """``|r|``."""
        return float(np.linalg.norm(self.residual))

    @property
    def least(self) -> float:
        """``lmin(J J^T)``, as the squared least singular value."""
        return float(np.linalg.svd(self.jacobian, compute_uv=False)[-1]) ** 2

    @property
    def top(self) -> float:
        """``lmax(J J^T)``."""
        return float(np.linalg.norm(self.jacobian, 2)) ** 2

    @property
    def gradient(self) -> np.ndarray:
        """``J^T r / n`` (P,)."""
        return self.jacobian.T @ self.residual / len(self.residual)

    def nu(self, rho: float = 0.0, damping: float = 0.0) -> float:
        """The damping in function space, ``n (rho |g|^2 + lam)``."""
        return len(self.residual) * (rho * float(np.sum(self.gradient**2)) + damping)


def two_layer(
    run: Run,
    *,
    num_examples: int,
    width: int,
    activation: str | gr.Activation,
    key: tuple[int, ...],
    inputs: int | None = None,
) -> Instance:
    """``gr.two_layer`` with the squared loss at its initialisation; inputs and labels of length one.

    The inputs are of dimension 2n if nothing else is said. They and the labels do not depend on the width.
    """
    inputs = 2 * num_examples if inputs is None else inputs
    rng = run.rng(*key)
    x = rng.normal(size=(num_examples, inputs))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.normal(size=(num_examples, 1))
    name = activation if isinstance(activation, str) else activation.name
    problem = gr.Problem(gr.two_layer(inputs, width, activation), gr.Gaussian())
    theta = problem.init(rng)
    problem, theta, x, y = run.asarray((problem, theta, x, y / np.linalg.norm(y)))
    text = f"two layers, {name}, width {width}, n = {num_examples}"
    return Instance(run, text, problem, theta, x, y, "gaussian")


def with_residual(instance: Instance, residual: np.ndarray) -> Instance:
    """The same network with labels that leave this residual (n,), up to their rounding."""
    labels = instance.run.asarray(instance.outputs() - residual[:, None])
    return dataclasses.replace(instance, y=labels)


def point(instance: Instance, theta: Any = None) -> Point:
    """The instance at theta, its own by default; outputs and Jacobian by the package, in the run's dtype."""
    at = instance.theta if theta is None else theta
    residual = on_host(instance.problem.outputs(at, instance.x)) - on_host(instance.y)
    jacobian = on_host(instance.problem.jacobian(at, instance.x))
    return Point(on_host(at), residual.ravel(), jacobian.reshape(residual.size, -1))


def path(instance: Instance, optimizer: gr.Optimizer, steps: int) -> Iterator[Point]:
    """The points of a run: the start, and after every step on the whole batch."""
    theta, state = instance.theta, optimizer.init(instance.theta)
    yield point(instance, theta)
    for _ in range(steps):
        theta, state, _ = optimizer.step(theta, state, instance.x, instance.y)
        yield point(instance, theta)


def secant_constants(points: Iterable[Point]) -> np.ndarray:
    """The effective secant constants ``C_k = |r_(k+1) - r_k - J_k delta_k|/(s_k |delta_k|)`` along a run.

    The numerator is ``|E_k delta_k|`` with the mean change E_k of the Jacobian along the step; s_k is the
    least singular value of J_k. So the unified theorem holds for the step with ``C = C_k``, which is measured
    where the run went and bounded nowhere. A step of length zero has none: NaN.
    """
    found = []
    for before, after in itertools.pairwise(points):
        delta = after.theta - before.theta
        change = after.residual - before.residual - before.jacobian @ delta
        length = before.least**0.5 * float(np.linalg.norm(delta))
        found.append(float(np.linalg.norm(change)) / length if length > 0 else math.nan)
    return np.array(found)


def regularized_gradient(instance: Instance, rho: float) -> np.ndarray:
    """RENG's ``g + rho H g`` (P,), on the host."""
    g = instance.gradient()
    return on_host(g + rho * instance.problem.hvp(instance.theta, instance.x, instance.y, g))
