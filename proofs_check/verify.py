"""Proves the certificates and witnesses of a record again, with the separate checkers.

Nothing of the run is used but what the record stores. `check_certificate` and `check_witness` share no code
with what found the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grng_ref as gr

from .bounds import Proof
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


def verify(record: dict[str, Any]) -> Iterator[Outcome]:
    """Check every proof of a record, one after the other.

    A run with the verdict "certified" and no stored proof, and a proof that claims nothing, could not be
    checked. A proof is refused if a checker refuses it, if it cannot be read, or if the run's own numbers are
    not those of any of its certificates.
    """
    for claim in record["claims"]:
        name = name_of(claim, record)
        for stored in claim["proofs"]:
            yield Outcome(name, *_checked(stored, record["arrays"]))
        if claim["proofs"]:
            reason = _contradicted(claim)
            if reason:
                yield Outcome(name, "the finding", REFUSED, reason)
        elif claim["verdict"] == "certified":
            yield Outcome(name, "the finding", UNCHECKED, "the record stores no proof of it")


def _checked(stored: dict[str, Any], arrays: dict[str, Any]) -> tuple[str, str, str]:
    what = str(stored.get("theorem", stored.get("quantity", "a proof")))
    if stored["kind"] == "none":
        return what, UNCHECKED, str(stored.get("reason"))
    try:
        whole = with_arrays(stored, arrays)
        check = _certificate if stored["kind"] == "certificate" else _bound
        return what, *check(whole)
    except gr.BackendError as error:
        return what, UNCHECKED, str(error)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        return what, REFUSED, f"it cannot be read: {error}"
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


def _contradicted(claim: dict[str, Any]) -> str:
    """Why a finding cannot be that of its certificates."""
    shown = claim["finding"]
    if shown is None or shown["verdict"] != claim["verdict"]:
        return f"the run is {claim['verdict']}, and its finding is not"
    refuted = isinstance(shown["witness"], dict) and "theorem" in shown["witness"]
    if shown["certificate"] != RIGOROUS and not refuted:
        return ""  # made of the proofs by the claim's own code
    numbers = shown["verdict"], float(shown["measured"]), float(shown["threshold"])
    findings = [one.finding() for one in _readable(claim["proofs"])]
    if any((one.verdict, one.measured, one.threshold) == numbers for one in findings):
        return ""
    return f"{claim['verdict']}, measured {shown['measured']}: no stored certificate says so"


def _readable(proofs: list[dict[str, Any]]) -> Iterator[Certificate]:
    """The certificates without their instances, which the numbers do not need."""
    for one in (proof for proof in proofs if proof["kind"] == "certificate"):
        try:
            yield certificate_from_json(_without_arrays(one))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _without_arrays(stored: dict[str, Any]) -> dict[str, Any]:
    evidence = [{**one, "bound": {**one["bound"], "witness": None}} for one in stored["evidence"]]
    assumptions = [{**one, "bound": {**one["bound"], "witness": None}} for one in stored["assumptions"]]
    return {**stored, "evidence": evidence, "assumptions": assumptions, "instance": None}
