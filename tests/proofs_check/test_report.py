"""Reports: one record, valid and strict JSON, and escaped text in every format."""

from __future__ import annotations

import copy
import html.parser
import json
import math
import re

import jsonschema
import pytest

from proofs_check import Claim, Finding, Run, Suite, run_suite, to_record, write_report
from proofs_check.report import FORMATS, RESULT_SCHEMA, to_html, to_json, to_markdown, to_tex
from proofs_check.report.tables import summary

NASTY = r"""<script>alert("1 & 2")</script> | a_b * c^2 ~ 50% #1 {x} $y$ \alpha `z` [l](u)
second line"""


def _fails(run, sizes):
    """How: |x| <= 1."""
    witness = {"index": [1, 2], "text": NASTY, "bound": math.nan, "pair": [math.inf, 1.0]}
    return Finding("refuted", math.inf, 1e-6, NASTY, reason=NASTY, witness=witness)


def _raises(run, sizes):
    raise RuntimeError(NASTY)


def _holds(run, sizes):
    control = Finding("refuted", math.nan, 1e-6, "planted", witness={"index": [0]})
    return Finding("holds", 2.5e-7, 1e-6, "3 instances", reason="roundoff").with_control(control)


def _claim(id, function):
    return Claim(id, NASTY, "our reconstruction", "inequality", "holds", {"sizes": [1, 2]}, function)


@pytest.fixture(scope="module")
def result():
    suite = Suite(tuple(_claim(f.__name__.strip("_"), f) for f in (_holds, _fails, _raises)))
    return run_suite(suite, Run(seed=7))


@pytest.fixture(scope="module")
def record(result):
    return to_record(result)


def test_json_round_trips_and_satisfies_the_schema(record):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    again = json.loads(to_json(record), parse_constant=refuse)
    assert again == record
    jsonschema.Draft202012Validator.check_schema(RESULT_SCHEMA)
    jsonschema.validate(again, RESULT_SCHEMA)


def test_the_record_says_everything(record):
    assert record["ok"] is False
    assert record["counts"] == {"claims": 3, "runs": 3, "as_expected": 1}
    assert record["settings"]["seed"] == 7
    assert record["conventions"]["kronecker"]
    assert record["environment"]["packages"]["numpy"]
    holds, fails, raises = record["claims"]
    assert holds["finding"] == {
        "verdict": "holds",
        "measured": 2.5e-7,
        "threshold": 1e-6,
        "margin": 0.75,
        "detail": "3 instances",
        "reason": "roundoff",
        "witness": None,
        "certificate": "",
    }
    assert holds["control"]["measured"] == "nan"
    assert holds["control_caught"] is True
    assert fails["finding"]["measured"] == "inf"
    assert fails["finding"]["witness"]["bound"] == "nan"
    assert fails["finding"]["witness"]["pair"] == ["inf", 1.0]
    assert fails["control"] is None
    assert fails["how_it_could_fail"] == "How: |x| <= 1."
    assert len(fails["problems"]) == 2
    assert raises["verdict"] == "error"
    assert "in _raises" in raises["error"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.pop("environment"),
        lambda r: r.update(more=1),
        lambda r: r["claims"][0].update(verdict="true"),
        lambda r: r["claims"][0].pop("control"),
        lambda r: r["claims"][0]["finding"].update(measured="large"),
        lambda r: r["settings"].update(dtype="float16"),
    ],
)
def test_the_schema_refuses_a_spoiled_record(record, spoil):
    spoiled = copy.deepcopy(record)
    spoil(spoiled)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoiled, RESULT_SCHEMA)


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_one_page_that_loads_nothing_and_escapes_everything(record):
    text = to_html(record)
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "alert"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    assert "url(" not in text
    assert "@import" not in text
    assert page.text.count(NASTY) >= 5  # statements, detail, reason, error: as written, none as markup
    assert page.tags.count("details") == 3
    for word in ("holds on the sample", "NOT CAUGHT", "missing", "our reconstruction", "row-major"):
        assert (word in page.text) == (word != "NOT CAUGHT")


