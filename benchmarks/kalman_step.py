"""One Kalman step with a full belief beside JAX and dynamax: ``python benchmarks/kalman_step.py``.

A 64-32-10 tanh network (2,410 parameters) with a Gaussian likelihood, one example, no regularization and no
noise, float64, two threads each. The belief before has seen 256 examples. The libraries run in processes of
their own that take turns; means and covariances are compared before anything is timed. ``--growth`` prints
instead how the cost of a step grows with the number of parameters, and what a belief holds; without peers.

Needs the JAX environment that ``tests/peers/install.sh`` makes. Exit status: 0 the targets are met, 1 one is
not or the values differ, 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
from kalman_contenders import EXAMPLES, LIBRARIES, SIZES
from kalman_growth import print_growth
from workers import THREADS, Worker, use_two_processors, work

# dynamax adds 1e-9 to an innovation covariance of at least 1; rounding alone gives about 1e-14
AGREEMENT = 1e-8
# our form -> (the peer's way, at most this ratio to it; None: no target)
TARGETS: dict[str, list[tuple[str, float | None]]] = {
    "covariance": [("JAX covariance", 0.4), ("dynamax filter step", 0.05), ("dynamax update alone", None)],
    "square_root_information": [
        ("JAX covariance", 1.0),
        ("dynamax filter step", 0.05),
        ("dynamax update alone", None),
    ],
}


def problem() -> dict[str, np.ndarray]:
    """Parameters, the examples that were seen, and the example and targets of the step."""
    rng = np.random.default_rng(0)
    layers = [
        np.hstack([rng.standard_normal((d_out, d_in)) / d_in**0.5, 0.1 * rng.standard_normal((d_out, 1))])
        for d_in, d_out in pairwise(SIZES)
    ]
    return {
        "theta": np.concatenate([w.ravel() for w in layers]),
        "seen": rng.standard_normal((EXAMPLES, SIZES[0])),
        "x": rng.standard_normal((1, SIZES[0])),
        "y": rng.standard_normal((1, SIZES[-1])),
    }


def values_agree(workers: list[Worker]) -> bool:
    """Print how far each way's mean and covariance, one after the other, are from those of our first."""
    size = sum((a + 1) * b for a, b in pairwise(SIZES))
    reference, good = workers[0].values[0], True
    for worker in workers:
        for (_, name), values in zip(worker.calls, worker.values, strict=True):
            errors = [
                float(np.linalg.norm(part - true) / np.linalg.norm(true))
                for part, true in zip(np.split(values, [size]), np.split(reference, [size]), strict=True)
            ]
            print(f"values: {name:26s} mean {errors[0]:.1e}, covariance {errors[1]:.1e}, relative")
            good = good and max(errors) <= AGREEMENT
    return good


def compare(interpreters: dict[str, str], rounds: int) -> int:
    """Compare values, then times in turn; print them; 0 if every target is met."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "problem.npz", **problem())
        workers = []
        for library, python in interpreters.items():
            workers.append(Worker(library, python, __file__, folder))
            stack.callback(workers[-1].close)
        if not values_agree(workers):
            print(f"the values differ by more than {AGREEMENT:.0e}: nothing was timed")
            return 1
        turns = [[worker.times("step") for worker in workers] for _ in range(rounds)]
    print(f"\n{'-'.join(map(str, SIZES))}, one example, float64, {THREADS} threads; minimum and median of")
    print(f"{rounds} rounds in which the libraries take turns, in ms\n")
    fastest = {}
    for index, worker in enumerate(workers):
        for position, (_, name) in enumerate(worker.calls):
            times = [turn[index][position] for turn in turns]
            fastest[name] = min(times)
            print(f"  {worker.library:10s}{name:26s}{min(times):9.2f}{statistics.median(times):9.2f}")
    met = True
    print()
    for ours, targets in TARGETS.items():
        for peer, limit in targets:
            ratio = fastest[ours] / fastest[peer]
            good = limit is None or ratio <= limit
            met = met and good
            verdict = "" if limit is None else f", at most {limit}: {'met' if good else 'NOT MET'}"
            print(f"  {ours} to {peer}: {ratio:.3f}{verdict}")
    if hasattr(os, "getloadavg"):
        print(f"\nload of the machine over the last minute: {os.getloadavg()[0]:.1f}")
    return 0 if met else 1


def main() -> int:
    """Read the command line."""
    peers = Path(__file__).resolve().parent.parent / ".peers"
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jax-python", default=str(peers / "jax/bin/python"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--work", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        use_two_processors()
        with np.load(options.folder / "problem.npz") as given:
            data = dict(given)
        work(LIBRARIES[options.work](data), options.work, options.folder)
        return 0
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.growth:
        print_growth()
        return 0
    if not Path(options.jax_python).is_file():
        parser.error(f"there is no {options.jax_python}; bash tests/peers/install.sh makes it")
    return compare({"grng-ref": sys.executable, "jax": options.jax_python}, options.rounds)


if __name__ == "__main__":
    raise SystemExit(main())
