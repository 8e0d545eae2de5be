"""Certificates of random networks, attacked in floats by what shares nothing with the bounds."""

from __future__ import annotations

from proofs_check import Finding, Run, at_most, claim, combine
from proofs_check.soundness import run_trials


@claim(
    "no-attack-contradicts-a-certificate",
    statement="On random two-layer networks of six activations no run, no point of a ball and no singular "
    "value contradicts a certified or refuted assumption, and the checker refuses every planted error.",
    source="our reconstruction (certificates)",
    kind="inequality",
    params={"count": 60, "plant_every": 5},
    full={"count": 10000, "plant_every": 50},
)
def soundness(run: Run, count: int, plant_every: int) -> Finding:
    """Fails if a bound is wrong where an attack looks, or an error passes the checker.

    Controls: certificates of half the residual, which runs contradict; the planted errors, unchecked.
    """
    counts = run_trials(run.seed, count, plant_every)
    planted, caught = counts["planted"].total(), counts["caught"].total()

    def none(number: int, text: str) -> Finding:
        return at_most(float(number), 0.0, reason="none at all", detail=text)

    attacked = none(counts["violations"].total(), f"contradictions of {count} certificates")
    missed = planted - caught + counts["rechecked"]["False"]
    checked = none(missed, f"of {planted} planted errors those that the checker missed, and what it refused")
    return combine(
        [
            attacked.with_control(none(counts["seen"]["half the residual"], "half the residual")),
            checked.with_control(none(planted, "the planted errors, unchecked")),
        ]
    )
