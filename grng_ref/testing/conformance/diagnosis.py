"""Which named change of the reference gives what was submitted, over all cases together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from .conventions import declaration
from .hypotheses import BY_ID, HYPOTHESES, Hypothesis
from .knobs import combined, scoped
from .replay import Replay
from .report import Diagnosis
from .verdicts import comparable, compare, expected_arrays, radius_of, sensitivity, tolerances
from .view import NotApplicable

_NEAR = 1e-2  # a relative difference beyond it is no matter of roundings; below it the tolerance decides
_TRIALS = 3  # failing cases on which every hypothesis is tried, before the survivors meet all cases
NOT_SOUGHT = Diagnosis("nothing to explain", "no cause was sought")
_PARTIAL = 8  # smallest failing cases of a stage on which it is explained by itself


@dataclass(frozen=True)
class Cause:
    """One hypothesis, or two together."""

    parts: tuple[Hypothesis, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the hypotheses."""
        return tuple(part.id for part in self.parts)

    @property
    def sentence(self) -> str:
        """How to say it."""
        return "; and ".join(part.sentence for part in self.parts)

    @property
    def convention(self) -> bool:
        """Whether it is another convention and no error."""
        return all(part.convention for part in self.parts)

    def knobs(self, declared: Mapping[str, Any]) -> dict[str, Any] | None:
        """The changes together; None where two set the same thing."""
        own = [scoped(part.knobs) for part in self.parts]
        if len(set().union(*own)) < sum(map(len, own)):
            return None
        return combined(declared, *own)


def _sizes(case: Any) -> tuple[int, int]:
    """N and K."""
    return case.x.shape[0], case.network["sizes"][-1]


def _size(one: Any) -> int:
    """How much work a submission is."""
    return int(one.case.theta.shape[0] * one.case.steps)


class _Judge:
    """Compares what was submitted with what a cause predicts."""

    def __init__(
        self, submissions: Sequence[Any], dtype: str, declared: Mapping[str, Any], cache: Any
    ) -> None:
        self.dtype, self.declared, self.cache = dtype, dict(declared), cache
        self.by_case: dict[str, list[Any]] = {}
        for one in sorted(submissions, key=lambda one: one.passed):  # what fails decides soonest
            self.by_case.setdefault(one.case.id, []).append(one)
        self._plain: dict[tuple[str, str], Any] = {}
        ids = dict.fromkeys(one.case.id for one in submissions if not one.passed)
        self.failing = sorted(ids, key=lambda name: _size(self.by_case[name][0]))
        self.failing_cases = [self.by_case[name][0].case for name in self.failing]
        self._replays: dict[tuple[str, tuple[str, ...]], Replay] = {}

    def _replay(self, case: Any, cause: Cause, knobs: Any) -> Replay:
        """The replay of the cause, kept for single causes on the cases that are tried again and again."""
        if len(cause.parts) > 1 or case.id not in self.failing[:_TRIALS]:
            return Replay(case, knobs)
        key = (case.id, cause.ids)
        if key not in self._replays:
            self._replays[key] = Replay(case, knobs)
        return self._replays[key]

    def excess(self, cause: Cause, items: Sequence[Any], *, stop: bool = True) -> float:
        """The largest difference over tolerance on submissions of one case; inf where it cannot be."""
        knobs = cause.knobs(self.declared)
        if knobs is None:
            return np.inf
        case = items[0].case
        try:
            replay = self._replay(case, cause, knobs)
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
        if self._unchanged(case, stage, index, predicted):
            knobs, predicted = self.declared, expected_arrays(case, stage, self.declared)[index]
        try:
            s = sensitivity(case, stage, self.dtype, knobs, self.cache)
        except (ValueError, ZeroDivisionError, OverflowError):
            s = None
        if s is None:
            return np.inf
        radius = radius_of(case, stage, index, predicted)
        return compare(got, predicted, tolerances(stage, predicted, s[index], self.dtype, radius)).excess

    def _unchanged(self, case: Any, stage: str, index: int, predicted: Any) -> bool:
        """Whether the cause leaves this array alone, so that its tolerance is known already."""
        key = (case.id, stage)
        if key not in self._plain:
            self._plain[key] = comparable(stage, Replay(case, self.declared).stage(stage), case.x.shape[0])
        plain = self._plain[key][index]
        return plain.shape == predicted.shape and bool(np.array_equal(plain, predicted))

    def explains_all(self, cause: Cause) -> float:
        """The largest excess over all cases, failing and passing; stops at the first that does not fit."""
        worst = 0.0
        for items in self.by_case.values():
            worst = max(worst, self.excess(cause, items))
            if worst > 1.0:
                return worst
        return worst


