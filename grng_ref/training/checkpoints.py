"""Checkpoints: the whole state of a run in one file, replaced atomically."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from ..arrays import Array, backend_name, device_of, namespace
from ..io import load, save
from .identity import differences
from .records import writable


class Position(NamedTuple):
    """Where a run stands: all that the next step depends on, and the sums so far."""

    theta: Array
    state: Any  #: of the optimizer
    step: int  #: steps taken
    passes: int | None  #: since the start, see `cost`
    seconds: float  #: spent in steps since the start


def write_checkpoint(path: Path, position: Position, identity: dict[str, Any]) -> None:
    """Write the file; one that is there stays valid until the new one is whole."""
    save(path, {"position": position, "identity": json.dumps(identity)})


def read_checkpoint(path: Path, theta: Array, identity: dict[str, Any]) -> Position:
    """The position, on theta's library and device.

    Raises
    ------
    ValueError
        The file is damaged, no checkpoint, or one of another run; the message says what differs.
    """
    try:
        saved = load(path, backend=backend_name(namespace(theta=theta)), device=device_of(theta))
    except ValueError as error:
        raise ValueError(f"checkpoint must be a whole file that fit wrote: {error}") from error
    if not isinstance(saved, dict) or set(saved) != {"position", "identity"}:
        raise ValueError(f"checkpoint must be a file that fit wrote, got {str(path)!r}")
    found = differences(json.loads(saved["identity"]), identity)
    if found:
        raise ValueError(f"checkpoint must be of this same run, got another one: {'; '.join(found)}")
    return saved["position"]


def check_writable(path: Path) -> None:
    """Raise an OSError now if a save, which writes a second file beside it, would raise one later."""
    with writable("checkpoint", path):
        beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        beside.touch(exist_ok=False)
        beside.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote this checkpoint."""
    leftover = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.tmp")
    for file in path.parent.iterdir():
        if leftover.fullmatch(file.name):
            file.unlink(missing_ok=True)
