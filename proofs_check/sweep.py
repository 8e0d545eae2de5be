"""Sweeps: parameters of claims replaced at each point of a grid, over one or more seeds.

A sweep is a mapping of names to values. Each claim runs at every point of the grid of those names that are
parameters of its own; a claim that has none of them runs once, as it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .claim import Claim
from .context import Run

Sweep = Mapping[str, Sequence[Any]]

_DOUBLING = re.compile(r"(\d+):(\d+)")
_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text", list: "a list"}


class Job(NamedTuple):
    """One claim at one point of a sweep, with one seed."""

    claim: Claim
    run: Run


def parse_sweep(texts: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """A sweep from ``NAME=VALUES`` texts, as on the command line.

    Values stand between commas. ``a:b`` with integers means a, 2a, 4a, ..., b. A value is read as JSON
    (``0.5``, ``true``, ``[64, 256]``), and what is no JSON as a text (``tanh``).

    Raises
    ------
    ValueError
        No name, no values, a value twice, a name twice, a range that doubling does not end.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ValueError(f"sweep must be NAME=VALUES, such as width=64:8192 or eta=0.5,1; got {text!r}")
        if name in found:
            raise ValueError(f"sweep has {name!r} twice; put its values in one list: {name}=A,B")
        read = [value for part in _parts(values) for value in _values(text, part)]
        found[name] = _distinct(name, read)
    return found


def _parts(text: str) -> list[str]:
    """What stands between the commas that are in no bracket and no quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        if not quoted:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _values(text: str, part: str) -> list[Any]:
    if not part:
        raise ValueError(f"sweep has an empty value in {text!r}")
    found = _DOUBLING.fullmatch(part)
    if found:
        return _doubled(*(int(end) for end in found.groups()))
    if re.fullmatch(r"[-+.\deE]*:[-+.\deE:]*", part):
        raise ValueError(f"a range in a sweep is a:b with positive integers, which doubles; got {part!r}")
    try:
        return [json.loads(part, parse_constant=_refuse)]
    except json.JSONDecodeError:
        return [part]


def _refuse(constant: str) -> Any:
    raise ValueError(f"sweep has {constant}, which no parameter can be")


def _doubled(first: int, last: int) -> list[int]:
    values = [first]
    while 0 < values[-1] < last:
        values.append(2 * values[-1])
    if values[-1] != last or first == 0:
        raise ValueError(f"the range {first}:{last} of a sweep must end at {first or 1} doubled some times")
    return values


def _distinct(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if not values:
        raise ValueError(f"sweep over {name!r} needs at least one value")
    texts = [json.dumps(value, allow_nan=False) for value in values]
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        raise ValueError(f"sweep over {name!r} has {', '.join(twice)} twice")
    return tuple(values)


def jobs_of(claims: Sequence[Claim], run: Run, sweep: Sweep, seeds: int) -> tuple[Job, ...]:
    """Every job of a run: claims in order, of each the points in the order of the grid, of each the seeds.

    Raises
    ------
    ValueError
        ``seeds`` below 1; a name that no claim has; a value of another kind than the parameter's own.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be an integer of at least 1, got {seeds!r}")
    known = {name for one in claims for name in one.params}
    for name, values in sweep.items():
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise ValueError(f"no selected claim has a parameter {name!r}; there are: {there}")
        _distinct(name, values)
    return tuple(
        Job(at, dataclasses.replace(run, seed=run.seed + number))
        for one in claims
        for at in _points(one, sweep)
        for number in range(seeds)
    )


def _points(one: Claim, sweep: Sweep) -> list[Claim]:
    names = [name for name in sweep if name in one.params]
    # 1 and 1.0 are one value of a float parameter
    fitted = (_distinct(name, [_fitted(one, name, value) for value in sweep[name]]) for name in names)
    grid = itertools.product(*fitted)
    return [one.at(dict(zip(names, values, strict=True))) for values in grid]


def _fitted(one: Claim, name: str, value: Any) -> Any:
    """The value as the parameter's kind, which is that of its own value: an integer may stand for a float."""
    own = one.params[name]
    if own is None:
        return value
    if type(own) is float and type(value) is int:
        return float(value)
    if type(own) is not type(value):
        kind = _KINDS.get(type(own), f"a {type(own).__name__}")
        raise ValueError(
            f"{name} of claim {one.id!r} is {kind}, as {json.dumps(own)}; got {json.dumps(value)}"
        )
    return value
