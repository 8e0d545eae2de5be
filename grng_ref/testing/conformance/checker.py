"""``check``: an adapter against cases, stage by stage, with verdicts and a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import extract_tb
from typing import Any

import numpy as np

from ..vectors import Case, load_cases
from ..vectors.store import DEFAULT_SET, read_manifest
from .adapter import (
    STAGE_NAMES,
    CaseView,
    check_expected_failures,
    check_names,
    offers,
    on_host,
    settings_of,
    shaped,
    submitted,
)
from .conventions import declared_knobs
from .diagnosis import NOT_SOUGHT, with_declarations
from .diagnosis import diagnose as find_cause
from .layouts import PARAMETER_AXES, parameter
from .names import unknown
from .replay import Replay
from .report import Check, Diagnosis, Report
from .results import ResultFiles
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
_SINGLE = 1e-3  # a relative error below it may be that of a float32 inside
_PACKAGE = Path(__file__).parents[2]


@dataclass
class Submission:
    """One stage of one case as the diagnosis sees it."""

    case: Any
    stage: str
    raw: tuple[Any, ...]
    passed: bool
    excused: bool  #: expected to fail, and failed


def check(
    adapter: Any,
    cases: Iterable[Any] | None = None,
    *,
    only: Iterable[str] | None = None,
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
    only : iterable of str, optional
        Ids: only these of the cases.
    stages : iterable of str, optional
        Only these.
    diagnose : bool
        Whether to look for the cause of failures.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        Cases that are none.
    ValueError
        An unknown case, stage, convention or dtype; a name of the adapter, of its expected failures, or in
        result files, that is nearly a known one or means nothing.
    BackendError
        The adapter's library is not installed.
    """
    if isinstance(adapter, type):
        raise ValueError(f"adapter must be an object, got the class {adapter.__name__}: call it")
    cases = tuple(load_cases() if cases is None else cases)
    for case in cases:
        if not isinstance(case, Case):
            raise TypeError(f"cases must be test vectors (ids go into only=), got {type(case).__name__}")
    chosen = _selected(cases, only)
    wanted = tuple(stages) if stages is not None else STAGE_NAMES
    for stage in wanted:
        if stage not in STAGE_NAMES:
            raise ValueError(unknown("stages has", stage, STAGE_NAMES))
    library, dtype, conventions, expected_failures = settings_of(adapter)
    knobs = declared_knobs(conventions)
    files = isinstance(adapter, ResultFiles)
    remarks = _check_words(adapter, cases, expected_failures)
    cache: dict[Any, Any] = {}
    checks, submissions, planned = [], [], 0
    for case in chosen:
        offered = [stage for stage in case.stages if stage in wanted and (files or offers(adapter, stage))]
        planned += len(offered)
        skip = "float64-only" in case.flags and dtype == "float32"
        for stage in offered:
            if skip:
                words = "float32 cannot hold the numbers of this case"
                checks.append(Check(case.id, stage, "skipped", words))
                continue
            found, sent = _one(adapter, case, stage, library, dtype, knobs, cache)
            reason = expected_failures.get(f"{case.id}/{stage}", expected_failures.get(stage))
            checks.append(replace(found, expected_failure=reason))
            if sent is not None:
                passed = found.verdict != "wrong"
                submissions.append(Submission(case, stage, sent, passed, not passed and reason is not None))
    cause, conventional = NOT_SOUGHT, frozenset[tuple[str, str]]()
    if diagnose:
        cause, conventional = find_cause(_to_explain(submissions), dtype, knobs, cache)
        cause = _with_silent(with_declarations(cause, conventions), checks)
    checks = [_relabelled(one, cause, conventional) for one in checks]
    return Report(
        name or str(getattr(adapter, "name", type(adapter).__name__)),
        dtype,
        library,
        dict(conventions),
        planned,
        tuple(checks),
        cause,
        remarks,
    )


def _selected(cases: tuple[Any, ...], only: Iterable[str] | None) -> tuple[Any, ...]:
    if only is None:
        return cases
    only, ids = tuple(only), [case.id for case in cases]
    for name in only:
        if name not in ids:
            raise ValueError(unknown("cases has", name, ids))
    return tuple(case for case in cases if case.id in only)


