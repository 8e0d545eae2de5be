"""Errors planted in the package, which claims of the suite must notice."""

from __future__ import annotations

from proofs_check import Run, load_suite, run_suite


def assert_caught(plant, patterns, monkeypatch):
    """Plant an error, and check that every claim that a pattern names is refuted by it."""
    plant(monkeypatch)
    result = run_suite(load_suite(), Run(), only=patterns)
    assert not result.ok
    for one in result.results:
        assert one.error is None, one.error  # the error is a wrong number, not a crash
        assert one.verdict in ("refuted", "undecided"), f"{one.claim.id} did not notice {plant.__name__}"
