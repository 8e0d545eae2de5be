"""The example adapters of PyTorch and its libraries, by the checker; true differences, confirmed by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from support import import_peer

from grng_ref.testing import check
from grng_ref.testing.conformance.adapter import CaseView
from grng_ref.testing.conformance.layouts import places
from grng_ref.testing.vectors import load_cases

torch = import_peer("torch")

pytestmark = [
    pytest.mark.peers,
    # what PyTorch's own modules say to each other, as they load; and what BackPACK wants
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

CASES = {case.id: case for case in load_cases()}
PROMISED = 1e-12  # relative to the largest entry
LOST = "saturated-categorical", "saturated-rkalman"


@pytest.fixture
def adapter(monkeypatch):
    """``module:object`` of the examples; skips where its library is missing."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "adapters"))

    def load(where, *libraries):
        for library in libraries:
            import_peer(library)
        module, name = where.split(":")
        return getattr(importlib.import_module(module), name)()

    yield load
    for module in (
        "torch_network",
        "torch_autograd",
        "curvlinops_kfac",
        "backpack_extensions",
        "nngeometry_fisher",
    ):
        sys.modules.pop(module, None)


def assert_right(report, at_least, promised=PROMISED):
    """All as expected, at least so many of them run, and what is right is so to the promised error."""
    assert report.ok, [c for c in report.checks if not c.ok]
    right = [c for c in report.checks if c.verdict.startswith("right")]
    assert len(right) >= at_least
    assert max(c.error for c in right) <= promised


def test_autograd_and_optimizers(adapter):
    kept = [c for c in CASES.values() if c.optimizer["name"] in ("sgd", "adamw", "reng") or c.flags]
    report = check(adapter("torch_autograd:Autograd"), kept)
    assert_right(report, 170)
    assert {c.case for c in report.checks if c.stage == "parameters" and c.verdict != "skipped"} == {
        c.id for c in kept if c.optimizer["name"] in ("sgd", "adamw")
    }


def test_pairs_of_tensors(adapter):
    report = check(adapter("torch_autograd:Pairs"), [CASES["sgd-momentum"], CASES["no-bias-full"]])
    assert_right(report, 2)
    assert report.library == "torch"
    assert not report.conventions


def test_an_l2_term_for_decoupled_decay_is_named(adapter):
    cases = [CASES["adamw-four-steps"], CASES["wide-adamw"]]
    report = check(adapter("torch_autograd:CoupledDecay"), cases, stages=["gradient", "delta", "parameters"])
    assert not report.ok
    assert report.diagnosis.status == "named"
    assert "weight decay is added to the gradient" in report.diagnosis.sentence


@pytest.mark.parametrize(
    ("where", "library", "at_least"),
    [
        ("curvlinops_kfac:Categorical", "curvlinops", 110),
        ("curvlinops_kfac:Gaussian", "curvlinops", 60),
        ("curvlinops_kfac:Bernoulli", "curvlinops", 20),
        ("backpack_extensions:Categorical", "backpack", 70),
        ("backpack_extensions:Gaussian", "backpack", 40),
        ("nngeometry_fisher:Fisher", "nngeometry", 120),
    ],
)
def test_libraries(adapter, where, library, at_least):
    # Solves with nearly singular matrices have a tolerance of their own; the promise is for the others.
    cases = [c for c in CASES.values() if "near-zero-damping" not in c.flags]
    assert_right(check(adapter(where, library), cases, diagnose=False), at_least)


@pytest.mark.parametrize(
    "changes",
    [
        {"fisher": "2/K", "loss": "mean over outputs"},  # the half forgotten
        {"fisher": "2/K", "squared error": "whole"},  # the mean over outputs forgotten
        {"fisher": "mean", "loss": "mean over outputs", "squared error": "whole"},
    ],
)
def test_another_declaration_fails(adapter, changes):
    one = adapter("curvlinops_kfac:Gaussian", "curvlinops")
    one.conventions = {"layout": "separate"} | changes
    # 2/K is 1 with two outputs, 2 with one
    report = check(one, [CASES["full-expected"], CASES["one-output-kfac"]], diagnose=False)
    assert not report.ok


def test_factors_of_the_bias_apart_are_another_approximation(adapter):
    one = adapter("curvlinops_kfac:SeparateBias", "curvlinops")
    cases = [CASES[i] for i in ("kfac-baseline", "kfac-expected-exact", "no-bias")]
    report = check(one, cases, stages=["hvp", "curvature_product", "damped_solve"])
    wrong = {(c.case, c.stage) for c in report.checks if not c.ok}
    stages = ("curvature_product", "damped_solve")
    assert wrong == {(case.id, stage) for case in cases[:2] for stage in stages}
    assert report.diagnosis.causes == (("kfac-bias-apart",),)


def by_definition(case):
    """The Fisher of softmax outputs in plain loops, without a difference of probabilities.

    ``sum_{j<k} p_j p_k (J_j - J_k)(J_j - J_k)^T``; outputs and Jacobian by NumPy from the layers.
    """
    layers = [np.asarray(m) for m in case.problem().unpack(case.theta)]
    total = 0.0
    for x in case.x:
        first, last = layers
        h = np.tanh(first[:, :-1] @ x + first[:, -1])
        f = last[:, :-1] @ h + last[:, -1]
        p = np.exp(f - f.max()) / np.sum(np.exp(f - f.max()))
        J = []
        for j in range(len(f)):
            by_last = np.zeros_like(last)
            by_last[j] = [*h, 1.0]
            signal = last[j, :-1] * (1 - h**2)
            J.append(np.concatenate([np.outer(signal, [*x, 1.0]).ravel(), by_last.ravel()]))
        for j in range(len(f)):
            for k in range(j):
                total = total + p[j] * p[k] * np.outer(J[j] - J[k], J[j] - J[k])
    return total / len(case.x)


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_where_a_probability_rounds_to_one(adapter, case):
    """Confirmed by hand: the shipped Fisher is that of the loops, and those of two libraries are not."""
    F = by_definition(CASES[case])
    size = np.max(np.abs(F))
    assert np.max(np.abs(F - CASES[case].expected["fisher"])) <= PROMISED * size
    order = places(CASES[case].problem(), "separate")
    F, view = F[np.ix_(order, order)], CaseView(CASES[case], "torch", "float64")
    ggn = adapter("curvlinops_kfac:Categorical", "curvlinops").fisher(view).detach().numpy()
    assert 0.1 < np.max(np.abs(ggn - F)) / size <= 2.0  # of numbers below eps
    assert size < np.finfo(np.float64).eps
    theirs = adapter("nngeometry_fisher:Fisher", "nngeometry").fisher(view).detach().numpy()
    assert np.all(np.isnan(theirs))
    rows = adapter("backpack_extensions:Categorical", "backpack").fisher(view).detach().numpy()
    assert np.max(np.abs(rows - F)) <= PROMISED * size  # from the square root nothing is lost
