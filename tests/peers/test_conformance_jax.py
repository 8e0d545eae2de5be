"""The example adapters of JAX, optax and kfac-jax, by the checker; and true differences, confirmed by hand.

Few cases: JAX compiles anew for every shape.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from support import import_peer

from grng_ref.testing import check
from grng_ref.testing.conformance.adapter import CaseView
from grng_ref.testing.vectors import load_cases

jax = import_peer("jax")

pytestmark = pytest.mark.peers

CASES = {case.id: case for case in load_cases()}
PROMISED = 1e-12  # relative to the largest entry


@pytest.fixture
def adapter(monkeypatch):
    """``module:object`` of the examples; skips where its library is missing."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "adapters"))

    def load(where, library):
        import_peer(library)
        module, name = where.split(":")
        return getattr(importlib.import_module(module), name)()

    yield load
    for module in ("jax_autodiff", "kfac_jax_factors"):
        sys.modules.pop(module, None)


def run(adapter, ids, **options):
    return check(adapter, [CASES[i] for i in ids], **options)


def assert_right(report, count):
    """All right, so many of them, to the promised error."""
    assert report.ok, [c for c in report.checks if not c.ok]
    right = [c for c in report.checks if c.verdict.startswith("right")]
    assert len(right) == count
    assert max(c.error for c in right) <= PROMISED


def test_autodiff_and_optax(adapter):
    ids = "sgd-momentum", "sgd-nesterov", "adamw-four-steps", "ntk", "saturated-categorical"
    assert_right(run(adapter("jax_autodiff:Autodiff", "optax"), ids), 3 * 6 + 2 * 5)


def test_pairs_of_arrays(adapter):
    report = run(adapter("jax_autodiff:Pairs", "optax"), ["sgd-momentum", "adamw-four-steps"])
    assert_right(report, 2)
    assert report.library == "jax"


def test_kfac_jax_expected(adapter):
    """A layer with a factor of size one is damped in its own way: the last case."""
    ids = "kfac-expected-exact", "kfac-expected-factored", "no-bias", "wide-kfac", "one-output-kfac"
    report = run(adapter("kfac_jax_factors:Estimator", "kfac_jax"), ids, diagnose=False)
    assert_right(report, 14)
    assert report.counts["wrong"] == 1  # the expected failure


def test_kfac_jax_empirical(adapter):
    """Divided by N once more, as its documentation says; undeclared, that is named."""
    one = adapter("kfac_jax_factors:Empirical", "kfac_jax")
    assert_right(run(one, ["kfac-empirical-factored"]), 3)
    one.conventions = {}
    report = run(one, ["kfac-empirical-factored"])
    assert not report.ok
    assert report.diagnosis.status == "set"  # which of A, G and the Fisher, no stage tells
    assert "the factor G is 1/N times what it should be" in report.diagnosis.sentence


def test_kfac_jax_damps_factors_of_size_one_apart(adapter):
    """By hand: where G is 1 x 1 the damping goes to A alone, which is damping of the product."""
    one = adapter("kfac_jax_factors:Estimator", "kfac_jax")
    case = CASES["one-output-kfac"]
    result = one.damped_solve(CaseView(case, "jax", "float64"))
    theirs = np.concatenate([np.concatenate([W, b[:, None]], axis=1).ravel() for W, b in result])
    exact, factored, start = [], [], 0
    for layer in range(2):
        A, ((g,),) = case.expected[f"factors.{layer}.A"], case.expected[f"factors.{layer}.G"]
        v, a, unit = case.v[start : start + len(A)], case.damping, np.eye(len(A))
        start += len(A)
        pi = np.sqrt(np.trace(A) / len(A) / g)
        exact.append(np.linalg.solve(g * A + a * unit, v))
        factored.append(np.linalg.solve((g + np.sqrt(a) / pi) * (A + pi * np.sqrt(a) * unit), v))
    exact, factored = np.concatenate(exact), np.concatenate(factored)
    size = np.max(np.abs(exact))
    assert np.max(np.abs(theirs - exact)) <= PROMISED * size
    assert np.max(np.abs(case.expected["damped_solve"] - factored)) <= PROMISED * size
    assert np.max(np.abs(exact - factored)) > 0.1 * size
    one.expected_failures = {}
    report = run(one, ["one-output-kfac"], stages=["factors", "curvature_product", "damped_solve"])
    assert not report.ok
    assert report.diagnosis.status == "named"
    assert "damping is put on the product" in report.diagnosis.sentence
