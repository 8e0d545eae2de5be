"""The machine-readable record of a run, and the schema that it satisfies."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from typing import Any

from grng_ref.conventions import CONVENTIONS

from ..claim import KINDS
from ..findings import VERDICTS, Finding
from ..runner import ClaimResult, RunResult

FORMAT_VERSION = 1


def to_record(result: RunResult) -> dict[str, Any]:
    """A run as a JSON-able dict, stamped with versions, environment, settings and conventions.

    Numbers that JSON lacks become the texts "nan", "inf" and "-inf". `RESULT_SCHEMA` describes the record.
    """
    stamp = _plain(dict(result.environment))
    return {
        "format": "proofs-check",
        "format_version": FORMAT_VERSION,
        "grng_ref_version": stamp["grng_ref"],
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ok": result.ok,
        "interrupted": result.interrupted,
        "counts": {
            "claims": len(result.results),
            "as_expected": sum(one.ok for one in result.results),
        },
        "seconds": result.seconds,
        "settings": dataclasses.asdict(result.run),
        "environment": stamp,
        "conventions": dataclasses.asdict(CONVENTIONS),
        "claims": [_claim_record(one) for one in result.results],
    }


def to_json(record: dict[str, Any]) -> str:
    """The record as strict JSON text (no NaN literals)."""
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _claim_record(result: ClaimResult) -> dict[str, Any]:
    claim = result.claim
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "kind": claim.kind,
        "params": dict(claim.params),
        "how_it_could_fail": claim.doc,
        "expected": claim.expected,
        "verdict": result.verdict,
        "ok": result.ok,
        "problems": list(result.problems),
        "finding": None if result.finding is None else _finding_record(result.finding),
        "control": None if result.control is None else _finding_record(result.control),
        "control_caught": result.control_caught,
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
        counts=_object(claims={"type": "integer"}, as_expected={"type": "integer"}),
        seconds={"type": "number"},
        settings=_object(
            backend=_TEXT,
            dtype={"enum": ["float64", "float32"]},
            device={"type": ["string", "null"]},
            full={"type": "boolean"},
            seed={"type": "integer", "minimum": 0},
        ),
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
                how_it_could_fail=_TEXT,
                expected={"enum": list(VERDICTS)},
                verdict={"enum": [*VERDICTS, "error"]},
                ok={"type": "boolean"},
                problems={"type": "array", "items": _TEXT},
                finding=_FINDING,
                control=_FINDING,
                control_caught={"type": "boolean"},
                seconds={"type": "number"},
                error={"type": ["string", "null"]},
            ),
        },
    ),
}
"""JSON Schema (draft 2020-12) of `to_record`."""
