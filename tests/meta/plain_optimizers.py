"""A plain NumPy implementation of every stage, from the definitions, with planted defects to switch on.

It shares no code with the package: its own network, likelihoods, Fisher, solves and filters. `Plain("name")`
has the defect of that name, `Plain()` is right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def _sigmoid(z: Any) -> Any:
    big = np.real(z) > 0
    e = np.exp(np.where(big, -z, z))
    return np.where(big, 1.0 / (1.0 + e), e / (1.0 + e))


ACT = {
    "tanh": (np.tanh, lambda s: 4.0 * _sigmoid(2.0 * s) * _sigmoid(-2.0 * s)),
    "relu": (
        lambda s: np.where(np.real(s) > 0, s, 0 * s),
        lambda s: np.where(np.real(s) > 0, 1.0 + 0 * s, 0 * s),
    ),
    "softplus": (lambda s: np.log1p(np.exp(-np.sqrt(s * s))) + np.where(np.real(s) > 0, s, 0 * s), _sigmoid),
    "sigmoid": (_sigmoid, lambda s: _sigmoid(s) * _sigmoid(-s)),
}


class Net:
    def __init__(self, case: Any, defect: str | None) -> None:
        self.sizes, self.bias, self.defect = case.network["sizes"], case.network["bias"], defect
        self.c = [d**-0.5 if case.network["parameterization"] == "ntk" else 1.0 for d in self.sizes[:-1]]
        if defect == "input scale left out":
            self.c = [1.0 for _ in self.c]
        self.act, self.dact = ACT[case.network["activation"]]
        self.like, self.s2 = case.likelihood["name"], case.likelihood.get("variance", 1.0)
        if defect == "variance ignored":
            self.s2 = 1.0

    def matrices(self, theta: Any) -> list[Any]:
        out, i = [], 0
        for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            n = b * (a + self.bias)
            out.append(theta[i : i + n].reshape(b, a + self.bias))
            i += n
        return out

    def run(self, theta: Any, x: Any) -> tuple[list[Any], list[Any]]:
        a, inputs, pre = x.astype(theta.dtype), [], []
        for l, W in enumerate(self.matrices(theta)):
            one = np.ones((len(x), 1), dtype=theta.dtype)
            if self.defect == "biases ignored":
                one = 0 * one
            inputs.append(np.hstack([self.c[l] * a, one]) if self.bias else self.c[l] * a)
            pre.append(inputs[-1] @ W.T)
            a = self.act(pre[-1])
        if self.defect == "layer inputs without ones" and self.bias:
            inputs = [np.hstack([i[:, :-1], 0 * i[:, -1:]]) for i in inputs]
        return inputs, pre

    def back(self, theta: Any, pre: list[Any], d: Any) -> list[Any]:
        """d (N, R, K) -> one (N, R, d_out) a layer."""
        Ws, out = self.matrices(theta), [d]
        for l in range(len(Ws) - 1, 0, -1):
            d = (d @ (self.c[l] * Ws[l][:, : self.sizes[l]])) * self.dact(pre[l - 1])[:, None, :]
            out.insert(0, d)
        return out

    def rows(self, inputs: list[Any], signals: list[Any]) -> Any:
        parts = []
        for a, d in zip(inputs, signals, strict=True):
            N, R = d.shape[:2]
            parts.append((d[:, :, :, None] * a[:, None, None, :]).reshape(N, R, -1))
        return np.concatenate(parts, axis=2)

    def onehot(self, f: Any, y: Any) -> Any:
        return np.eye(f.shape[1])[y].astype(f.dtype) if y.ndim == 1 else y

    def mean(self, f: Any) -> Any:
        if self.like == "gaussian":
            return f
        if self.like == "bernoulli":
            return _sigmoid(f)
        if self.like == "poisson":
            return np.exp(f)
        e = np.exp(f - np.max(np.real(f), axis=1, keepdims=True))
        return e / np.sum(e, axis=1, keepdims=True)

    def losses(self, f: Any, y: Any) -> Any:
        if self.like == "gaussian":
            half = 1.0 if self.defect in ("no half", "no half, Fisher too") else 0.5
            return half * np.sum((f - y) ** 2, axis=1) / self.s2
        if self.like == "bernoulli":
            return np.sum(np.logaddexp(np.zeros_like(f), f) - y * f, axis=1)
        if self.like == "poisson":
            return np.sum(np.exp(f) - y * f, axis=1)
        m = f - np.max(f, axis=1, keepdims=True)
        return np.log(np.sum(np.exp(m), axis=1)) - np.sum(m * self.onehot(f, y), axis=1)

    def dloss(self, f: Any, y: Any) -> Any:
        twice = 2.0 if self.like == "gaussian" and self.defect in ("no half", "no half, Fisher too") else 1.0
        return twice * (self.mean(f) - self.onehot(f, y)) / (self.s2 if self.like == "gaussian" else 1.0)

    def om(self, f: Any) -> Any:
        p, K = self.mean(f), f.shape[1]
        eye = np.eye(K, dtype=f.dtype)
        if self.like == "gaussian":
            F = np.broadcast_to(eye / self.s2, (len(f), K, K)).copy()
            F = 2.0 * F if self.defect == "no half, Fisher too" else F
        elif self.like == "categorical":
            F = (
                p[:, :, None] * eye
                - (0.0 if self.defect == "no p p^T" else 1.0) * p[:, :, None] * p[:, None, :]
            )
        elif self.like == "bernoulli":
            F = (p * (1 - p))[:, :, None] * eye
        else:
            F = p[:, :, None] * eye
        if self.defect == "output cross terms missing":
            F = F * eye
        if self.defect == "output Fisher is I":
            F = np.broadcast_to(eye, F.shape).copy()
        if self.defect and self.defect.startswith("observation epsilon"):
            F = F @ np.linalg.solve(F + float(self.defect.split()[-1]) * eye, F)
        return F

    def root(self, f: Any) -> Any:
        if self.like == "categorical" and self.defect is None:
            s = np.sqrt(self.mean(f))
            return (
                s[:, :, None] * np.eye(f.shape[1], dtype=f.dtype) - self.mean(f)[:, :, None] * s[:, None, :]
            )
        w, V = np.linalg.eigh(self.om(f))
        return V * np.sqrt(np.maximum(w, 0))[:, None, :]


class At:
    """Quantities at theta on a batch."""

    def __init__(self, net: Net, case: Any, theta: Any, batch: Any) -> None:
        self.net, self.theta, self.x, self.y, self.defect = net, theta, batch.x, batch.y, net.defect
        self.N = len(batch.x)
        self.inputs, self.pre = net.run(theta, batch.x)
        self.f, self.K = self.pre[-1], self.pre[-1].shape[1]
        kind = case.curvature["kind"]
        kind = {"empirical for the kind": "empirical", "expected for the kind": "expected"}.get(
            self.defect or "", kind
        )
        self.kind, self.samples = kind, batch.samples if batch.samples is not None else case.samples
        self.reduction = {"sum": self.N, "sum everywhere": self.N, "mean over outputs": 1 / self.K}.get(
            self.defect or "", 1.0
        )

    def loss(self) -> Any:
        return self.reduction * np.mean(self.net.losses(self.f, self.y))

    def grad(self, theta: Any = None, y: Any = None) -> Any:
        theta = self.theta if theta is None else theta
        inputs, pre = self.net.run(theta, self.x)
        y = self.y if y is None else y
        d = self.net.dloss(pre[-1], y)[:, None, :] / self.N
        rows = self.net.rows(inputs, self.net.back(theta, pre, d))
        return (
            self.reduction
            * np.sum(rows, axis=(0, 1))
            * (1 / self.N if self.defect == "gradient over N" else 1)
        )

    def g(self) -> Any:
        g = self.grad()
        if self.defect == "bias gradient missing" and self.net.bias:
            parts = [m.copy() for m in self.net.matrices(g)]
            for m in parts:
                m[:, -1] = 0
            g = np.concatenate([m.ravel() for m in parts])
        return g

    def hvp(self, v: Any) -> Any:
        if self.defect == "Fisher product for H":
            B = self.B()
            return B.T @ (B @ v)
        h = 1e-12 if v.dtype == np.float32 else 1e-30
        step = v.astype(np.complex64 if v.dtype == np.float32 else complex) * (1j * h)
        return (np.imag(self.grad(self.theta + step)) / h).astype(v.dtype)

    def jac(self) -> Any:
        eye = np.broadcast_to(np.eye(self.K, dtype=self.f.dtype), (self.N, self.K, self.K))
        return self.net.rows(self.inputs, self.net.back(self.theta, self.pre, eye))

    def signals(self) -> list[Any]:
        if self.kind == "expected":
            d = np.swapaxes(self.net.root(self.f), 1, 2)
        elif self.kind == "empirical":
            d = self.net.dloss(self.f, self.y)[:, None, :]
        else:
            M = len(self.samples)
            d = np.stack([self.net.dloss(self.f, s) for s in self.samples], axis=1)
            d = d / math.sqrt(1 if self.defect == "draws summed" else M)
        scale = {
            "Fisher sum": self.N,
            "sum everywhere": self.N,
            "Fisher over K": 1 / self.K,
            "Fisher over N": 1 / self.N,
        }.get(self.defect or "", 1.0)
        return self.net.back(self.theta, self.pre, d * math.sqrt(scale))

    def B(self) -> Any:
        if self.defect == "outer product of the mean gradient":
            return self.g()[None, :]
        rows = self.net.rows(self.inputs, self.signals())
        return rows.reshape(-1, rows.shape[2]) / math.sqrt(self.N)

    def AG(self) -> list[Any]:
        out = []
        for a, d in zip(self.inputs, self.signals(), strict=True):
            A, G = a.T @ a / self.N, np.einsum("nki,nkj->ij", d, d) / self.N
            A = A * self.N if self.defect == "A not normalised" else A
            if self.defect == "bias apart in K-FAC" and self.net.bias:
                A[-1, :-1] = A[:-1, -1] = 0
            G = G / self.N**2 if self.defect == "G over N^2" else G
            out.append((A, G))
        return out

    def C(self, structure: str) -> Any:
        """A matrix, or (A, G) a layer."""
        if structure == "kfac" and self.defect != "block diagonal for K-FAC":
            return self.AG()
        F = self.B().T @ self.B()
        if (
            structure == "kfac"
            or structure == "block_diagonal"
            or (self.defect == "cross terms missing" and structure == "full")
        ):
            mask, i = np.zeros_like(F), 0
            for m in self.net.matrices(self.theta):
                mask[i : i + m.size, i : i + m.size] = 1
                i += m.size
            return F * mask
        if structure == "diagonal" or (self.defect == "diagonal for full" and structure == "full"):
            return np.diag(np.diag(F))
        return F


def kron_apply(pairs: Any, v: Any, how: Any) -> Any:
    out, i = [], 0
    for A, G in pairs:
        n = len(A) * len(G)
        out.append(how(A, G, v[i : i + n].reshape(len(G), len(A))).ravel())
        i += n
    return np.concatenate(out)


def product(C: Any, v: Any, defect: str | None) -> Any:
    if not isinstance(C, list):
        return C @ v
    if defect == "A kron G":
        return kron_apply(C, v, lambda A, G, V: np.kron(A, G) @ V.ravel())
    return kron_apply(C, v, lambda A, G, V: G @ V @ A)


def solve(C: Any, v: Any, a: float, kind: str, defect: str | None, N: int) -> Any:
    a = {
        "damping left out": 0.0,
        "damping twice": 2 * a,
        "damping squared": a * a,
        "damping root": a**0.5,
        "damping times N": N * a,
    }.get(defect or "", a)
    if isinstance(C, list):
        kind = {"damping on the product": "exact", "damping on the factors": "factored"}.get(
            defect or "", kind
        )
        if kind == "exact":

            def apply(A: Any, G: Any, V: Any) -> Any:
                M = np.kron(A, G) if defect == "A kron G" else np.kron(G, A)
                return np.linalg.solve(M + a * np.eye(len(M), dtype=v.dtype), V.ravel())
        else:

            def apply(A: Any, G: Any, V: Any) -> Any:
                if defect == "bias apart in K-FAC" and len(A) > 1:  # two Kronecker products, each with its pi
                    parts = [(A[:-1, :-1], V[:, :-1]), (A[-1:, -1:], V[:, -1:])]
                    return np.hstack([whole(B, G, W) for B, W in parts])
                return whole(A, G, V)

            def whole(A: Any, G: Any, V: Any) -> Any:
                r, dead = math.sqrt(a), np.trace(A) * np.trace(G) == 0  # a layer that nothing reaches
                pi = 1.0 if dead else math.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
                if defect == "no pi":
                    pi = 1.0
                if defect == "pi inverted":
                    pi = 1 / pi
                if defect == "pi of traces":
                    pi = math.sqrt(np.trace(A) / np.trace(G))
                pa, pg = pi * r, r / pi
                if defect == "damping on A only":
                    pa, pg = a, 0.0
                if defect == "damping on G only":
                    pa, pg = 0.0, a
                if defect == "damping without root":
                    pa = pg = a
                L, R = G + pg * np.eye(len(G), dtype=v.dtype), A + pa * np.eye(len(A), dtype=v.dtype)
                if defect == "A kron G":
                    return np.linalg.solve(np.kron(R, L), V.ravel())
                return np.linalg.solve(R, np.linalg.solve(L, V).T).T

        return kron_apply(C, v, apply)
    if defect == "null space dropped":
        w, V = np.linalg.eigh(C)
        keep = w > 1e-11 * w.max()
        return V[:, keep] @ ((V[:, keep].T @ v) / (w[keep] + a))
    D = np.diag(np.diag(C)) if defect == "multiplicative damping" else np.eye(len(v), dtype=v.dtype)
    return np.linalg.solve(C + a * D, v)


class Plain:
    """The adapter."""

    library = "numpy"

    def __init__(self, defect: str | None = None, dtype: str = "float64") -> None:
        self.defect, self.dtype, self._memo = defect, dtype, {}

    def at(self, case: Any) -> At:
        if case.id not in self._memo:
            theta = case.theta.astype(np.float32) if self.defect == "float32 inside" else case.theta
            self._memo[case.id] = At(Net(case, self.defect), case, theta, self.batch(case, 0))
        return self._memo[case.id]

    def batch(self, case: Any, k: int) -> Any:
        b = case.batch(k)
        if self.defect == "float32 inside":
            b = b._replace(
                x=b.x.astype(np.float32), y=b.y if b.y.dtype.kind == "i" else b.y.astype(np.float32)
            )
        return b

    def order(self, case: Any, v: Any) -> Any:
        """Our order of the parameters, unless the defect is another."""
        ms = self.at(case).net.matrices(v)
        bias = self.at(case).net.bias
        if self.defect == "bias first":
            return np.concatenate([np.roll(m, 1, axis=1).ravel() if bias else m.ravel() for m in ms])
        if self.defect == "column-major":
            return np.concatenate([m.T.ravel() for m in ms])
        if self.defect == "weights and biases apart" and bias:
            return np.concatenate([p.ravel() for m in ms for p in (m[:, :-1], m[:, -1])])
        if self.defect == "no biases" and bias:
            return np.concatenate([m[:, :-1].ravel() for m in ms])
        return v

    def outputs(self, case: Any) -> Any:
        return self.at(case).f

    def loss(self, case: Any) -> Any:
        return self.at(case).loss()

    def gradient(self, case: Any) -> Any:
        return self.order(case, self.at(case).g())

    def jacobian(self, case: Any) -> Any:
        J = self.at(case).jac()
        return np.stack([[self.order(case, r) for r in rows] for rows in J])

    def activations(self, case: Any) -> Any:
        return self.at(case).inputs

    def score_signals(self, case: Any) -> Any:
        return self.at(case).signals()

    def score_rows(self, case: Any) -> Any:
        return np.stack([self.order(case, r) for r in self.at(case).B()])

    def fisher(self, case: Any) -> Any:
        B = self.score_rows(case)
        return B.T @ B

    def factors(self, case: Any) -> Any:
        pairs = self.at(case).AG()
        return [(G, A) for A, G in pairs] if self.defect == "factors swapped" else pairs

    def curvature_product(self, case: Any) -> Any:
        C = self.at(case).C(case.curvature["structure"] if case.optimizer["name"] != "kfac" else "kfac")
        return self.order(case, product(C, case.v, self.defect))

    def damped_solve(self, case: Any) -> Any:
        kfac = case.optimizer["name"] == "kfac"
        C = self.at(case).C("kfac" if kfac else case.curvature["structure"])
        kind = "factored" if kfac else case.damping_kind
        x = solve(C, case.v, case.damping, kind, self.defect, self.at(case).N)
        return self.order(case, x / self.at(case).N if self.defect == "solve over N" else x)

    def hvp(self, case: Any) -> Any:
        return self.order(case, self.at(case).hvp(case.v) * (2 if self.defect == "H v doubled" else 1))

    def regularized_gradient(self, case: Any) -> Any:
        return self.order(case, self.reg(self.at(case), case.rho or 0.0))

    def difference(self, at: At, g: Any) -> Any:
        if self.defect == "H exact for the difference":
            return at.hvp(g)
        h = (1 + np.linalg.norm(at.theta)) * 2.0**-26
        e = h / np.linalg.norm(g)
        return (at.grad(at.theta + e * g) - at.grad()) / e

    def reg(self, at: At, rho: float, hvp: str = "exact") -> Any:
        g = at.g()
        rho = {"rho sign": -rho, "rho half": rho / 2, "rho twice": 2 * rho, "rho dropped": 0.0}.get(
            self.defect or "", rho
        )
        H = self.difference(at, g) if hvp == "finite_difference" else at.hvp(g)
        if self.defect == "gradient of the norm":
            H = H / np.linalg.norm(g)
        return rho * H if self.defect == "gradient left out" else g + rho * H

    def delta(self, case: Any) -> Any:
        return self.order(case, self.path(case)[0][0])

    def parameters(self, case: Any) -> Any:
        return np.stack([self.order(case, t) for t in self.path(case)[1]])

    def belief_mean(self, case: Any) -> Any:
        return self.parameters(case)

    def belief_covariance(self, case: Any) -> Any:
        P = self.path(case)[2]
        half = np.stack([self.order(case, r) for r in P])
        return np.stack([self.order(case, r) for r in half.T])

    def path(self, case: Any) -> Any:
        key = ("path", case.id)
        if key not in self._memo:
            name = case.optimizer["name"]
            run = {"sgd": self.sgd, "adamw": self.adamw, "sophia": self.sophia, "rkalman": self.kalman}.get(
                name, self.natural
            )
            self._memo[key] = run(case)
        return self._memo[key]

    def views(self, case: Any, k: int, theta: Any) -> At:
        return At(Net(case, self.defect), case, theta, self.batch(case, k))

    def start(self, case: Any) -> Any:
        return self.at(case).theta

    def collect(self, case: Any, step: Any) -> Any:
        theta, deltas, path = self.start(case), [], []
        for k in range(case.steps):
            d = step(k, theta, self.views(case, k, theta))
            d = -d if self.defect == "step sign" else d
            theta = theta + d
            deltas.append(d)
            path.append(theta)
        return deltas, path, None

    def at_step(self, case: Any, k: int) -> Any:
        return case.settings(0 if self.defect == "schedule ignored" else k)

    def natural(self, case: Any) -> Any:
        o, D = case.optimizer, self.defect
        kfac = o["name"] == "kfac"
        structure = "kfac" if kfac else case.curvature["structure"]
        memory: dict[str, Any] = {"n": 0}

        def average(C: Any, beta: float) -> Any:
            parts = [m for p in C for m in p] if isinstance(C, list) else [C]
            memory["n"] += 1
            if "avg" not in memory:
                memory["avg"] = [np.eye(len(m)) if D == "EMA from I" else 0 * m for m in parts]
            memory["avg"] = [beta * s + (1 - beta) * m for s, m in zip(memory["avg"], parts, strict=True)]
            corr = 1 - beta ** memory["n"]
            corr = {"EMA uncorrected": 1.0, "EMA from I": 1.0, "EMA corrected twice": corr**2}.get(
                D or "", corr
            )
            new = [m / corr for m in memory["avg"]]
            return [(new[i], new[i + 1]) for i in range(0, len(new), 2)] if isinstance(C, list) else new[0]

        def step(k: int, theta: Any, at: At) -> Any:
            o = self.at_step(case, k)
            every = 1 if D == "refresh ignored" else o["refresh"]
            if k % every == 0 and not (D == "never refreshed" and k):
                new = at.C(structure)
                new = average(new, o["ema"]) if o["ema"] is not None and D != "no EMA" else new
                memory["old"], memory["C"] = memory.get("C", new), new
            elif "C" in memory:
                memory["old"] = memory["C"]
            C = memory["old"] if D == "stale by one step" else memory["C"]
            g, a, rho = at.g(), o["damping"], o.get("rho") or 0.0
            v = self.reg(at, rho, o["hvp"]) if o["name"] == "reng" else g
            if o["name"] == "ring":
                n2 = float(g @ g)
                extra = {
                    "norm for its square": rho * n2**0.5,
                    "rho dropped": 0.0,
                    "rho half": rho * n2 / 2,
                    "rho twice": 2 * rho * n2,
                    "mean square for the norm": rho * n2 / len(g),
                    "norm of the sum": rho * n2 * at.N**2,
                    "rho sign": -rho * n2,
                }.get(D or "", rho * n2)
                a = extra if D == "rho replaces damping" else a + extra
                if D == "norm per layer":
                    M = C if not isinstance(C, list) else None
                    if M is None:
                        raise NotImplementedError
                    diag = np.concatenate(
                        [np.full(m.size, o["damping"] + rho * np.sum(m**2)) for m in at.net.matrices(g)]
                    )
                    d = np.linalg.solve(M + np.diag(diag), v)
                else:
                    d = solve(C, v, a, o["damping_kind"] or "exact", D, at.N)
            else:
                d = solve(C, v, a, "factored" if kfac else o["damping_kind"] or "exact", D, at.N)
            eta = {"lr left out": 1.0, "lr twice": o["lr"] ** 2}.get(D or "", o["lr"])
            moved = -eta * d
            if o["momentum"] and D != "no momentum":
                if D == "momentum dampened":
                    moved = (1 - o["momentum"]) * moved
                moved = moved + o["momentum"] * memory.get("last", 0 * moved)
            memory["last"] = moved
            w = {"no weight decay": 0.0, "decay without lr": o["weight_decay"]}.get(
                D or "", o["lr"] * o["weight_decay"]
            )
            return moved - w * theta

        return self.collect(case, step)

    def sgd(self, case: Any) -> Any:
        D, m = self.defect, {}

        def step(k: int, theta: Any, at: At) -> Any:
            o = self.at_step(case, k)
            wd = 0.0 if D == "no weight decay" else o["weight_decay"]
            v = at.g() + (0 if D == "decay decoupled" else wd) * theta
            mu = 0.0 if D == "no momentum" else o["momentum"]
            m["b"] = mu * m.get("b", 0 * v) + ((1 - mu) * v if D == "momentum dampened" else v)
            eta = {"lr left out": 1.0, "lr twice": o["lr"] ** 2}.get(D or "", o["lr"])
            d = -eta * (v + mu * m["b"] if D == "Nesterov" else m["b"])
            return d - o["lr"] * wd * theta if D == "decay decoupled" else d

        return self.collect(case, step)

    def adamw(self, case: Any) -> Any:
        o, D, m = case.optimizer, self.defect, {"m": 0.0, "v": 0.0}
        b1, b2 = (o["beta2"], o["beta1"]) if D == "betas swapped" else (o["beta1"], o["beta2"])

        def step(k: int, theta: Any, at: At) -> Any:
            o = self.at_step(case, k)
            g = at.g() + (o["weight_decay"] * theta if D == "decay coupled" else 0)
            m["m"], m["v"] = b1 * m["m"] + (1 - b1) * g, b2 * m["v"] + (1 - b2) * g**2
            c1, c2 = 1 - b1 ** (k + 1), 1 - b2 ** (k + 1)
            if D == "Adam uncorrected":
                c1 = c2 = 1.0
            if D == "Adam squares uncorrected":
                c2 = 1.0
            bottom = np.sqrt(m["v"] / c2 + o["eps"]) if D == "eps inside" else np.sqrt(m["v"] / c2) + o["eps"]
            w = {"no weight decay": 0.0, "decay coupled": 0.0, "decay without lr": o["weight_decay"]}.get(
                D or "", o["lr"] * o["weight_decay"]
            )
            eta = {"lr left out": 1.0, "lr twice": o["lr"] ** 2}.get(D or "", o["lr"])
            return -eta * (m["m"] / c1) / bottom - w * theta

        return self.collect(case, step)

    def sophia(self, case: Any) -> Any:
        D, m = self.defect, {"m": 0.0, "h": 0.0}

        def step(k: int, theta: Any, at: At) -> Any:
            o = self.at_step(case, k)
            b1, b2 = (o["beta2"], o["beta1"]) if D == "betas swapped" else (o["beta1"], o["beta2"])
            m["m"] = b1 * m["m"] + (1 - b1) * at.g()
            if k % (1 if D == "refresh ignored" else o["refresh"]) == 0 and not (
                D == "never refreshed" and k
            ):
                b = self.batch(case, k)
                if o["estimator"] == "hutchinson":
                    if b.probes is None:
                        raise NotImplementedError
                    est = np.mean([u * at.hvp(u) for u in b.probes], axis=0)
                else:
                    s = b.samples if b.samples is not None else case.samples
                    est = (1 if D == "Bartlett without N" else at.N) * np.mean(
                        [at.grad(y=y) ** 2 for y in s], axis=0
                    )
                m["h"] = b2 * m["h"] + (1 - b2) * est
            gamma = 1.0 if D == "gamma left out" else o["gamma"]
            r = m["m"] / np.maximum(gamma * m["h"], o["eps"])
            r = r if D == "not clipped" else np.clip(r, -1, 1)
            eta = {"lr left out": 1.0, "lr twice": o["lr"] ** 2}.get(D or "", o["lr"])
            w = 0.0 if D == "no weight decay" else o["lr"] * o["weight_decay"]
            return -eta * r - w * theta

        return self.collect(case, step)

    def kalman(self, case: Any) -> Any:
        D, theta = self.defect, self.start(case)
        eye = np.eye(len(theta), dtype=theta.dtype)
        p0 = case.optimizer["prior_variance"]
        P, W = (1 / p0 if D == "prior inverted" else p0) * eye, np.zeros((len(theta), 0), dtype=theta.dtype)
        deltas, path = [], []
        for k in range(case.steps):
            o = self.at_step(case, k)
            phi, q = o["forgetting"], 0.0 if D == "process noise dropped" else o["process_noise"]
            if D == "forgetting on the wrong side":
                P, W = P * phi, W / phi**0.5
            elif D not in ("no forgetting", "forgetting after"):
                P, W = P / phi, W * phi**0.5
            if D != "process noise late":
                P = P + q * eye
            begin = theta
            for _ in range(2 if D == "observed twice" else 1):
                prior, columns = P, W
                if D == "every iteration counts":
                    for _ in range(o["iterations"]):
                        P, W, step = self.observe(case, o, k, theta, 0 * theta, P, W, None)
                        theta = theta + step
                    continue
                rounds = 1 if D == "iterations ignored" else o["iterations"]
                step, norm2 = 0 * theta, None
                for _ in range(rounds):
                    norm2 = float(np.sum(self.views(case, k, theta).g() ** 2)) if norm2 is None else norm2
                    last = step
                    seen_from = 0 * step if D == "no pull to the prediction" else step
                    P, W, step = self.observe(case, o, k, theta + last, seen_from, prior, columns, norm2)
                    step = last + step if D == "no pull to the prediction" else step
                theta = theta + step
            if D == "process noise late":
                P = P + q * eye
            if D == "forgetting after":
                P, W = P / phi, W * phi**0.5
            deltas.append(-(theta - begin) if D == "step sign" else theta - begin)
            path.append(theta)
        return deltas, path, prior if D == "covariance before the update" else P

    def observe(
        self, case: Any, o: Any, k: int, theta: Any, offset: Any, P: Any, W: Any, norm2: float | None
    ) -> Any:
        """The batch linearised at theta, seen from theta - offset: covariance, columns, step from there."""
        D, at, eye = self.defect, self.views(case, k, theta), np.eye(len(theta), dtype=theta.dtype)
        g, B, N = at.g(), at.B(), at.N
        rho = 0.0 if D == "rho dropped" else o["rho"]
        norm2 = float(g @ g) if norm2 is None else norm2
        norm2 = norm2**0.5 if D == "norm for its square" else norm2
        info = (1 if D == "information is a mean" else 2 * N if D == "counted twice" else N) * B.T @ B
        s = (1 if D == "mean gradient in the filter" else 2 * N if D == "counted twice" else N) * g
        s = s - info @ offset
        info = info + (1 if D == "rho without N" else N) * rho * norm2 * eye
        joint = np.linalg.inv(np.linalg.inv(P) + info)
        step = -(P if D == "gain before the update" else joint) @ s
        if o["belief"] == "diagonal" and o["projection"] == "precision":
            post = np.diag(1 / (1 / np.diag(P) + np.diag(info)))
            step = -(P if D == "gain before the update" else post) @ s
        elif o["belief"] == "diagonal":
            post = np.diag(np.diag(joint))
        elif o["belief"] == "block_diagonal" or D == "layers separate in the belief":
            post, i = 0 * joint, 0
            for m in at.net.matrices(theta):
                post[i : i + m.size, i : i + m.size] = joint[i : i + m.size, i : i + m.size]
                i += m.size
        elif o["belief"] == "low_rank":
            S = N * B.T @ B + W @ W.T
            w, V = np.linalg.eigh(S)
            W = V[:, -o["rank"] :] * np.sqrt(np.maximum(w[-o["rank"] :], 0))
            left = S - W @ W.T
            rest = 0 * left if D == "rest of the low rank dropped" else np.diag(np.diag(left))
            post = np.linalg.inv(np.linalg.inv(P) + info - left + rest)
        else:
            post = joint
        return post, W, step
