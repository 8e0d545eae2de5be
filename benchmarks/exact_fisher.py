"""Time of the exact dense Fisher beside JAX and curvlinops: ``python benchmarks/exact_fisher.py``.

A 64-32-10 tanh network with a softmax, 256 examples, float64, two threads each; from the flat parameters and
the inputs to the dense matrix (2410, 2410), forward pass included. Each library runs in a process (and an
interpreter) of its own; the processes take turns, so that a busy machine slows all of them alike. Values are
compared before anything is timed.

Needs the environments that ``tests/peers/install.sh`` makes. Exit status: 0 the target is met, 1 it is not or
the values differ, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (64, 32, 10)
EXAMPLES = 256
THREADS = 2
TARGET = 0.3  # of the time of the fastest peer
AGREEMENT = 1e-10  # relative error allowed to the values; rounding alone gives about 1e-15


# --- the libraries: each of these functions runs in a process of its own ------------------------------------
# They return calls that compute F and wait for it, by name, and where the entries of F belong in our order.

Contender = tuple[dict[str, Callable[[], Any]], np.ndarray]


def grng_ref_fisher(theta: np.ndarray, x: np.ndarray) -> Contender:
    import grng_ref as gr

    problem = gr.Problem(gr.MLP(SIZES, activation="tanh"), gr.Categorical())
    return {"layer pairs": lambda: gr.fisher(problem, theta, x).to_dense()}, np.arange(theta.size)


def jax_fisher(theta: np.ndarray, x: np.ndarray) -> Contender:
    """Both ways that autodiff offers, compiled; the faster one counts."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def outputs(theta: Any, xn: Any) -> Any:
        start, a, s = 0, xn, xn
        for d_in, d_out in pairwise(SIZES):
            layer = theta[start : start + d_out * (d_in + 1)].reshape(d_out, d_in + 1)
            start += layer.size
            s = layer[:, :-1] @ a + layer[:, -1]
            a = jnp.tanh(s)
        return s

    def factor(f: Any) -> Any:
        p = jax.nn.softmax(f)
        return jnp.diag(jnp.sqrt(p)) - jnp.outer(p, jnp.sqrt(p))

    @jax.jit
    def from_jacobians(theta: Any, x: Any) -> Any:
        J = jax.vmap(jax.jacrev(outputs), (None, 0))(theta, x)
        p = jax.nn.softmax(jax.vmap(outputs, (None, 0))(theta, x))[:, :, None]
        curved = p * (J - jnp.sum(p * J, axis=1, keepdims=True))
        return J.reshape(-1, theta.size).T @ curved.reshape(-1, theta.size) / x.shape[0]

    @jax.jit
    def from_score_rows(theta: Any, x: Any) -> Any:
        def rows(xn: Any) -> Any:
            f, pull = jax.vjp(lambda t: outputs(t, xn), theta)
            return jax.vmap(lambda column: pull(column)[0])(factor(f).T)

        B = jax.vmap(rows)(x).reshape(-1, theta.size)
        return B.T @ B / x.shape[0]

    where = jnp.asarray(theta), jnp.asarray(x)
    calls = {
        "jacrev, J^T Om J": lambda: from_jacobians(*where).block_until_ready(),
        "vmap of vjp, B^T B": lambda: from_score_rows(*where).block_until_ready(),
    }
    return calls, np.arange(theta.size)


def curvlinops_fisher(theta: np.ndarray, x: np.ndarray) -> Contender:
    """The GGN operator, equal to the Fisher for a softmax, times the identity matrix."""
    import torch
    from curvlinops import GGNLinearOperator

    torch.set_num_threads(THREADS)
    layers: list[torch.nn.Module] = []
    places, start = [], 0  # where the entries of each layer's weights, then of its bias, stand in theta
    for d_in, d_out in pairwise(SIZES):
        place = np.arange(start, start + d_out * (d_in + 1)).reshape(d_out, d_in + 1)
        start += place.size
        places += [place[:, :-1].ravel(), place[:, -1]]
        linear = torch.nn.Linear(d_in, d_out, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(theta[place[:, :-1]]))
            linear.bias.copy_(torch.from_numpy(theta[place[:, -1]]))
        layers += [linear, torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    data = [(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64))]  # F does not depend on the labels
    unit = torch.eye(theta.size, dtype=torch.float64)

    def ggn() -> torch.Tensor:
        params = list(model.parameters())
        loss = torch.nn.CrossEntropyLoss()
        return GGNLinearOperator(model, loss, params, data, check_deterministic=False) @ unit

    return {"GGN times identity": ggn}, np.concatenate(places)


