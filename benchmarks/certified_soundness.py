"""Certificates on random networks: does a run or a search contradict one, and is every planted error found?

    python benchmarks/certified_soundness.py --count 10000

Small two-layer networks of every activation, with residuals and dampings around the thresholds. Every
certified or refuted instance is attacked in floats: residual, least eigenvalue, the Jacobian at points of the
ball, the singular values along the majorant, the witness, and the optimizer's own run against what is
guaranteed. Into every fiftieth false numbers are planted. Exit status 1 for a violation, a planted error that
the checker missed, or a certificate that it could not prove again. Needs the extra "verify".
"""

from __future__ import annotations

import argparse
import sys
import time

from proofs_check.soundness import run_trials
from proofs_check.threads import one_blas_thread


def main() -> int:
    """Run, print the counts, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10000, help="certified or refuted instances")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    with one_blas_thread():
        counts = run_trials(options.seed, options.count)
    print(f"{options.count} decided instances from seed {options.seed}, {time.perf_counter() - start:.0f} s")
    for name, number in sorted(counts["verdicts"].items()):
        print(f"  {name:32}{number:7}")
    print(f"violations: {counts['violations'].total()}")
    for name in sorted(counts["violations"]):
        print(f"  {name}")
    print(f"{'planted':40}{'errors':>8}{'caught':>8}{'seen by an attack':>20}")
    for name, number in sorted(counts["planted"].items()):
        print(f"  {name:38}{number:8}{counts['caught'][name]:8}{counts['seen'][name]:20}")
    print(f"proved again: {counts['rechecked']['True']} of {counts['rechecked'].total()}")
    sound = not counts["violations"] and counts["planted"] == counts["caught"]
    return 0 if sound and not counts["rechecked"]["False"] else 1


if __name__ == "__main__":
    sys.exit(main())
