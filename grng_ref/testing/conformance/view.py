"""One batch at one theta, with every quantity open to a change: what the replay of a case is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ...curvature import curvature as build_curvature
from ...models import Activation
from ...models.activations import find_activation
from ...problem import Problem
from .knobs import Knobs as Knobs
from .noise import Noise

SCALES: dict[str, Callable[[int, int], float]] = {
    "N": lambda n, k: n,
    "1/N": lambda n, k: 1.0 / n,
    "N^2": lambda n, k: n**2,
    "1/N^2": lambda n, k: n**-2,
    "sqrt N": lambda n, k: n**0.5,
    "1/sqrt N": lambda n, k: n**-0.5,
    "K": lambda n, k: k,
    "1/K": lambda n, k: 1.0 / k,
    "1/(N K)": lambda n, k: 1.0 / (n * k),
    "N/K": lambda n, k: n / k,
    "sqrt K": lambda n, k: k**0.5,
    "1/sqrt K": lambda n, k: k**-0.5,
    "2/K": lambda n, k: 2.0 / k,
    "2": lambda n, k: 2.0,
    "1/2": lambda n, k: 0.5,
    "-1": lambda n, k: -1.0,
    "1": lambda n, k: 1.0,
}


class NotApplicable(Exception):  # noqa: N818  it is no error
    """A change that says nothing of this case."""


class _Likelihood:
    """A likelihood with perturbed results, and with the changes that concern it."""

    def __init__(self, base: Any, knobs: Knobs, noise: Noise) -> None:
        self._base, self._knobs, self._noise = base, knobs, noise
        # since Python 3.12 isinstance(self, Likelihood) does not see what only __getattr__ gives
        for name in ("check_targets", "log_base", "mean", "coefficients", "sample"):
            if not hasattr(type(self), name):
                setattr(self, name, getattr(base, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def loss(self, f: Any, y: Any) -> Any:
        f = self._noise.entries(f)
        if self._knobs.get("saturation") == "subtracted":
            return _subtracted_loss(self._base, f, y)
        return self._noise.entries(self._base.loss(f, y))

    def gradient(self, f: Any, y: Any) -> Any:
        f = self._noise.entries(f)
        if self._knobs.get("saturation") == "subtracted":
            return self._base.mean(f) / _variance(self._base) - _indicator(f, y) / _variance(self._base)
        return self._noise.entries(self._base.gradient(f, y))

    def fisher(self, f: Any) -> Any:
        S = self.factor(f)
        return S @ np.swapaxes(S, -1, -2)

    def hessian(self, f: Any, y: Any) -> Any:
        return self._base.hessian(self._noise.entries(f), y)

    def factor(self, f: Any) -> Any:
        f = self._noise.entries(f)
        change = self._knobs.get("output_fisher")
        if change is None:
            return self._noise.entries(self._base.factor(f))
        n, k = f.shape
        full = self._base.fisher(f)
        if change == "identity":
            return np.broadcast_to(np.eye(k), (n, k, k)).copy()
        if change == "diagonal":
            return np.sqrt(np.einsum("nii->ni", full))[:, :, None] * np.eye(k)
        if change == "no outer product":  # diag(p) where diag(p) - p p^T is meant
            if not _is(self._base, "Categorical"):
                raise NotApplicable
            return np.sqrt(self._base.mean(f))[:, :, None] * np.eye(k)
        if change == "class dropped":
            if not _is(self._base, "Categorical") or k < 2:
                raise NotApplicable
            kept = full.copy()
            kept[:, -1, :] = kept[:, :, -1] = 0.0
            return _root(kept)
        if change[0] == "epsilon":  # Om (Om + eps I)^{-1} Om
            noise = np.eye(k)[None] * change[1]
            return _root(full @ np.linalg.solve(full + noise, full))
        raise ValueError(f"output_fisher must be a known change, got {change!r}")


def _is(likelihood: Any, name: str) -> bool:
    return type(likelihood).__name__ == name


def _variance(likelihood: Any) -> float:
    return float(getattr(likelihood, "variance", 1.0))


def _root(matrices: Any) -> Any:
    values, vectors = np.linalg.eigh(matrices)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]


def _indicator(f: Any, y: Any) -> Any:
    return np.eye(f.shape[1])[y] if np.ndim(y) == 1 else y


def _subtracted_loss(base: Any, f: Any, y: Any) -> Any:
    """Losses through exp and log without log1p, as they are often written."""
    if _is(base, "Categorical"):
        top = np.max(f, axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.sum(np.exp(f - top), axis=1))
        return log_sum - np.take_along_axis(f, np.asarray(y)[:, None], axis=1)[:, 0]
    if _is(base, "Bernoulli"):
        return np.sum(np.maximum(f, 0.0) + np.log(1.0 + np.exp(-np.abs(f))) - y * f, axis=1)
    return base.loss(f, y)


def perturbed(problem: Problem, knobs: Knobs, noise: Noise) -> Problem:
    """The problem with perturbed activations and likelihood, and the changes that concern them."""
    act = find_activation(problem.model.activation)
    flat = act.name in ("identity", "relu")
    activation = Activation(
        act.name,
        lambda s: noise.entries(act.value(s)),
        act.first if flat else lambda s: noise.absolute(act.first(s)),
        act.second if flat else lambda s: noise.absolute(act.second(s)),
    )
    likelihood: Any = problem.likelihood
    if "variance" in knobs and hasattr(likelihood, "variance"):
        likelihood = dataclasses.replace(likelihood, variance=knobs["variance"](likelihood.variance))
    changed: Any = _Likelihood(likelihood, knobs, noise)
    model = problem.model
    if noise.size > 0.0:
        model = dataclasses.replace(model, activation=activation)
    if "layer_scale" in knobs:
        model = dataclasses.replace(model, scales=tuple(knobs["layer_scale"](c) for c in model.layer_scales))
    return Problem(model, changed, check_finite=False)


def bias_places(problem: Problem) -> Any:
    """Which entries of theta are biases."""
    if not problem.model.bias:
        return np.zeros(problem.num_parameters, dtype=bool)
    layers = [np.zeros(problem.model.shapes[i]) for i in problem.model.trainable]
    for layer in layers:
        layer[:, -1] = 1.0
    return np.concatenate([layer.ravel() for layer in layers]) > 0.5


class View:
    """What one step sees: loss, gradient, score rows, curvature at theta on a batch."""

    def __init__(
        self, problem: Problem, kind: str, structure: str, knobs: Knobs, noise: Noise, data: Any
    ) -> None:
        theta, self.x, self.y, self.samples = data
        self.problem, self.knobs, self.noise = problem, knobs, noise
        self.kind = knobs.get("kind", kind)
        self.structure = knobs.get("structure", structure)
        self.bias = knobs.get("bias")
        if self.bias == "missing":
            theta = np.where(bias_places(problem), 0.0, theta)
        self.theta = noise.entries(theta)
        if self.kind == "monte_carlo" and self.samples is None:
            raise NotApplicable

    def scale(self, name: str) -> float:
        """The factor that a change puts on a quantity."""
        n, k = self.outputs.shape
        return math.prod(SCALES[factor](n, k) for factor in self.knobs.get(name, "1").split(" * "))

    @cached_property
    def outputs(self) -> Any:
        """The network outputs f (N, K)."""
        return self.problem.outputs(self.theta, self.x)

    @cached_property
    def loss(self) -> Any:
        """The loss."""
        return self.scale("loss.scale") * self.problem.loss(self.theta, self.x, self.y)

    @cached_property
    def gradient(self) -> Any:
        """The gradient (P,)."""
        g = self.problem.gradient(self.theta, self.x, self.y)
        if self.bias is not None:
            g = np.where(bias_places(self.problem), 0.0, g)
        return self.scale("gradient.scale") * self.noise.entries(g)

    def _without_bias(self, array: Any) -> Any:
        """Derivatives by the biases are zero where these have no derivative."""
        if self.bias in ("missing", "derivatives missing"):
            return np.where(bias_places(self.problem), 0.0, array)
        return array

    @cached_property
    def jacobian(self) -> Any:
        """df/dtheta (N, K, P)."""
        return self._without_bias(self.noise.entries(self.problem.jacobian(self.theta, self.x)))

    def hvp(self, v: Any) -> Any:
        """``H v``, or what stands in for it."""
        how = self.knobs.get("hvp")
        if how == "fisher":
            return self.scale("hessian.scale") * (self.rows.T @ (self.rows @ v))
        if how == "loss gradient outer":
            return self.gradient * (self.gradient @ v)
        v = self._without_bias(v) if self.bias == "missing" else v
        product = self._without_bias(self.problem.hvp(self.theta, self.x, self.y, self.noise.entries(v)))
        if how == "residual term alone":
            product = product - self._gauss_newton(v)
        return self.scale("hessian.scale") * self.noise.entries(product)

    def difference(self) -> Any:
        """``(g(theta + e g) - g) / e`` with ``e |g| = 2^-26 (1 + |theta|)``: H g by a finite difference."""
        g = self.gradient
        size = float(np.linalg.norm(g))
        h = 2.0**-26 * (1.0 + float(np.linalg.norm(self.theta)))
        moved = self.noise.entries(self.theta + (h / max(size, 1e-300)) * g)
        there = self.scale("gradient.scale") * self.problem.gradient(moved, self.x, self.y)
        return (self.noise.entries(there) - g) * (size / h)

    def _gauss_newton(self, v: Any) -> Any:
        J = self.problem.jacobian(self.theta, self.x)
        Om = self.problem.likelihood.hessian(self.problem.outputs(self.theta, self.x), self.y)
        return np.einsum("nkp,nkj,njq,q->p", J, Om, J, v, optimize=True) / J.shape[0]

    def hessian(self) -> Any:
        """H (P, P)."""
        return np.stack([self.hvp(e) for e in np.eye(self.theta.shape[0])])

    @cached_property
    def layers(self) -> tuple[list[Any], list[Any]]:
        """Activations and score signals of the trainable layers."""
        options = {"samples": self.samples} if self.kind == "monte_carlo" else {}
        inputs, signals = self.problem.layer_factors(
            self.theta, self.x, self.y if self.kind == "empirical" else None, kind=self.kind, **options
        )
        root = (
            math.sqrt(self.scale("fisher.scale"))
            if self.kind == "expected" or "rows.scale" not in self.knobs
            else (self.scale("rows.scale"))
        )
        if self.kind == "monte_carlo" and self.knobs.get("mc") == "draws summed":
            root *= math.sqrt(self.samples.shape[0])
        inputs = tuple(self.noise.entries(a) for a in inputs)
        unit = self.knobs.get("activations") == "no ones" or self.bias in ("missing", "derivatives missing")
        if unit and self.problem.model.bias:
            for a in inputs:
                a[:, -1] = 0.0
        return list(inputs), [root * self.noise.entries(d) for d in signals]

    @cached_property
    def rows(self) -> Any:
        """B (N K', P)."""
        inputs, signals = self.layers
        n, k = signals[0].shape[:2]
        if self.knobs.get("rows") == "mean gradient":
            return math.sqrt(self.scale("fisher.scale")) * self.gradient[None, :]
        blocks = [
            np.einsum("nkd,ni->nkdi", d, a).reshape(n, k, -1) for a, d in zip(inputs, signals, strict=True)
        ]
        rows = np.concatenate(blocks, axis=2)
        if self.knobs.get("rows") == "outputs summed":  # (sum_k rows)(sum_k rows)^T: cross terms of outputs
            rows = np.sum(rows, axis=1, keepdims=True)
        return self.noise.entries(rows.reshape(-1, rows.shape[2]) / math.sqrt(n))

    @cached_property
    def factors(self) -> list[tuple[Any, Any]]:
        """(A, G) of every trainable layer; K-FAC's, unless the structure has its own."""
        inputs, signals = self.layers
        n = inputs[0].shape[0]
        if self.structure in ("kronecker_optimal", "ekfac", "tridiagonal_kfac"):
            pairs = [(np.asarray(A), np.asarray(G)) for A, G in self.built.factors]
        else:
            pairs = [
                (a.T @ a / n, np.einsum("nkd,nke->de", d, d) / n)
                for a, d in zip(inputs, signals, strict=True)
            ]
        sa, sg = self.scale("A.scale"), self.scale("G.scale")
        changed = [(sa * self.noise.symmetric(A), sg * self.noise.symmetric(G)) for A, G in pairs]
        if self.structure == "kfac" and self.knobs.get("bias_block") == "apart":
            changed = [(_bias_apart(A), G) for A, G in changed] if self.problem.model.bias else changed
        if self.knobs.get("factors") == "diagonal":
            changed = [(np.diag(np.diag(A)), np.diag(np.diag(G))) for A, G in changed]
        return changed

    @cached_property
    def built(self) -> Any:
        """The curvature object of the structure."""
        inputs, signals = self.layers
        return build_curvature(tuple(inputs), tuple(signals), structure=self.structure)

    @cached_property
    def dense(self) -> Any:
        """C (P, P), undamped."""
        if self.structure == "kfac":
            return kronecker_dense(self.factors, self.knobs)
        F = self.rows.T @ self.rows
        if self.structure == "full":
            return F
        if self.structure == "diagonal":
            return np.diag(np.diag(F))
        if self.structure == "block_diagonal":
            return F * block_mask(self.problem)
        return self.noise.symmetric(np.asarray(self.built.to_dense()))


def _bias_apart(A: Any) -> Any:
    """A without the cross terms of weights and bias."""
    apart = A.copy()
    apart[-1, :-1] = apart[:-1, -1] = 0.0
    return apart


def kronecker_dense(factors: Any, knobs: Knobs) -> Any:
    """Block diagonal of ``G kron A``, or of what stands in for it."""
    blocks = []
    for A, G in factors:
        blocks.append(np.kron(A, G) if knobs.get("kron") == "AG" else np.kron(G, A))
    return block_diagonal(blocks)


def block_diagonal(blocks: Any) -> Any:
    """The block-diagonal matrix of square blocks."""
    size = sum(block.shape[0] for block in blocks)
    out, start = np.zeros((size, size)), 0
    for block in blocks:
        stop = start + block.shape[0]
        out[start:stop, start:stop] = block
        start = stop
    return out


def block_mask(problem: Problem) -> Any:
    """Ones in the layers' diagonal blocks."""
    return block_diagonal(
        [np.ones((math.prod(problem.model.shapes[i]),) * 2) for i in problem.model.trainable]
    )
