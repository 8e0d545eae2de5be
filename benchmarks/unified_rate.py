"""The unified rate, attacked by many random steps: ``python benchmarks/unified_rate.py``, a few seconds.

    python benchmarks/unified_rate.py --trials 400000 --seed 1

Random spectra, admissible filters, residuals and step sizes, the worst change of the Jacobian in closed
form (`proofs_check.filters`); then a search from the steps that come nearest. Printed for each number n of
residuals: the largest excess of |r+|^2 over (1 - eta q)|r|^2 for residuals of length one, and that excess in
units of eta q (at least 1/1000: below, roundoff is all there is), before and after the search; and the excess
where an assumption is broken, which must be positive. Exit status 1 if an excess is above roundoff, or no
planted violation is found.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from proofs_check.filters import SIZES, Trials, adversarial_search, random_trials

ROUNDOFF = 1e-12
CHUNK = 20_000
NEAREST = 500
ROUNDS = 300


def main() -> int:
    """Run, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=400_000, help="how many random steps in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.trials < len(SIZES):
        parser.error(f"--trials must be at least {len(SIZES)}, got {options.trials}")
    heads = ("excess", "relative", "searched", "eta + 5 %", "k falling")
    print(f"{'n':>3}{'steps':>10}" + "".join(f"{head:>12}" for head in heads))
    good = True
    for size in SIZES:
        rng = np.random.default_rng([options.seed, size])
        rows = [_attack(rng, count, size) for count in _chunks(options.trials // len(SIZES))]
        worst = np.max(rows, axis=0)
        count = options.trials // len(SIZES)
        print(f"{size:>3}{count:>10}" + "".join(f"{value:>12.2g}" for value in worst))
        good &= bool((worst[:3] < ROUNDOFF).all() and worst[3] > 1e-3 and (size == 1 or worst[4] > 1e-3))
    print("no violation beyond roundoff; every planted one found" if good else "FAILED")
    return 0 if good else 1


def _chunks(total: int) -> list[int]:
    return [CHUNK] * (total // CHUNK) + ([total % CHUNK] if total % CHUNK else [])


def _attack(rng: np.random.Generator, count: int, size: int) -> list[float]:
    """Largest excess, relative excess, excess after the search; with a longer step, with k decreasing."""
    trials = random_trials(rng, count, size)
    relative = _relative(trials)
    found = adversarial_search(rng, trials.of(np.argsort(-relative)[:NEAREST]), ROUNDS)
    planted = (replace(trials, eta=1.05 * trials.eta), replace(trials, k=trials.k[:, ::-1]))
    return [
        float(part.max())
        for part in (trials.excess, relative, _relative(found), *(one.excess for one in planted))
    ]


def _relative(trials: Trials) -> np.ndarray:
    return trials.excess / np.maximum(trials.eta * trials.q, 1e-3)


if __name__ == "__main__":
    sys.exit(main())