def diagnose(
    submissions: Sequence[Any], dtype: str, declared: Mapping[str, Any], cache: Any
) -> tuple[Diagnosis, frozenset[tuple[str, str]]]:
    """The cause of the failures, the set of causes that the data cannot tell apart, or that none fits.

    Beside it the pairs (case, stage) of failures that a *convention* explains, where that is named or a part
    of every pair that fits.

    A cause must give every submitted array of every case, those that passed included, within the tolerance
    of the changed computation. Single changes are tried first, then pairs.
    """
    failing = [one for one in submissions if not one.passed]
    if not failing:
        return Diagnosis("nothing to explain", "nothing is wrong"), frozenset()
    judge = _Judge(submissions, dtype, declared, cache)
    trials = [judge.by_case[name] for name in judge.failing[:_TRIALS]]

    scores: list[tuple[float, Cause]] = []
    for hypothesis in HYPOTHESES:
        cause = Cause((hypothesis,))
        score = max((judge.excess(cause, items) for items in trials[:1]), default=np.inf)
        scores.append((score, cause))
    fits, rest = _survivors(judge, scores, trials)
    if not fits:
        pairs = _pairs(judge, trials)
        fits, more = _survivors(judge, pairs, trials)
        rest += more
    if fits:
        fits += [(score, one) for score, cause in fits for one in _constants(cause, judge.failing_cases)]
        return _named(fits, rest), _conventional(judge, [cause for _, cause in fits], failing)
    precision = _precision(failing, submissions, dtype, declared, cache)
    return precision or _unexplained(judge, failing, rest), frozenset()


def with_declarations(found: Diagnosis, conventions: Mapping[str, str]) -> Diagnosis:
    """The diagnosis with what an adapter would have to declare, for each cause that is a convention."""
    causes = [[BY_ID.get(name) for name in cause] for cause in found.causes]
    declare = tuple(
        declaration([part.knobs for part in parts if part is not None], conventions) if all(parts) else None
        for parts in causes
    )
    return replace(found, declare=declare)


def _constants(cause: Cause, cases: Sequence[Any]) -> list[Cause]:
    """The cause with constants, where these cases do not tell them from its factors of N and K."""
    sizes = {_sizes(case) for case in cases}
    parts = tuple(part.with_constant(sizes) or part for part in cause.parts)
    return [Cause(parts)] if parts != cause.parts else []


def _conventional(judge: _Judge, fits: Sequence[Cause], failing: Sequence[Any]) -> frozenset[tuple[str, str]]:
    """The failures that the conventions among the causes explain without the errors among them."""
    if all(cause.convention for cause in fits):
        return frozenset((one.case.id, one.stage) for one in failing)
    part = Cause(tuple(h for h in fits[0].parts if h.convention and all(h in c.parts for c in fits)))
    explained = [one for one in failing if part.parts and judge.excess(part, [one]) <= 1.0]
    return frozenset((one.case.id, one.stage) for one in explained)


def _survivors(
    judge: _Judge, scores: Any, trials: Any
) -> tuple[list[tuple[float, Cause]], list[tuple[float, Cause]]]:
    fits: list[tuple[float, Cause]] = []
    rest: list[tuple[float, Cause]] = []
    for score, cause in scores:
        total = score
        if total <= 1.0:
            total = max(total, *(judge.excess(cause, items) for items in trials))
        if total <= 1.0:
            total = judge.explains_all(cause)
        (fits if total <= 1.0 else rest).append((total, cause))
    return fits, rest


def _pairs(judge: _Judge, trials: Sequence[Sequence[Any]]) -> list[tuple[float, Cause]]:
    """Pairs of changes that touch a failing stage of a trial case and no passing one, tried on the first."""
    failing = [[item for item in items if not item.passed] for items in trials]
    passing = [[item for item in items if item.passed] for items in trials]
    active = []
    for hypothesis in HYPOTHESES:
        cause = Cause((hypothesis,))
        if any(items and judge.excess(cause, items) > 1.0 for items in passing):
            continue
        if any(_effective(judge, cause, items[0].case, items) for items in failing):
            active.append(hypothesis)
    found = []
    for two in combinations(active, 2):
        cause = Cause(two)
        if cause.knobs(judge.declared) is None or judge.excess(cause, failing[0][:1]) > 1.0:
            continue
        found.append((judge.excess(cause, trials[0]), cause))
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
    score, _ = fits[0]
    evidence = f"after this correction the largest difference is {score:.2g} tolerances"
    if finite:
        evidence += f"; the next best, {' + '.join(finite[0][1].ids)}, leaves {finite[0][0]:.2g}"
    said = tuple(cause.sentence for _, cause in fits)
    return Diagnosis(
        "named" if len(fits) == 1 else "set",
        f"{_together(said)} ({evidence})",
        tuple(cause.ids for _, cause in fits),
        score,
        " + ".join(finite[0][1].ids) if finite else None,
        finite[0][0] if finite else None,
        convention=all(cause.convention for _, cause in fits),
        said=said,
        evidence=evidence,
    )


