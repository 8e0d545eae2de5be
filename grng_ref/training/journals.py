"""The runs of a study as they finish, in a file: what an interrupted study need not do again."""

from __future__ import annotations

import json
import os
from typing import Any

from .records import checked_path

Run = dict[str, Any]


class Journal:
    """JSON lines: a header, then ``{"key": ..., "run": ...}`` for each run; without a path, nothing is kept.

    Parameters
    ----------
    path : path, optional
        A new file, or one with the same header, whose runs are taken over; a last line without its end,
        which a killed study leaves, is cut off.
    header : dict
        What the runs depend on.

    Raises
    ------
    ValueError
        The file has another header.
    OSError
        It cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, header: dict[str, Any]) -> None:
        self._runs: dict[str, Run] = {}
        self._file = None
        if path is None:
            return
        path = checked_path("journal", path)
        first = _line(header)
        content = path.read_bytes() if path.exists() else b""
        lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        if content and (not lines or lines[0] != first):
            raise ValueError(
                f"journal must be a new file or that of this same study in the same environment, got "
                f"{str(path)!r}, which is neither: remove it to begin anew"
            )
        for line in lines[1:]:
            try:
                kept = json.loads(line)
                self._runs[json.dumps(kept["key"])] = kept["run"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"journal must hold one finished run a line, got {str(path)!r} with {line[:60]!r}: "
                    "remove it to begin anew"
                ) from error
        self._file = path.open("r+b" if content else "xb")
        self._file.truncate(sum(map(len, lines)))
        self._file.seek(0, os.SEEK_END)
        if not lines:
            self._file.write(first)

    def __contains__(self, key: Any) -> bool:
        return json.dumps(key) in self._runs

    def __getitem__(self, key: Any) -> Run:
        return self._runs[json.dumps(key)]

    def keep(self, key: Any, run: Run) -> Run:
        """The run, after it is written."""
        if self._file is not None:
            self._file.write(_line({"key": key, "run": run}))
            self._file.flush()
        return run

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"
