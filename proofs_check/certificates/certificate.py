"""A theorem's assumptions at one point of a network, decided from both sides, and what they guarantee."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from grng_ref import to_numpy
from grng_ref.arrays import check_integer
from proofs_check.bounds import Bound
from proofs_check.findings import VERDICT_LABELS, Finding

from .guarantee import next_bound

_WORST_FIRST = ("refuted", "undecided", "holds", "certified")
RIGOROUS = "bounds from the stored floats by ball arithmetic and exact integers, compared in rationals"


class Settings(NamedTuple):
    """Step size, rho and lam of ``delta = -eta (F + (rho |g|^2 + lam) I)^{-1} g``."""

    eta: float = 1.0
    rho: float = 0.0
    lam: float = 0.0


DEFAULT = Settings()


@dataclass(frozen=True)
class Assumption:
    """``q <= limit`` for a number q that is known from two sides.

    Parameters
    ----------
    name : str
        The inequality in a formula.
    bound : Bound
        Of q.
    limit : float
        A strict ``q < c`` with c no float is put as the float under c.
    needed : bool
        Whether the theorem needs it, or it is reported beside.
    given : bool
        Whether q is a setting: its margin then counts only where it is refuted.

    Raises
    ------
    ValueError
        The limit is not positive: margins are relative to it.
    """

    name: str
    bound: Bound
    limit: float
    needed: bool = True
    given: bool = False

    def __post_init__(self) -> None:
        if not self.limit > 0.0:
            raise ValueError(f"limit must be > 0, got {self.limit!r}")

    @property
    def verdict(self) -> str:
        """certified, refuted or undecided by the sides; "holds" at best where they are not proved."""
        decided = self.bound.at_most(self.limit)
        if decided is None or (not decided and not self.bound.rigorous):
            return "undecided"
        if not decided:
            return "refuted"
        return "certified" if self.bound.rigorous else "holds"

    @property
    def margin(self) -> float:
        """``1 - q/limit`` for the side that decides: the upper one, or for a refutation the lower."""
        side = self.bound.lower if self.verdict == "refuted" else self.bound.upper
        return 1.0 - side / self.limit


class Instance(NamedTuple):
    """What a certificate is about, on the host."""

    problem: Any
    theta: np.ndarray  # (P,)
    x: np.ndarray
    y: np.ndarray


class Evidence(NamedTuple):
    """A bound behind assumptions: of which quantity of `proofs_check.bounds`, on which ball."""

    quantity: str
    bound: Bound
    radius: float | None = None

    def arguments(self, problem: Any, theta: Any, x: Any, y: Any) -> tuple[Any, ...]:
        """Those of the quantity's function."""
        if self.quantity == "jacobian_lipschitz":
            return problem, x
        if self.quantity == "residual_norm":
            return problem, theta, x, y
        return (problem, theta, x) if self.radius is None else (problem, theta, x, self.radius)


