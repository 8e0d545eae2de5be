"""The checker: verdicts, counts, conventions, adapters, result files, reports, command."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "meta"))

from conformance_cases import random_case
from conformance_mutants import MUTANTS, groups, outcome
from plain_optimizers import Plain

from grng_ref.reports import conformance_html, conformance_markdown, write_conformance
from grng_ref.testing import check
from grng_ref.testing.conformance import HYPOTHESES, ResultFiles, separation
from grng_ref.testing.conformance.replay import Replay
from grng_ref.testing.conformance.verdicts import comparable
from grng_ref.testing.conformance.view import NotApplicable
from grng_ref.testing.vectors import CATALOGUE, build_case, load_cases, reference

pytestmark = pytest.mark.slow

CASES = [random_case(seed) for seed in range(24)]
QUICK = ("sum everywhere", "bias first", "G over N^2", "no pi", "rho half", "gain before the update",
         "process noise dropped", "EMA uncorrected", "eps inside", "float32 inside")  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_false_alarm_on_a_correct_independent_implementation(dtype):
    report = check(Plain(dtype=dtype), CASES, diagnose=False)
    assert [one for one in report.checks if not one.ok] == []
    assert report.ok
    assert report.run == report.planned > 200


def test_replay_agrees_with_the_package():
    """The second computation, whose changes are the hypotheses, is right where nothing is changed."""
    for case in CASES:
        replay = Replay(case)
        for stage in case.stages:
            names = [key for key in case.expected if key.split(".")[0] == stage]
            for name, got in zip(names, replay.stage(stage), strict=True):
                np.testing.assert_allclose(got, case.expected[name], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("defect", QUICK)
def test_planted_defect_is_detected_and_named(defect):
    group, truth = MUTANTS[defect]
    assert outcome(check(Plain(defect), groups()[group]), truth) in ("named", "set")


def test_there_are_enough_defects_each_with_a_known_name():
    known = {hypothesis.id for hypothesis in HYPOTHESES} | {"precision-float32"}
    assert len(MUTANTS) >= 60
    assert {name for _, truth in MUTANTS.values() for name in truth} <= known
    assert len(known) == len(HYPOTHESES) + 1


def test_an_unknown_defect_gets_no_name():
    class Odd(Plain):
        def gradient(self, case):
            return super().gradient(case) * 1.37 + 0.01

    report = check(Odd(), CASES[:3])
    assert not report.ok
    assert report.diagnosis.status == "none"
    assert report.first.stage == "gradient"


def test_nothing_checked_fails_and_failures_are_counted():
    class Nothing:
        pass

    class Raises:
        def gradient(self, case):
            raise RuntimeError("no")

    class Skips:
        def gradient(self, case):
            return None

    assert not check(Nothing(), CASES[:2]).ok
    assert check(Skips(), CASES[:2]).counts["skipped"] == 2
    assert not check(Skips(), CASES[:2]).ok
    report = check(Raises(), CASES[:2])
    assert report.counts["wrong"] == 2
    assert "RuntimeError" in report.checks[0].reason


def test_expected_failures_and_unexpected_passes():
    wrong, right = Plain("gradient over N"), Plain()
    wrong.expected_failures = {"gradient": "known", "hvp": "known"}
    report = check(wrong, CASES[:2], stages=["gradient", "hvp", "outputs"], diagnose=False)
    assert report.ok
    assert report.counts["expected failures"] == 4
    right.expected_failures = {f"{CASES[0].id}/gradient": "outdated"}
    report = check(right, CASES[:2], stages=["gradient"], diagnose=False)
    assert not report.ok
    assert report.counts["unexpected passes"] == 1


def test_a_declared_convention_is_right_an_undeclared_one_is_named():
    cases = [random_case(seed, "ngd", structure="full", damping_kind="exact") for seed in (1, 2)]
    adapter = Plain("bias first")
    report = check(adapter, cases)
    assert not report.ok
    assert ("layout-bias-first",) in report.diagnosis.causes
    adapter = Plain("bias first")
    adapter.conventions = {"bias": "first"}
    report = check(adapter, cases)
    assert report.ok
    assert report.counts["right under another convention"] > 0
    adapter.conventions = {"bias": "upside down"}
    with pytest.raises(ValueError, match="must be one of"):
        check(adapter, cases)


def test_wide_tolerances_are_said_to_decide_nothing():
    case = next(c for c in load_cases() if c.id == "near-zero-damping")
    report = check(Plain(dtype="float32"), [case], stages=["damped_solve"], diagnose=False)
    (one,) = report.checks
    assert one.verdict in ("undecidable", "accurate, not backward stable")
    assert one.detectable > 0.01


def test_result_files_of_a_foreign_program(tmp_path):
    cases = CASES[:3]
    for case in cases[:2]:
        np.savez(tmp_path / f"{case.id}.npz", loss=case.expected["loss"], gradient=case.expected["gradient"])
    report = check(ResultFiles(tmp_path), cases, stages=["loss", "gradient"])
    assert report.ok
    assert (report.run, report.counts["skipped"]) == (4, 2)
    np.savez(tmp_path / f"{cases[0].id}.npz", loss=cases[0].expected["loss"] * cases[0].x.shape[0])
    assert not check(ResultFiles(tmp_path), cases, stages=["loss"]).ok
    with pytest.raises(FileNotFoundError):
        ResultFiles(tmp_path / "absent")


def test_reports(tmp_path):
    import jsonschema

    from grng_ref import reports

    record = check(Plain("G over N^2"), groups()["kfac"]).to_dict()
    page = conformance_html(record)
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "1/N^2" in conformance_markdown(record)
    write_conformance(record, tmp_path / "a.json")
    stored = json.loads((tmp_path / "a.json").read_text())
    schema = json.loads((Path(reports.__file__).parent / "conformance.schema.json").read_text())
    jsonschema.validate(stored, schema)
    with pytest.raises(ValueError, match="must end in"):
        write_conformance(record, tmp_path / "a.pdf")


def test_command(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from grng_ref.cli import build_app

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "adapters"))
    run = CliRunner().invoke
    good = ["check", "numpy_gradient:LeastSquares", "--cases", "one-layer"]
    assert run(build_app(), [*good, "--out", "r.html"]).exit_code == 0
    assert (tmp_path / "r.html").is_file()
    assert run(build_app(), ["check"]).exit_code == 2
    assert run(build_app(), ["check", "no_such_module:x"]).exit_code == 2
    assert run(build_app(), ["check", "numpy_gradient:LeastSquares", "--cases", "absent"]).exit_code == 2
    assert (
        run(
            build_app(), ["check", "numpy_gradient:LeastSquares", "--cases", "ngd-full", "--stages", "no"]
        ).exit_code
        == 2
    )
    assert run(build_app(), [*good, "--out", "r.pdf"]).exit_code == 2


def test_example_of_the_docs_on_the_command_line_over_the_whole_set(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from grng_ref.cli import build_app

    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    code = "class MyLeastSquares" + page.split("class MyLeastSquares")[1].split("report = check")[0]
    fixed = code.replace('/ case.likelihood["variance"]', '/ (len(case.x) * case.likelihood["variance"])')
    assert fixed != code
    (tmp_path / "summed_lines.py").write_text(code, encoding="utf-8")
    (tmp_path / "mean_lines.py").write_text(fixed, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    wrong = CliRunner().invoke(build_app(), ["check", "summed_lines:MyLeastSquares", "--out", "r.json"])
    record = json.loads((tmp_path / "r.json").read_text())
    assert wrong.exit_code == 1
    assert ["loss-sum"] in record["diagnosis"]["causes"]
    assert record["counts"]["planned"] == len(load_cases())
    assert 1 <= record["counts"]["run"] == record["counts"]["planned"] - record["counts"]["skipped"]
    assert CliRunner().invoke(build_app(), ["check", "mean_lines:MyLeastSquares"]).exit_code == 0


def test_parametrize_with_vectors(tmp_path):
    """One test a case and stage: passed, failed, skipped, and a strict xfail for an expected failure."""
    import subprocess

    root = Path(__file__).parents[1]
    (tmp_path / "test_mine.py").write_text(f"""