def _together(said: tuple[str, ...]) -> str:
    if len(said) == 1:
        return said[0]
    return f"one of {len(said)} that these data cannot tell apart: {' | '.join(said)}"


_EVERYWHERE = 0.5  # roundings hit nearly every entry; a defect of one block does not
_PRECISIONS = (("float32", 2.0**-23), ("TF32", 2.0**-10), ("bfloat16", 2.0**-7))


def _precision(failing: Any, submissions: Any, dtype: str, declared: Any, cache: Any) -> Diagnosis | None:
    """Whether the errors have the size of a lower precision, in every failing array, and are not zero."""
    if len(failing) < 0.5 * len(
        submissions
    ):  # a lower precision shows in nearly every product, not in one solve
        return None
    own = float(np.finfo(dtype).eps)
    ratios, spread, representable = [], [], []
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
            if away > 0.0:  # inputs that a lower precision holds exactly say nothing
                ratios.append(away / width)
                spread.append(float(np.mean(np.abs(g - e) > 64.0 * own * one)))
        with np.errstate(over="ignore"):
            representable += [bool(np.all(r.astype(np.float32) == r)) for r in item.raw]
    for name, eps in _PRECISIONS:
        if eps <= 4.0 * own:
            continue
        typical = float(np.median(ratios))
        sized = max(ratios) <= 64.0 * eps and eps / 64.0 <= typical <= 8.0 * eps
        if len(ratios) >= 5 and sized and np.median(spread) >= _EVERYWHERE:
            size = f"the errors are {typical / eps:.2g} roundings of {name}"
            stored = name == "float32" and all(representable)
            evidence = f"{size}, and every value is a float32 number" if stored else size
            found = {f"precision-{name.lower()}": f"{name} inside"}
            if not stored:  # the size alone does not tell roundings from other small errors
                found["finite-difference"] = "a finite difference"
                found["small-error"] = "another error of that size, which is not in the table"
            said = tuple(found.values())
            return Diagnosis(
                "named" if stored else "set",
                f"{_together(said)} ({evidence})",
                tuple((one,) for one in found),
                max(ratios) / (64.0 * eps),
                said=said,
                evidence=evidence,
            )
    return None


def _varied(items: Iterable[Any]) -> list[Any]:
    """The smallest first, but all sizes (N, K) before one of them again."""
    seen: Counter[tuple[int, int]] = Counter()
    placed = []
    for one in sorted(items, key=_size):
        size = _sizes(one.case)
        placed.append((seen[size], one))
        seen[size] += 1
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _unexplained(judge: _Judge, failing: Sequence[Any], rest: Any) -> Diagnosis:
    """None fits everything; what explains single stages by itself is said as such."""
    partial = []
    for stage in dict.fromkeys(one.stage for one in failing):
        every = _varied(one for one in failing if one.stage == stage)
        alone = [Cause((h,)) for h in HYPOTHESES]
        for one in every[:_PARTIAL]:
            alone = [cause for cause in alone if judge.excess(cause, [one]) <= 1.0]
        alone += [one for c in alone for one in _constants(c, [e.case for e in every[:_PARTIAL]])]
        if alone:
            where = "" if len(every) <= _PARTIAL else f" (in {_PARTIAL} of {len(every)} cases)"
            partial.append(f"{stage} alone{where}: " + " | ".join(cause.sentence for cause in alone))
    finite = sorted((pair for pair in rest if np.isfinite(pair[0])), key=lambda pair: pair[0])
    nearest = f"; the nearest is {' + '.join(finite[0][1].ids)}" if finite else ""
    return Diagnosis(
        "none",
        f"none of the {len(HYPOTHESES)} named causes, alone or in pairs, explains everything{nearest}",
        next_best=" + ".join(finite[0][1].ids) if finite else None,
        next_residual=finite[0][0] if finite else None,
        partial=tuple(partial),
    )
