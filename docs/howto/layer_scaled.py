"""A structure of a user: the page "How to add a structure" explains it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat

import grng_ref as gr
from grng_ref.arrays.linalg import identity, norm
from grng_ref.solvers import failure, refine


@dataclass(frozen=True, eq=False)
class LayerScaled(gr.Curvature):
    """``diag(entries)``, the entries equal within a layer."""

    entries: Any  # (P,)

    solvers: ClassVar = {"exact": ("division",)}

    @property
    def shape(self):
        return self.entries.shape[0], self.entries.shape[0]

    @property
    def _template(self):
        return self.entries

    def _product(self, columns):
        return self.entries[:, None] * columns

    def to_dense(self):
        return self.entries[:, None] * identity(self.shape[0], self.entries)

    def diagonal(self):
        return self.entries

    def _logdet(self, damping, damping_kind):
        xp = array_api_compat.array_namespace(self.entries)
        return float(xp.sum(xp.log(self.entries + damping)))

    def _auto(self, damping, damping_kind):
        return "division"

    def _solve(self, v, damping, damping_kind, method, coefficients):
        xp = array_api_compat.array_namespace(v)
        damped = self.entries + damping
        if not bool(xp.all(damped > 0.0)):
            return failure(v, "not_positive_definite", method)
        return refine(lambda x: damped * x, lambda r: r / damped, v, matrix_norm=norm(damped), method=method)


class LayerScaledStructure:
    """The factory of `LayerScaled`."""

    def build(self, activations, score_signals):
        parts = []
        for a, d in zip(activations, score_signals, strict=True):
            if a.shape[0] != d.shape[0]:
                raise ValueError(f"activations have {a.shape[0]} examples, score_signals {d.shape[0]}")
            xp = array_api_compat.array_namespace(a, d)
            squares = xp.sum(a * a, axis=1) * xp.sum(d * d, axis=(1, 2))
            size = a.shape[1] * d.shape[2]
            parts.append(xp.broadcast_to(xp.mean(squares) / size, (size,)))
        return LayerScaled(xp.concat(parts))

    def average(self, old, new, weight):
        return LayerScaled((1.0 - weight) * old.entries + weight * new.entries)
