"""What a check found: a verdict with the numbers behind it.

The four verdicts mean different things, and a finding that blurs them cannot be made:

certified
    Proved, with rigorous bounds (enclosures), for the instances named. Such a finding says by which rigorous
    method, in `Finding.certificate`.
holds
    Held on the sample that was run. Floating-point agreement on a sample is never a proof, so the
    comparisons say "holds" at best.
refuted
    Shown false; the witness is the instance that shows it.
undecided
    Nothing was decided: a non-finite value came out, or bounds were too wide.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

VERDICTS = ("certified", "holds", "refuted", "undecided")
VERDICT_LABELS = {
    "certified": "certified",
    "holds": "holds on the sample",
    "refuted": "refuted",
    "undecided": "undecided",
}
_WORST_FIRST = ("refuted", "undecided", "holds", "certified")
_POSITIVE = ("certified", "holds")


class Proof(Protocol):
    """What can be stored in a record and proved again: a bound's proof, or a certificate."""

    def to_json(self) -> dict[str, Any]:
        """JSON values from which ``proofs-check verify`` rebuilds it."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what was measured, against what, and the verdict.

    Every finding is put as *measured <= threshold*. A finding that contradicts its own numbers, or says
    more than its evidence, cannot be made: "certified" and "holds" need finite numbers with measured <=
    threshold, "certified" the name of a rigorous method, and "refuted" a witness and measured > threshold
    (or a number that is NaN, which compares with nothing).

    Parameters
    ----------
    verdict : {"certified", "holds", "refuted", "undecided"}
    measured, threshold : float
        The number found and the number it must not exceed.
    detail : str
        What was run, on how many instances, in which norm.
    margin : float, optional
        How far on the right side (positive) or the wrong one (negative). By default the unused fraction
        of the threshold, 1 - measured / threshold (threshold 0: -measured).
    reason : str
        Why the threshold is what it is.
    witness : optional
        The worst instance; must be representable in JSON.
    control : Finding, optional
        The finding of the *negative control*: a planted error run through exactly the same check.
    certificate : str
        The rigorous method behind "certified" (interval arithmetic, exact rationals, ...); empty otherwise.
    parts : tuple of Finding
        What `combine` made this one of, without their controls; empty for a finding of its own.
    proofs : tuple
        Certificates and bounds (`proofs_check.bounds.prove`) behind the verdict. A record stores them, and
        ``proofs-check verify`` proves them again. Those of a control are dropped.

    Raises
    ------
    TypeError
        Proofs that cannot be stored.
    ValueError
        Unknown verdict, empty detail, a verdict that contradicts the numbers or lacks its evidence, a
        witness that JSON cannot hold, a control with a control of its own.
    """

    verdict: str
    measured: float
    threshold: float
    detail: str
    margin: float = math.nan
    reason: str = ""
    witness: Any = None
    control: Finding | None = None
    certificate: str = ""
    parts: tuple[Finding, ...] = ()
    proofs: tuple[Proof, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {self.verdict!r}")
        if not isinstance(self.detail, str) or not self.detail.strip():
            raise ValueError("detail must say what was run and on how many instances; got an empty text")
        measured, threshold, margin = float(self.measured), float(self.threshold), float(self.margin)
        if self.verdict in _POSITIVE and not (
            math.isfinite(measured) and math.isfinite(threshold) and measured <= threshold
        ):
            raise ValueError(
                f"verdict {self.verdict!r} needs finite measured <= threshold, got measured {measured} "
                f"and threshold {threshold}"
            )
        if self.verdict == "certified":
            check_text("certificate", self.certificate)
        elif self.certificate:
            raise ValueError(f"certificate belongs to the verdict 'certified', got {self.verdict!r} with one")
        if self.verdict == "refuted" and (self.witness is None or measured <= threshold):
            raise ValueError(
                "verdict 'refuted' needs a witness and measured > threshold, got witness "
                f"{self.witness!r}, measured {measured} and threshold {threshold}"
            )
        if math.isnan(margin):
            margin = 1.0 - measured / threshold if threshold != 0 else -measured
        margin += 0.0  # -0.0 becomes 0.0
        try:
            json.dumps(self.witness)
        except (TypeError, ValueError) as error:
            raise ValueError(f"witness must be representable in JSON: {error}") from None
        if self.control is not None and self.control.control is not None:
            raise ValueError("control must be a finding without a control of its own")
        object.__setattr__(self, "proofs", tuple(self.proofs))
        for one in self.proofs:
            if not callable(getattr(one, "to_json", None)):
                raise TypeError(
                    f"proofs must be certificates or what prove returns, got {type(one).__name__}"
                )
        for name, value in (("measured", measured), ("threshold", threshold), ("margin", margin)):
            object.__setattr__(self, name, value)

    def with_control(self, control: Finding) -> Finding:
        """This finding with the finding of its negative control.

        Raises
        ------
        TypeError
            The control is not a Finding.
        """
        if not isinstance(control, Finding):
            raise TypeError(f"control must be a Finding, got {type(control).__name__}")
        return dataclasses.replace(self, control=_bare(control))


def combine(findings: Iterable[Finding]) -> Finding:
    """The worst of several findings: refuted before undecided before holds before certified.

    Among equal verdicts the least margin counts. If the findings carry controls, all must. The combined
    control keeps every one of them in its ``parts``, for `run_claim` to judge each: one missed planted
    error spoils the whole, whichever verdict the claim expects.

    Raises
    ------
    ValueError
        No findings, or controls on some of them only.
    """
    given: Sequence[Finding] = tuple(findings)
    if not given:
        raise ValueError("findings must hold at least one Finding, got none")
    controls = [one.control for one in given if one.control is not None]
    if controls and len(controls) != len(given):
        raise ValueError(f"findings must all carry a control, or none: {len(controls)} of {len(given)} do")
    worst = min(given, key=_badness)
    proofs = {id(proof): proof for one in given for proof in one.proofs}
    return dataclasses.replace(
        worst,
        detail=f"worst of {len(given)}: {worst.detail}",
        control=combine(controls) if controls else None,
        parts=tuple(
            dataclasses.replace(part, control=None, proofs=())
            for one in given
            for part in one.parts or (one,)
        ),
        proofs=tuple(proofs.values()),
    )


def _bare(control: Finding) -> Finding:
    """A control without its proofs: nobody proves again that an error was planted."""
    return dataclasses.replace(control, proofs=())


def _badness(finding: Finding) -> tuple[int, float]:
    margin = finding.margin if not math.isnan(finding.margin) else -math.inf
    return _WORST_FIRST.index(finding.verdict), margin


def check_text(name: str, value: str) -> None:
    """Raise a ValueError unless the text says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must say where the number comes from, got {value!r}")
