"""Certificates as JSON values, and back, with every bit: what the theorem is about comes with them."""

from __future__ import annotations

from typing import Any

from proofs_check.bounds import Bound
from proofs_check.bounds.serialise import (
    array_from_json,
    array_to_json,
    fields_of,
    number_from_json,
    number_to_json,
    problem_from_json,
    problem_to_json,
)

from .certificate import Assumption, Certificate, Evidence, Instance, Settings

_TEXTS = ("theorem", "detail", "fingerprint")
_FIELDS = (*_TEXTS, "kind", "settings", "numbers", "step", "after_run", "assumptions", "evidence", "instance")


def certificate_to_json(certificate: Certificate) -> dict[str, Any]:
    """A certificate with the network, its weights and its data.

    Raises
    ------
    TypeError
        A problem made of a user's own objects: no name rebuilds them.
    """
    at = certificate.instance
    return {
        "kind": "certificate",
        **{name: getattr(certificate, name) for name in _TEXTS},
        "settings": [number_to_json(value) for value in certificate.settings],
        "numbers": {name: number_to_json(value) for name, value in certificate.numbers.items()},
        "step": certificate.step,
        "after_run": certificate.theta is not None,
        "assumptions": [
            {
                "name": one.name,
                "bound": one.bound.to_json(),
                "limit": number_to_json(one.limit),
                "needed": one.needed,
                "given": one.given,
            }
            for one in certificate.assumptions
        ],
        "evidence": [
            {
                "quantity": one.quantity,
                "bound": one.bound.to_json(),
                "radius": None if one.radius is None else number_to_json(one.radius),
            }
            for one in certificate.evidence
        ],
        "instance": None
        if at is None
        else {
            "problem": problem_to_json(at.problem),
            **{name: array_to_json(getattr(at, name)) for name in ("theta", "x", "y")},
        },
    }


def certificate_from_json(value: Any) -> Certificate:
    """The certificate that `certificate_to_json` stored, with its ``instance``.

    Raises
    ------
    TypeError, ValueError
        Something else is stored.
    """
    fields = fields_of(value, "a certificate", _FIELDS)
    for name in _TEXTS:
        if not isinstance(fields[name], str):
            raise ValueError(f"{name} of a certificate must be a text, got {fields[name]!r}")
    if not isinstance(fields["step"], int) or not isinstance(fields["after_run"], bool):
        raise ValueError("step of a certificate must be an integer, after_run true or false")
    eta, rho, lam = (number_from_json(item) for item in fields["settings"])
    instance = None if fields["instance"] is None else _instance(fields["instance"])
    after_run = fields["after_run"] and instance is not None
    return Certificate(
        fields["theorem"],
        tuple(map(_assumption, fields["assumptions"])),
        fields["detail"],
        Settings(eta, rho, lam),
        {str(name): number_from_json(item) for name, item in fields["numbers"].items()},
        tuple(map(_evidence, fields["evidence"])),
        fields["step"],
        instance.theta if after_run and instance else None,
        fields["fingerprint"],
        instance,
    )


def _assumption(value: Any) -> Assumption:
    fields = fields_of(value, "an assumption", ("name", "bound", "limit", "needed", "given"))
    limit = number_from_json(fields["limit"])
    return Assumption(
        fields["name"], Bound.from_json(fields["bound"]), limit, fields["needed"], fields["given"]
    )


def _evidence(value: Any) -> Evidence:
    fields = fields_of(value, "evidence", ("quantity", "bound", "radius"))
    radius = None if fields["radius"] is None else number_from_json(fields["radius"])
    return Evidence(fields["quantity"], Bound.from_json(fields["bound"]), radius)


def _instance(value: Any) -> Instance:
    fields = fields_of(value, "an instance", ("problem", "theta", "x", "y"))
    arrays = (array_from_json(fields[name]) for name in ("theta", "x", "y"))
    return Instance(problem_from_json(fields["problem"]), *arrays)
