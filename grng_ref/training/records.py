"""Records of a run: one JSON object a line, written as it goes, cut back where a run is resumed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .identity import differences

SCHEMA = 1
"""Version of the form of the lines; see docs/training.md."""


class Record(NamedTuple):
    """What a run looks like after ``step`` steps, and what the last of these steps did; plain numbers.

    None stands for what there is not: no step before the first record, no validation set, no classes.
    """

    step: int  #: steps taken
    epoch: float  #: passes over the training examples
    loss: float  #: mean loss of all training examples, at the parameters after the step
    accuracy: float | None  #: of all training examples
    validation_loss: float | None
    validation_accuracy: float | None
    batch_loss: float | None  #: mean loss of the batch before the step
    gradient_norm: float | None  #: of the batch before the step
    damping: float | None  #: total damping of the solve, gradient regularization included
    step_norm: float | None
    solve_status: str | None  #: None where the optimizer solves no linear system
    clipped: float | None  #: fraction of clipped entries
    log_marginal: float | None  #: of the batch's labels under a belief
    cosine: float | None  #: of the step with the exact damped natural step
    pearson: float | None  #: correlation with it over the entries
    gradient_evaluations: float | None  #: since the start; None where the optimizer does not say
    seconds: float  #: spent in steps since the start, across resumptions


def header(identity: dict[str, Any]) -> dict[str, Any]:
    """The fields of the first line."""
    return {"schema": SCHEMA, **identity}


def to_line(kind: str, fields: dict[str, Any]) -> str:
    """One line of a records file; a number that is not finite is refused."""
    return json.dumps({"kind": kind, **fields}, allow_nan=False) + "\n"


class RecordFile:
    """Appends lines to a file, or does nothing without a path; a context, which closes the file."""

    def __init__(self, path: Path | None, *, append: bool) -> None:
        with writable("records", path):
            self._file = None if path is None else path.open("ab" if append else "wb")

    def write(self, kind: str, fields: dict[str, Any]) -> None:
        """Write one line, whole, to the system."""
        if self._file is not None:
            self._file.write(to_line(kind, fields).encode())
            self._file.flush()

    def sync(self) -> None:
        """Return when the lines are on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


class Records(NamedTuple):
    """The content of a records file."""

    run: dict[str, Any]  #: what the run was: optimizer, problem, data, batches
    records: tuple[Record, ...]
    status: str | None  #: None of a run that was killed or still goes on


def read_records(path: str | os.PathLike[str]) -> Records:
    """Read a records file; a last line without its end, which a killed run may leave, is left out.

    Parameters
    ----------
    path : path

    Raises
    ------
    TypeError
        Not a path.
    FileNotFoundError
        No such file.
    ValueError
        A line that is none of this schema; the message gives its number.
    """
    run, records, status = None, [], None
    for number, (_, line) in enumerate(_lines(checked_path("path", path).read_bytes()), 1):
        kind, fields = parse_line(line, f"path {os.fspath(path)!r}, line {number}")
        if (kind == "run") != (number == 1):
            raise ValueError(f"path {os.fspath(path)!r} must begin with its one line of kind 'run'")
        if kind == "run":
            run = fields
        elif kind == "record":
            records.append(Record(**fields))
        else:
            status = str(fields["status"])
    if run is None:
        raise ValueError(f"path {os.fspath(path)!r} must begin with its one line of kind 'run', got none")
    return Records(run, tuple(records), status)


@contextlib.contextmanager
def writable(name: str, path: Path | None) -> Iterator[None]:
    """Name the argument in the OSError of a path that cannot be written."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"{name} must be a path that can be written, got {str(path)!r}: {error.strerror}"
        ) from error


def checked_path(name: str, value: Any) -> Path:
    """The argument of that name as a path, or a TypeError."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a string or a path, got {type(value).__name__}")
    return Path(value)


def parse_line(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    """Kind and fields of a line, or a ValueError that says where it stands."""
    try:
        fields = json.loads(line)
        kind = fields.pop("kind")
        wanted = {"run": {"schema"}, "record": set(Record._fields), "end": {"status"}}[kind]
        good = set(fields) == wanted if kind == "record" else wanted <= set(fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good or (kind == "run" and fields["schema"] != SCHEMA):
        raise ValueError(f"{where} must be a line of schema {SCHEMA}, got {line[:80]!r}")
    return kind, fields


def check_unfinished_start(path: Path, identity: dict[str, Any]) -> None:
    """Refuse to begin anew over a file, unless it is what this run leaves if killed before its checkpoint.

    That is the first line and the record of step 0, or a part of them.

    Raises
    ------
    FileExistsError
        The file holds anything else.
    """
    first = to_line("run", header(identity)).encode()
    content = path.read_bytes()
    if not first.startswith(content) and not (content.startswith(first) and content.count(b"\n") <= 2):
        raise FileExistsError(
            f"records must be a new file where there is no checkpoint, got {str(path)!r}, which holds "
            "something else than the start of this run"
        )


def cut_back(path: Path, expected: Iterable[int], identity: dict[str, Any]) -> tuple[Record, ...]:
    """Cut the file behind the records of the expected steps, and return them.

    What stands behind belongs to steps after the checkpoint, which the resumed run takes again, or is the
    end that an earlier run wrote.

    Raises
    ------
    ValueError
        The records are those of another run, one is missing, or the file is damaged before the last of them.
    """
    lines = _lines(path.read_bytes())
    name = f"records {str(path)!r}"
    kind, fields = parse_line(lines[0][1], f"{name}, line 1") if lines else ("", {})
    if kind != "run":
        raise ValueError(f"{name} must begin with the line of kind 'run' that fit writes, got another file")
    found = differences(fields, header(identity))
    if found:
        raise ValueError(f"records must be of this same run, got those of another one: {'; '.join(found)}")
    end, kept = lines[0][0], []
    wanted = list(expected)
    for step, (number, (stop, line)) in zip(wanted, enumerate(lines[1:], 2), strict=False):
        kind, fields = parse_line(line, f"{name}, line {number}")
        if kind != "record" or fields["step"] != step:
            break
        kept.append(Record(**fields))
        end = stop
    if len(kept) != len(wanted):
        raise ValueError(
            f"{name} must hold the record of step {wanted[len(kept)]}, got none: lines are missing, or the "
            "run was meant to be longer and has no record at this last step"
        )
    with path.open("r+b") as file:
        file.truncate(end)
    return tuple(kept)


def _lines(content: bytes) -> list[tuple[int, bytes]]:
    """The whole lines, each with the offset of its end."""
    lines, end = [], 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        if line.endswith(b"\n"):
            lines.append((end, line))
    return lines
