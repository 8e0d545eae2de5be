"""A study's result as lines, as Markdown tables, and as one self-contained HTML page."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from . import study_figures

Result = dict[str, Any]
Table = tuple[Sequence[str], list[list[str]]]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 94rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
.supported { color: #00704a; font-weight: 600; } .not-supported { color: #b33c00; font-weight: 600; }
.undecided { color: #666; } .bad { color: #b33c00; font-weight: 600; }
details { margin: 1rem 0; } summary { cursor: pointer; }
"""
_ANSWERS = (
    "Intervals are for the champion of the family against a baseline: a ratio of costs below 1, or a difference "
    "of test losses below 0, is in its favour. Shown is the baseline that decides: the one hardest to beat. "
    "? stands for a median that is not known; runs that never reached the target leave bounds open, 0 or ∞. "
    "Rules: docs/study.md."
)
_AGAINST = "For each baseline by itself: + supported, - not supported, blank undecided."
_EFFECTS = (
    "Differences on - off; negative: lower with gradient regularization. Off: everything else equal, or the "
    'plain method with its own tuned settings; "as": these are the same settings.'
)
_CURVES = (
    "Mean over the finished runs and their range; dotted: the target. Seconds are those of the steps alone."
)
_AVERAGES = (
    "Averages over the records of a run, then over the finished runs. Hollow: trained for one epoch only, and "
    "averaged over that; gradient norms fall in training, so hold hollow marks against hollow ones."
)
_MEASURES = ("epochs", "gradient evaluations", "wall time")


def study_lines(result: Result) -> list[str]:
    """The result in plain words, one line an answer; entries of no group against each baseline."""
    lines = [*_headline(result), "", *_text_table(answers_table(result))]
    own = against_table(result, own=True)
    return [*lines, "", *_text_table(own), "", _AGAINST] if own[1] else lines