import sys
sys.path[:0] = [{str(root)!r}, {str(root / "meta")!r}]
from conformance_cases import random_case
from plain_optimizers import Plain
from grng_ref.testing.conformance import parametrize_with_vectors

class Mine(Plain):
    expected_failures = {{"random-1/gradient": "known"}}
    def loss(self, case):
        return None

@parametrize_with_vectors(
    Mine("gradient over N"), [random_case(1), random_case(2)], stages=["outputs", "loss", "gradient"]
)
def test_stage(check):
    assert check.ok, check.reason
""")
    line = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run([*line, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed, 2 skipped, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert "test_stage[random-2/gradient]" in done.stdout


def test_a_lost_step_is_undecidable_the_steps_before_it_and_nan_are_not():
    """random-298 diverges: float32 may give anything finite after its third step, and nothing else."""
    case = random_case(298)
    with np.errstate(over="ignore"):
        good = check(Plain(dtype="float32"), [case], diagnose=False)
    assert {one.stage: one.verdict for one in good.checks if one.verdict != "right"} == {
        "parameters": "undecidable"
    }

    class Doubled(Plain):
        row, factor = 1, 2.0

        def parameters(self, case):
            out = np.array(super().parameters(case))
            out[self.row] *= self.factor
            return out

    for row, factor, verdict in ((0, 2, "wrong"), (1, -1, "wrong"), (1, 1.01, "wrong"), (2, np.nan, "wrong"),
                                 (2, 2, "undecidable")):  # fmt: skip
        Doubled.row, Doubled.factor = row, factor
        with np.errstate(over="ignore"):
            report = check(Doubled(dtype="float32"), [case], stages=["parameters"], diagnose=False)
        assert report.checks[0].verdict == verdict, (row, factor)


@pytest.mark.parametrize(
    ("name", "factor", "verdict"),
    [("small-variance", 2.0, "wrong"), ("small-variance", -1.0, "wrong"), ("small-variance", np.nan, "wrong"),
     ("near-zero-damping", 1e4, "wrong"), ("near-zero-damping", np.nan, "wrong"),
     ("near-zero-damping", 2.0, "undecidable")],
)  # fmt: skip
def test_a_wide_tolerance_still_sees_what_is_beyond_it(name, factor, verdict):
    """float32: the smallest detectable defects of the two solves are about 0.1 and 70 of the norm."""
    case = next(c for c in load_cases() if c.id == name)

    class Off:
        dtype = "float32"

        def damped_solve(self, view):
            return factor * case.expected["damped_solve"]

    assert check(Off(), [case], diagnose=False).checks[0].verdict == verdict


def test_backward_stable_and_accurate_solves():
    """Planted by definition: M + E with |E| = 20 n eps |M|, and an error that only an inverse would have."""
    case = next(c for c in load_cases() if c.id == "near-zero-damping")
    first, v = Replay(case).first, case.v
    M, eps = first.dense + case.damping * np.eye(len(v)), np.finfo(np.float64).eps
    values, vectors = np.linalg.eigh(M)
    x, low, high = case.expected["damped_solve"], vectors[:, 0], vectors[:, -1]
    unit = len(v) * eps * values[-1]

    class Solve:
        def __init__(self, result):
            self.result = result

        def damped_solve(self, view):
            return self.result

    def one(result):
        return check(Solve(result), [case], diagnose=False).checks[0]

    backward = np.linalg.solve(M + 20 * unit * np.outer(low, x / np.linalg.norm(x)), v)
    found = one(backward)
    assert found.excess > 1.0
    assert found.verdict == "right"
    assert "backward stable: scaled residual" in found.reason
    beyond = np.linalg.solve(M + 300 * unit * np.outer(low, x / np.linalg.norm(x)), v)
    assert one(beyond).verdict == "wrong"
    allowed = 64 * eps * values[-1] / values[0] ** 2 * np.linalg.norm(v)
    found = one(x + 0.5 * allowed * high)
    assert found.verdict == "accurate, not backward stable"
    assert "scaled residual" in found.reason
    assert one(x + 2.0 * allowed * high).verdict == "wrong"
    assert one(2.0 * x).verdict == "wrong"


def test_a_convention_relabels_only_what_it_explains():
    """Layout named, one stage raises, one is wrong by more than the layout: these two stay wrong."""

    class Mixed(Plain):
        def outputs(self, case):
            raise RuntimeError("no")

        def hvp(self, case):
            return 2.0 * super().hvp(case)

    cases = [random_case(seed, "ngd", structure="full", damping_kind="exact") for seed in (1, 2)]
    report = check(Mixed("bias first"), cases, stages=["outputs", "gradient", "fisher", "hvp"])
    assert {"layout-bias-first", "hvp-alone-times-2"} in map(set, report.diagnosis.causes)
    assert all("layout-bias-first" in cause for cause in report.diagnosis.causes)
    verdicts = {(one.stage, one.verdict) for one in report.checks}
    assert ("gradient", "right under another convention") in verdicts
    assert {stage for stage, verdict in verdicts if verdict == "wrong"} == {"outputs", "hvp"}
    assert not report.ok


@pytest.mark.parametrize("factor", [2.0, 1.37])
def test_a_broken_adapter_is_diagnosed_over_the_whole_set(factor):
    """Every case's gradient is off: named where the factor has a name, and the work stays bounded."""
    from time import process_time

    cases = {case.id: case for case in load_cases()}

    class Broken:
        def loss(self, view):
            return cases[view.id].expected["loss"]

        def gradient(self, view):
            return factor * cases[view.id].expected["gradient"]

    start = process_time()
    report = check(Broken(), cases.values())
    assert report.counts["wrong"] == len(cases)
    assert process_time() - start < 60.0
    assert report.diagnosis.status == ("set" if factor == 2.0 else "none")
    assert factor != 2.0 or ("gradient-alone-times-2",) in report.diagnosis.causes


