"""A run's result as JSON, Markdown, HTML, LaTeX, or a table on a terminal.

All but the terminal's are made from one JSON-able record, so they cannot say different things.
"""

from __future__ import annotations

from pathlib import Path

from ..runner import RunResult
from .html import to_html
from .record import FORMAT_VERSION, RESULT_SCHEMA, to_json, to_record
from .tables import to_markdown, to_tex

FORMATS = {".json": to_json, ".md": to_markdown, ".html": to_html, ".tex": to_tex}

__all__ = [
    "FORMATS",
    "FORMAT_VERSION",
    "RESULT_SCHEMA",
    "check_suffix",
    "to_html",
    "to_json",
    "to_markdown",
    "to_record",
    "to_tex",
    "write_report",
]


def check_suffix(path: str | Path) -> str:
    """The path's suffix, if it names a format.

    Raises
    ------
    ValueError
        It does not; the message lists those that do.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"the report's format follows its suffix, one of {', '.join(FORMATS)}; got {path}")
    return suffix


def write_report(result: RunResult, path: str | Path) -> None:
    """Write a run's result; the format follows the suffix (json, md, html, tex).

    Raises
    ------
    ValueError
        Unknown suffix.
    OSError
        The file cannot be written.
    """
    text = FORMATS[check_suffix(path)](to_record(result))
    Path(path).write_text(text, encoding="utf-8")
