"""Runs claims and judges them: each verdict as expected, each planted error caught, nothing left out."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grng_ref.environment import EnvironmentStamp, environment_stamp

from .claim import Claim, Suite, load_suite
from .context import Run
from .findings import Finding
from .sweep import Job, Sweep, jobs_of
from .threads import one_blas_thread

# A control must contradict what the claim expects: a check that always says "holds" misses the planted error
# of a claim that should hold, and one that always says "refuted" misses that of an expected refutation.
# An error that overflows is not caught either: a check that only ever says "undecided" sees nothing.
_CAUGHT_BY = {
    "certified": ("refuted",),
    "holds": ("refuted",),
    "refuted": ("certified", "holds"),
    "undecided": ("certified", "holds", "refuted"),
}


@dataclass(frozen=True)
class ClaimResult:
    """What became of one claim.

    Attributes
    ----------
    claim : Claim
    finding : Finding or None
        None after an error.
    seconds : float
        Wall time of the check and its control.
    error : str or None
        The traceback, if the claim raised.
    problems : tuple of str
        Why the claim is not as expected; empty iff it is.
    run : Run
        The settings it ran under, with its own seed.
    """

    claim: Claim
    finding: Finding | None
    seconds: float
    error: str | None
    problems: tuple[str, ...]
    run: Run = field(default_factory=Run)

    @property
    def ok(self) -> bool:
        """Whether the verdict is the expected one and the control was caught."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """The finding's verdict, or "error"."""
        return "error" if self.finding is None else self.finding.verdict

    @property
    def control(self) -> Finding | None:
        """The planted error's finding; of several, one that was missed if there is one."""
        if self.finding is None or self.finding.control is None:
            return None
        return next(iter(_missed(self.claim, self.finding.control)), self.finding.control)

    @property
    def control_caught(self) -> bool:
        """Whether every planted error came out on the other side than the claim expects."""
        control = self.control
        return control is not None and not _missed(self.claim, control)


@dataclass(frozen=True)
class RunResult:
    """The results of a run, with its settings and what it was computed with.

    In the suite's order, of each claim the points of the sweep, of each the seeds. An interrupted run holds
    what had finished, and is not ok.
    """

    run: Run
    results: tuple[ClaimResult, ...]
    seconds: float
    environment: EnvironmentStamp = field(default_factory=environment_stamp)
    interrupted: bool = False
    sweep: Sweep = field(default_factory=dict)
    seeds: int = 1

    @property
    def ok(self) -> bool:
        """Whether at least one claim ran, every one is as expected, and none was left out."""
        return bool(self.results) and not self.interrupted and all(result.ok for result in self.results)


def select(suite: Suite, patterns: Iterable[str] = ()) -> tuple[Claim, ...]:
    """The claims whose id matches any of the patterns (``ring-*``), all of them without a pattern.

    Raises
    ------
    ValueError
        A pattern matches nothing: a run that silently checks less than was asked is worse than an error.
    """
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(one.id, pattern) for one in suite.claims):
            known = ", ".join(one.id for one in suite.claims) or "none"
            raise ValueError(f"no claim matches {pattern!r}; the claims are: {known}")
    if not wanted:
        return suite.claims
    return tuple(c for c in suite.claims if any(fnmatch.fnmatchcase(c.id, p) for p in wanted))


def run_claim(claim: Claim, run: Run) -> ClaimResult:
    """Run one claim; whatever it raises becomes part of the result.

    What the claim prints goes to standard error, so that standard output stays the report's.
    """
    start = time.perf_counter()
    finding, error = None, None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            finding = claim(run)
        if not isinstance(finding, Finding):
            kind, finding = type(finding).__name__, None
            raise TypeError(f"claim {claim.id!r} must return a Finding, got {kind}")
    except (Exception, SystemExit):  # noqa: BLE001 - foreign code: the run reports whatever it raised
        error = traceback.format_exc()
    seconds = time.perf_counter() - start
    return ClaimResult(claim, finding, seconds, error, _problems(claim, finding, error), run)