def test_a_cause_whose_solve_is_refused_does_not_end_the_diagnosis():
    """Damping zero is outside of the range of some structures: no cause, and no other exception."""
    refused = 0
    for case in (c for c in load_cases() if "damped_solve" in c.stages):
        try:
            Replay(case, {"damping": "none"}).stage("damped_solve")
        except NotApplicable:
            refused += 1
    assert refused > 0


def test_separation_tells_what_the_cases_do_not_tell_apart():
    """Planted: with N = K = 2 a factor N is a factor K; with N = 5, K = 3 it is not."""
    names = ("fisher-times-N", "fisher-times-K", "damping-twice", "eps-added")
    chosen = [h for h in HYPOTHESES if h.id in names]
    square, uneven = (_sized("full-expected", n, k) for n, k in ((2, 2), (5, 3)))
    counts, alike = separation([square], chosen)
    assert (counts.effective, counts.pairs, counts.told_apart) == (3, 3, 2)  # eps says nothing of NGD
    assert [set(group) for group in alike] == [{"fisher-times-N", "fisher-times-K"}]
    assert separation([square, uneven], chosen)[1] == []


def test_separation_agrees_with_a_comparison_of_all_runs():
    """Nothing is left out that would differ: against every replay computed in full."""
    case = random_case(1, "kfac", kind="expected")
    chosen = HYPOTHESES[::5]
    counts, alike = separation([case], chosen)
    full = {h.id: _all_arrays(case, h.knobs) for h in chosen}
    plain = _all_arrays(case, {})
    effective = [h.id for h in chosen if not _equal(full[h.id], plain)]
    assert counts.effective == len(effective)
    groups = [{one for one in effective if _equal(full[one], full[name])} for name in effective]
    assert {frozenset(group) for group in groups if len(group) > 1} == {frozenset(group) for group in alike}


