"""Which hypotheses a set of cases tells apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .hypotheses import HYPOTHESES
from .replay import Replay
from .verdicts import comparable
from .view import NotApplicable


class Separation(NamedTuple):
    """How many hypotheses have an effect, their pairs, and how many of these differ on a case."""

    effective: int
    pairs: int
    told_apart: int


def separation(cases: Iterable[Any]) -> tuple[Separation, list[tuple[str, ...]]]:
    """The counts, and the groups of hypotheses that no case tells apart.

    Two hypotheses are told apart where their predictions differ by a relative 1e-6 in any stage of any case.
    """
    cases = tuple(cases)
    signatures = {h.id: _signature(h.knobs, cases) for h in HYPOTHESES}
    plain = _signature({}, cases)
    effective = {name: s for name, s in signatures.items() if not _same(s, plain)}
    groups: list[list[str]] = []
    for name, signature in effective.items():
        for group in groups:
            if _same(effective[group[0]], signature):
                group.append(name)
                break
        else:
            groups.append([name])
    n = len(effective)
    alike = sum(len(g) * (len(g) - 1) // 2 for g in groups)
    pairs = n * (n - 1) // 2
    return Separation(n, pairs, pairs - alike), [tuple(g) for g in groups if len(g) > 1]


def _signature(knobs: Any, cases: Any) -> tuple[Any, ...]:
    """Two numbers an array: enough to tell arrays apart, for seeded weights."""
    out: list[float] = []
    for case in cases:
        try:
            replay = Replay(case, knobs)
        except NotApplicable:
            out.append(np.nan)
            continue
        for stage in case.stages:
            try:
                arrays = comparable(stage, replay.stage(stage), case.x.shape[0])
            except (NotApplicable, ValueError, IndexError, ZeroDivisionError, OverflowError):
                out.append(np.nan)
                continue
            for array in arrays:
                weights = np.random.default_rng(array.size).standard_normal(array.shape)
                out += [float(array.size), float(np.linalg.norm(array)), float(np.sum(weights * array))]
    return tuple(out)


def _same(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return len(one) == len(two) and np.allclose(one, two, rtol=1e-6, atol=1e-12, equal_nan=True)
