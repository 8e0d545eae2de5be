"""What a run looks like on a terminal: progress while it runs, then the verdict table. Needs rich."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TextIO

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .claim import Claim
from .report.tables import NUMERIC, columns, evidence, failures, name_of, rows, summary
from .runner import ClaimResult

_PIPED_WIDTH = 200  # a pipe has no width, and wrapped ids cannot be searched for

_GAP = 2
_DROPPED_FIRST = (
    "margin",
    "expected",
    "seconds",
    "threshold",
    "measured",
    "least margin",
)  # where a terminal is narrow


def console(stream: TextIO) -> Console:
    """A console that writes control characters to terminals only, whatever the environment says."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(
        file=stream, force_terminal=False, no_color=True, width=_PIPED_WIDTH, highlight=False, soft_wrap=True
    )


class Progress(Protocol):
    """What `progress` yields."""

    def start(self, claim: Claim) -> None:
        """A claim begins to run."""

    def finish(self, result: ClaimResult) -> None:
        """A claim has run."""


class _Silent:
    def start(self, claim: Claim) -> None: ...

    def finish(self, result: ClaimResult) -> None: ...


class _Bar:
    """A bar that names the claims that are running."""

    def __init__(self, bar: rich.progress.Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)
        self._running: list[str] = []

    def start(self, claim: Claim) -> None:
        self._running.append(claim.id)
        self._bar.update(self._task, description=", ".join(self._running), refresh=True)

    def finish(self, result: ClaimResult) -> None:
        self._running.remove(result.claim.id)
        self._bar.update(self._task, advance=1, description=", ".join(self._running))


@contextlib.contextmanager
def progress(total: int) -> Iterator[Progress]:
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with rich.progress.Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        yield _Bar(bar, total)


def print_result(record: dict[str, Any], stream: TextIO) -> None:
    """The verdict table, what went wrong in full, and the summary as the last line."""
    out = console(stream)
    head = columns(record)
    cells = [(dict(zip(head, one, strict=True)), ok) for one, ok in rows(record)]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    kept = _fitting(head, [one for one, _ in cells], out.width)
    for name in kept:
        table.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
    for one, ok in cells:
        table.add_row(*(Text(one[name], style="" if ok else "red") for name in kept))
    out.print(table)
    shown, more = failures(record)
    for claim in shown:
        out.print(Text("\n" + "\n".join(_failure(name_of(claim, record), claim))))
    if more:
        out.print(Text(f"\nand {more} more; a report (--out) in JSON has them all"))
    out.print(Text("\n" + summary(record), style="bold green" if record["ok"] else "bold red"))


def print_claims(rows: Sequence[tuple[str, ...]], head: tuple[str, ...], stream: TextIO) -> None:
    """A plain table, for ``list``; the last column wraps, the others are never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, no_wrap=name != head[-1], overflow="fold")
    for cells in rows:
        table.add_row(*map(Text, cells))
    console(stream).print(table)


def _fitting(head: Sequence[str], rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns that fit side by side: rather none of a column than a number or an id cut short."""
    kept = list(head)
    for dropped in (name for name in _DROPPED_FIRST if name in head):
        needed = sum(max(map(len, (name, *(cells[name] for cells in rows)))) + _GAP for name in kept)
        if needed - _GAP <= width:
            break
        kept.remove(dropped)
    return kept


def _failure(name: str, claim: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {claim['statement']}", *(f"  {problem}" for problem in claim["problems"])]
    for part in ("finding", "control"):
        lines += [f"  {text}" for text in evidence(part, claim[part])]
    if claim["error"]:
        lines += [f"  {line}" for line in claim["error"].rstrip().splitlines()]
    return lines
