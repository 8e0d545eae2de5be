"""Speed beside JAX, kfac-jax, curvlinops, BackPACK and nngeometry: ``python benchmarks/speed.py``.

A 64-32-10 tanh network with a softmax, 256 examples, float64, two threads each: the exact dense Fisher, the
damped natural-gradient direction, and the expected K-FAC factors. The libraries run in processes of their own
that take turns, so that a busy machine slows all alike. Values are compared before anything is timed.

Needs the environments that ``tests/peers/install.sh`` makes. Exit status: 0 the targets are met, 1 one is not
or the values differ, 2 wrong use.
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
from contenders import DAMPING, EXAMPLES, LIBRARIES, SIZES
from workers import THREADS, Worker, use_two_processors, work

AGREEMENT = 1e-10  # relative error allowed to the values; rounding alone gives about 1e-14
# task -> the peer process to beat (None: all), at most this ratio to its fastest way
TARGETS: dict[str, list[tuple[str | None, float]]] = {
    "fisher": [(None, 0.2)],
    "direction": [(None, 0.3)],
    "kfac": [("jax", 2.0), ("torch", 1.0)],
}


def problem() -> dict[str, np.ndarray]:
    """The parameters, inputs and labels, the same for all."""
    rng = np.random.default_rng(0)
    layers = [
        np.hstack([rng.standard_normal((d_out, d_in)) / d_in**0.5, 0.1 * rng.standard_normal((d_out, 1))])
        for d_in, d_out in pairwise(SIZES)
    ]
    return {
        "theta": np.concatenate([w.ravel() for w in layers]),
        "x": rng.standard_normal((EXAMPLES, SIZES[0])),
        "y": rng.integers(0, SIZES[-1], EXAMPLES),
    }


def values_agree(workers: list[Worker]) -> bool:
    """Print how far each peer's values are from ours; entries that a peer does not give are left out."""
    ours = {task: values for (task, _), values in zip(workers[0].calls, workers[0].values, strict=True)}
    good = True
    for worker in workers[1:]:
        for (task, name), values in zip(worker.calls, worker.values, strict=True):
            given = ~np.isnan(values)
            difference = np.linalg.norm((values - ours[task])[given])
            error = float(difference / np.linalg.norm(ours[task][given])) if given.any() else float("nan")
            print(f"values: {task:10s}{name:22s} differs by {error:.1e}, relative")
            good = good and error <= AGREEMENT
    return good


def compare(interpreters: dict[str, str], rounds: int) -> int:
    """Compare values, then times in turn; print the tables; 0 if every target is met."""
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
        met = True
        print(f"\n{'-'.join(map(str, SIZES))} softmax, N = {EXAMPLES}, float64, {THREADS} threads, damping")
        print(f"{DAMPING}; minimum and median of {rounds} rounds in which the libraries take turns, in ms")
        for task, targets in TARGETS.items():
            turns = [[worker.times(task) for worker in workers] for _ in range(rounds)]
            print(f"\n{task}:")
            fastest: dict[str, float] = {}
            for index, worker in enumerate(workers):
                names = [name for at, name in worker.calls if at == task]
                for position, name in enumerate(names):
                    times = [turn[index][position] for turn in turns]
                    fastest[worker.library] = min(min(times), fastest.get(worker.library, np.inf))
                    print(f"  {worker.library:10s}{name:24s}{min(times):9.2f}{statistics.median(times):9.2f}")
            for peer, limit in targets:
                peers = [fastest[w.library] for w in workers[1:] if peer in (None, w.library)]
                ratio = fastest[workers[0].library] / min(peers)
                met = met and ratio <= limit
                verdict = "met" if ratio <= limit else "NOT MET"
                print(f"  ratio to the fastest {peer or 'peer'}: {ratio:.3f}, at most {limit}: {verdict}")
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
    parser.add_argument("--torch-python", default=str(peers / "torch/bin/python"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        use_two_processors()
        with np.load(options.folder / "problem.npz") as given:
            data = given["theta"], given["x"], given["y"]
        work(LIBRARIES[options.work](data), options.work, options.folder)
        return 0
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    for python in (options.jax_python, options.torch_python):
        if not Path(python).is_file():
            parser.error(f"no interpreter {python}: run tests/peers/install.sh, or name another one")
    interpreters = (sys.executable, options.jax_python, options.torch_python)
    return compare(dict(zip(LIBRARIES, interpreters, strict=True)), options.rounds)


if __name__ == "__main__":
    sys.exit(main())