def test_markdown_rows_have_the_columns_of_the_head(record):
    lines = to_markdown(record).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    # a pipe that is not escaped starts a cell
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {9}
    assert "FAILED: refuted" in table[3]
    statement = next(line for line in lines if line.startswith("- **fails**"))
    assert r"\<script\>" in statement
    assert r"a\_b \* c^2 \~ 50% \#1 \{x\} \$y\$ \\alpha \`z\` \[l\](u) second line" in statement


def test_tex_is_a_tabular_with_nothing_special_left(result):
    claim = result.results[0].claim
    record = to_record(result)
    record["claims"][0]["id"] = r"a_b & 50% #1 {x} $y$ \alpha ~^<>|"
    assert claim.id == "holds"
    lines = to_tex(record).splitlines()
    assert lines[2] == r"\begin{tabular}{lllrrrlr}"
    assert lines[-1] == r"\end{tabular}"
    row = next(line for line in lines if line.startswith("a"))
    assert row.startswith(
        r"a\_b \& 50\% \#1 \{x\} \$y\$ \textbackslash{}alpha \textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{} & holds on the sample & "
    )
    assert len(re.findall(r"(?<!\\)&", row)) == 7
    assert row.endswith(r" \\")


@pytest.mark.parametrize("suffix", [".json", ".md", ".html", ".tex", ".HTML"])
def test_the_suffix_chooses_the_format(result, tmp_path, suffix):
    path = tmp_path / f"report{suffix}"
    write_report(result, path)
    first = {".json": "{", ".md": "#", ".html": "<!DOCTYPE", ".tex": "%"}[suffix.lower()]
    assert path.read_text(encoding="utf-8").startswith(first)


def test_an_unknown_suffix_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match=r"one of \.json, \.md, \.html, \.tex; got .*report\.pdf"):
        write_report(result, tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_every_format_reports_an_empty_run_as_a_failure():
    empty = to_record(run_suite(Suite(())))
    for make in FORMATS.values():
        assert ('"ok": false' if make is to_json else "NOT AS EXPECTED") in make(empty)
    assert empty["ok"] is False


def test_markdown_says_why_and_shows_the_witness(record):
    text = to_markdown(record)
    assert "  - threshold: roundoff" in text
    assert r'  - witness: \{"index": \[1, 2\]' in text
    assert text.count("  - control: planted") == 1


def test_a_certificate_is_in_every_report_that_shows_evidence():
    method = "ball arithmetic with 128 bits"
    proof = Finding("certified", 0.0, 1.0, "all of [0, 1]", certificate=method)
    control = Finding("refuted", 2.0, 1.0, "planted", witness=0.5)
    proved = Claim("proved", "s", "x", "inequality", "certified", {}, lambda run: proof.with_control(control))
    record = to_record(run_suite(Suite((proved,))))
    assert record["ok"]
    for make in (to_json, to_markdown, to_html):
        assert method in make(record)


def test_html_keeps_a_parameter_on_one_line(record):
    assert "<dd class='value'>sizes: [1, 2]</dd>" in to_html(record)


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["holds"], "(1 holds on the sample)"),
        (["holds", "holds"], "(2 hold on the sample)"),
        (["refuted", "error", "error"], "(1 refuted, 2 errors)"),
    ],
)
def test_the_summary_counts_in_singular_and_plural(record, verdicts, words):
    changed = copy.deepcopy(record)
    changed["claims"] = [{**record["claims"][0], "verdict": verdict} for verdict in verdicts]
    assert words in summary(changed)


def test_the_stamp_has_the_threads_of_the_run(record):
    assert [blas["threads"] for blas in record["environment"]["blas"]] == [1] * len(
        record["environment"]["blas"]
    )
    assert {"torch", "jax", "jaxlib", "cupy", "joblib"} <= set(record["environment"]["packages"])
    assert record["environment"]["processor"]
