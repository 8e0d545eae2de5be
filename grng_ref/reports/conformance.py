"""The record of the checker on a terminal, as JSON, Markdown, and one self-contained HTML page."""

from __future__ import annotations

import html
import json
import math
from itertools import zip_longest
from pathlib import Path
from typing import Any

_COLOURS = {
    "right": "#1a7f37",
    "right under another convention": "#0969da",
    "accurate, not backward stable": "#9a6700",
    "undecidable": "#6e7781",
    "wrong": "#cf222e",
    "skipped": "#8c959f",
}
_PICTURES = 24  # on one page
_ORDER = (
    "right",
    "right under another convention",
    "accurate, not backward stable",
    "undecidable",
    "wrong",
    "skipped",
)


def write_conformance(record: dict[str, Any], path: str | Path) -> None:
    """Write the record; the format follows the suffix: .json, .html or .md.

    Raises
    ------
    ValueError
        Another suffix.
    """
    path = Path(path)
    formats = {".json": _json, ".html": conformance_html, ".md": conformance_markdown}
    if path.suffix not in formats:
        raise ValueError(f"the report's name must end in .json, .html or .md, got {path.name!r}")
    path.write_text(formats[path.suffix](record), encoding="utf-8")


def _json(record: dict[str, Any]) -> str:
    return json.dumps(_finite(record), indent=1, allow_nan=False)


def _finite(tree: Any) -> Any:
    """Infinities as text: JSON has none."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not math.isfinite(tree) else tree


def by_stage(record: dict[str, Any]) -> list[tuple[str, dict[str, int], float]]:
    """For every stage its verdicts, counted, and the largest difference over tolerance."""
    stages: dict[str, dict[str, int]] = {}
    largest: dict[str, float] = {}
    for check in record["checks"]:
        counts = stages.setdefault(check["stage"], {})
        counts[check["verdict"]] = counts.get(check["verdict"], 0) + 1
        largest[check["stage"]] = max(largest.get(check["stage"], 0.0), check["excess"] or 0.0)
    return [(stage, counts, largest[stage]) for stage, counts in stages.items()]


def headline(record: dict[str, Any]) -> str:
    """One line: whether all is right, and the counts."""
    counts = ", ".join(f"{number} {name}" for name, number in record["counts"].items())
    if record["counts"]["run"] == 0:
        return f"nothing was checked: {counts}"
    return f"{'all right' if record['ok'] else 'not right'}: {counts}"


def first_line(record: dict[str, Any]) -> str:
    """Where the first divergence is; empty without one."""
    first = record["first"]
    if first is None:
        return ""
    where = f"{first['stage']} of case {first['case']}"
    if first["entry"] is not None:
        where += f", array {first['array']}" if first["array"] else ""
        where += f", entry ({', '.join(map(str, first['entry']))})" if first["entry"] else ""
        where += f" ({first['parameters']})" if first["parameters"] else ""
        where += f": got {first['got']:.9g}, expected {first['expected']:.9g}"
    return f"first divergence: {where} ({first['reason']})"


def print_conformance(record: dict[str, Any]) -> None:
    """Tables on the terminal, by rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(f"{record['name']} ({record['library']}, {record['dtype']})", style="bold"))
    table = Table(box=None, padding=(0, 1))
    found = _found_verdicts(record)
    table.add_column("stage", no_wrap=True)
    for column in (*found, "largest / tolerance"):
        table.add_column(column, justify="right")
    for stage, counts, largest in by_stage(record):
        row = [str(counts.get(verdict, "")) for verdict in found]
        table.add_row(stage, *row, f"{largest:.2g}")
    console.print(table)
    for line in (headline(record), *_found_lines(record), *_diagnosis_lines(record)):
        console.print(Text(line))


def _found_verdicts(record: dict[str, Any]) -> list[str]:
    return [verdict for verdict in _ORDER if any(check["verdict"] == verdict for check in record["checks"])]


def _found_lines(record: dict[str, Any]) -> list[str]:
    """The first divergence, what passed unexpectedly, and remarks on the adapter."""
    passed = record["unexpected passes"]
    unexpected = [f"expected to fail, and right: {', '.join(passed)}"] if passed else []
    return [line for line in (first_line(record), *unexpected, *record["remarks"]) if line]


def _diagnosis_lines(record: dict[str, Any]) -> list[str]:
    diagnosis = record["diagnosis"]
    if diagnosis["status"] == "nothing to explain":
        return []
    if diagnosis["status"] == "none":
        return [f"no cause found: {diagnosis['sentence']}", *(f"  {line}" for line in diagnosis["partial"])]
    said, several = diagnosis["said"], len(diagnosis["said"]) > 1
    lines = [f"cause: one of {len(said)} that these data cannot tell apart:"] if several else []
    for words, declare in zip_longest(said, diagnosis["declare"]):
        lines.append(f"{'- ' if several else 'cause: '}{words}")
        if declare is not None:
            lines.append(f"  if that is meant, declare it: conventions = {json.dumps(declare)}")
    return [*lines, f"evidence: {diagnosis['evidence']}"]


