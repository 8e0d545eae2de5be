"""Declared conventions: one vocabulary, what it means for every case, the line that declares a named one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "meta"))

from conformance_cases import random_case
from plain_optimizers import Plain

from grng_ref.reports import conformance_markdown
from grng_ref.testing import check
from grng_ref.testing.conformance import HYPOTHESES
from grng_ref.testing.conformance.conventions import NAMES, VOCABULARY, declaration, declared_knobs
from grng_ref.testing.conformance.knobs import scoped
from grng_ref.testing.conformance.replay import Replay
from grng_ref.testing.vectors import STAGES, load_cases

FULL = {"structure": "full", "damping_kind": "exact", "kind": "expected"}
MIXED = [random_case(1, "ngd", "gaussian", **FULL), random_case(2, "ngd", "categorical", **FULL)]
CONVENTIONS = [hypothesis for hypothesis in HYPOTHESES if hypothesis.convention]


class WholeSquares(Plain):
    """Squared errors without their half; all else, the other likelihoods included, is right."""

    def loss(self, case):
        return (2.0 if case.likelihood["name"] == "gaussian" else 1.0) * super().loss(case)

    def gradient(self, case):
        return (2.0 if case.likelihood["name"] == "gaussian" else 1.0) * super().gradient(case)


@pytest.mark.parametrize("bias", ["bias first", "no biases"])
def test_a_convention_of_one_likelihood_leaves_the_others_on_all_cases(bias):
    adapter = WholeSquares(bias)
    adapter.conventions = {"squared error": "whole", "bias": {"bias first": "first"}.get(bias, "none")}
    report = check(adapter, MIXED, stages=["loss", "gradient"])
    assert report.ok, [one for one in report.checks if not one.ok]
    assert report.run == 4


def test_a_cause_of_one_likelihood_is_found_beside_another_cause():
    report = check(WholeSquares("bias first"), MIXED, stages=["loss", "gradient"])
    assert all(set(c) & {"layout-bias-first"} and len(c) == 2 for c in report.diagnosis.causes)
    assert {"layout-bias-first", "squared-error-whole"} in map(set, report.diagnosis.causes)
    assert '{"squared error": "whole", "layout": "bias first"}' in conformance_markdown(report.to_dict())


def test_factors_beside_declared_ones_are_of_what_is_declared():
    """Declared as a sum, and twice that: the factor is said, not that it is no sum."""

    class Twice(Plain):
        def gradient(self, case):
            return 2.0 * super().gradient(case)

    adapter = Twice("sum")
    adapter.conventions = {"loss": "sum"}
    report = check(adapter, MIXED, stages=["loss", "gradient", "hvp"])
    assert ("gradient-alone-times-2",) in report.diagnosis.causes


# --- the vocabulary and the table of causes ----------------------------------------------------------------


@pytest.mark.parametrize("hypothesis", CONVENTIONS, ids=lambda hypothesis: hypothesis.id)
def test_every_convention_that_is_named_can_be_declared(hypothesis):
    said = declaration([hypothesis.knobs], {})
    assert said
    assert declared_knobs(said) == scoped(hypothesis.knobs)


@pytest.mark.parametrize("hypothesis", CONVENTIONS, ids=lambda hypothesis: hypothesis.id)
def test_what_the_report_says_to_declare_makes_it_right(hypothesis):
    """Submitted is the changed computation itself, so only the way of the declaration is judged here."""
    cases = [
        case for case in MIXED if "only" not in hypothesis.knobs or case.likelihood["name"] == "gaussian"
    ]

    class Changed:
        def _stage(self, case, name):
            return Replay(case._case, hypothesis.knobs).stage(name)

        def loss(self, case):
            return self._stage(case, "loss")[0]

        def gradient(self, case):
            return self._stage(case, "gradient")[0]

        def fisher(self, case):
            return self._stage(case, "fisher")[0]

    if hypothesis.id == "factors-swapped":
        cases = [random_case(1, "kfac", kind="expected")]
        Changed.factors = lambda self, case: list(zip(*[iter(self._stage(case, "factors"))] * 2, strict=True))
    found = check(Changed(), cases).diagnosis
    assert (hypothesis.id,) in found.causes
    line = next(d for cause, d in zip(found.causes, found.declare, strict=True) if cause == (hypothesis.id,))
    adapter = Changed()
    adapter.conventions = line
    report = check(adapter, cases)
    assert report.ok
    assert report.counts["right under another convention"] > 0


def test_every_value_is_an_effect_of_its_own():
    """No two values of a name are one, and none but the first is none."""
    for values in VOCABULARY.values():
        changes = [scoped(value) for value in values.values()]
        assert changes[0] == {}
        assert all(one != other for i, one in enumerate(changes) for other in changes[:i])


@pytest.mark.parametrize(
    ("order", "bias"), [("row", "first"), ("row", "separate"), ("column", "last"), ("column", "first"),
                        ("column", "separate"), ("row", "none")],
)  # fmt: skip
def test_order_and_bias_together(order, bias):
    """By hand: a layer (2, 1 + bias) is written out in that order."""
    case = random_case(1, "ngd", "gaussian", **FULL)
    assert case.network["bias"]

    class Ordered(Plain):
        def order(self, case, v):
            out = []
            for matrix in self.at(case).net.matrices(v):
                W, b = matrix[:, :-1], matrix[:, -1:]
                parts = {
                    "last": [np.hstack([W, b])],
                    "first": [np.hstack([b, W])],
                    "separate": [W, b],
                    "none": [W],
                }[bias]
                out += [part.ravel(order="C" if order == "row" else "F") for part in parts]
            return np.concatenate(out)

    adapter = Ordered()
    adapter.conventions = {"order": order, "bias": bias}
    report = check(adapter, [case], stages=["gradient", "fisher", "delta"])
    assert report.ok, [one.reason for one in report.checks if not one.ok]
    assert report.counts["right under another convention"] == 3


@pytest.mark.parametrize(
    ("conventions", "message"),
    [
        ({"order": "column", "bias": "none"}, "no such layout"),
        ({"layout": "separate", "bias": "first"}, "leave out"),
        ({"order": "rows"}, "nearest known name is 'row'"),
        ({"los": "sum"}, "nearest known name is 'loss'"),
        ({"loss": "summ"}, "nearest known name is 'sum'"),
        ({"loss": "upside down"}, "must be one of 'mean', 'sum'"),
        ({"loss": ["sum"]}, "mapping of text to text"),
        (["loss"], "mapping of text to text"),
    ],
)
def test_conventions_that_are_none(conventions, message):
    adapter = Plain()
    adapter.conventions = conventions
    with pytest.raises(ValueError, match=message):
        check(adapter, MIXED[:1])


def test_the_table_of_the_docs_is_the_vocabulary():
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    table = page.split("## Another convention")[1].split("\n## ")[0]
    rows = [line.replace("\\|", "|") for line in table.splitlines() if line.startswith("| `")]
    said = {row.split("`")[1]: row.split("`")[3::2] for row in rows}
    assert tuple(sorted(said)) == tuple(sorted(NAMES))
    for name, values in VOCABULARY.items():
        assert said[name][: len(values)] == list(values)


def test_the_table_of_stages_is_that_of_the_vectors():
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    table = page.split("### What it returns")[1].split("\n\n[")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert [(row[0].strip("`"), row[-1]) for row in rows] == [(stage.name, stage.shape) for stage in STAGES]


# --- damping ------------------------------------------------------------------------------------------------


def test_a_declared_damping_leaves_structures_without_factors_alone():
    """K-FAC damped on the product by declaration: what has no factors is checked as before, not skipped."""
    cases = [
        c for c in load_cases() if c.id in ("full-expected", "kfac-expected-factored", "diagonal-expected")
    ]
    adapter = Plain("damping on the product")
    adapter.conventions = {"damping": "exact"}
    report = check(adapter, cases, stages=["damped_solve", "delta"])
    assert report.ok
    assert (report.run, report.counts["right under another convention"]) == (6, 2)


@pytest.mark.parametrize("bias", ["last", "first"])
def test_backward_stability_is_judged_under_declared_conventions(bias):
    """Planted: M + E with |E| = 20 n eps |M| is right, 300 n eps |M| is wrong, in whatever order."""
    case = next(c for c in load_cases() if c.id == "near-zero-damping")
    first, v = Replay(case).first, case.v
    M = first.dense + case.damping * np.eye(len(v))
    values, vectors = np.linalg.eigh(M)
    x, low = case.expected["damped_solve"], vectors[:, 0]
    unit = len(v) * np.finfo(np.float64).eps * values[-1]

    class Solve(Plain):
        def damped_solve(self, view):
            moved = M + self.size * unit * np.outer(low, x / np.linalg.norm(x))
            return self.order(view, np.linalg.solve(moved, v))

    for size, verdict in ((20, "right"), (300, "wrong")):
        adapter = Solve("bias first" if bias == "first" else None)
        adapter.size, adapter.conventions = size, {"bias": bias, "loss": "sum"}
        (one,) = check(adapter, [case], stages=["damped_solve"], diagnose=False).checks
        assert one.excess > 1.0
        assert one.verdict.split()[0] == verdict, one
        assert ("backward stable: scaled residual" in one.reason) == (verdict == "right")
