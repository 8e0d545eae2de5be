"""Messages about a name that is not one of those that are known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_CLOSE = 0.8  # of two names where one is taken for a slip of the other


def nearest(name: Any, known: Iterable[str], cutoff: float = _CLOSE) -> str | None:
    """The known name that is most like it, or None where none is near."""
    lower = {one.lower(): one for one in known}
    found = get_close_matches(str(name).lower(), list(lower), n=1, cutoff=cutoff)
    return lower[found[0]] if found else None


def unknown(where: str, name: Any, known: Iterable[str]) -> str:
    """``<where> 'gradeint'; the nearest known name is 'gradient'``, or all names where none is near."""
    names = list(known)
    near = nearest(name, names, 0.6)
    if near is not None:
        return f"{where} {name!r}, which is not known; the nearest known name is {near!r}"
    listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    return f"{where} {name!r}, which is not known; must be one of {listed}"
