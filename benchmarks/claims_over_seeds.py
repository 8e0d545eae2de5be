"""The claims on many seeds: how often each has the verdict that it expects, and how near it came to failing.

    python benchmarks/claims_over_seeds.py --seeds 20
    python benchmarks/claims_over_seeds.py --seeds 130 --only 'hvp-*,gradient-*' --dtype float32 --jobs 2

Every seed draws other images, networks and labels. For each claim the table counts the verdicts, the seeds on
which a planted error was missed, and the largest *measured / threshold*: near 1 a tolerance is tight, far
below it is wide. Exit status 1 if a claim was not as expected on any seed; the seeds are listed then, and
``proofs-check --seed S --only ID`` shows the finding. Needs the extra "verify".
"""

from __future__ import annotations

import argparse
import collections
import math
import sys

from proofs_check import ClaimResult, Run, load_suite, run_suite


def main() -> int:
    """Run, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, at least 1")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--only", default="", help="ids or patterns, separated by commas")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    suite, only = load_suite(), [part.strip() for part in options.only.split(",") if part.strip()]
    found: dict[str, list[tuple[int, ClaimResult]]] = collections.defaultdict(list)
    for seed in range(options.first, options.first + options.seeds):
        run = Run(backend=options.backend, dtype=options.dtype, seed=seed)
        outcome = run_suite(suite, run, only=only, jobs=options.jobs)
        if outcome.interrupted:
            print(f"interrupted in seed {seed}", file=sys.stderr)
            break
        for result in outcome.results:
            found[result.claim.id].append((seed, result))
        print(f"seed {seed}: {outcome.seconds:.1f} s", file=sys.stderr, flush=True)
    print(f"{options.backend} {options.dtype}, {options.seeds} seeds from {options.first}")
    print(f"{'claim':58}{'expected':10}{'as expected':>12}{'control missed':>15}{'measured/threshold':>20}")
    for name, rows in found.items():
        print(_line(name, [result for _, result in rows]))
    failed = [(name, seed, result) for name, rows in found.items() for seed, result in rows if not result.ok]
    for name, seed, result in failed:
        print(f"{name}, seed {seed}: {'; '.join(result.problems)}")
    print(f"{len(failed)} of {sum(map(len, found.values()))} results are not as expected")
    return 1 if failed or not found else 0


def _line(name: str, results: list[ClaimResult]) -> str:
    good = sum(result.ok for result in results)
    missed = sum(not result.control_caught for result in results)
    ratios = [
        part.measured / part.threshold
        for result in results
        if result.finding is not None
        for part in result.finding.parts or (result.finding,)
        if part.threshold > 0
    ]
    largest = max((ratio for ratio in ratios if math.isfinite(ratio)), default=math.nan)
    counted = f"{good} of {len(results)}"
    return f"{name:58}{results[0].claim.expected:10}{counted:>12}{missed:>15}{largest:>20.2g}"


if __name__ == "__main__":
    sys.exit(main())
