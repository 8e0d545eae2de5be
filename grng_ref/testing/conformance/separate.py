"""Which hypotheses a set of cases tells apart."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .hypotheses import HYPOTHESES, Hypothesis
from .replay import Replay
from .verdicts import comparable
from .view import NotApplicable, perturbed

_AFTER = {"layout", "stage.scale", "stage.transposed", "pair"}  # what is done to finished arrays
_SAME = 1e-6  # relative difference from which predictions count as different
_REFUSED = (NotApplicable, ValueError, IndexError, ZeroDivisionError, OverflowError)


class Separation(NamedTuple):
    """How many hypotheses have an effect, their pairs, and how many of these differ on a case."""

    effective: int
    pairs: int
    told_apart: int


class _Watched(dict[str, Any]):
    """No changes, and which of them were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return default

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return False


class _Case:
    """The predictions of one case: the unchanged run is kept, and what does not differ from it is not run."""

    def __init__(self, case: Any) -> None:
        self.case, watched = case, _Watched()
        self.plain = Replay(case)
        self.plain.knobs = watched
        self.plain.problem = perturbed(self.plain.original, watched, self.plain.noise)
        self.unchanged = self._numbers(self.plain)
        self.asked = watched.asked | {"read_layout"}

    def numbers(self, knobs: Mapping[str, Any]) -> Any:
        """The predictions under a change; None where it is not applicable."""
        keys = set(knobs) - {"only"}
        if not keys & self.asked:
            return self.unchanged  # nothing in the run asks for what is changed
        if keys <= _AFTER:
            run = copy.copy(self.plain)  # with the quantities that are known already
            run.knobs = dict(knobs)
            return self._numbers(run)
        try:
            return self._numbers(Replay(self.case, knobs))
        except _REFUSED:
            return None

    def _numbers(self, run: Replay) -> tuple[Any, ...]:
        """Two numbers an array, enough to tell arrays apart for seeded weights; by stage."""
        found: list[tuple[float, ...] | None] = []
        for stage in self.case.stages:
            try:
                arrays = comparable(stage, run.stage(stage), self.case.x.shape[0])
            except _REFUSED:
                found.append(None)
                continue
            found.append(tuple(number for array in arrays for number in _summary(array)))
        return tuple(found)


def _summary(array: Any) -> tuple[float, float, float]:
    weights = np.random.default_rng(array.size).standard_normal(array.shape)
    return float(array.size), float(np.linalg.norm(array)), float(np.sum(weights * array))


def separation(
    cases: Iterable[Any], hypotheses: Iterable[Hypothesis] = HYPOTHESES
) -> tuple[Separation, list[tuple[str, ...]]]:
    """The counts, and the groups of hypotheses that no case tells apart.

    Two hypotheses are told apart where their predictions differ by a relative 1e-6 in any stage of any case,
    or where one of them says nothing of a stage. Groups are refined case by case: a hypothesis that is alone
    is not run any more.
    """
    alone = Hypothesis("", "nothing is changed", {})
    groups: list[list[Hypothesis]] = [[alone, *hypotheses]]
    with np.errstate(all="ignore"):
        for case in sorted(cases, key=lambda case: case.theta.shape[0] * case.steps):
            at = _Case(case)
            groups = [part for group in groups for part in (_split(at, group) if len(group) > 1 else [group])]
    alike = [[one.id for one in group] for group in groups if alone not in group]
    n = sum(len(group) for group in alike)
    pairs = n * (n - 1) // 2
    together = sum(len(group) * (len(group) - 1) // 2 for group in alike)
    return Separation(n, pairs, pairs - together), [tuple(group) for group in alike if len(group) > 1]


def _split(at: _Case, group: list[Hypothesis]) -> list[list[Hypothesis]]:
    """The group by what its members predict for a case."""
    parts: list[tuple[Any, list[Hypothesis]]] = []
    for hypothesis in group:
        numbers = at.numbers(hypothesis.knobs)
        for known, part in parts:
            if _same(known, numbers):
                part.append(hypothesis)
                break
        else:
            parts.append((numbers, [hypothesis]))
    return [part for _, part in parts]


def _same(one: Any, two: Any) -> bool:
    if one is two or one is None or two is None:
        return one is two
    for a, b in zip(one, two, strict=True):
        if (a is None) != (b is None):
            return False
        if a is not None and not (
            len(a) == len(b) and np.allclose(a, b, rtol=_SAME, atol=1e-12, equal_nan=True)
        ):
            return False
    return True
