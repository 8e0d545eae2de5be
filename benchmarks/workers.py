"""One process a library, which computes only when asked: the protocol that the benchmarks share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
_KERNEL_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Contender:
    """One way of one library to do a task."""

    task: str
    name: str
    call: Callable[[], Any]  # does the work and waits for it
    ordered: Callable[[Any], np.ndarray]  # its result as host values in our order; NaN: not given


def work(contenders: list[Contender], library: str, folder: Path) -> None:
    """Save the values of every call; then time the calls of the task named on each line of input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    for index, contender in enumerate(contenders):
        np.save(folder / f"{library}-{index}.npy", contender.ordered(contender.call()))
    print(json.dumps([(c.task, c.name) for c in contenders]), file=answers, flush=True)
    for line in sys.stdin:
        times = []
        for contender in contenders:
            if contender.task == line.strip():
                start = time.perf_counter()
                contender.call()
                times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), file=answers, flush=True)


def use_two_processors() -> None:
    """XLA takes as many threads as it may use processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def prepare_jax() -> None:
    """Double precision; and for tensorflow-probability 0.25 a table of JAX under the name that it knows.

    kfac-jax and dynamax import it, and JAX 0.9 has renamed the table.
    """
    import jax
    import jax.interpreters.xla

    jax.config.update("jax_enable_x64", True)
    jax.interpreters.xla.pytype_aval_mappings = jax.core.pytype_aval_mappings


class Worker:
    """A library in its own process."""

    def __init__(self, library: str, python: str, script: str, folder: Path) -> None:
        self.library = library
        # Overrides of OpenBLAS's choice of kernels would slow down one contender only.
        environment = {k: v for k, v in os.environ.items() if k not in _KERNEL_OVERRIDES}
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(THREADS))
        self.process = subprocess.Popen(
            [python, script, "--work", library, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.calls: list[tuple[str, str]] = [(task, name) for task, name in self._answer()]
        self.values = [np.load(folder / f"{library}-{i}.npy") for i in range(len(self.calls))]

    def times(self, task: str) -> list[float]:
        """Milliseconds of one run of every call of the task."""
        assert self.process.stdin is not None
        print(task, file=self.process.stdin, flush=True)
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