def _check_words(
    adapter: Any, cases: tuple[Any, ...], expected_failures: Mapping[str, str]
) -> tuple[str, ...]:
    """Names that would be passed over in silence are refused; what is to be remarked on the others."""
    files = isinstance(adapter, ResultFiles)
    if files or expected_failures:
        known = sorted({c.id for c in cases} | {c["id"] for c in read_manifest(DEFAULT_SET)["cases"]})
        check_expected_failures(expected_failures, cases, known)
        if files:
            adapter.check_files(known)
    return () if files else check_names(adapter)


def _to_explain(submissions: list[Submission]) -> list[Submission]:
    """All; without the expected failures where others failed, since one cause need not be the other's."""
    new = any(not one.passed and not one.excused for one in submissions)
    return [one for one in submissions if not (new and one.excused)]


def _with_silent(cause: Diagnosis, checks: Iterable[Check]) -> Diagnosis:
    """Nothing is right about results that could not be compared."""
    silent = [one for one in checks if one.verdict == "wrong" and one.error is None]
    if cause.status != "nothing to explain" or not silent:
        return cause
    where = f"{silent[0].stage} of case {silent[0].case}: {silent[0].reason}"
    return Diagnosis(
        "none", f"{len(silent)} checks have no numbers to compare, so there is no cause to find ({where})"
    )


def _relabelled(one: Check, cause: Any, conventional: frozenset[tuple[str, str]]) -> Check:
    """A wrong stage that is equal to the reference under the named convention is said to be so."""
    if one.verdict != "wrong" or (one.case, one.stage) not in conventional:
        return one
    reason = f"not declared: {cause.said[0] if len(cause.said) == 1 else 'see the cause'}"
    return replace(one, verdict="right under another convention", declared=False, reason=reason)


def _one(
    adapter: Any, case: Any, stage: str, library: str, dtype: str, knobs: Any, cache: Any
) -> tuple[Check, Any]:
    """The check of one stage, and what was submitted, where that can be compared."""
    raw = _results(adapter, case, stage, library, dtype, knobs)
    if isinstance(raw, Check):
        return raw, None
    try:
        expected = expected_arrays(case, stage, knobs)
    except NotApplicable:
        return Check(case.id, stage, "skipped", "the declared conventions say nothing of this case"), None
    try:
        got = comparable(stage, raw, case.x.shape[0])
    except (ValueError, IndexError):
        got = ()
    if [g.shape for g in got] != [e.shape for e in expected]:
        sent, needed = (", ".join(str(a.shape) for a in b) for b in (raw, Replay(case, knobs).stage(stage)))
        return Check(case.id, stage, "wrong", f"has shape {sent}, expected {needed}"), raw
    s = sensitivity(case, stage, dtype, knobs, cache)
    if s is None:
        return Check(case.id, stage, "skipped", "no tolerance could be derived for this case"), None
    return _judged(case, stage, got, expected, s, dtype, knobs), raw


def _results(
    adapter: Any, case: Any, stage: str, library: str, dtype: str, knobs: Any
) -> tuple[Any, ...] | Check:
    """The arrays; or the check that is all there is where there are none."""
    files = isinstance(adapter, ResultFiles)
    # a view a stage: what one method does in place, the next one does not see
    source: Any = adapter.stage(case, stage) if files else CaseView(case, library, dtype)
    try:
        if files:
            raw = None if source is None else tuple(shaped(stage, on_host(array)) for array in source)
        else:
            raw = submitted(adapter, case, source, stage, knobs.get("layout"))
    except NotImplementedError as error:
        return Check(case.id, stage, "skipped", str(error) or "not implemented for this case")
    except (Exception, SystemExit) as error:  # noqa: BLE001  a foreign program's failure is a finding
        reason = f"raised {type(error).__name__}: {error}{_place(error)}"
        return Check(case.id, stage, "wrong", reason)
    return Check(case.id, stage, "skipped", "no result for this case") if raw is None else raw


