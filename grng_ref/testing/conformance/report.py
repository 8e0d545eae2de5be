"""What the checker found, as records of plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "1.1"
FINE = ("right", "right under another convention", "accurate, not backward stable", "undecidable")


@dataclass(frozen=True)
class Check:
    """One stage of one case."""

    case: str
    stage: str
    verdict: str  #: one of `verdicts.VERDICTS`, or "skipped"
    reason: str = ""
    declared: bool = True  #: whether the convention is one that the adapter declares
    error: float | None = None
    excess: float | None = None
    detectable: float | None = None
    array: int | None = None  #: which array of the stage (a layer)
    entry: tuple[int, ...] | None = None
    parameters: str = ""  #: which parameters the entry is of, for a stage with an axis of parameters
    got: float | None = None
    expected: float | None = None
    expected_failure: str | None = None  #: the reason in the user's file
    errors: Any = None  #: signed relative errors of a small matrix, for the picture; None where not finite

    @property
    def ok(self) -> bool:
        """Whether it is as it should be: an expected failure fails, all else passes."""
        if self.verdict == "skipped":
            return True
        passed = self.verdict in FINE and self.declared
        return passed != (self.expected_failure is not None)


@dataclass(frozen=True)
class Diagnosis:
    """What explains the failures.

    ``status``: ``"named"`` (one cause), ``"set"`` (several that the data cannot tell apart), ``"none"`` (none
    of the table), ``"nothing to explain"``.
    """

    status: str
    sentence: str
    causes: tuple[tuple[str, ...], ...] = ()  #: each a hypothesis, or a pair of them
    residual: float | None = None  #: largest difference over tolerance after the correction
    next_best: str | None = None
    next_residual: float | None = None
    partial: tuple[str, ...] = ()  #: stages that one cause explains by itself, where none explains all
    convention: bool = False
    said: tuple[str, ...] = ()  #: each cause in words
    evidence: str = ""
    declare: tuple[
        dict[str, str] | None, ...
    ] = ()  #: for each cause the ``conventions`` that would declare it


@dataclass(frozen=True)
class Report:
    """All checks of one submission."""

    name: str
    dtype: str
    library: str
    conventions: dict[str, Any]
    planned: int
    checks: tuple[Check, ...]
    diagnosis: Diagnosis
    remarks: tuple[str, ...] = ()  #: on the adapter's names

    @property
    def run(self) -> int:
        """How many checks were run."""
        return sum(check.verdict != "skipped" for check in self.checks)

    @property
    def counts(self) -> dict[str, int]:
        """Checks planned, run, skipped, expected failures, unexpected passes, and each verdict."""
        verdicts = Counter(check.verdict for check in self.checks)
        marked = [
            check
            for check in self.checks
            if check.expected_failure is not None and check.verdict != "skipped"
        ]
        return {
            "planned": self.planned,
            "run": self.run,
            "skipped": verdicts.pop("skipped", 0),
            "expected failures": sum(check.ok for check in marked),
            "unexpected passes": len(self.unexpected),
            **dict(verdicts),
        }

    @property
    def ok(self) -> bool:
        """Whether something was decided, all is as it should be, and every convention used is declared."""
        decided = any(check.verdict not in ("skipped", "undecidable") for check in self.checks)
        return decided and all(check.ok for check in self.checks)

    @property
    def unexpected(self) -> tuple[Check, ...]:
        """The checks that were expected to fail and pass."""
        return tuple(check for check in self.checks if check.expected_failure is not None and not check.ok)

    @property
    def first(self) -> Check | None:
        """The first diverging check: the earliest stage, then the earliest case."""
        from ..vectors.stages import STAGES

        order = {stage.name: index for index, stage in enumerate(STAGES)}
        wrong = [check for check in self.checks if not check.ok and check.expected_failure is None]
        return min(wrong, key=lambda check: order[check.stage]) if wrong else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "format": FORMAT,
            "name": self.name,
            "dtype": self.dtype,
            "library": self.library,
            "conventions": dict(self.conventions),
            "ok": self.ok,
            "counts": self.counts,
            "first": asdict(self.first) if self.first else None,
            "unexpected passes": [f"{check.case}/{check.stage}" for check in self.unexpected],
            "remarks": list(self.remarks),
            "diagnosis": asdict(self.diagnosis),
            "checks": [asdict(check) for check in self.checks],
        }
