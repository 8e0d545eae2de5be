"""Which named change of the reference gives what was submitted, over all cases together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .hypotheses import HYPOTHESES, Hypothesis
from .replay import Replay
from .report import Diagnosis
from .verdicts import comparable, compare, sensitivity, tolerances
from .view import NotApplicable

_NEAR = 1e-2  # a relative difference beyond it is no matter of roundings; below it the tolerance decides
_TRIALS = 3  # failing cases on which every hypothesis is tried, before the survivors meet all cases
_SEEN = 10.0  # an effect must be this many tolerances to count as seen


@dataclass(frozen=True)
class Cause:
    """One hypothesis, or two together."""

    parts: tuple[Hypothesis, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(part.id for part in self.parts)

    @property
    def sentence(self) -> str:
        return "; and ".join(part.sentence for part in self.parts)

    @property
    def convention(self) -> bool:
        return all(part.convention for part in self.parts)

    def knobs(self, declared: Mapping[str, Any]) -> dict[str, Any] | None:
        """The changes together; None where two set the same thing."""
        merged = dict(declared)
        seen: set[str] = set()
        for part in self.parts:
            own = {k: v for k, v in part.knobs.items() if k != "only"}
            if seen & set(own):
                return None
            seen |= set(own)
            merged |= part.knobs
        return merged


class _Judge:
    """Compares what was submitted with what a cause predicts."""

    def __init__(
        self, submissions: Sequence[Any], dtype: str, declared: Mapping[str, Any], cache: Any
    ) -> None:
        self.dtype, self.declared, self.cache = dtype, dict(declared), cache
        self.by_case: dict[str, list[Any]] = {}
        for one in submissions:
            self.by_case.setdefault(one.case.id, []).append(one)

    def excess(self, cause: Cause, items: Sequence[Any], *, stop: bool = True) -> float:
        """The largest difference over tolerance on submissions of one case; inf where it cannot be."""
        knobs = cause.knobs(self.declared)
        if knobs is None:
            return np.inf
        case = items[0].case
        try:
            replay = Replay(case, knobs)
        except NotApplicable:
            return np.inf
        worst = 0.0
        for item in items:
            try:
                predicted = comparable(item.stage, replay.stage(item.stage), case.x.shape[0])
                got = comparable(item.stage, item.raw, case.x.shape[0])
            except (NotApplicable, ValueError, IndexError, ZeroDivisionError, OverflowError):
                return np.inf
            if [p.shape for p in predicted] != [g.shape for g in got]:
                return np.inf
            for index, (p, g) in enumerate(zip(predicted, got, strict=True)):
                worst = max(worst, self._array(case, item.stage, index, g, p, knobs))
            if stop and worst > 1.0:
                return worst
        return worst

    def _array(self, case: Any, stage: str, index: int, got: Any, predicted: Any, knobs: Any) -> float:
        scale = float(np.linalg.norm(predicted))
        away = float(np.linalg.norm(got - predicted))
        if not np.isfinite(away) or away > _NEAR * scale:
            eps = float(np.finfo(self.dtype).eps)
            return np.inf if not np.isfinite(away) or scale == 0.0 else away / (64.0 * eps * scale)
        try:
            s = sensitivity(case, stage, self.dtype, knobs, self.cache)
        except (ValueError, ZeroDivisionError, OverflowError):
            s = None
        if s is None:
            return np.inf
        return compare(got, predicted, tolerances(s[index], self.dtype)).excess

    def explains_all(self, cause: Cause) -> float:
        """The largest excess over all cases, failing and passing; stops at the first that does not fit."""
        worst = 0.0
        for items in self.by_case.values():
            worst = max(worst, self.excess(cause, items))
            if worst > 1.0:
                return worst
        return worst


def diagnose(submissions: Sequence[Any], dtype: str, declared: Mapping[str, Any], cache: Any) -> Diagnosis:
    """The cause of the failures, the set of causes that the data cannot tell apart, or that none fits.

    A cause must give every submitted array of every case, those that passed included, within the tolerance
    of the changed computation. Single changes are tried first, then pairs.
    """
    failing = [one for one in submissions if not one.passed]
    if not failing:
        return Diagnosis("nothing to explain", "nothing is wrong")
    judge = _Judge(submissions, dtype, declared, cache)
    ids = list(dict.fromkeys(one.case.id for one in failing))
    ids.sort(key=lambda id: judge.by_case[id][0].case.theta.shape[0] * judge.by_case[id][0].case.steps)
    trials = [judge.by_case[id] for id in ids[:_TRIALS]]

    scores: list[tuple[float, Cause]] = []
    for hypothesis in HYPOTHESES:
        cause = Cause((hypothesis,))
        score = max((judge.excess(cause, items) for items in trials[:1]), default=np.inf)
        scores.append((score, cause))
    fits, rest = _survivors(judge, scores, trials)
    if not fits:
        pairs = _pairs(judge, trials[0])
        fits, more = _survivors(judge, pairs, trials)
        rest += more
    if fits:
        return _named(fits, rest)
    precision = _precision(failing, submissions, dtype, declared, cache)
    if precision is not None:
        return precision
    return _unexplained(judge, failing, rest)


def _survivors(
    judge: _Judge, scores: Any, trials: Any
) -> tuple[list[tuple[float, Cause]], list[tuple[float, Cause]]]:
    fits, rest = [], []
    for score, cause in scores:
        total = score
        if total <= 1.0:
            total = max(total, *(judge.excess(cause, items) for items in trials))
        if total <= 1.0:
            total = judge.explains_all(cause)
        (fits if total <= 1.0 else rest).append((total, cause))
    return fits, rest


def _pairs(judge: _Judge, items: Sequence[Any]) -> list[tuple[float, Cause]]:
    """Pairs of changes that touch a failing stage and no passing one, tried on one case."""
    case, active = items[0].case, []
    failing = [item for item in items if not item.passed]
    passing = [item for item in items if item.passed]
    for hypothesis in HYPOTHESES:
        cause = Cause((hypothesis,))
        if passing and judge.excess(cause, passing) > 1.0:
            continue
        if _effective(judge, cause, case, failing):
            active.append(hypothesis)
    first = failing[:1]
    found = []
    for two in combinations(active, 2):
        cause = Cause(two)
        if cause.knobs(judge.declared) is None or judge.excess(cause, first) > 1.0:
            continue
        found.append((judge.excess(cause, items), cause))
    return found


def _effective(judge: _Judge, cause: Cause, case: Any, items: Sequence[Any]) -> bool:
    knobs = cause.knobs(judge.declared)
    try:
        changed, plain = Replay(case, knobs), Replay(case, judge.declared)
        for item in items:
            one = comparable(item.stage, changed.stage(item.stage), case.x.shape[0])
            two = comparable(item.stage, plain.stage(item.stage), case.x.shape[0])
            if any(
                a.shape != b.shape or not np.allclose(a, b, rtol=1e-9) for a, b in zip(one, two, strict=True)
            ):
                return True
    except (NotApplicable, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return False
    return False


def _named(fits: list[tuple[float, Cause]], rest: list[tuple[float, Cause]]) -> Diagnosis:
    fits.sort(key=lambda pair: pair[0])
    finite = sorted((pair for pair in rest if np.isfinite(pair[0])), key=lambda pair: pair[0])
    score, best = fits[0]
    evidence = f"after this correction the largest difference is {score:.2g} tolerances"
    beside = ""
    if finite:
        beside = f"; the next best, {' + '.join(finite[0][1].ids)}, leaves {finite[0][0]:.2g}"
    if len(fits) == 1:
        sentence, status = f"{best.sentence} ({evidence}{beside})", "named"
    else:
        listed = " | ".join(cause.sentence for _, cause in fits)
        sentence, status = (
            f"one of {len(fits)} that these data cannot tell apart: {listed} ({evidence}{beside})",
            "set",
        )
    return Diagnosis(
        status,
        sentence,
        tuple(cause.ids for _, cause in fits),
        score,
        " + ".join(finite[0][1].ids) if finite else None,
        finite[0][0] if finite else None,
        convention=all(cause.convention for _, cause in fits),
    )


_PRECISIONS = (("float32", 2.0**-23), ("TF32", 2.0**-10), ("bfloat16", 2.0**-7))


def _precision(failing: Any, submissions: Any, dtype: str, declared: Any, cache: Any) -> Diagnosis | None:
    """Whether the errors have the size of a lower precision, in every failing array, and are not zero."""
    own = float(np.finfo(dtype).eps)
    ratios, representable = [], []
    for item in failing:
        s = sensitivity(item.case, item.stage, dtype, declared, cache)
        if s is None:
            return None
        expected = comparable(item.stage, Replay(item.case, declared).stage(item.stage), item.case.x.shape[0])
        got = comparable(item.stage, item.raw, item.case.x.shape[0])
        if [g.shape for g in got] != [e.shape for e in expected]:
            return None
        for g, e, one in zip(got, expected, s, strict=True):
            width = np.sqrt(np.mean(one**2))
            away = np.sqrt(np.mean((g - e) ** 2))
            if not np.isfinite(width) or not np.isfinite(away) or width == 0.0:
                return None
            ratios.append(away / width)
        representable += [bool(np.all(r.astype(np.float32) == r)) for r in item.raw]
    for name, eps in _PRECISIONS:
        if eps <= 4.0 * own:
            continue
        typical = float(np.median(ratios))
        if len(ratios) >= 5 and max(ratios) <= 64.0 * eps and eps / 64.0 <= typical <= 8.0 * eps:
            stored = name == "float32" and all(representable)
            if name == "float32" and not stored and min(ratios) < eps / 4096.0:
                return None
            words = f"{name} inside: the errors are {typical / eps:.2g} roundings of {name}"
            words += ", and every value is a float32 number" if stored else ""
            return Diagnosis("named", words, ((f"precision-{name.lower()}",),), max(ratios) / (64.0 * eps))
    return None


def _unexplained(judge: _Judge, failing: Sequence[Any], rest: Any) -> Diagnosis:
    """None fits everything; what explains single stages by itself is said as such."""
    partial = []
    for stage in dict.fromkeys(one.stage for one in failing):
        items = [one for one in failing if one.stage == stage]
        alone = [
            cause
            for cause in (Cause((h,)) for h in HYPOTHESES)
            if judge.excess(cause, items[:1]) <= 1.0
            and all(judge.excess(cause, [one]) <= 1.0 for one in items)
        ]
        if alone:
            partial.append(f"{stage} alone: " + " | ".join(cause.sentence for cause in alone))
    finite = sorted((pair for pair in rest if np.isfinite(pair[0])), key=lambda pair: pair[0])
    nearest = f"; the nearest is {' + '.join(finite[0][1].ids)}" if finite else ""
    return Diagnosis(
        "none",
        f"none of the {len(HYPOTHESES)} named causes, alone or in pairs, explains everything{nearest}",
        next_best=" + ".join(finite[0][1].ids) if finite else None,
        next_residual=finite[0][0] if finite else None,
        partial=tuple(partial),
    )
