"""Changes of the replay as mappings: how several are put together, and what of them concerns a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Knobs = Mapping[str, Any]


def scoped(changes: Knobs) -> dict[str, Any]:
    """The changes, the likelihood that ``only`` names written into every key: ``loss.scale@Gaussian``.

    Put together with others they then do not take these along to where they say nothing.
    """
    only = changes.get("only")
    end = "" if only is None else f"@{only}"
    return {f"{name}{end}": change for name, change in changes.items() if name != "only"}


def combined(*parts: Knobs) -> dict[str, Any]:
    """All changes together. Scales are multiplied; of anything else the last one counts."""
    out: dict[str, Any] = {}
    for part in parts:
        for name, change in scoped(part).items():
            _put(out, name, change)
    return out


def resolved(knobs: Knobs, likelihood: str) -> dict[str, Any]:
    """The changes that concern a case of that likelihood, under their plain names."""
    out: dict[str, Any] = {}
    for name, change in scoped(knobs).items():
        base, _, only = name.partition("@")
        if only in ("", likelihood):
            _put(out, base, change)
    return out


def _put(out: dict[str, Any], name: str, change: Any) -> None:
    scale = name.partition("@")[0].endswith(".scale") and isinstance(change, str)
    out[name] = f"{out[name]} * {change}" if scale and name in out else change
