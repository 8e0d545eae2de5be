"""The verdict table in Markdown and LaTeX, from a run's record."""

from __future__ import annotations

import json
from typing import Any

from ..findings import VERDICT_LABELS

COLUMNS = ("claim", "verdict", "expected", "measured", "threshold", "margin", "control", "seconds")
NUMERIC = COLUMNS[3:6] + COLUMNS[7:]


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
    return (
        f"{outcome}: {counts['as_expected']} of {counts['claims']} claims"
        f"{' (' + ', '.join(kinds) + ')' if kinds else ''}; {place}, seed {settings['seed']}; "
        f"{record['seconds']:.1f} s"
    )


def _counted(count: int, verdict: str) -> str:
    """One verdict with its count, in the singular or the plural."""
    many = {"holds": "hold on the sample", "error": "errors"}
    return f"{count} {many.get(verdict, label(verdict)) if count != 1 else label(verdict)}"


def to_markdown(record: dict[str, Any]) -> str:
    """A pipe table with one row a claim, then what was checked, how, and what went wrong."""
    lines = ["# proofs-check", "", _markdown(summary(record)), ""]
    lines.append("| " + " | ".join(COLUMNS) + " |")
    lines.append("|" + "|".join(" ---: " if name in NUMERIC else " --- " for name in COLUMNS) + "|")
    for claim in record["claims"]:
        lines.append("| " + " | ".join(_markdown(cell) for cell in row(claim)) + " |")
    lines += ["", "## Statements", ""]
    for claim in record["claims"]:
        lines.append(
            f"- **{_markdown(claim['id'])}** ({claim['kind']}): {_markdown(claim['statement'])} "
            f"(source: {_markdown(claim['source'])})"
        )
        details = [*claim["problems"], *evidence("finding", claim["finding"])]
        details += evidence("control", claim["control"])
        lines += [f"  - {_markdown(text)}" for text in details]
    return "\n".join(lines) + "\n"


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
    head = " & ".join(COLUMNS)
    lines = [
        "% made by proofs-check; needs \\usepackage{booktabs}",
        f"% {' '.join(summary(record).split())}",
        "\\begin{tabular}{" + "".join("r" if name in NUMERIC else "l" for name in COLUMNS) + "}",
        "\\toprule",
        head + " \\\\",
        "\\midrule",
        *(" & ".join(_tex(cell) for cell in row(claim)) + " \\\\" for claim in record["claims"]),
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
