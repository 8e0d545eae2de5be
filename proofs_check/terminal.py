"""What a run looks like on a terminal: progress while it runs, then the verdict table. Needs rich."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .report.tables import COLUMNS, NUMERIC, row, summary
from .runner import ClaimResult

_PIPED_WIDTH = 200  # a pipe has no width, and wrapped ids cannot be searched for

_GAP = 2
_DROPPED_FIRST = ("margin", "expected", "seconds", "threshold", "measured")  # where a terminal is narrow


def console(stream: TextIO) -> Console:
    """A console that writes control characters to terminals only, whatever the environment says."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(
        file=stream, force_terminal=False, no_color=True, width=_PIPED_WIDTH, highlight=False, soft_wrap=True
    )


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[ClaimResult], None]]:
    """A progress bar on standard error, if that is a terminal; yields what to call with each result."""
    if not sys.stderr.isatty():
        yield lambda result: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("checking", total=total)
        yield lambda result: bar.update(task, advance=1, description=result.claim.id)


def print_result(record: dict[str, Any], stream: TextIO) -> None:
    """The verdict table, what went wrong in full, and the summary as the last line."""
    out = console(stream)
    rows = [dict(zip(COLUMNS, row(claim), strict=True)) for claim in record["claims"]]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    kept = _fitting(rows, out.width)
    for name in kept:
        table.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
    for cells, claim in zip(rows, record["claims"], strict=True):
        style = "" if claim["ok"] else "red"
        table.add_row(*(Text(cells[name], style=style) for name in kept))
    out.print(table)
    for claim in record["claims"]:
        if not claim["ok"]:
            out.print(Text("\n" + "\n".join(_failure(claim))))
    out.print(Text("\n" + summary(record), style="bold green" if record["ok"] else "bold red"))


def print_claims(rows: Sequence[tuple[str, ...]], head: tuple[str, ...], stream: TextIO) -> None:
    """A plain table, for ``list``."""
    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for cells in rows:
        table.add_row(*map(Text, cells))
    console(stream).print(table)


def _fitting(rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns that fit side by side: rather none of a column than a number or an id cut short."""
    kept = list(COLUMNS)
    for dropped in _DROPPED_FIRST:
        needed = sum(max(map(len, (name, *(cells[name] for cells in rows)))) + _GAP for name in kept)
        if needed - _GAP <= width:
            break
        kept.remove(dropped)
    return kept


def _failure(claim: dict[str, Any]) -> list[str]:
    lines = [f"{claim['id']}: {claim['statement']}", *(f"  {problem}" for problem in claim["problems"])]
    for name in ("finding", "control"):
        if claim[name] is not None:
            lines.append(f"  {name}: {claim[name]['detail']}")
            if claim[name]["witness"] is not None:
                lines.append(f"  {name}'s witness: {claim[name]['witness']}")
    if claim["error"]:
        lines += [f"  {line}" for line in claim["error"].rstrip().splitlines()]
    return lines