CONTENDERS = {"grng-ref": grng_ref_fisher, "jax": jax_fisher, "curvlinops-for-pytorch": curvlinops_fisher}


# --- one process a library ----------------------------------------------------------------------------------


def work(library: str, folder: Path) -> None:
    """Compute and save the values; then time every call once for each line of input."""
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it may use processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    with np.load(folder / "problem.npz") as problem:
        calls, places = CONTENDERS[library](problem["theta"], problem["x"])
    for index, call in enumerate(calls.values()):
        F = np.empty((places.size, places.size))
        F[np.ix_(places, places)] = np.asarray(call())
        np.save(folder / f"{library}-{index}.npy", F)
    print(json.dumps(list(calls)), file=answers, flush=True)
    for _ in sys.stdin:
        times = []
        for call in calls.values():
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), file=answers, flush=True)


class Worker:
    """A library in its own process, which computes only when asked."""

    def __init__(self, library: str, python: str, folder: Path) -> None:
        self.library = library
        # Overrides of OpenBLAS's choice of kernels would slow down one contender only.
        environment = {k: v for k, v in os.environ.items() if k not in _KERNEL_OVERRIDES}
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(THREADS))
        self.process = subprocess.Popen(
            [python, __file__, "--work", library, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.calls: list[str] = self._answer()
        self.values = [np.load(folder / f"{library}-{i}.npy") for i in range(len(self.calls))]

    def times(self) -> list[float]:
        """Milliseconds of one run of every call."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.library} ended (its message is above)")
        return json.loads(line)


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
_KERNEL_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


# --- the comparison -----------------------------------------------------------------------------------------


def compare(interpreters: dict[str, str], rounds: int) -> int:
    """Compare values, then times in turn; print the table; 0 if the target is met."""
    rng = np.random.default_rng(0)
    layers = [
        np.hstack([rng.standard_normal((d_out, d_in)) / d_in**0.5, 0.1 * rng.standard_normal((d_out, 1))])
        for d_in, d_out in pairwise(SIZES)
    ]
    theta, x = np.concatenate([w.ravel() for w in layers]), rng.standard_normal((EXAMPLES, SIZES[0]))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "problem.npz", theta=theta, x=x)
        workers = []
        for library, python in interpreters.items():
            workers.append(Worker(library, python, folder))
            stack.callback(workers[-1].close)
        ours, *peers = workers
        expected = ours.values[0]
        for peer in peers:
            for call, F in zip(peer.calls, peer.values, strict=True):
                error = float(np.linalg.norm(F - expected) / np.linalg.norm(expected))
                print(f"values: {peer.library} ({call}) differs by {error:.1e}, relative")
                if not error <= AGREEMENT:
                    print(f"the values differ by more than {AGREEMENT:.0e}: nothing was timed")
                    return 1
        measured = [[worker.times() for worker in workers] for _ in range(rounds)]

    table = []  # (library, call, times of all rounds)
    for index, worker in enumerate(workers):
        for position, call in enumerate(worker.calls):
            table.append((worker.library, call, [turn[index][position] for turn in measured]))
    print(f"\nexact Fisher, {'-'.join(map(str, SIZES))} softmax, N = {EXAMPLES}, float64, {THREADS} threads,")
    print(f"minimum and median of {rounds} rounds in which the libraries take turns, in ms:\n")
    for library, call, times in table:
        print(f"  {library:24s}{call:22s}{min(times):9.1f}{statistics.median(times):9.1f}")

    ratio = min(table[0][2]) / min(min(times) for _, _, times in table[1:])
    each = [turn[0][0] / min(min(times) for times in turn[1:]) for turn in measured]
    met = ratio <= TARGET
    print(f"\nratio to the fastest peer: {ratio:.3f} (round by round {min(each):.3f} to {max(each):.3f})")
    print(f"target: at most {TARGET}: {'met' if met else 'NOT MET'}")
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
    parser.add_argument("--work", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.folder)
        return 0
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    for python in (options.jax_python, options.torch_python):
        if not Path(python).is_file():
            parser.error(f"no interpreter {python}: run tests/peers/install.sh, or name another one")
    interpreters = (sys.executable, options.jax_python, options.torch_python)
    return compare(dict(zip(CONTENDERS, interpreters, strict=True)), options.rounds)


if __name__ == "__main__":
    sys.exit(main())
