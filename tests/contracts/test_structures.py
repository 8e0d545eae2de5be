"""Every structure of the package, and one of a user, through the public battery."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat as compat
import pytest

import grng_ref as gr
from grng_ref.curvature import STRUCTURES
from grng_ref.testing import check_curvature


@dataclass(frozen=True, eq=False)
class DiagonalCurvature(gr.Curvature):
    """The diagonal of the Fisher, as a user would write it."""

    entries: Any

    solvers: ClassVar = {"exact": ("division",)}

    @property
    def shape(self):
        return (self.entries.shape[0],) * 2

    @property
    def _template(self):
        return self.entries

    def _product(self, columns):
        return self.entries[:, None] * columns

    def to_dense(self):
        xp = compat.array_namespace(self.entries)
        size, place = self.entries.shape[0], compat.device(self.entries)
        return self.entries[:, None] * xp.eye(size, dtype=self.entries.dtype, device=place)

    def diagonal(self):
        return self.entries

    def _logdet(self, damping, damping_kind):
        xp = compat.array_namespace(self.entries)
        damped = self.entries + damping
        if not float(xp.min(damped)) > 0.0:
            raise gr.NumericalError("a diagonal entry is zero")
        return float(xp.sum(xp.log(damped)))

    def _auto(self, damping, damping_kind):
        return "division"

    def _solve(self, v, damping, damping_kind, method, coefficients):
        xp = compat.array_namespace(v)
        damped = self.entries + damping
        if not float(xp.min(damped)) > 0.0:
            return gr.SolveResult(v, "not_positive_definite", 0, math.inf, None, method)
        return gr.SolveResult(v / damped, "converged", 0, 0.0, None, method)


@dataclass(frozen=True)
class DiagonalStructure:
    """Its factory: the diagonal of the full Fisher."""

    def build(self, activations, score_signals):
        return DiagonalCurvature(STRUCTURES["full"].build(activations, score_signals).diagonal())


STRUCTURES_AND_MINE = {**dict.fromkeys(STRUCTURES), "a user's": DiagonalStructure()}


@pytest.mark.parametrize("name", STRUCTURES_AND_MINE)
def test_contract(name, place):
    check_curvature(STRUCTURES_AND_MINE[name] or name, **place)


@pytest.mark.parametrize("rng", [1, 2, 5])
@pytest.mark.parametrize("name", STRUCTURES)
def test_contract_on_other_batches(name, rng, dtype):
    """Roundoff may let a factorization of a singular matrix succeed, on some batches and not on others."""
    check_curvature(name, rng=rng, dtype=dtype)