def _all_arrays(case, knobs):
    found = []
    for stage in case.stages:
        try:
            arrays = Replay(case, knobs).stage(stage)
            found.append([np.array(a) for a in comparable(stage, arrays, len(case.x))])
        except (NotApplicable, ValueError, IndexError, ZeroDivisionError, OverflowError):
            found.append(None)
    return found


def _equal(one, two):
    if [a is None for a in one] != [b is None for b in two]:
        return False
    pairs = [(a, b) for x, y in zip(one, two, strict=True) if x for a, b in zip(x, y, strict=True)]
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True) for a, b in pairs
    )


def _sized(name, examples, outputs):
    """The case of a name with other numbers of examples and outputs."""
    row = next(row for row in CATALOGUE if row.id == name)
    made = build_case(dataclasses.replace(row, examples=examples, sizes=(*row.sizes[:-1], outputs)))
    return dataclasses.replace(made, id=f"{name}-{examples}-{outputs}", radii=dict.fromkeys(made.expected))


@pytest.mark.parametrize(("sizes", "found"), [([(4, 2)], True), ([(4, 2), (5, 3)], False)])
def test_a_factor_that_does_not_vary_is_named_with_the_constant(sizes, found):
    """Four times delta, where N is 4: N, or a constant. With another N beside it, it is not N."""
    cases = {case.id: case for case in (_sized("ring-full-three-steps", n, k) for n, k in sizes)}

    class Four:
        def delta(self, view):
            return 4.0 * cases[view.id].expected["delta"]

    causes = [cause for (cause,) in check(Four(), cases.values()).diagnosis.causes]
    assert ("delta-alone-times-N" in causes) == found
    assert ("delta-alone-times-N-as-constant" in causes) == found


