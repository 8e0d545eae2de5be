"""The machine-readable record of a run, and the schema that it satisfies."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from typing import Any

from grng_ref.conventions import CONVENTIONS

from ..claim import KINDS
from ..findings import VERDICTS, Finding, Proof
from ..runner import ClaimResult, RunResult

FORMAT_VERSION = 2


def to_record(result: RunResult) -> dict[str, Any]:
    """A run as a JSON-able dict, stamped with versions, environment, settings and conventions.

    Numbers that JSON lacks become the texts "nan", "inf" and "-inf". `RESULT_SCHEMA` describes the record.
    """
    stamp = _plain(dict(result.environment))
    arrays: dict[str, Any] = {}
    return {
        "format": "proofs-check",
        "format_version": FORMAT_VERSION,
        "grng_ref_version": stamp["grng_ref"],
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ok": result.ok,
        "interrupted": result.interrupted,
        "counts": {
            "claims": len({one.claim.id for one in result.results}),
            "runs": len(result.results),
            "as_expected": sum(one.ok for one in result.results),
        },
        "seconds": result.seconds,
        "settings": dataclasses.asdict(result.run),
        "sweep": {name: list(values) for name, values in result.sweep.items()},
        "seeds": result.seeds,
        "environment": stamp,
        "conventions": dataclasses.asdict(CONVENTIONS),
        "claims": [_claim_record(one, arrays) for one in result.results],
        "arrays": arrays,
    }


def to_json(record: dict[str, Any]) -> str:
    """The record as strict JSON text (no NaN literals)."""
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _claim_record(result: ClaimResult, arrays: dict[str, Any]) -> dict[str, Any]:
    claim = result.claim
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "kind": claim.kind,
        "params": claim.params_in(result.run),
        "point": dict(claim.point),
        "seed": result.run.seed,
        "how_it_could_fail": claim.doc,
        "expected": claim.expected,
        "verdict": result.verdict,
        "ok": result.ok,
        "problems": list(result.problems),
        "finding": None if result.finding is None else _finding_record(result.finding),
        "control": None if result.control is None else _finding_record(result.control),
        "control_caught": result.control_caught,
        "proofs": [] if result.finding is None else [_proof(one, arrays) for one in result.finding.proofs],
        "seconds": result.seconds,
        "error": result.error,
    }


def _finding_record(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "measured": _plain(finding.measured),
        "threshold": _plain(finding.threshold),
        "margin": _plain(finding.margin),
        "detail": finding.detail,
        "reason": finding.reason,
        "witness": _plain(finding.witness),
        "certificate": finding.certificate,
    }


def _proof(proof: Proof, arrays: dict[str, Any]) -> dict[str, Any]:
    try:
        stored = proof.to_json()
    except (TypeError, ValueError) as error:
        return {"kind": "none", "reason": str(error)}
    return _shared(stored, arrays)


def _shared(value: Any, arrays: dict[str, Any]) -> Any:
    """The value with each array replaced by its digest: proofs share their networks and data."""
    if isinstance(value, list):
        return [_shared(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "base64" not in value:
        return {key: _shared(item, arrays) for key, item in value.items()}
    digest = _digest(value)
    arrays[digest] = value
    return {"array": digest}


def _digest(array: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(array, sort_keys=True).encode()).hexdigest()


def with_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    """A stored proof with its arrays in their places.

    Raises
    ------
    ValueError
        An array is missing, or is not the one of its digest.
    """
    if isinstance(value, list):
        return [with_arrays(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"array"}:
        return {key: with_arrays(item, arrays) for key, item in value.items()}
    found = arrays.get(value["array"])
    if found is None or _digest(found) != value["array"]:
        raise ValueError(f"the array {str(value['array'])[:12]} is missing or was changed")
    return found


def _plain(value: Any) -> Any:
    """JSON values only: non-finite numbers as texts, tuples as lists, anything foreign as its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
_TEXT = {"type": "string"}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_FINDING = {
    "anyOf": [
        {"type": "null"},
        _object(
            verdict={"enum": list(VERDICTS)},
            measured=_NUMBER,
            threshold=_NUMBER,
            margin=_NUMBER,
            detail={"type": "string", "minLength": 1},
            reason=_TEXT,
            witness={},
            certificate=_TEXT,
        ),
    ]
}

RESULT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Result of proofs-check",
    **_object(
        format={"const": "proofs-check"},
        format_version={"const": FORMAT_VERSION},
        grng_ref_version=_TEXT,
        finished=_TEXT,
        ok={"type": "boolean"},
        interrupted={"type": "boolean"},
        counts=_object(**{name: {"type": "integer"} for name in ("claims", "runs", "as_expected")}),
        seconds={"type": "number"},
        settings=_object(
            backend=_TEXT,
            dtype={"enum": ["float64", "float32"]},
            device={"type": ["string", "null"]},
            full={"type": "boolean"},
            seed={"type": "integer", "minimum": 0},
        ),
        sweep={"type": "object", "additionalProperties": {"type": "array"}},
        seeds={"type": "integer", "minimum": 1},
        environment={"type": "object"},
        conventions={"type": "object"},
        claims={
            "type": "array",
            "items": _object(
                id={"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
                statement=_TEXT,
                source=_TEXT,
                kind={"enum": list(KINDS)},
                params={"type": "object"},
                point={"type": "object"},
                seed={"type": "integer", "minimum": 0},
                how_it_could_fail=_TEXT,
                expected={"enum": list(VERDICTS)},
                verdict={"enum": [*VERDICTS, "error"]},
                ok={"type": "boolean"},
                problems={"type": "array", "items": _TEXT},
                finding=_FINDING,
                control=_FINDING,
                control_caught={"type": "boolean"},
                proofs={"type": "array", "items": {"type": "object", "required": ["kind"]}},
                seconds={"type": "number"},
                error={"type": ["string", "null"]},
            ),
        },
        arrays={"type": "object"},
    ),
}
"""JSON Schema (draft 2020-12) of `to_record`."""
