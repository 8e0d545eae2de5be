"""Proves the certificates and witnesses of a record again, with the separate checkers.

Nothing of the run is used but what the record stores. `check_certificate` and `check_witness` share no code
with what found the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grng_ref as gr

from .bounds import Bound, Proof
from .certificates import Certificate, certificate_from_json, check_certificate
from .certificates.certificate import RIGOROUS
from .report.record import FORMAT_VERSION, with_arrays
from .report.tables import name_of

PROVED, REFUSED, UNCHECKED = "proved again", "refused", "could not be checked"


class Outcome(NamedTuple):
    """What became of one stored proof, or of a run that should have had one."""

    name: str  #: the claim, its point and seed
    what: str  #: the theorem or the quantity
    outcome: str  #: one of the three above
    reason: str  #: empty if it is proved again


def check_format(record: Any) -> None:
    """Raise unless this is a record of this version.

    Raises
    ------
    ValueError
        It is not; the message says what it is.
    """
    if not isinstance(record, dict) or record.get("format") != "proofs-check":
        raise ValueError("this is no record of proofs-check (--out FILE.json writes one)")
    if record.get("format_version") != FORMAT_VERSION:
        found = record.get("format_version")
        raise ValueError(f"the record has format_version {found!r}, and this program reads {FORMAT_VERSION}")
    parts = {"claims": list, "arrays": dict, "sweep": dict, "seeds": int, "settings": dict, "counts": dict}
    wrong = [name for name, kind in parts.items() if not isinstance(record.get(name), kind)]
    if wrong:
        raise ValueError(f"the record is damaged: {', '.join(wrong)}")


def verify(record: dict[str, Any]) -> Iterator[Outcome]:
    """Check every proof of a record, one after the other.

    A run with the verdict "certified" and no stored proof, a proof that claims nothing, and a verdict that is
    a claim's own conclusion from its proofs could not be checked. A proof is refused if a checker refuses it,
    if it cannot be read, or if the run's own numbers are not those of any of its certificates.
    """
    for claim in record["claims"]:
        try:
            name = name_of(claim, record)
            yield from (Outcome(name, *found) for found in _outcomes(claim, record["arrays"]))
        except _UNREADABLE as error:
            name = str(claim.get("id")) if isinstance(claim, dict) else "?"
            yield Outcome(name, "the run", REFUSED, f"it cannot be read: {type(error).__name__}: {error}")


_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


def _outcomes(claim: dict[str, Any], arrays: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for stored in claim["proofs"]:
        yield _checked(stored, arrays)
    if claim["proofs"]:
        found = _of_the_finding(claim)
        if found:
            yield "the finding", *found
    elif claim["verdict"] == "certified" or _refuted_by_a_certificate(claim["finding"]):
        yield "the finding", UNCHECKED, "the record stores no proof of it"


def _checked(stored: dict[str, Any], arrays: dict[str, Any]) -> tuple[str, str, str]:
    what = str(stored.get("theorem", stored.get("quantity", "a proof")))
    try:
        if stored["kind"] == "none":
            return what, UNCHECKED, str(stored["reason"])
        whole = with_arrays(stored, arrays)
        check = _certificate if stored["kind"] == "certificate" else _bound
        return what, *check(whole)
    except gr.BackendError as error:
        return what, UNCHECKED, str(error)
    except _UNREADABLE as error:
        return what, REFUSED, f"it cannot be read: {type(error).__name__}: {error}"
    except gr.NumericalError as error:
        return what, REFUSED, f"its numbers cannot be computed: {error}"


def _bound(stored: dict[str, Any]) -> tuple[str, str]:
    proof = Proof.from_json(stored)
    if not proof.bound.rigorous:
        return UNCHECKED, "the bound does not say that it is rigorous"
    found = proof.check()
    return (PROVED, "") if found.holds else (REFUSED, found.reason)


def _certificate(stored: dict[str, Any]) -> tuple[str, str]:
    certificate = certificate_from_json(stored)
    if certificate.instance is None:
        return UNCHECKED, "the network and the data are not stored"
    if certificate.verdict not in ("certified", "refuted"):
        return UNCHECKED, f"it is {certificate.verdict}, and claims nothing"
    found = check_certificate(certificate, *certificate.instance)
    return (PROVED, "") if found.holds else (REFUSED, found.reason)


def _of_the_finding(claim: dict[str, Any]) -> tuple[str, str] | None:
    """What is wrong with a finding beside its proofs: that it is not theirs, or that this cannot be seen."""
    shown, verdict = claim["finding"], claim["verdict"]
    if shown is None or shown["verdict"] != verdict:
        return REFUSED, f"the run is {verdict}, and its finding is not"
    if verdict not in ("certified", "refuted"):
        return None
    numbers = float(shown["measured"]), float(shown["threshold"])
    if shown["certificate"] == RIGOROUS or _refuted_by_a_certificate(shown):
        findings = [one.finding() for one in _readable(claim["proofs"])]
        if any((one.verdict, one.measured, one.threshold) == (verdict, *numbers) for one in findings):
            return None
        return REFUSED, f"{verdict}, measured {shown['measured']}: no stored certificate says so"
    bounds = [Bound.from_json({**one["bound"], "witness": None}) for one in claim["proofs"] if "bound" in one]
    # as `decided` puts it: q <= limit by the upper side, limit <= q by the lower; refuted, by the other one
    sides = [(one.upper, one.lower) if verdict == "certified" else (one.lower, one.upper) for one in bounds]
    none = all(one["kind"] == "none" for one in claim["proofs"])  # which has been said
    if none or any(numbers[0] == near or numbers[1] == far for near, far in sides):
        return None
    return UNCHECKED, "the verdict is the claim's own conclusion from its proofs"


def _refuted_by_a_certificate(shown: Any) -> bool:
    return bool(shown) and isinstance(shown["witness"], dict) and "theorem" in shown["witness"]


def _readable(proofs: list[dict[str, Any]]) -> Iterator[Certificate]:
    """The certificates without their instances, which the numbers do not need."""
    for one in (proof for proof in proofs if proof.get("kind") == "certificate"):
        try:
            yield certificate_from_json(_without_arrays(one))
        except _UNREADABLE:
            continue


def _without_arrays(stored: dict[str, Any]) -> dict[str, Any]:
    evidence = [{**one, "bound": {**one["bound"], "witness": None}} for one in stored["evidence"]]
    assumptions = [{**one, "bound": {**one["bound"], "witness": None}} for one in stored["assumptions"]]
    return {**stored, "evidence": evidence, "assumptions": assumptions, "instance": None}
