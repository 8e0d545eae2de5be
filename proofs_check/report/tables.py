"""The verdict table in Markdown and LaTeX, from a run's record."""

from __future__ import annotations

import json
from typing import Any

from ..findings import VERDICT_LABELS

COLUMNS = ("claim", "verdict", "expected", "measured", "threshold", "margin", "control", "seconds")
NUMERIC = (*COLUMNS[3:6], *COLUMNS[7:], "runs", *VERDICT_LABELS, "error", "as expected", "least margin")


SWEEP_COLUMNS = ("claim", "point", "runs", *VERDICT_LABELS, "error", "as expected", "least margin")


def is_sweep(record: dict[str, Any]) -> bool:
    """Whether claims ran more than once: then tables count verdicts by point."""
    return bool(record["sweep"]) or record["seeds"] > 1


def columns(record: dict[str, Any]) -> tuple[str, ...]:
    """The head of the record's table."""
    return SWEEP_COLUMNS if is_sweep(record) else COLUMNS


def rows(record: dict[str, Any]) -> list[tuple[tuple[str, ...], bool]]:
    """The cells of each row, and whether all that it counts is as expected."""
    if not is_sweep(record):
        return [(row(claim), claim["ok"]) for claim in record["claims"]]
    return [(_counted_row(group), all(claim["ok"] for claim in group)) for group in points(record)]