def run_suite(
    suite: Suite,
    run: Run | None = None,
    *,
    only: Iterable[str] = (),
    jobs: int = 1,
    sweep: Sweep | None = None,
    seeds: int = 1,
    on_result: Callable[[ClaimResult], None] | None = None,
    on_start: Callable[[Claim], None] | None = None,
) -> RunResult:
    """Run the selected claims of a suite, with one BLAS thread (`proofs_check.threads`).

    Ctrl-C ends the run early: the result then says ``interrupted`` and has what had finished.

    Parameters
    ----------
    suite : Suite
    run : Run, optional
        Settings; NumPy in float64 by default.
    only : iterable of str
        Patterns of ids; all claims without any.
    jobs : int
        Workers, at least 1. Above 1 they are joblib's: processes, or what ``joblib.parallel_config`` says
        around the call (``backend="dask"``: a cluster). Workers load the claims anew from ``suite.origin``.
    sweep : mapping of str to sequence, optional
        Values that take the place of the claims' parameters of that name, at each point of their grid.
    seeds : int
        How many seeds, from ``run.seed`` on.
    on_result : callable, optional
        Called with each `ClaimResult` as it arrives: in order, with several workers as they finish.
    on_start : callable, optional
        Called with each `Claim` before it runs; with several workers, with those handed out at once.

    Raises
    ------
    ValueError
        A pattern without a match, ``jobs`` below 1 (or above, for claims that come from no file), an
        unknown backend; a sweep over a name that no selected claim has, or with values of another kind.
    grng_ref.BackendError
        A backend that cannot be used here.
    """
    settings = run if run is not None else Run()
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs must be an integer of at least 1, got {jobs!r}")
    if jobs > 1 and suite.origin is None:
        raise ValueError("jobs above 1 need a suite loaded with load_suite: workers load the claims anew")
    swept = dict(sweep or {})
    planned = jobs_of(select(suite, only), settings, swept, seeds)
    settings.check_available()
    start = time.perf_counter()
    results: dict[int, ClaimResult] = {}
    interrupted = False
    with one_blas_thread():
        stamp = environment_stamp()  # here, so that it records the threads of the run
        try:
            for number, result in _results(suite, planned, jobs, on_start or (lambda one: None)):
                results[number] = result
                if on_result is not None:
                    on_result(result)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.perf_counter() - start
    in_order = tuple(results[number] for number in sorted(results))
    return RunResult(settings, in_order, seconds, stamp, interrupted, swept, seeds)


def _results(
    suite: Suite, planned: tuple[Job, ...], jobs: int, on_start: Callable[[Claim], None]
) -> Iterator[tuple[int, ClaimResult]]:
    """The results with their numbers in the plan, as they arrive."""
    if jobs == 1:
        for number, job in enumerate(planned):
            on_start(job.claim)
            yield number, run_claim(*job)
        return
    import joblib  # from the extra "verify"; one process needs nothing of it

    def handed_out() -> Iterator[Any]:
        for number, (one, run) in enumerate(planned):
            on_start(one)
            yield joblib.delayed(_run_in_worker)(number, suite.origin, one.id, dict(one.point), run)

    # no backend is named: it is the caller's to configure
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs")
    for number, finding, seconds, error in parallel(handed_out()):
        one, run = planned[number]
        yield number, ClaimResult(one, finding, seconds, error, _problems(one, finding, error), run)


def _run_in_worker(
    number: int, origin: str, id: str, point: dict[str, Any], run: Run
) -> tuple[int, Finding | None, float, str | None]:
    """One job in a worker. Claims do not travel: a user's file cannot be imported by name there."""
    path = Path(origin)
    suite = _loaded(origin, path.stat().st_mtime_ns if path.is_file() else 0)
    with one_blas_thread():
        result = run_claim(suite[id].at(point), run)
    return number, result.finding, result.seconds, result.error


@functools.lru_cache(maxsize=4)
def _loaded(origin: str, changed: int) -> Suite:
    """A worker's suite, loaded once while its file does not change."""
    with contextlib.redirect_stdout(sys.stderr):
        return load_suite(origin)


def _missed(claim: Claim, control: Finding) -> list[Finding]:
    """Of all planted errors those that the check did not see."""
    return [one for one in control.parts or (control,) if one.verdict not in _CAUGHT_BY[claim.expected]]


def _problems(claim: Claim, finding: Finding | None, error: str | None) -> tuple[str, ...]:
    if finding is None:
        last = (error or "").strip().splitlines()[-1:]
        return (f"error: {last[0] if last else 'unknown'}",)
    problems = []
    if finding.verdict != claim.expected:
        problems.append(f"verdict is {finding.verdict}, expected {claim.expected}")
    if finding.control is None:
        problems.append("no negative control: nothing shows that this check can fail")
    else:
        missed = _missed(claim, finding.control)
        count = f" ({len(missed)} of {len(finding.control.parts)})" if finding.control.parts else ""
        if missed:
            problems.append(f"control not caught{count}: the planted error came out {missed[0].verdict}")
    return tuple(problems)