@dataclass(frozen=True, eq=False)
class Certificate:
    """Whether a theorem's assumptions are met at a point, and the rate that follows.

    Parameters
    ----------
    theorem : {"kantorovich", "unified", "linear", "zhang-condition-1", "zhang-condition-2"}
    assumptions : tuple of Assumption
        None of them: undecided, and ``detail`` says why.
    detail : str
        The network, the setting, and what the numbers mean.
    settings : Settings
        Of the optimizer.
    numbers : mapping of str to float
        What the guarantee is computed from, each on the safe side.
    evidence : tuple of Evidence
        The bounds behind the assumptions, with their witnesses: `check_certificate` proves them again.
    step : int
        How many steps were run before.
    theta : numpy.ndarray (P,), optional
        The point, where it is not the one that was given.
    fingerprint : str
        Of the point and the data.
    instance : Instance, optional
        The network, the point and the data themselves, on the host: with them a stored certificate can be
        checked without the program that made it.

    Notes
    -----
    A refuted assumption says that this theorem does not apply, not that the optimizer fails.
    """

    theorem: str
    assumptions: tuple[Assumption, ...]
    detail: str
    settings: Settings = DEFAULT
    numbers: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    step: int = 0
    theta: np.ndarray | None = None
    fingerprint: str = ""
    instance: Instance | None = None

    @property
    def worst(self) -> Assumption | None:
        """Of the needed assumptions the one that decides: the worst verdict, the least margin."""
        needed = [one for one in self.assumptions if one.needed]
        if not needed:
            return None
        return min(needed, key=lambda one: (_WORST_FIRST.index(one.verdict), one.given, one.margin))

    @property
    def verdict(self) -> str:
        """That of the worst needed assumption; undecided where none was tried."""
        return "undecided" if self.worst is None else self.worst.verdict

    @property
    def margin(self) -> float:
        """That of the worst needed assumption; minus infinity where none was tried."""
        return -math.inf if self.worst is None else self.worst.margin

    def guarantee(self, steps: int) -> tuple[float, ...]:
        """Upper bounds of ``|r_k|`` after 0..steps exact steps from the certified point.

        Raises
        ------
        ValueError
            The certificate is not certified, or its theorem states no rate.
        TypeError
            ``steps`` is not an integer.
        """
        count = check_integer("steps", steps, minimum=0)
        if self.verdict != "certified" or "h" not in self.numbers:
            raise ValueError(
                f"only a certified rate guarantees residuals: this one ({self.theorem}) is {self.verdict}"
                + ("" if "h" in self.numbers else " and states no rate")
            )
        found = [self.numbers["h"]]
        for _ in range(count):
            found.append(next_bound(self.theorem, self.numbers, self.settings, found[-1]))
        return tuple(found)

    def finding(self) -> Finding:
        """The certificate as what a claim returns; its witness has the numbers behind a refutation."""
        worst = self.worst
        if worst is None:
            return Finding("undecided", math.inf, 0.0, self.detail)
        refuted, certified = self.verdict == "refuted", self.verdict == "certified"
        measured = worst.bound.lower if refuted else worst.bound.upper
        return Finding(
            self.verdict,
            measured,
            worst.limit,
            f"{worst.name}: {self.detail}",
            reason="the theorem's assumption",
            witness={"theorem": self.theorem, **self._finite()} if refuted else None,
            certificate=RIGOROUS if certified else "",
            proofs=(self,) if self.instance is not None and (certified or refuted) else (),
        )

    def to_json(self) -> dict[str, Any]:
        """The certificate as JSON values, exactly; ``certificates.certificate_from_json`` reads it.

        Raises
        ------
        TypeError
            A problem made of a user's own objects: no name rebuilds them.
        """
        from .serialise import certificate_to_json  # that module reads certificates, too

        return certificate_to_json(self)

    def _finite(self) -> dict[str, Any]:
        """The numbers behind the verdict, as JSON can hold them; witnesses stay in the evidence."""

        def text(one: Evidence) -> str:
            ball = "" if one.radius is None else f" within {one.radius!r}"
            return f"{one.quantity}{ball} in [{one.bound.lower!r}, {one.bound.upper!r}]"

        return {
            "fingerprint": self.fingerprint,
            "settings": list(self.settings),
            "bounds": [text(one) for one in self.evidence],
        }

    def __str__(self) -> str:
        lines = [
            f"{self.theorem}: {VERDICT_LABELS[self.verdict]}"
            + (f" after {self.step} steps" if self.step else "")
        ]
        for one in self.assumptions:
            side = f"[{one.bound.lower:.4g}, {one.bound.upper:.4g}]"
            note = "" if one.needed else "  (beside)"
            lines.append(
                f"  {VERDICT_LABELS[one.verdict]:<20} {one.name}: {side} against {one.limit:.4g}{note}"
            )
        return "\n".join([*lines, f"  {self.detail}"])


def fingerprint(theta: Any, x: Any, y: Any) -> str:
    """A digest of the exact numbers of a point and its data."""
    digest = hashlib.sha256()
    for part in (theta, x, y):
        array = np.ascontiguousarray(to_numpy(part), dtype=np.float64) + 0.0  # -0.0 is 0.0
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
