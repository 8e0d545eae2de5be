"""The page of a study is self-contained and shows what is stored."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser

import pytest

from grng_ref.reports import study_figures, study_html, study_lines, study_markdown
from grng_ref.reports.study import against_table, deciding, effects_table, entries_table
from grng_ref.training import DataPlan, Protocol, analyse, default_entries, study


@pytest.fixture(scope="module")
def result():
    protocol = Protocol((DataPlan("diabetes", (2,), 60, 12, 1),), trials=1, seeds=2, points=2)
    kept = ("SGD", "AdamW", "NGD", "RING", "Kalman online", "R-Kalman online")
    entries = [entry for entry in default_entries() if entry.name in kept]
    return json.loads(json.dumps(study(protocol, entries=entries), allow_nan=False))


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


def test_more_entries_than_colours_are_all_shown(result):
    """Seven baselines and eight of one's own: none vanishes, and no panel has a colour twice."""
    many = copy.deepcopy(result)
    kinds = {**{f"baseline {i}": "baseline" for i in range(7)}, **{f"mine {i}": "other" for i in range(8)}}
    for i, (name, group) in enumerate(kinds.items()):
        many["entries"].append({**many["entries"][0], "name": name, "group": group, "plain": None})
        for run in result["runs"]:
            if run["entry"] == "SGD":
                more = copy.deepcopy(run) | {"entry": name}
                more["curve"]["validation_loss"][-1] = 0.01 * i
                many["runs"].append(more)
    shown = [name for _, names in study_figures.panels(many, "diabetes") for name in names]
    assert sorted(shown) == sorted({run["entry"] for run in many["runs"]} - {"RING, rho = 0", TWIN_OF_FILTER})
    many["analysis"] = analyse(many)
    page = study_figures.curves(many, "diabetes", "epoch", "epochs")
    for name in kinds:
        assert f"<!-- {name} -->" in page  # matplotlib's note at each text


TWIN_OF_FILTER = "R-Kalman online, rho = 0"


def test_a_failed_run_does_not_hide_the_others_of_its_entry(result):
    broken = copy.deepcopy(result)
    run = next(run for run in broken["runs"] if run["entry"] == "SGD")
    run["status"] = "failed: planted"
    for values in run["curve"].values():
        del values[1:]
    broken["analysis"] = analyse(broken)
    assert "<!-- SGD -->" in study_figures.curves(broken, "diabetes", "epoch", "epochs")
    assert study_html(broken)


def test_a_study_of_failures_has_a_page(result):
    """Nothing finished, not even a first record: no target, no curve, and every answer undecided."""
    broken = copy.deepcopy(result)
    for run in [*broken["tuning"], *broken["runs"]]:
        run.update(status="failed: planted", validation_loss=None)
        run["curve"] = {name: [] for name in run["curve"]}
    broken["analysis"] = analyse(broken)
    assert {row["word"] for row in broken["analysis"]["answers"]} == {"undecided"}
    assert "no target: no trial of a baseline finished" in study_html(broken)
    assert study_markdown(broken)


def test_entries_of_one_epoch_are_hollow_and_say_it(result):
    """Their averages are over another time than those of the other entries."""
    longer = copy.deepcopy(result)
    longer["protocol"]["plans"][0]["epochs"] = 2
    for run in longer["runs"]:
        run["epochs"] = 1 if "online" in run["entry"] else 2
    longer["analysis"] = analyse(longer)
    column = [("gradient_norm", "", "linear")]
    hollow = [study_figures.dots(seen, column).count('style="fill-opacity: 0') for seen in (result, longer)]
    assert hollow == [0, 3]
    rows = {row[1]: row[2] for row in entries_table(longer)[1]}
    assert (rows["SGD"], rows["Kalman online"], rows["R-Kalman online, rho = 0"]) == ("2", "1", "1")


def test_a_twin_and_a_plain_method_of_the_same_settings_are_one_row(result):
    offs = [(row[1], row[2]) for row in effects_table(result)[1]]
    assert offs == [("RING", "rho = 0 (as NGD)"), ("R-Kalman online", "rho = 0 (as Kalman online)")]
    other = copy.deepcopy(result)
    for trial in other["tuning"]:
        if trial["entry"] == "NGD":
            trial["settings"]["lr"] = 0.123
    other["analysis"] = analyse(other)
    offs = [(row[1], row[2]) for row in effects_table(other)[1]]
    assert offs[:2] == [("RING", "rho = 0"), ("RING", "NGD")]


def test_the_baseline_that_decides_is_the_hardest_one_also_where_its_runs_failed():
    """One baseline is beaten, the other's runs failed: the answer must not show the one that is beaten."""
    beaten = {"rival": "A", "word": "supported", "reason": ""}
    beaten |= {"estimate": 0.5, "lower": 0.4, "upper": 0.6, "pairs": 8}
    lost = {"rival": "B", "word": "undecided", "reason": "1 of 8 runs of B failed"}
    lost |= {"estimate": None, "lower": 0.0, "upper": None, "pairs": 8}
    cut = {**lost, "rival": "C", "reason": "", "estimate": 2.0}
    row = {"word": "undecided", "reason": "1 of 8 runs of B failed", "against": [beaten, lost]}
    assert deciding(row) == "1 of 8 runs of B failed"
    assert deciding({"word": "undecided", "reason": "", "against": [beaten, cut]}) == "2 [0, ∞] against C"
    assert deciding({"word": "supported", "reason": "", "against": [beaten]}) == "0.5 [0.4, 0.6] against A"
    worse = {**beaten, "rival": "D", "word": "not supported", "lower": 1.5, "upper": 1.7}
    row = {"word": "not supported", "reason": "", "against": [cut, worse, beaten]}
    assert deciding(row) == "0.5 [1.5, 1.7] against D"


def test_budget_of_families_and_number_of_comparisons_are_said(result):
    lines = "\n".join(study_lines(result))
    assert "equal for entries (1 trials each), not for families" in lines
    assert "RING and RENG of 1, R-Kalman of 1" in lines
    # four measures of two regularized entries against their twins; with one trial the plain methods are those
    assert "8 answers from 16 intervals, and 8 intervals of effects" in lines
    assert "where tuning gave it other settings" not in lines


def test_an_entry_of_no_group_is_shown_against_each_baseline(result):
    mine = copy.deepcopy(result)
    ring = next(entry for entry in mine["entries"] if entry["name"] == "RING")
    ring |= {"group": "other", "family": None}
    mine["analysis"] = analyse(mine)
    head, rows = against_table(mine, own=True)
    assert head == ("data", "champion", "claim", "SGD", "AdamW")
    assert [row[1] for row in rows] == ["RING"] * 4
    assert "RING faster in epochs than every baseline (SGD, AdamW)" in "\n".join(study_lines(mine))
    assert against_table(result, own=True)[1] == []


def test_text_from_outside_is_escaped(result):
    named = json.loads(json.dumps(result).replace("R-Kalman online", "<b>mine</b>"))
    assert "<b>mine</b>" not in study_html(named)
