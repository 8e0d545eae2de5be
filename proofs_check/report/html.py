"""One self-contained HTML page of a run's record: inline style, no scripts, nothing loaded."""

from __future__ import annotations

import html
from typing import Any

from .tables import (
    NUMERIC,
    columns,
    control_word,
    evidence,
    failures,
    is_sweep,
    label,
    name_of,
    number,
    rows,
    summary,
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.outcome { font-weight: 600; padding: .6rem 1rem; border-left: .4rem solid; background: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
.table td:first-child, .mono { font-family: ui-monospace, monospace; font-size: .9em; }
.table td:not(:first-child) { white-space: nowrap; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .5rem .9rem; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .7rem 0 .2rem; }
.error { font-family: ui-monospace, monospace; font-size: .85em; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
"""


def to_html(record: dict[str, Any]) -> str:
    """The record as one HTML file that needs nothing else."""
    outcome = "good" if record["ok"] else "bad"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>proofs-check: {_escape(summary(record))}</title>",
        f"<style>{_STYLE}</style></head><body>",
        "<h1>proofs-check</h1>",
        f'<p class="outcome {outcome}">{_escape(summary(record))}</p>',
        _table(record),
        *_claims(record),
        "<h2>Run</h2>",
        _pairs(
            {
                "grng_ref": record["grng_ref_version"],
                "finished": record["finished"],
                **record["settings"],
                "seeds": record["seeds"],
                "sweep": record["sweep"],
                **record["environment"],
            }
        ),
        "<h2>Conventions</h2>",
        _pairs(record["conventions"]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _table(record: dict[str, Any]) -> str:
    names = columns(record)
    head = "".join(_cell("th", name, name) for name in names)
    body = "\n".join(
        f'<tr class="{"" if ok else "bad"}">'
        + "".join(_cell("td", name, text) for name, text in zip(names, cells, strict=True))
        + "</tr>"
        for cells, ok in rows(record)
    )
    return (
        f'<div class="scroll"><table class="table"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, column: str, text: str) -> str:
    kind = ' class="num"' if column in NUMERIC else ""
    return f"<{tag}{kind}>{_escape(text)}</{tag}>"


def _claims(record: dict[str, Any]) -> list[str]:
    """Every claim; of a sweep each claim's first run, then what is not as expected."""
    if not is_sweep(record):
        return ["<h2>Claims</h2>", *(_claim(claim, claim["id"]) for claim in record["claims"])]
    first = {claim["id"]: claim for claim in reversed(record["claims"])}
    parts = ["<h2>Claims, each at its first point and seed</h2>"]
    parts += [_claim(claim, name) for name, claim in reversed(first.items())]
    shown, more = failures(record)
    if shown:
        parts += ["<h2>Not as expected</h2>", *(_claim(one, name_of(one, record)) for one in shown)]
        parts += [f"<p>and {more} more</p>"] * bool(more)
    return parts


def _claim(claim: dict[str, Any], name: str) -> str:
    """One run of a claim with all that is known of it; open if it is not as expected."""
    mark = '<span class="good">ok</span>' if claim["ok"] else '<span class="bad">not as expected</span>'
    shown: dict[str, Any] = {
        "problem": "\n".join(claim["problems"]),
        "source": claim["source"],
        "kind": claim["kind"],
        "expected": label(claim["expected"]),
        "parameters": claim["params"],
        "finding": _finding(claim["finding"]),
        "control": "" if claim["error"] else _finding(claim["control"], control_word(claim)),
        "how it could fail": claim["how_it_could_fail"],
        "error": claim["error"],
    }
    return (
        f"<details{'' if claim['ok'] else ' open'}><summary>{mark} "
        f'<span class="mono">{_escape(name)}</span>: {_escape(claim["statement"])}</summary>\n'
        f"{_pairs(shown)}</details>"
    )


def _finding(finding: dict[str, Any] | None, prefix: str = "") -> str:
    if finding is None:
        return prefix
    numbers = ", ".join(f"{name} {number(finding[name])}" for name in ("measured", "threshold", "margin"))
    lines = [f"{label(finding['verdict'])}: {numbers}", *evidence("run", finding)]
    return (f"{prefix}; " if prefix else "") + "\n".join(lines)


def _pairs(values: dict[str, Any]) -> str:
    """A definition list; what is empty or missing is left out."""
    shown = {key: value for key, value in values.items() if value not in ("", None, {}, [])}
    items = "".join(
        f"<dt>{_escape(str(key))}</dt>"
        f"<dd class='{'error' if key == 'error' else 'value'}'>{_escape(_text(value))}</dd>"
        for key, value in shown.items()
    )
    return f"<dl>{items}</dl>"


def _text(value: Any) -> str:
    """A line for each "key: value" and for each record of a list; other lists with commas on one line."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        if any(isinstance(item, dict) for item in value):
            return "\n".join(_text(item).replace("\n", ", ") for item in value)
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
