"""The page of a study is self-contained and shows what is stored."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from grng_ref.reports import study_html, study_lines, study_markdown
from grng_ref.training import DataPlan, Protocol, default_entries, study


@pytest.fixture(scope="module")
def result():
    protocol = Protocol((DataPlan("diabetes", (2,), 60, 12, 1),), trials=1, seeds=2, points=2)
    kept = ("SGD", "AdamW", "NGD", "RING", "Kalman online", "R-Kalman online")
    entries = [entry for entry in default_entries() if entry.name in kept]
    return json.loads(json.dumps(study(protocol, entries=entries)))


def test_page_loads_nothing_and_is_well_formed(result):
    page = study_html(result)
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert all(
        re.match(r"https?://(www\.w3\.org|purl\.org|creativecommons\.org|matplotlib\.org)", a)
        for a in addresses
    )

    class Parser(HTMLParser):
        headings = 0

        def handle_starttag(self, tag, attrs):
            self.headings += tag == "h2"

    parser = Parser()
    parser.feed(page)
    assert parser.headings >= 8
    assert page.count("<svg") == 2 + 2  # two of curves, two of dots


def test_answers_stand_on_the_page_and_in_the_terminal(result):
    rows = result["analysis"]["answers"]
    assert len(rows) == 2 * 4
    page, lines = study_html(result), "\n".join(study_lines(result))
    for row in rows:
        assert f"{row['word']} on {row['data']}" in page
        assert row["question"] in lines
        assert row["question"] in study_markdown(result)


def test_breach_of_the_protocol_is_shown(result):
    broken = {**result, "audit": ["diabetes, SGD: 3 trials, the protocol has 1"]}
    assert "PROTOCOL BROKEN: diabetes, SGD: 3 trials" in study_html(broken)
    assert "PROTOCOL BROKEN" not in study_html(result)


def test_text_from_outside_is_escaped(result):
    named = json.loads(json.dumps(result).replace("R-Kalman online", "<b>mine</b>"))
    assert "<b>mine</b>" not in study_html(named)
