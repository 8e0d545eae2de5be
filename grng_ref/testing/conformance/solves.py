"""Damped solves and moving averages of the replay, open to a change where implementations differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...curvature import TridiagonalKFAC, find_structure
from ...optimizers.options import average_weight
from .noise import Noise
from .view import Knobs, NotApplicable, View, kronecker_dense

_RANK = 1e-11  # eigenvalues below this share of the largest one are the null space


_PAIRS = ("kfac", "kronecker_optimal", "tridiagonal_kfac")  # structures that hold factors


class Chain(list[tuple[Any, Any]]):
    """The pairs (A, G) of all layers, then those of neighbouring layers."""

    @property
    def layers(self) -> int:
        """How many pairs are of one layer."""
        return (len(self) + 1) // 2


def held(view: View) -> Any:
    """What a structure holds, and averages: pairs of factors, or a dense matrix."""
    if view.structure not in _PAIRS:
        return view.dense
    if view.structure != "tridiagonal_kfac":
        return view.factors
    sa, sg = view.scale("A.scale"), view.scale("G.scale")
    return Chain([*view.factors, *((sa * A, sg * G) for A, G in view.built.neighbours)])


def damping_of(value: float, knobs: Knobs, view: View) -> float:
    """The constant damping as a change has it."""
    change = knobs.get("damping")
    n = view.outputs.shape[0]
    options = {
        None: value,
        "none": 0.0,
        "twice": 2.0 * value,
        "squared": value**2,
        "root": math.sqrt(value),
        "half": 0.5 * value,
        "times N": n * value,
        "over N": value / n,
    }
    return options[change]


def damped_solve(view: View, C: Any, v: Any, a: float, kind: str, knobs: Knobs, noise: Noise) -> Any:
    """``(C + a I)^{-1} v``; C a list of factors or a dense matrix."""
    C = held(view) if kind == "factored" and not isinstance(C, list) else C
    if isinstance(C, Chain):
        return _solve_chain(C, v, a, knobs, noise)
    if isinstance(C, list):
        how = knobs.get("damping_place", kind)
        if how == "exact":
            return _solve_dense(kronecker_dense(C, knobs), v, a, knobs, noise)
        return _solve_factored(view, C, v, a, how, knobs, noise)
    if "damping_place" in knobs and knobs["damping_place"] != "multiplicative":
        raise NotApplicable
    return _solve_dense(C, v, a, knobs, noise)


def _solve_chain(C: Chain, v: Any, a: float, knobs: Knobs, noise: Noise) -> Any:
    if "damping_place" in knobs or "null_space" in knobs:
        raise NotApplicable
    built = TridiagonalKFAC(tuple(C[: C.layers]), tuple(C[C.layers :]))
    return np.asarray(built.solve(noise.entries(v), damping=a, damping_kind="factored"))


def _solve_dense(C: Any, v: Any, a: float, knobs: Knobs, noise: Noise) -> Any:
    n = C.shape[0]
    added = np.diag(np.diag(C)) * a if knobs.get("damping_place") == "multiplicative" else a * np.eye(n)
    if knobs.get("null_space") == "dropped" or a == 0.0:
        return _solve_in_range(C, v, a, noise)
    return noise.entries(np.linalg.solve(noise.symmetric(C + added), noise.entries(v)))


def _solve_in_range(C: Any, v: Any, a: float, noise: Noise) -> Any:
    """The solve on the range of C alone. Its rank is that of C, before roundings turn the range."""
    values = np.linalg.eigvalsh(C)
    kept = values > _RANK * max(values[-1], 1e-300)
    values, vectors = np.linalg.eigh(noise.symmetric(C))
    part = vectors[:, kept]
    return noise.entries(part @ ((part.T @ noise.entries(v)) / (values[kept] + a)))


def _solve_factored(view: View, C: Any, v: Any, a: float, how: str, knobs: Knobs, noise: Noise) -> Any:
    out, start = [], 0
    for A, G in C:
        da, dg = A.shape[0], G.shape[0]
        V = noise.entries(v[start : start + da * dg].reshape(dg, da))
        parts = [slice(0, da)]
        if knobs.get("bias_block") == "apart" and view.problem.model.bias:
            parts = [slice(0, da - 1), slice(da - 1, da)]
        X = [_solve_pair(A[p, p], G, V[:, p], a, how, knobs, noise) for p in parts]
        out.append(noise.entries(np.concatenate(X, axis=1).ravel()))
        start += da * dg
    return np.concatenate(out)


def _solve_pair(A: Any, G: Any, V: Any, a: float, how: str, knobs: Knobs, noise: Noise) -> Any:
    """``(G + .. I)^{-1} V (A + .. I)^{-1}``."""
    root, pi = math.sqrt(a), _pi(A, G, how)
    plus = {
        "on A": (a, 0.0),
        "on G": (0.0, a),
        "no root": (a, a),
        "pi squared": (pi**2 * root, root / pi**2),
    }.get(how, (pi * root, root / pi))
    left = noise.symmetric(G + plus[1] * np.eye(G.shape[0]))
    right = noise.symmetric(A + plus[0] * np.eye(A.shape[0]))
    try:
        if knobs.get("kron") == "AG":
            return np.linalg.solve(np.kron(right, left), V.ravel()).reshape(V.shape)
        return np.linalg.solve(left, np.linalg.solve(right, V.T).T)
    except np.linalg.LinAlgError:
        raise NotApplicable from None


def _pi(A: Any, G: Any, how: str) -> float:
    top, bottom = np.trace(A) / A.shape[0], np.trace(G) / G.shape[0]
    if how == "factored without pi" or top <= 0.0 or bottom <= 0.0:
        return 1.0
    if how == "pi inverted":
        return math.sqrt(bottom / top)
    if how == "pi of traces":
        return math.sqrt(np.trace(A) / np.trace(G))
    return math.sqrt(top / bottom)


class Average:
    """The moving average of curvatures over steps, with its bias correction or without."""

    def __init__(self, beta: float | None, refresh: int, knobs: Knobs) -> None:
        self.beta, self.refresh, self.knobs = beta, refresh, knobs
        if self.beta is not None and knobs.get("ema") == "weights swapped":
            self.beta = 1.0 - self.beta
        if knobs.get("refresh") == "every step":
            self.refresh = 1
        self.sum: Any = None
        self.count = 0
        self.used: Any = None

    def at(self, step: int, view: View) -> Any:
        """The curvature that the step uses."""
        if step % self.refresh != 0 or (self.knobs.get("refresh") == "only first" and step > 0):
            return self.used
        if self.beta is None or self.knobs.get("ema") == "none":
            self.used = held(view)
        else:
            self.count += 1
            self.used = self._turned(view) if view.structure == "ekfac" else self._averaged(held(view))
        return self.used

    def _turned(self, view: View) -> Any:
        """EKFAC's average turns the moments into the new eigenbasis: the package's own, unchanged."""
        if self.knobs.get("ema") not in (None, "weights swapped"):
            raise NotApplicable
        weight = average_weight(float(self.beta or 0.0), self.count)
        new = view.built
        self.sum = new if self.sum is None else find_structure("ekfac").average(self.sum, new, weight)
        return view.noise.symmetric(np.asarray(self.sum.to_dense()))

    def _averaged(self, new: Any) -> Any:
        beta, how = float(self.beta or 0.0), self.knobs.get("ema")
        if self.sum is None:
            identity = _identity_like(new)
            start = identity if how == "from identity" else _mapped(np.zeros_like, new)
            self.sum = new if how == "from first" else start
            if how == "from first":
                return new
        self.sum = _mapped(lambda s, c: beta * s + (1.0 - beta) * c, self.sum, new)
        if how in ("uncorrected", "from identity", "from first"):
            return self.sum
        correction = 1.0 - beta**self.count
        if how == "corrected twice":
            correction **= 2
        return _mapped(lambda s: s / correction, self.sum)


def _mapped(function: Any, *trees: Any) -> Any:
    if isinstance(trees[0], list):
        places = range(len(trees[0]))
        return type(trees[0])([tuple(function(*(t[i][j] for t in trees)) for j in range(2)) for i in places])
    return function(*trees)


def _identity_like(tree: Any) -> Any:
    """Identities; zeros between neighbouring layers."""
    found = _mapped(lambda M: np.eye(*M.shape), tree)
    if isinstance(found, Chain):
        found[found.layers :] = [(0.0 * A, 0.0 * G) for A, G in found[found.layers :]]
    return found
