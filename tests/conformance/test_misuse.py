"""What users get wrong: names, files, results that are none. Each is a right verdict or a clear message."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from conformance_adapters import CASES, ONE, Right, giving, only, written

from grng_ref.reports import conformance_html, conformance_markdown
from grng_ref.testing import check
from grng_ref.testing.conformance import ResultFiles

# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("gradeint", lambda case: None, "gradient"),
        ("output", lambda case: None, "outputs"),
        ("damped_solves", lambda case: None, "damped_solve"),
        ("convention", {"loss": "sum"}, "conventions"),
        ("expected_failure", {"loss": "no"}, "expected_failures"),
        ("librery", "torch", "library"),
    ],
)
@pytest.mark.parametrize("kind", ["object", "module"])
def test_a_slip_in_a_name_of_the_adapter(name, value, near, kind):
    adapter = giving(ONE.expected["loss"], "loss") if kind == "object" else ModuleType("mine")
    setattr(adapter, name, value)
    with pytest.raises(ValueError, match=f"{name!r} has no meaning here: did you mean {near!r}"):
        check(adapter, [ONE])


def test_methods_of_other_names_are_remarked():
    class Helped(Right):
        def forward(self, x):
            return x

    report = check(Helped(), [ONE])
    assert report.ok
    assert report.remarks == ("methods that are no stages, not checked: forward",)
    assert "not checked: forward" in conformance_markdown(report.to_dict())
    assert "not checked: forward" in conformance_html(report.to_dict())
    assert any("no method that is named as a stage" in one for one in check(object(), [ONE]).remarks)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("gradeint", "nearest known name is 'gradient'"),
        ("one-layer/gradeint", "nearest known name is 'gradient'"),
        ("one-leyer/gradient", "nearest known name is 'one-layer'"),
        ("one-layer/belief_mean", "no such stage; it has outputs"),
    ],
)
def test_a_slip_in_expected_failures(key, message):
    with pytest.raises(ValueError, match=message):
        check(giving(0, expected_failures={key: "known"}), [ONE])


def test_expected_failures_of_cases_that_are_not_run_are_no_slips():
    report = check(giving(ONE.expected["gradient"], expected_failures={"ntk/gradient": "known"}), [ONE])
    assert report.ok


def test_a_slip_in_a_setting_a_stage_or_a_case():
    asked = giving(lambda case: case.dampign)
    assert "nearest known name is 'damping'" in only(asked).reason
    assert only(giving(lambda case: np.zeros(8) if case.rho is None else None)).verdict == "wrong"
    with pytest.raises(ValueError, match="nearest known name is 'gradient'"):
        check(Right(), [ONE], stages=["gradeint"])
    with pytest.raises(ValueError, match="nearest known name is 'one-layer'"):
        check(Right(), [ONE], only=["one-leyer"])


def test_what_is_no_adapter_and_what_are_no_cases():
    with pytest.raises(ValueError, match="got the class Right: call it"):
        check(Right, [ONE])
    with pytest.raises(ValueError, match="'loss' must be a method, got 3"):
        check(SimpleNamespace(loss=3), [ONE])
    with pytest.raises(TypeError, match="ids go into only"):
        check(Right(), ["one-layer"])


# --- result files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one-leyer.npz", "nearest known name is 'one-layer'"),
        ("one-layer.npy", r"must be one of one-layer\.safetensors or one-layer\.npz"),
        ("one-layer.NPZ", "must be one of one-layer"),
        ("one-layer.safetensors", "of the same case"),
        ("convention.json", r"must be conventions\.json"),
        (b"\xff\xfe.npz", "udcff"),
    ],
)
def test_a_slip_in_the_name_of_a_file(tmp_path, name, message):
    written(tmp_path)
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        check(ResultFiles(tmp_path), [ONE])


def test_files_beside_the_results_are_left_alone(tmp_path):
    """A log, a hidden file, a directory, results of cases that are not asked for."""
    written(tmp_path)
    written(tmp_path, "ntk.npz")
    (tmp_path / "run.log").write_text("done")
    (tmp_path / ".one-leyer.npz").write_bytes(b"")
    (tmp_path / "one-layer").mkdir()
    report = check(ResultFiles(tmp_path), [ONE])
    assert report.ok
    assert report.run == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"gradeint": np.zeros(8)}, "nearest known name is 'gradient'"),
        ({"factors.0.a": np.zeros((4, 4))}, r"nearest known name is 'factors\.0\.A'"),
        ({"factors.0.A": np.zeros((4, 4))}, r"lacks 'factors\.0\.G' of the same stage"),
        ({"activations.1": np.zeros((4, 4))}, r"nearest known name is 'activations\.0'"),
    ],
)
def test_a_slip_in_the_name_of_an_array(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        check(ResultFiles(written(tmp_path, **arrays)), [ONE])


def test_arrays_of_stages_that_the_case_does_not_have_are_passed_over(tmp_path):
    folder = written(tmp_path, gradient=ONE.expected["gradient"], belief_mean=np.zeros((1, 8)))
    assert check(ResultFiles(folder), [ONE]).ok


@pytest.mark.parametrize("name", ["one-layer.npz", "one-layer.safetensors"])
def test_a_damaged_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        check(ResultFiles(tmp_path), [ONE])


def test_objects_in_a_file_are_not_read(tmp_path):
    folder = written(tmp_path, gradient=np.array([None, 1]))
    with pytest.raises(ValueError, match="cannot be read"):
        check(ResultFiles(folder), [ONE])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ('{"convention": {}}', "nearest known name is 'conventions'"),
        ('{"conventions": ["loss"]}', "mapping of text to text"),
        ('{"dtype": "float16"}', "'float64' or 'float32'"),
    ],
)
def test_settings_beside_results(tmp_path, text, message):
    (written(tmp_path) / "conventions.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        check(ResultFiles(tmp_path), [ONE])


def test_result_files_in_fortran_order_and_complex(tmp_path):
    case = CASES["full-expected"]
    np.savez(tmp_path / "full-expected.npz", outputs=np.asfortranarray(case.expected["outputs"]))
    assert check(ResultFiles(tmp_path), [case]).ok
    np.savez(tmp_path / "full-expected.npz", outputs=case.expected["outputs"] + 0j)
    assert "real numbers, got complex128" in only(ResultFiles(tmp_path), case, "outputs").reason


# --- results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda g: g + 0j, "real numbers, got complex128"),
        (lambda g: g != 0, "real numbers, got bool"),
        (lambda g: np.ma.masked_array(g, g > 0), "masked"),
        (lambda g: g.astype(str), "real numbers"),
        (lambda g: "no array", "real numbers"),
        (lambda g: np.where(np.arange(g.size) == 2, np.nan, g), "1 of 8 numbers are NaN or infinite"),
        (lambda g: np.where(np.arange(g.size) < 2, -np.inf, g), "2 of 8 numbers are NaN or infinite"),
        (lambda g: g[:-1], r"has shape (7,), expected (8,)"),
        (lambda g: g[None], r"has shape (1, 8), expected (8,)"),
        (lambda g: np.array(5.0), r"has shape (), expected (8,)"),
        (lambda g: g.astype(np.float32), "declared dtype is float64"),
        (lambda g: np.rint(g).astype(int), "differs by"),
        (lambda g: [(g[:6].reshape(3, 2), g[6:])], "W has shape (3, 2), needed is (2, 3)"),
        (lambda g: [(g[:6].reshape(2, 3), g[6:7])], "b has shape (1,), needed is (2,)"),
        (lambda g: [(g[:6].reshape(2, 3), None)], "lacks the bias"),
        (lambda g: [(g, g), (g, g)], "each of 1 layers, got 2 parts"),
        (lambda g: [(g, g, g)], "got 3 parts"),
        (lambda g: iter(g), "real numbers, got object"),
        (lambda g: {"gradient": g}, "real numbers, got object"),
        (lambda g: [[1.0], [2.0, 3.0]], "each of 1 layers, got 2 parts"),
        (lambda g: sys.exit(3), "SystemExit: 3"),
        (lambda g: 1 / 0, "ZeroDivisionError: division by zero (test_misuse.py, line"),
    ],
)
def test_results_that_are_not_right(result, said):
    one = only(giving(lambda case: result(ONE.expected["gradient"])))
    assert one.verdict == "wrong"
    assert said in one.reason


@pytest.mark.parametrize(
    "result",
    [
        lambda g, W, b: list(map(float, g)),
        lambda g, W, b: tuple(g),
        lambda g, W, b: [(W, b)],
        lambda g, W, b: [[W.tolist(), b.tolist()]],
        lambda g, W, b: (W, b),
        lambda g, W, b: [(W, b[:, None])],
        lambda g, W, b: [(np.asfortranarray(W), b[None, :])],
        lambda g, W, b: [np.hstack([W, b[:, None]])],
        lambda g, W, b: np.repeat(g, 2)[::2],
        lambda g, W, b: np.asarray(g, dtype=">f8"),
        lambda g, W, b: g.astype(np.longdouble),
    ],
)
def test_results_that_are_right_in_any_form(result):
    g = np.array(ONE.expected["gradient"])
    matrix = g.reshape(2, 4)
    one = only(giving(lambda case: result(g, matrix[:, :3], matrix[:, 3])))
    assert one.verdict == "right", one.reason


def test_integers_are_numbers():
    assert only(giving(lambda case: 3, "loss"), stage="loss").verdict == "wrong"
    whole = CASES["tutorial-batch-size-one"]
    ones = giving(
        lambda case: [np.rint(a) if i else a for i, a in enumerate(whole.stage("activations"))], "activations"
    )
    assert only(ones, whole).verdict == "wrong"


@pytest.mark.parametrize(("layout", "last"), [("separate", True), ("bias first", True), ("no bias", False)])
def test_what_is_given_layer_by_layer_needs_no_layout(layout, last):
    """Pairs say themselves what is W and what is b, whatever order is declared for flat arrays."""
    matrix = np.array(ONE.expected["gradient"]).reshape(2, 4)
    pairs = [(matrix[:, :3], matrix[:, 3] if last else None)]
    assert only(giving(pairs, conventions={"layout": layout})).verdict == "right under another convention"


def test_an_adapter_that_changes_what_it_gets_or_gave():
    kept = np.array(ONE.expected["gradient"])

    class Mutates:
        def loss(self, case):
            case.optimizer["damping"] = case.likelihood["variance"] = 99.0
            case.network["sizes"] = None
            case.layers[0][0][:] = 0.0
            kept[:] = ONE.expected["gradient"]
            return ONE.expected["loss"]

        def gradient(self, case):
            return kept

        def hvp(self, case):
            kept[:] = 0.0
            return ONE.expected["hvp"]

    before = json.dumps([dict(ONE.network), dict(ONE.optimizer), dict(ONE.likelihood)])
    assert check(Mutates(), [ONE]).ok
    assert json.dumps([dict(ONE.network), dict(ONE.optimizer), dict(ONE.likelihood)]) == before


def test_a_view_has_what_a_network_needs():
    """Scales and frozen layers: without them no adapter can cover such cases."""

    class Outputs:
        def outputs(self, case):
            layers, a = list(case.layers), case.x
            for index in range(len(case.network["sizes"]) - 1):
                W, b = case.frozen[index] if index in case.frozen else layers.pop(0)
                a = np.tanh(a) if index else a
                a = case.scales[index] * a @ W.T + b
            return a

    cases = [CASES[name] for name in ("ntk", "scales-given", "frozen-first", "frozen-last")]
    assert all(case.network["activation"] == "tanh" for case in cases)
    report = check(Outputs(), cases)
    assert report.ok
    assert report.run == 4


def test_earlier_stages_are_given_to_an_adapter_of_later_ones():
    def solve(case):
        F = case.stage("fisher")
        return np.linalg.solve(F + case.damping * np.eye(len(F)), case.v)

    assert only(giving(solve, "damped_solve"), CASES["full-expected"]).verdict == "right"
    kept = giving(lambda case: list(case.stage("factors")), "factors")
    assert only(kept, CASES["kfac-baseline"]).verdict == "right"
