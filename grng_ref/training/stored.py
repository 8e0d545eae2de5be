"""Studies in files: read and held against their own runs, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

from .analysis import analyse
from .audit import audit
from .studies import SCHEMA, Protocol

DERIVED = {"analysis": analyse, "audit": audit}
KEYS = ("protocol", "entries", "data", "tuning", "chosen", "runs", "environment", *DERIVED)


def read_study(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A stored study whose answers and audit follow from its stored runs: both are computed again.

    Parameters
    ----------
    path : path
        JSON that `study` gave.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        No JSON, no study of this schema, a study with parts missing, or one whose stored answers or audit
        are not those of its runs; the message says which and where.

    Notes
    -----
    A study that broke its protocol, and whose stored audit says so, is read.
    """
    where = os.fspath(path)
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{where!r} must be JSON: {error}") from error
    if not isinstance(result, dict) or (result.get("kind"), result.get("schema")) != ("study", SCHEMA):
        raise ValueError(f"{where!r} must be the JSON of a study, schema {SCHEMA}")
    missing = [key for key in KEYS if key not in result]
    if missing:
        raise ValueError(f"{where!r} must be a whole study, it lacks {', '.join(missing)}")
    try:
        Protocol.of(result["protocol"])
        derived = {name: to_json_and_back(function(result)) for name, function in DERIVED.items()}
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{where!r} must be a whole study: {type(error).__name__}: {error}") from error
    found = [text for name, value in derived.items() for text in _unlike(result[name], value, name)]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValueError(f"{where!r} stores what does not follow from its runs: {found[0]}{more}")
    return result | derived


def to_json_and_back(value: Any) -> Any:
    """As it comes out of a JSON file; ValueError where a number is not finite."""
    return json.loads(json.dumps(value, allow_nan=False))


def probe(path: Path) -> None:
    """Raise an OSError if `replace_file` could not write there."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory")
    temporary = _temporary(path)
    temporary.open("xb").close()
    temporary.unlink()


def replace_file(path: Path, text: str) -> None:
    """Write a file whole, or leave the old one as it was."""
    temporary = _temporary(path)
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path.resolve())  # a link stays a link
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _unlike(stored: Any, again: Any, where: str) -> list[str]:
    """Where two values differ; numbers by more than another machine's last digits."""
    if isinstance(stored, dict) and isinstance(again, dict) and stored.keys() == again.keys():
        return [text for key in again for text in _unlike(stored[key], again[key], f"{where}.{key}")]
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        pairs = enumerate(zip(stored, again, strict=True))
        return [text for i, (a, b) in pairs for text in _unlike(a, b, f"{where}[{i}]")]
    if isinstance(stored, float) and isinstance(again, float):
        same = math.isclose(stored, again, rel_tol=1e-9, abs_tol=1e-12)
    else:
        same = stored == again
    return [] if same else [f"{where} is {_short(stored)}, the runs give {_short(again)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
