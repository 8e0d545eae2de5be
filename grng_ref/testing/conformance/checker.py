"""``check``: an adapter against cases, stage by stage, with verdicts and a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .adapter import STAGE_NAMES, CaseView, ResultFiles, settings_of, submitted
from .conventions import declared_knobs
from .diagnosis import diagnose as find_cause
from .report import Check, Report
from .verdicts import (
    BACKWARD,
    UNDECIDABLE,
    comparable,
    compare,
    expected_arrays,
    radius_of,
    sensitivity,
    solve_quality,
    tolerances,
)
from .view import NotApplicable

PICTURE = 70  # rows of the largest matrix whose errors are kept


@dataclass
class Submission:
    """One stage of one case as the diagnosis sees it."""

    case: Any
    stage: str
    raw: tuple[Any, ...]
    passed: bool


def check(
    adapter: Any,
    cases: Iterable[Any] | None = None,
    *,
    stages: Iterable[str] | None = None,
    diagnose: bool = True,
    name: str | None = None,
) -> Report:
    """Check an implementation against test vectors: verdicts by stage, and the cause of what is wrong.

    Parameters
    ----------
    adapter : object
        With one method a stage that it implements, ``def gradient(self, case)``; attributes ``library``,
        ``dtype``, ``conventions`` and ``expected_failures`` are optional. Or a `ResultFiles`.
    cases : iterable of Case, optional
        The shipped ones unless given.
    stages : iterable of str, optional
        Only these.
    diagnose : bool
        Whether to look for the cause of failures.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        An unknown stage, convention or dtype.
    """
    if cases is None:
        from ..vectors import load_cases

        cases = load_cases()
    cases = tuple(cases)
    wanted = tuple(stages) if stages is not None else STAGE_NAMES
    unknown = [stage for stage in wanted if stage not in STAGE_NAMES]
    if unknown:
        raise ValueError(f"stages must be among {', '.join(STAGE_NAMES)}, got {', '.join(unknown)}")
    library, dtype, conventions, expected_failures = settings_of(adapter)
    knobs = declared_knobs(conventions)
    cache: dict[Any, Any] = {}
    checks, submissions, planned = [], [], 0
    for case in cases:
        offered = [stage for stage in case.stages if stage in wanted and _offers(adapter, stage)]
        planned += len(offered)
        skip = "float64-only" in case.flags and dtype == "float32"
        for stage in offered:
            if skip:
                checks.append(
                    Check(case.id, stage, "skipped", "float32 cannot hold the numbers of this case")
                )
                continue
            # a view a stage: what one method does in place, the next one does not see
            view = None if isinstance(adapter, ResultFiles) else CaseView(case, library, dtype)
            found, sent = _one(adapter, case, view, stage, dtype, knobs, cache)
            reason = expected_failures.get(f"{case.id}/{stage}", expected_failures.get(stage))
            checks.append(replace(found, expected_failure=reason))
            if sent is not None:
                submissions.append(Submission(case, stage, sent, found.verdict != "wrong"))
    cause, conventional = find_cause(submissions if diagnose else [], dtype, knobs, cache)
    checks = [_relabelled(one, cause, conventional) for one in checks]
    return Report(
        name or str(getattr(adapter, "name", type(adapter).__name__)),
        dtype,
        library,
        dict(conventions),
        planned,
        tuple(checks),
        cause,
    )


def _relabelled(one: Check, cause: Any, conventional: frozenset[tuple[str, str]]) -> Check:
    """A wrong stage that is equal to the reference under the named convention is said to be so."""
    if one.verdict != "wrong" or (one.case, one.stage) not in conventional:
        return one
    reason = f"not declared: {cause.sentence}"
    return replace(one, verdict="right under another convention", declared=False, reason=reason)


def _offers(adapter: Any, stage: str) -> bool:
    return isinstance(adapter, ResultFiles) or callable(getattr(adapter, stage, None))


def _one(
    adapter: Any, case: Any, view: Any, stage: str, dtype: str, knobs: Any, cache: Any
) -> tuple[Check, Any]:
    try:
        raw = submitted(adapter, case, view, stage)
    except NotImplementedError as error:
        return Check(case.id, stage, "skipped", str(error) or "not implemented for this case"), None
    except Exception as error:  # noqa: BLE001  a foreign program's failure is a finding, whatever it is
        return Check(case.id, stage, "wrong", f"raised {type(error).__name__}: {error}"), None
    if raw is None:
        return Check(case.id, stage, "skipped", "no result for this case"), None
    try:
        expected = expected_arrays(case, stage, knobs)
    except NotApplicable:
        return Check(case.id, stage, "skipped", "the declared conventions say nothing of this case"), None
    try:
        got = comparable(stage, raw, case.x.shape[0])
    except (ValueError, IndexError):
        got = raw
    shapes = [g.shape for g in got], [e.shape for e in expected]
    if shapes[0] != shapes[1]:
        return Check(case.id, stage, "wrong", f"shapes {shapes[0]}, expected {shapes[1]}"), raw
    s = sensitivity(case, stage, dtype, knobs, cache)
    if s is None:
        return Check(case.id, stage, "skipped", "no tolerance could be derived for this case"), None
    found = []
    for index, (g, e) in enumerate(zip(got, expected, strict=True)):
        limit = tolerances(stage, e, s[index], dtype, radius_of(case, stage, index, e))
        found.append((compare(g, e, limit), index))
    worst, index = max(found, key=lambda pair: pair[0].excess)
    detectable = max(one.detectable for one, _ in found)
    values: dict[str, Any] = {
        "error": worst.error,
        "excess": worst.excess,
        "detectable": detectable,
        "array": index,
        "entry": worst.entry,
        "got": worst.got,
        "expected": worst.expected,
    }
    if worst.excess > 1.0:
        quality = solve_quality(case, stage, got[0], expected[0], dtype) if not knobs else None
        if quality is None or not (quality.backward or quality.inverse):
            reason, errors = (
                f"differs by {worst.excess:.3g} tolerances",
                _picture(got[index], expected[index]),
            )
            return Check(case.id, stage, "wrong", reason, errors=errors, **values), raw
        reason = f"scaled residual {quality.residual:.3g}, a backward stable solve has <= {BACKWARD:g}"
        if not quality.backward:
            return Check(case.id, stage, "accurate, not backward stable", reason, **values), raw
        values["detectable"] = detectable = max(detectable, quality.detectable)
        if detectable <= UNDECIDABLE:
            return Check(case.id, stage, "right", f"backward stable: {reason}", **values), raw
    if detectable > UNDECIDABLE:
        reason = f"undecidable in {dtype}: smallest detectable defect {detectable:.2g}"
        return Check(case.id, stage, "undecidable", reason, **values), raw
    verdict = "right under another convention" if _changes(case, stage, expected, knobs) else "right"
    return Check(case.id, stage, verdict, "declared" if knobs and verdict != "right" else "", **values), raw


def _changes(case: Any, stage: str, expected: Any, knobs: Any) -> bool:
    if not knobs:
        return False
    plain = expected_arrays(case, stage, {})
    return any(
        p.shape != e.shape or not np.allclose(p, e, rtol=1e-9, atol=0.0)
        for p, e in zip(plain, expected, strict=True)
    )


def _picture(got: Any, expected: Any) -> Any:
    if got.ndim != 2 or got.shape[0] > PICTURE or got.shape[1] > PICTURE:
        return None
    scale = float(np.max(np.abs(expected))) or 1.0
    difference = np.nan_to_num((got - expected) / scale, posinf=1e300, neginf=-1e300)
    return [[float(f"{value:.3g}") for value in row] for row in difference]


def parametrize_with_vectors(
    adapter: Any, cases: Iterable[Any] | None = None, *, stages: Iterable[str] | None = None
) -> Callable[[Any], Any]:
    """A decorator that turns ``def test(check)`` into one pytest test a case and stage; `check` is a `Check`.

    Expected failures become strict xfails with their reasons. Needs pytest.
    """
    import pytest

    if cases is None:
        from ..vectors import load_cases

        cases = load_cases()
    report = check(adapter, cases, stages=stages, diagnose=False)
    if report.run == 0:
        raise ValueError(
            f"adapter must have a method that is named as a stage ({', '.join(STAGE_NAMES)}) "
            "and gives a result for one of the cases; nothing was checked"
        )
    values = []
    for one in report.checks:
        marks: list[Any] = []
        if one.verdict == "skipped":
            marks = [pytest.mark.skip(reason=one.reason)]
        elif one.expected_failure is not None:
            marks = [pytest.mark.xfail(reason=one.expected_failure, strict=True)]
        plain = replace(one, expected_failure=None)
        values.append(pytest.param(plain, id=f"{one.case}/{one.stage}", marks=marks))
    return pytest.mark.parametrize("check", values)