@pytest.mark.parametrize(("loss", "scale"), [("mean over outputs", 2 / 3), ("sum", 10)])
def test_declared_scales_are_multiplied(loss, scale):
    """As PyTorch's MSELoss has them; the half alone, or the mean alone, is told apart with three outputs."""

    class Whole:
        def __init__(self, conventions):
            self.conventions = conventions

        def gradient(self, case):
            ((W, b),) = case.layers
            error = case.x @ W.T + b - case.y
            return [(scale / 5 * error.T @ case.x, scale / 5 * error.sum(axis=0))]

    rng = np.random.default_rng(3)
    base = next(c for c in load_cases() if c.id == "one-layer")
    case = dataclasses.replace(
        base,
        network={**base.network, "sizes": [2, 3]},
        inputs={
            "theta": rng.standard_normal(9),
            "x": rng.standard_normal((5, 2)),
            "y": rng.standard_normal((5, 3)),
            "v": rng.standard_normal(9),
        },
    )
    case = dataclasses.replace(case, expected=reference(case), radii={}, reasons={})
    (one,) = check(Whole({"loss": loss, "squared error": "whole"}), [case], stages=["gradient"]).checks
    assert one.ok, one
    for part in ({"loss": loss}, {"squared error": "whole"}):
        assert not check(Whole(part), [case], stages=["gradient"], diagnose=False).ok


class InPlace:
    """Centres x where it stands, and then has the loss of that x."""

    library, dtype = "numpy", "float64"

    def loss(self, case):
        case.x -= case.x.mean(axis=0) + 1.0
        return self.outputs(case)

    def outputs(self, case):
        ((W, b),) = case.layers
        return case.x @ W.T + b


def test_an_adapter_that_works_in_place_changes_no_case():
    case = next(one for one in load_cases() if one.id == "one-layer")
    before = case.x.copy()
    report = check(InPlace(), [case], diagnose=False)
    verdicts = {one.stage: one.verdict for one in report.checks}
    assert verdicts == {"outputs": "right", "loss": "wrong"}
    assert np.array_equal(case.x, before)


def test_small_errors_that_are_no_roundings_are_not_called_float32():
    """A finite difference in float64 errs by as much as float32: the set says so."""
    cases = [one for one in load_cases() if one.id.startswith("ring-")]

    class Difference:
        def gradient(self, case):
            problem = case._case.problem()
            loss = lambda theta: float(problem.loss(theta, case.x, case.y))  # noqa: E731
            at = loss(case.theta)
            steps = 1e-8 * np.eye(case.theta.size)
            return np.array([(loss(case.theta + h) - at) / 1e-8 for h in steps])

    diagnosis = check(Difference(), cases).diagnosis
    assert diagnosis.status in ("set", "none")
    assert diagnosis.status == "none" or ("finite-difference",) in diagnosis.causes