def study_markdown(result: Result) -> str:
    """A result as a page of Markdown: where it comes from, the plain words, the tables."""
    parts = ["# Study results", _provenance(result), "\n".join(f"- {line}" for line in _headline(result))]
    tables = (
        ("Answers", answers_table(result)),
        ("Answers against each baseline", against_table(result)),
        ("Gradient regularization by itself", effects_table(result)),
        ("Entries", entries_table(result)),
        ("Costs", costs_table(result)),
    )
    for title, (head, rows) in tables:
        lines = [head, ["---"] * len(head), *rows]
        parts.append(f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def study_html(result: Result) -> str:
    """One HTML page that loads nothing."""
    headline = "".join(f"<li>{_escape(line)}</li>" for line in _headline(result))
    problems = "".join(f"<li class='bad'>{_escape(line)}</li>" for line in result["audit"])
    kept = f"<ul>{problems}</ul>" if problems else "<p>The stored runs keep the protocol: no finding.</p>"
    figure_1 = (
        ("gradient_norm", "mean gradient norm", "linear"),
        ("cosine", "mean cosine with the exact direction", "linear"),
        ("pearson", "mean Pearson correlation with it", "linear"),
    )
    ends = (
        ("test_loss", "test loss", "linear"),
        ("gap", "gap: test - train loss", "linear"),
        ("trace", "trace of the Hessian", "symlog"),
        ("top", "its top eigenvalue", "linear"),
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>grng-ref study</title>',
        f"<style>{_STYLE}</style></head><body><h1>grng-ref study</h1>",
        f"<h2>What held, and what did not</h2><ul>{headline}</ul>",
        "<h2>Answers</h2>" + _html_table(answers_table(result)),
        f"<p>{_ANSWERS}</p>",
        "<h2>Answers against each baseline</h2>" + _html_table(against_table(result)),
        f"<p>{_AGAINST}</p>",
        "<h2>Gradient regularization by itself</h2>" + _html_table(effects_table(result)),
        f"<p>{_EFFECTS}</p>",
        f"<h2>Learning curves</h2><p>{_CURVES}</p>",
        *(_curves(result, data) for data in result["data"]),
        f"<h2>The paper's Figure 1, in the small</h2><p>{_AVERAGES}</p>"
        + study_figures.dots(result, figure_1),
        "<h2>At the end of training</h2><p>Hollow: after one epoch only.</p>"
        + study_figures.dots(result, ends),
        "<h2>Entries</h2>" + _html_table(entries_table(result)),
        "<h2>Costs</h2>" + _html_table(costs_table(result)),
        f"<h2>Protocol</h2><p>{_escape(_provenance(result))}</p>"
        + kept
        + _html_table(settings_table(result)),
        "<details><summary>Data, settings and environment</summary><pre>",
        _escape(json.dumps({k: result[k] for k in ("protocol", "data", "environment")}, indent=1)),
        "</pre></details></body></html>",
    ]
    return "\n".join(parts) + "\n"


# --- tables ------------------------------------------------------------------------------------------------


def answers_table(result: Result) -> Table:
    """A row for each data set, family and question."""
    rows = [
        [row["data"], row["family"], row["entry"], row["question"], row["word"], deciding(row)]
        for row in result["analysis"]["answers"]
    ]
    return ("data", "family", "champion", "claim", "answer", "against the baseline that decides"), rows


def against_table(result: Result, *, own: bool = False) -> Table:
    """A row for each answer, a column for each baseline; or of the entries of no group only."""
    groups = {entry["name"]: entry["group"] for entry in result["entries"]}
    rivals = [name for name, group in groups.items() if group == "baseline"]
    marks = {"supported": " +", "not supported": " -", "undecided": ""}
    rows = []
    for row in result["analysis"]["answers"]:
        if own and groups[row["entry"]] != "other":
            continue
        seen = {a["rival"]: (a["reason"] or _interval(a)) + marks[a["word"]] for a in row["against"]}
        rows.append(
            [row["data"], row["entry"], row["question"], *(seen.get(rival, "left out") for rival in rivals)]
        )
    return ("data", "champion", "claim", *rivals), rows


def effects_table(result: Result) -> Table:
    """A row for each pair of on and off; one for a twin and a plain method that are the same."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    effects = result["analysis"]["effects"]
    same = {(row["data"], row["entry"]): row["against"] for row in effects if row["twice"]}
    for row in effects:
        if row["twice"]:
            continue
        plain = same.get((row["data"], row["entry"]))
        off = row["against"].removeprefix(f"{row['entry']}, ") + (f" (as {plain})" if plain else "")
        key = (row["data"], row["entry"], off)
        mark = {"supported": " lower", "not supported": " higher", "undecided": ""}[row["word"]]
        rows.setdefault(key, {})[row["what"]] = (row["reason"] or _interval(row)) + mark
    whats = ("test loss", "gap", "trace", "top")
    body = [[*key, *(cells.get(what, "") for what in whats)] for key, cells in rows.items()]
    return ("data", "on", "off", *whats), body


def entries_table(result: Result) -> Table:
    """A row for each data set and entry: how it ended."""
    head = (
        "data",
        "entry",
        "epochs",
        "runs",
        "failed",
        "test loss",
        "test error",
        "gap",
        "trace",
        "top eigenvalue",
    )
    rows = [
        [
            *(row["data"], row["entry"], *(str(row[key]) for key in ("epochs", "runs", "failed"))),
            *(_bounds(row["test_loss"]), _number(row["test_error"]), _bounds(row["gap"])),
            *(_number(row["trace"]), _number(row["top"])),
        ]
        for row in result["analysis"]["summary"]
    ]
    return head, rows


def costs_table(result: Result) -> Table:
    """A row for each data set and entry: what its steps cost, and how far the target was."""
    head = (
        "data",
        "entry",
        "ms a step",
        "gradients a step",
        "reached",
        *(f"{m} to target" for m in _MEASURES),
    )
    rows = []
    for row in result["analysis"]["summary"]:
        reached = f"{row['reached']} of {row['runs']}" if "reached" in row else ""
        costs = [_number(row.get(f"{measure} to target")) for measure in _MEASURES]
        cells = (_number(row["ms_per_step"]), _number(row["evaluations_per_step"]), reached)
        rows.append([row["data"], row["entry"], *cells, *costs])
    return head, rows


def settings_table(result: Result) -> Table:
    """Chosen settings; trials that failed."""
    rows = []
    for data, chosen in result["chosen"].items():
        for name, settings in chosen.items():
            tried = [t for t in result["tuning"] if t["data"] == data and t["entry"] == name]
            failed = sum(t["status"] != "finished" for t in tried)
            text = (
                "every trial failed"
                if settings is None
                else ", ".join(f"{k} {v:.3g}" for k, v in settings.items())
            )
            rows.append([data, name, str(len(tried)), str(failed), text])
    return ("data", "entry", "trials", "failed", "chosen"), rows


# --- words -------------------------------------------------------------------------------------------------


def _headline(result: Result) -> list[str]:
    analysis, protocol = result["analysis"], result["protocol"]
    lines = []
    baselines = [entry["name"] for entry in result["entries"] if entry["group"] == "baseline"]
    named = f" ({', '.join(baselines)})" if baselines else ""
    questions = dict.fromkeys(row["question"] for row in analysis["answers"])
    for family in dict.fromkeys(row["family"] for row in analysis["answers"]):
        for question in questions:
            rows = [r for r in analysis["answers"] if (r["family"], r["question"]) == (family, question)]
            words = ", ".join(f"{r['word']} on {r['data']}" for r in rows)
            lines.append(f"{family} {question} than every baseline{named}: {words}.")
    for what in ("test loss", "gap", "trace"):
        for kind, name in (
            ("same settings", "rho = 0, at the settings tuned with rho"),
            ("tuned", "the plain method, where tuning gave it other settings"),
        ):
            rows = [
                r for r in analysis["effects"] if r["what"] == what and r["kind"] == kind and not r["twice"]
            ]
            low = sum(r["word"] == "supported" for r in rows)
            high = sum(r["word"] == "not supported" for r in rows)
            if rows:
                lines.append(
                    f"Gradient regularization against {name}: {what} lower in {low}, higher in {high}, "
                    f"undecided in {len(rows) - low - high} of {len(rows)} comparisons."
                )
    trials = [t["status"] != "finished" for t in result["tuning"]]
    runs = [r["status"] != "finished" for r in result["runs"]]
    lines.append(
        f"{protocol['trials']} trials and {protocol['seeds']} seeds for every entry; failed: {sum(trials)} "
        f"of {len(trials)} trials, {sum(runs)} of {len(runs)} final runs."
    )
    lines += [_budget(result), _errors(result), _scope(result)]
    lines += [f"{data}: {t['reason']}." for data, t in analysis["targets"].items() if t["reason"]]
    left = [f"{', '.join(p['without'])} on {p['name']}" for p in protocol["plans"] if p["without"]]
    if left:
        lines.append(f"Left out for their cost: {'; '.join(left)}.")
    lines.extend(f"PROTOCOL BROKEN: {problem}" for problem in result["audit"])
    return lines


def _budget(result: Result) -> str:
    """What champions and baselines were chosen from: the trials are equal for entries, not for families."""
    counts: dict[str, set[int]] = {}
    for row in result["analysis"]["answers"]:
        counts.setdefault(row["family"], set()).add(row["trials"])
    best = ", ".join(
        f"{family} of {' or '.join(map(str, sorted(numbers)))}" for family, numbers in counts.items()
    )
    trials = result["protocol"]["trials"]
    equal = f"The tuning budget is equal for entries ({trials} trials each), not for families"
    return f"{equal}: a baseline is the best of {trials} trials; champions: {best}." if best else f"{equal}."


def _scope(result: Result) -> str:
    """What the intervals are over, and what not."""
    sets = ", ".join(
        f"{plan['name']} {plan['epochs']} epochs, {result['data'][plan['name']]['examples'][2]} test examples"
        for plan in result["protocol"]["plans"]
    )
    return (
        "Intervals are over initialisations and orders of batches, on one split of each data set, after few "
        f"epochs: {sets}."
    )


def _errors(result: Result) -> str:
    analysis, confidence = result["analysis"], 100.0 * result["protocol"]["confidence"]
    intervals = sum(len(row["against"]) for row in analysis["answers"])
    once = sum(not row["twice"] for row in analysis["effects"])
    return (
        f"{len(analysis['answers'])} answers from {intervals} intervals, and {once} "
        f"intervals of effects. The intervals of one answer hold together with {confidence:g} % (Bonferroni over "
        "its baselines), those of one measure of an effect over the regularized entries of a data set; nothing is "
        "corrected across answers."
    )


def _provenance(result: Result) -> str:
    protocol, stamp = result["protocol"], result["environment"]
    place = protocol["place"]
    return (
        f"grng_ref {stamp['grng_ref']}, {place['backend']} {place['dtype']}, Python {stamp['python']}, NumPy "
        f"{stamp['packages']['numpy']}; data sets: {', '.join(result['data'])}; {protocol['trials']} trials, "
        f"{protocol['seeds']} seeds, {_resolution(result)}, seed {protocol['seed']}; the study "
        f"took {result['seconds'] / 60.0:.1f} minutes."
    )


def _resolution(result: Result) -> str:
    apart = max((b - a for r in result["runs"] for a, b in pairwise(r["curve"]["step"])), default=1)
    return "a record at every step" if apart == 1 else f"records up to {apart} steps apart"


def deciding(row: dict[str, Any]) -> str:
    """The interval against the baseline that is hardest to beat, failed ones too; or why there is none."""
    if row["reason"]:
        return row["reason"]
    side, unknown = ("lower", -math.inf) if row["word"] == "not supported" else ("upper", math.inf)
    hardest = max(row["against"], key=lambda a: unknown if a[side] is None else a[side])
    return f"{_interval(hardest)} against {hardest['rival']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(row: dict[str, Any]) -> str:
    lower, upper = _number(row["lower"]) or "-∞", _number(row["upper"]) or "∞"
    return f"{_number(row['estimate']) or '?'} [{lower}, {upper}]"


def _bounds(value: list[float | None] | None) -> str:
    if value is None:
        return ""
    middle, _, upper = value
    return _number(middle) if middle is None or upper is None else f"{middle:.3g} ± {upper - middle:.2g}"


def _text_table(table: Table) -> list[str]:
    head, rows = table
    lines = [list(head), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def _html_table(table: Table) -> str:
    head, rows = table
    top = "".join(f"<th>{_escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    words = ("supported", "not supported", "undecided")
    kind = f' class="{text.replace(" ", "-")}"' if text in words else ""
    return f"<td{kind}>{_escape(text)}</td>"


def _curves(result: Result, data: str) -> str:
    about = result["data"][data]
    sizes = "-".join(str(size) for size in about["sizes"])
    figures = [
        study_figures.curves(result, data, key, label)
        for key, label in (("epoch", "epochs"), ("seconds", "seconds of steps"))
    ]
    best = (
        ""
        if about["optimum"] is None
        else f" The entropy rate, the least possible test loss, is {about['optimum']:.4f}."
    )
    text = f"{sizes}, {about['parameters']} parameters; {about['examples']} examples.{best}"
    return f"<h3>{_escape(data)}</h3><p>{_escape(text)}</p>" + "".join(figures)


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