def conformance_markdown(record: dict[str, Any]) -> str:
    """A Markdown page."""
    lines = [f"# {record['name']} ({record['library']}, {record['dtype']})", "", headline(record), ""]
    lines += [*_found_lines(record), *_diagnosis_lines(record)]
    lines += [
        "",
        "| stage | " + " | ".join(_ORDER) + " | largest / tolerance |",
        "|---" * (len(_ORDER) + 2) + "|",
    ]
    for stage, counts, largest in by_stage(record):
        row = " | ".join(str(counts.get(verdict, "")) for verdict in _ORDER)
        lines.append(f"| {stage} | {row} | {largest:.2g} |")
    return "\n".join([*lines, ""])


def conformance_html(record: dict[str, Any]) -> str:
    """One self-contained page: counts, the cause, verdicts by stage, all checks, and where matrices differ."""
    text = html.escape
    verdicts = _found_verdicts(record)
    rows = "".join(
        f"<tr><td>{text(stage)}</td>"
        + "".join(f'<td class="n">{counts.get(verdict, "")}</td>' for verdict in verdicts)
        + f'<td class="n">{largest:.2g}</td></tr>'
        for stage, counts, largest in by_stage(record)
    )
    heads = "".join(f'<th style="color:{_COLOURS[verdict]}">{text(verdict)}</th>' for verdict in verdicts)
    explained = _diagnosis_lines(record) or [record["diagnosis"]["sentence"]]
    diagnosis = "".join(f'<p class="c">{text(line)}</p>' for line in explained)
    found = "".join(f"<p>{text(line)}</p>" for line in _found_lines(record))
    conventions = ", ".join(f"{k}: {v}" for k, v in record["conventions"].items()) or "none declared"
    ok = "#1a7f37" if record["ok"] else "#cf222e"
    drawn = [check for check in record["checks"] if check.get("errors")]
    pictures = "".join(_picture(check) for check in drawn[:_PICTURES])
    if pictures:
        of = f" The first {_PICTURES} of {len(drawn)}." if len(drawn) > _PICTURES else ""
        legend = (
            f"White: agrees; red: too large; blue: too small, by the largest entry; black: not finite.{of}"
        )
        pictures = f"<h2>Where the errors sit</h2><p>{legend}</p>{pictures}"
    # what is wrong first, what was skipped last
    ranked = sorted(record["checks"], key=_rank)
    details = "".join(_check_row(check) for check in ranked)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{text(record["name"])}: conformance</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1f2328 }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .25rem .7rem; border-bottom: 1px solid #d0d7de;
text-align: left; vertical-align: top }} .n {{ text-align: right; font-variant-numeric: tabular-nums }}
.box {{ border-left: 5px solid {ok}; background: #f6f8fa; padding: .5rem 1rem }} figure {{ display: inline-block; margin: .5rem }}
figcaption {{ font-size: 13px }} .c {{ white-space: pre-wrap; margin: .3rem 0 }} td.e {{ font-family: monospace; font-size: 13px }}
</style></head><body>
<h1>{text(record["name"])}</h1>
<p>{text(record["library"])}, {text(record["dtype"])}; conventions: {text(conventions)}</p>
<div class="box"><p><b>{text(headline(record))}</b></p>{found}</div>
<h2>Cause</h2>{diagnosis}
<h2>Verdicts by stage</h2>
<table><tr><th>stage</th>{heads}<th>largest / tolerance</th></tr>{rows}</table>
{pictures}
<h2>All checks</h2>
<table><tr><th>case</th><th>stage</th><th>verdict</th><th>relative error</th><th>difference / tolerance</th>
<th>smallest detectable</th><th>remarks</th></tr>{details}</table>
</body></html>
"""


def _rank(check: dict[str, Any]) -> int:
    return 0 if check["verdict"] == "wrong" or not check["declared"] else 1 + (check["verdict"] == "skipped")


def _check_row(check: dict[str, Any]) -> str:
    numbers = "".join(
        f'<td class="n">{"" if check[key] is None else format(check[key], ".2g")}</td>'
        for key in ("error", "excess", "detectable")
    )
    remark = check["reason"]
    if check["expected_failure"]:
        remark += f" (expected to fail: {check['expected_failure']})"
    colour = _COLOURS[check["verdict"]]
    return (
        f"<tr><td>{html.escape(check['case'])}</td><td>{html.escape(check['stage'])}</td>"
        f'<td style="color:{colour}">{html.escape(check["verdict"])}</td>{numbers}<td>{html.escape(remark)}</td></tr>'
    )


def _picture(check: dict[str, Any]) -> str:
    """The signed errors of a matrix, one square an entry."""
    errors = check["errors"]
    values = [value for row in errors for value in row]
    top = max((abs(value) for value in values if value is not None), default=0.0)
    if top == 0.0 and None not in values:
        return ""
    size = max(3, min(14, 260 // max(len(errors), len(errors[0]))))
    squares = []
    for i, row in enumerate(errors):
        for j, value in enumerate(row):
            if value is None:
                colour = "black"
            elif top == 0.0 or abs(value) < 1e-3 * top:
                continue
            else:
                fade = int(255 * (1.0 - min(1.0, 0.15 + 0.85 * abs(value) / top)))
                colour = f"rgb(255,{fade},{fade})" if value > 0 else f"rgb({fade},{fade},255)"
            squares.append(
                f'<rect x="{j * size}" y="{i * size}" width="{size}" height="{size}" fill="{colour}"/>'
            )
    width, height = size * len(errors[0]), size * len(errors)
    caption = html.escape(f"{check['stage']} of {check['case']}, largest {top:.2g}")
    return (
        f'<figure><svg width="{width}" height="{height}" style="border:1px solid #8c959f">{"".join(squares)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
