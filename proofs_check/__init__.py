"""Verification suite of grng_ref: claims with verdicts, each with a planted error that its check catches.

A claim works from any file (``proofs-check run FILE``); see `claim` for the shortest one.
"""

from .certificates import assess
from .claim import DEFAULT_SUITE, KINDS, Claim, ClaimFileError, Suite, claim, claims_of, load_suite
from .comparisons import at_most, identity, inequality, rate
from .context import Run
from .decisions import decided
from .findings import VERDICT_LABELS, VERDICTS, Finding, combine
from .report import FORMATS, RESULT_SCHEMA, to_record, write_report
from .runner import ClaimResult, RunResult, run_claim, run_suite, select
from .z_test import statistical

__all__ = [
    "DEFAULT_SUITE",
    "FORMATS",
    "KINDS",
    "RESULT_SCHEMA",
    "VERDICTS",
    "VERDICT_LABELS",
    "Claim",
    "ClaimFileError",
    "ClaimResult",
    "Finding",
    "Run",
    "RunResult",
    "Suite",
    "assess",
    "at_most",
    "claim",
    "claims_of",
    "combine",
    "decided",
    "identity",
    "inequality",
    "load_suite",
    "rate",
    "run_claim",
    "run_suite",
    "select",
    "statistical",
    "to_record",
    "write_report",
]