def _place(error: BaseException) -> str:
    """The line of the user's code that raised; empty where it is none of the user's."""
    frames = [f for f in extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(_PACKAGE)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _judged(case: Any, stage: str, got: Any, expected: Any, s: Any, dtype: str, knobs: Any) -> Check:
    """The verdict on arrays of the right shapes."""
    found, limits = [], []
    for index, (g, e) in enumerate(zip(got, expected, strict=True)):
        limits.append(tolerances(stage, e, s[index], dtype, radius_of(case, stage, index, e)))
        found.append((compare(g, e, limits[-1]), index))
    worst, index = max(found, key=lambda pair: pair[0].excess)
    values: dict[str, Any] = {
        "error": worst.error,
        "excess": worst.excess,
        "detectable": max(one.detectable for one, _ in found),
        "array": index,
        "entry": worst.entry,
        "parameters": _parameters(case, stage, worst.entry, knobs.get("layout")),
        "got": worst.got,
        "expected": worst.expected,
    }
    other = _changes(case, stage, expected, knobs)
    fine = ("right under another convention", "declared") if other else ("right", "")
    if worst.excess > 1.0:
        quality = solve_quality(case, stage, got[0], expected[0], dtype, knobs)
        if quality is None or not (quality.backward or quality.inverse):
            picture = _picture(got[index], expected[index], limits[index])
            return Check(case.id, stage, "wrong", _how_wrong(worst, got, dtype), errors=picture, **values)
        reason = f"scaled residual {quality.residual:.3g}, a backward stable solve has <= {BACKWARD:g}"
        if not quality.backward:
            return Check(case.id, stage, "accurate, not backward stable", reason, **values)
        values["detectable"] = max(values["detectable"], quality.detectable)
        fine = fine[0], f"backward stable: {reason}"
    if values["detectable"] > UNDECIDABLE:
        reason = f"undecidable in {dtype}: smallest detectable defect {values['detectable']:.2g}"
        return Check(case.id, stage, "undecidable", reason, **values)
    return Check(case.id, stage, *fine, **values)


def _parameters(case: Any, stage: str, entry: tuple[int, ...] | None, layout: str | None) -> str:
    """Which parameters an entry is of; rows are compared as products, so the axes are the last ones."""
    if entry is None or stage not in PARAMETER_AXES:
        return ""
    axes = len(entry) - 1, len(entry) - 2
    found = axes[: 2 if stage in ("fisher", "belief_covariance", "score_rows") else 1][::-1]
    return " by ".join(parameter(case.problem(), entry[axis], layout) for axis in found)


def _how_wrong(worst: Any, got: Any, dtype: str) -> str:
    bad, size = sum(int(np.sum(~np.isfinite(a))) for a in got), sum(a.size for a in got)
    if bad:
        return f"{bad} of {size} numbers are NaN or infinite"
    reason = f"differs by {worst.excess:.3g} tolerances"
    with np.errstate(over="ignore"):
        single = all(np.array_equal(a, a.astype(np.float32)) for a in got)
    if dtype == "float64" and worst.error < _SINGLE and single:
        return f"{reason}; every number is a float32 one, and the declared dtype is float64"
    return reason


def _changes(case: Any, stage: str, expected: Any, knobs: Any) -> bool:
    if not knobs:
        return False
    plain = expected_arrays(case, stage, {})
    return any(
        p.shape != e.shape or not np.allclose(p, e, rtol=1e-9, atol=0.0)
        for p, e in zip(plain, expected, strict=True)
    )


def _picture(got: Any, expected: Any, limit: Any) -> Any:
    """Relative errors beyond the tolerance; 0 within it."""
    if got.ndim != 2 or got.shape[0] > PICTURE or got.shape[1] > PICTURE:
        return None
    scale = float(np.max(np.abs(expected))) or 1.0
    difference = np.where(np.abs(got - expected) <= limit, 0.0, (got - expected) / scale)
    return [[float(f"{value:.3g}") if np.isfinite(value) else None for value in row] for row in difference]


def parametrize_with_vectors(
    adapter: Any, cases: Iterable[Any] | None = None, *, stages: Iterable[str] | None = None
) -> Callable[[Any], Any]:
    """A decorator that turns ``def test(check)`` into one pytest test a case and stage; `check` is a `Check`.

    Expected failures become strict xfails with their reasons. Needs pytest.
    """
    import pytest

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
