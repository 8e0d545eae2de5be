"""What the report says: nothing right that was not seen, the first divergence and its place, the cause."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "meta"))

from conformance_adapters import CASES, ONE, Right, giving
from conformance_cases import random_case
from plain_optimizers import Plain

from grng_ref.reports import conformance_html, conformance_markdown
from grng_ref.testing import check


def test_where_everything_raises_nothing_is_called_right():
    report = check(giving(lambda case: 1 / 0), [ONE])
    assert report.diagnosis.status == "none"
    assert "no numbers to compare" in report.diagnosis.sentence
    page = conformance_html(report.to_dict())
    assert "nothing is wrong" not in page
    assert "ZeroDivisionError" in page


def test_an_unexpected_pass_is_no_divergence():
    adapter = giving(np.array(ONE.expected["gradient"]), expected_failures={"gradient": "was wrong once"})
    report = check(adapter, [ONE])
    assert not report.ok
    assert report.first is None
    text = conformance_markdown(report.to_dict())
    assert "first divergence" not in text
    assert "expected to fail, and right: one-layer/gradient" in text


def test_no_cases_and_no_results():
    for report in (check(Right(), []), check(Right(), [ONE], only=[]), check(giving(None), [ONE])):
        assert not report.ok
        assert "nothing was checked" in conformance_markdown(report.to_dict())


@pytest.mark.parametrize(
    ("layout", "index", "said"),
    [("[W|b]", 5, "layer 0 b[1]"), ("[W|b]", 10, "layer 1 W[0, 1]"), ("bias first", 3, "layer 0 b[1]"),
     ("separate", 16, "layer 1 b[1]")],
)  # fmt: skip
def test_the_first_divergence_names_the_parameter(layout, index, said):
    """Sizes 2, 3, 2: nine parameters in layer 0, eight in layer 1."""
    case = CASES["ngd-tanh-gaussian"]
    defect = {"bias first": "bias first", "separate": "weights and biases apart"}.get(layout)

    class Off(Plain):
        def gradient(self, view):
            out = np.array(super().gradient(view))
            out[index] += 1.0
            return out

    adapter = Off(defect)
    adapter.conventions = {"layout": layout}
    report = check(adapter, [case], stages=["gradient"], diagnose=False)
    assert report.first.entry == (index,)
    assert report.first.parameters == said
    assert said in conformance_markdown(report.to_dict())


def test_an_entry_of_a_matrix_is_of_two_parameters():
    class Off(Plain):
        def fisher(self, view):
            out = np.array(super().fisher(view))
            out[5, 10] += 1.0
            return out

    report = check(Off(), [CASES["ngd-tanh-gaussian"]], stages=["fisher"], diagnose=False)
    assert report.first.parameters == "layer 0 b[1] by layer 1 W[0, 1]"


def test_a_defect_of_one_block_is_no_low_precision():
    """Ten per cent in a block of the Fisher are of the size of bfloat16's roundings; the rest is right."""

    class Block(Plain):
        def fisher(self, view):
            out = np.array(super().fisher(view))
            out[:4, 4:] *= 1.1
            return out

    report = check(
        Block(), [random_case(seed, "ngd", structure="full") for seed in range(1, 9)], stages=["fisher"]
    )
    assert report.counts["wrong"] >= 6
    assert report.diagnosis.status == "none"


def test_the_size_of_errors_alone_is_no_name():
    """A step size that is one per cent off everywhere: not said to be one of the known causes."""

    class Off(Plain):
        def delta(self, view):
            return 1.01 * super().delta(view)

    found = check(Off(), [random_case(seed, "sgd") for seed in range(1, 9)], stages=["delta"]).diagnosis
    assert not found.causes or ("small-error",) in found.causes


def test_a_known_failure_does_not_hide_the_cause_of_a_new_one():
    class Two(Plain):
        def hvp(self, view):
            return super().hvp(view) + 0.37

    cases = [random_case(seed, "ngd", structure="full", kind="expected") for seed in (1, 2)]
    adapter = Two("Fisher sum")
    stages = ["loss", "fisher", "score_rows", "hvp"]
    assert check(adapter, cases, stages=stages).diagnosis.status == "none"
    adapter.expected_failures = {"hvp": "shifted"}
    report = check(adapter, cases, stages=stages)
    assert report.diagnosis.causes == (("fisher-times-N",),)
    assert not report.ok


def test_failures_come_first_in_the_table_and_skipped_checks_last():
    class Some(Plain):
        def gradient(self, view):
            return None if view.id == cases[0].id else 3.0 * super().gradient(view)

    cases = [random_case(seed) for seed in (1, 2)]
    page = conformance_html(check(Some(), cases, stages=["loss", "gradient"], diagnose=False).to_dict())
    table = page.split("<h2>All checks</h2>")[1]
    verdicts = [part.split("<")[0] for part in table.split('<td style="color:')[1:]]
    assert [verdict.split(">")[1] for verdict in verdicts] == ["wrong", "right", "right", "skipped"]


def test_the_picture_shows_what_is_not_finite():
    """Also beside an error that is small, and where nothing else is wrong."""
    for place in (1.0, 0.0):

        class Off(Plain):
            def fisher(self, view):
                out = np.array(super().fisher(view))
                out[0, 0], out[1, 2], out[2, 1] = np.nan, np.inf, out[2, 1] + place  # noqa: B023
                return out

        report = check(Off(), [CASES["ngd-tanh-gaussian"]], stages=["fisher"], diagnose=False)
        page = conformance_html(report.to_dict())
        assert page.count('fill="black"') == 2
        assert page.count('fill="rgb') == (1 if place else 0)
