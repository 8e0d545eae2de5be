"""The checker's own trial: false alarms on correct implementations, and the names of planted defects.

    python benchmarks/conformance.py alarms --cases 1000
    python benchmarks/conformance.py mutants [NAME ...]
    python benchmarks/conformance.py separation
    python benchmarks/conformance.py speed

`alarms`: an independent NumPy implementation on random cases, in float64 and float32. `mutants`: each planted
defect of ``tests/meta``. `separation`: which pairs of hypotheses the shipped cases tell apart. `speed`: CPU
time over the whole shipped set, right and broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "meta")]

from conformance_cases import random_case  # noqa: E402
from conformance_mutants import MUTANTS, groups, outcome  # noqa: E402
from plain_optimizers import Plain  # noqa: E402

from grng_ref import NumericalError  # noqa: E402
from grng_ref.testing import check  # noqa: E402
from grng_ref.testing.conformance import HYPOTHESES, separation  # noqa: E402
from grng_ref.testing.conformance.adapter import STAGE_NAMES  # noqa: E402
from grng_ref.testing.vectors import load_cases, reference  # noqa: E402


def alarms(count: int) -> int:
    """False alarms over random cases; the largest excess is what the factor of the tolerance must cover."""
    bad = 0
    for dtype in ("float64", "float32"):
        total, largest, undecidable = 0, 0.0, 0
        seeds, done = iter(range(2 * count)), 0
        while done < count:
            try:
                case = random_case(next(seeds), more=True)
                reference(case.astype(dtype))
            except NumericalError:  # a run that diverges: the reference itself refuses it, in this dtype
                continue
            done += 1
            with np.errstate(all="ignore"):
                report = check(Plain(dtype=dtype), [case], diagnose=False)
            total += report.run
            largest = max(largest, *(one.excess or 0.0 for one in report.checks))
            undecidable += sum(one.verdict == "undecidable" for one in report.checks)
            wrong = [one for one in report.checks if not one.ok]
            bad += len(wrong)
            for one in wrong:
                print(f"  {dtype} {one.case} {one.stage}: {one.reason}")
        print(
            f"{dtype}: {count} cases, {total} checks, largest difference {largest:.3f} tolerances, "
            f"{undecidable} undecidable"
        )
    print(f"false alarms: {bad}")
    return bad


def mutants(names: list[str]) -> int:
    """How every planted defect comes out."""
    cases, counts = groups(), Counter()
    for name, (group, truth) in MUTANTS.items():
        if names and name not in names:
            continue
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            report = check(Plain(name), cases[group])
        found = outcome(report, truth)
        counts[found] += 1
        said = ["+".join(cause) for cause in report.diagnosis.causes] or [report.diagnosis.sentence]
        print(f"{found:10s} {time.perf_counter() - start:5.1f} s  {name:32s} {said}", flush=True)
    print(dict(counts))
    return counts["missed"] + counts["wrong name"]


class Stored:
    """The stored values of the shipped cases, changed: an adapter that computes nothing itself."""

    def __init__(self, cases, change):
        self.cases, self.change = {case.id: case for case in cases}, change
        for stage in STAGE_NAMES:
            setattr(self, stage, lambda view, stage=stage: self.arrays(view.id, stage))

    def arrays(self, case, stage):
        """What a method of that name returns."""
        stored = self.cases[case].expected
        found = [self.change(stage, np.asarray(stored[k])) for k in stored if k.split(".")[0] == stage]
        if stage == "factors":
            return list(zip(found[::2], found[1::2], strict=True))
        return found if stage in ("activations", "score_signals") else found[0]


def speed() -> int:
    """CPU time of checks over the whole shipped set; 1 where one takes a minute."""
    cases, slowest = load_cases(), 0.0
    changes = {
        "right": lambda stage, a: a,
        "gradient doubled": lambda stage, a: 2.0 * a if stage == "gradient" else a,
        "every stage doubled": lambda stage, a: 2.0 * a,
        "every stage off without a name": lambda stage, a: 1.37 * a + 0.01,
    }
    for name, change in changes.items():
        start = time.process_time()
        with np.errstate(all="ignore"):
            report = check(Stored(cases, change), cases)
        took = time.process_time() - start
        slowest = max(slowest, took)
        print(f"{took:5.1f} s  {report.run} checks  {name}: {report.diagnosis.status}", flush=True)
    return int(slowest >= 60.0)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("alarms", "mutants", "separation", "speed"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cases", type=int, default=1000)
    chosen = parser.parse_args()
    if chosen.what == "alarms":
        return int(alarms(chosen.cases) > 0)
    if chosen.what == "mutants":
        return int(mutants(chosen.names) > 0)
    if chosen.what == "speed":
        return speed()
    apart, table = separation(load_cases())
    print(f"{apart.effective} of {len(HYPOTHESES)} hypotheses have an effect on the shipped cases")
    print(f"{apart.told_apart} of {apart.pairs} pairs of hypotheses that have an effect are told apart")
    for line in table:
        print("  not told apart: " + " = ".join(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