def points(record: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The runs of each claim at each point, in order; they differ by their seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for claim in record["claims"]:
        groups.setdefault((claim["id"], json.dumps(claim["point"])), []).append(claim)
    return list(groups.values())


def point_text(point: dict[str, Any]) -> str:
    """``width=64, eta=0.5``; "-" for a claim as it is."""
    return ", ".join(f"{name}={_value(value)}" for name, value in point.items()) or "-"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _counted_row(group: list[dict[str, Any]]) -> tuple[str, ...]:
    verdicts = [claim["verdict"] for claim in group]
    margins = [claim["finding"]["margin"] for claim in group if claim["finding"]]
    numbers = [float(margin) for margin in margins]
    least = min(numbers, key=lambda value: (value == value, value)) if numbers else None  # NaN comes first
    return (
        group[0]["id"],
        point_text(group[0]["point"]),
        str(len(group)),
        *(str(verdicts.count(name) or "") for name in (*VERDICT_LABELS, "error")),
        str(sum(claim["ok"] for claim in group)),
        number(least),
    )


def label(verdict: str) -> str:
    """A verdict in words: "holds" says on what."""
    return VERDICT_LABELS.get(verdict, verdict)


def number(value: float | str | None) -> str:
    """Three digits; "-" where there is no number (an error)."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}"


def row(claim: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one claim, in the order of `COLUMNS`."""
    finding = claim["finding"] or {}
    return (
        claim["id"],
        label(claim["verdict"]) if claim["ok"] else f"FAILED: {label(claim['verdict'])}",
        label(claim["expected"]),
        *(number(finding.get(name)) for name in ("measured", "threshold", "margin")),
        control_word(claim),
        f"{claim['seconds']:.2f}",
    )


def control_word(claim: dict[str, Any]) -> str:
    """Caught, missed or missing; "-" where an error left nothing to judge."""
    if claim["error"] is not None:
        return "-"
    if claim["control"] is None:
        return "missing"
    return "caught" if claim["control_caught"] else "NOT CAUGHT"


def summary(record: dict[str, Any]) -> str:
    """One line: how many claims are as expected, under which settings, in how long."""
    counts, settings = record["counts"], record["settings"]
    verdicts = [claim["verdict"] for claim in record["claims"]]
    kinds = [_counted(verdicts.count(v), v) for v in (*VERDICT_LABELS, "error") if v in verdicts]
    place = f"{settings['backend']} {settings['dtype']}"
    place += f" on {settings['device']}" if settings["device"] else ""
    outcome = "as expected" if record["ok"] else "NOT AS EXPECTED"
    outcome = f"INTERRUPTED, {outcome}" if record["interrupted"] else outcome
    what = "claims"
    if is_sweep(record):
        what = f"runs of {counts['claims']} claim" + "s" * (counts["claims"] != 1)
    return (
        f"{outcome}: {counts['as_expected']} of {counts['runs']} {what}"
        f"{' (' + ', '.join(kinds) + ')' if kinds else ''}; {place}, {_seeds(record)}; "
        f"{record['seconds']:.1f} s"
    )


def _seeds(record: dict[str, Any]) -> str:
    first, count = record["settings"]["seed"], record["seeds"]
    return f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"


def failures(record: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """What is not as expected, to be shown in full, and how many more: in a sweep the first five are."""
    failed = [claim for claim in record["claims"] if not claim["ok"]]
    shown = failed[:5] if is_sweep(record) else failed
    return shown, len(failed) - len(shown)


def name_of(claim: dict[str, Any], record: dict[str, Any]) -> str:
    """The claim's id; in a sweep with its point and seed."""
    if not is_sweep(record):
        return str(claim["id"])
    return f"{claim['id']} at {point_text(claim['point'])}, seed {claim['seed']}"


def _counted(count: int, verdict: str) -> str:
    """One verdict with its count, in the singular or the plural."""
    many = {"holds": "hold on the sample", "error": "errors"}
    return f"{count} {many.get(verdict, label(verdict)) if count != 1 else label(verdict)}"


def to_markdown(record: dict[str, Any]) -> str:
    """A pipe table with one row a claim or point, then what was checked, how, and what went wrong."""
    lines = ["# proofs-check", "", _markdown(summary(record)), "", *markdown_table(record).splitlines()]
    lines += ["", "## Statements", ""]
    if not is_sweep(record):
        for claim in record["claims"]:
            lines += [_statement(claim), *_details(claim)]
        return "\n".join(lines) + "\n"
    lines += [_statement(claim) for claim in {claim["id"]: claim for claim in record["claims"]}.values()]
    shown, more = failures(record)
    if shown:
        lines += ["", "## Not as expected", ""]
        for claim in shown:
            lines += [f"- **{_markdown(name_of(claim, record))}**", *_details(claim)]
        lines += [f"- and {more} more"] * bool(more)
    return "\n".join(lines) + "\n"


def markdown_table(record: dict[str, Any]) -> str:
    """The pipe table alone."""
    head = columns(record)
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join(" ---: " if name in NUMERIC else " --- " for name in head) + "|")
    lines += ["| " + " | ".join(_markdown(cell) for cell in cells) + " |" for cells, _ in rows(record)]
    return "\n".join(lines) + "\n"


def _statement(claim: dict[str, Any]) -> str:
    return (
        f"- **{_markdown(claim['id'])}** ({claim['kind']}): {_markdown(claim['statement'])} "
        f"(source: {_markdown(claim['source'])})"
    )


def _details(claim: dict[str, Any]) -> list[str]:
    details = [*claim["problems"], *evidence("finding", claim["finding"])]
    details += evidence("control", claim["control"])
    return [f"  - {_markdown(text)}" for text in details]


def evidence(name: str, finding: dict[str, Any] | None) -> list[str]:
    """What a finding rests on, one text each: what was run, its threshold's reason, certificate, witness."""
    if finding is None:
        return []
    parts = [(name, finding["detail"]), ("threshold", finding["reason"])]
    parts += [("certificate", finding["certificate"])]
    if finding["witness"] is not None:
        parts.append(("witness", json.dumps(finding["witness"])))
    return [f"{key}: {text}" for key, text in parts if text]


def to_tex(record: dict[str, Any]) -> str:
    r"""A ``tabular`` to ``\input``; it needs the package booktabs."""
    names = columns(record)
    head = " & ".join(names)
    lines = [
        "% made by proofs-check; needs \\usepackage{booktabs}",
        f"% {' '.join(summary(record).split())}",
        "\\begin{tabular}{" + "".join("r" if name in NUMERIC else "l" for name in names) + "}",
        "\\toprule",
        head + " \\\\",
        "\\midrule",
        *(" & ".join(_tex(cell) for cell in cells) + " \\\\" for cells, _ in rows(record)),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    """Plain text in Markdown: one line, with every character of its syntax escaped."""
    escaped = "".join("\\" + c if c in "\\`*_{}[]<>#|~$&" else c for c in text)
    return " ".join(escaped.split())


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _tex(text: str) -> str:
    """Plain text in LaTeX: one line, special characters spelled out."""
    return " ".join("".join(_TEX.get(c, c) for c in text).split())
