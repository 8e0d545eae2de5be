"""Findings from rigorous bounds: certified or refuted by the sides, or undecided."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .bounds import Bound
from .findings import Finding, Proof

_REASON = "the limit that was asked for"


def decided(
    bound: Bound,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    detail: str,
    reason: str = _REASON,
    proofs: Iterable[Proof] = (),
) -> Finding:
    """Whether ``q <= at_most``, or ``q >= at_least``, for a quantity q that is known from two sides.

    Parameters
    ----------
    bound : Bound
        Of q; `proofs_check.bounds`.
    at_most, at_least : float
        One of them, finite.
    detail : str
        What q is, of which network.
    reason : str
        Where the limit is from.
    proofs : iterable
        What `prove` returned, and certificates: kept in the record, for ``proofs-check verify``.

    Returns
    -------
    Finding
        "certified" or "refuted" if the sides decide and are rigorous, with the bound's method; "holds" if
        they decide for it and are not; else "undecided". A lower limit is put as ``limit <= q``.

    Raises
    ------
    TypeError
        Not a bound.
    ValueError
        Both limits or none of them, or one that is not finite.
    """
    if not isinstance(bound, Bound):
        raise TypeError(f"bound must be a Bound, got {type(bound).__name__}")
    if (at_most is None) == (at_least is None):
        raise ValueError("give one of at_most and at_least")
    limit = float(at_most if at_most is not None else at_least)  # type: ignore[arg-type]
    if not math.isfinite(limit):
        raise ValueError(f"the limit must be finite, got {limit!r}")
    if at_most is not None:
        met, near, far = bound.at_most(limit), (bound.upper, limit), (bound.lower, limit)
    else:
        met, near, far = bound.at_least(limit), (limit, bound.lower), (limit, bound.upper)
    text, kept = f"{detail}; {bound.method}", tuple(proofs)
    if met:
        certified = bound.rigorous
        verdict, method = ("certified", bound.method) if certified else ("holds", "")
        return Finding(verdict, *near, text, reason=reason, certificate=method, proofs=kept)
    if met is None or not bound.rigorous:
        return Finding("undecided", *near, text, reason=reason, proofs=kept)
    witness = {"lower": str(bound.lower), "upper": str(bound.upper)}
    return Finding("refuted", *far, text, reason=reason, witness=witness, proofs=kept)
